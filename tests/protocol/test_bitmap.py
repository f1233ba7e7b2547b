from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.bitmap import bitmap, indices
from app.protocol.errors import ProtocolError


@given(
    st.integers(0, 1000).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0)), max_size=n)))
)
def test_round_trip(case: tuple[int, set[int]]) -> None:
    length, chosen = case
    words = bitmap(chosen, length)
    assert len(words) == (length + 255) // 256
    assert all(0 <= word < 2**256 for word in words)
    assert indices(words) == tuple(sorted(chosen))


@pytest.mark.parametrize(("index", "words"), [(0, [1, 0]), (255, [2**255, 0]), (256, [0, 1]), (299, [0, 2**43])])
def test_places(index: int, words: list[int]) -> None:
    assert bitmap([index], 300) == words


@pytest.mark.parametrize("index", [-1, 300, 511])
def test_indices_outside_are_refused(index: int) -> None:
    with pytest.raises(ProtocolError, match="allowed: 0 to 299"):
        bitmap([index], 300)
