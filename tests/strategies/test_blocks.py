from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies.blocks as module
from strategies.blocks import over_blocks


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 9))
def test_every_block_is_worked_on_once(dimension: int, width: int, cores: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_cores", lambda: cores)
        shares = over_blocks(list, dimension, width)
    assert sorted(start for share in shares for start in share) == list(range(0, dimension, width))
    assert 1 <= len(shares) <= max(1, min(cores, 8))


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cores", lambda: 3)

    def work(starts: range) -> None:
        if 4 in starts:
            raise ValueError("block 4")

    with pytest.raises(ValueError, match="block 4"):
        over_blocks(work, 10, 2)
