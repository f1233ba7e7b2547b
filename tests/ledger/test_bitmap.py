from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.bitmap import bitmap, indices, unpack
from app.protocol.errors import ProtocolError


@given(st.sets(st.integers(0, 2000)), st.integers(0, 300))
def test_there_and_back(chosen: set[int], spare: int) -> None:
    n = max(chosen, default=0) + 1 + spare
    words = bitmap(chosen, n)
    assert len(words) == (n + 255) // 256
    assert all(0 <= word < 2**256 for word in words)
    assert indices(words) == tuple(sorted(chosen))
    assert sum(word << (256 * w) for w, word in enumerate(words)) == sum(2**i for i in chosen)


def test_edges() -> None:
    assert bitmap([], 0) == []
    assert bitmap([], 1) == [0]
    assert bitmap([255, 256], 257) == [1 << 255, 1]
    assert bitmap([3, 3], 4) == [8]
    assert indices([]) == ()


@pytest.mark.parametrize("index", [-1, 5, 256])
def test_out_of_range(index: int) -> None:
    with pytest.raises(ProtocolError, match=rf"customer index {index} is out of range \(allowed: 0 to 4\)"):
        bitmap([0, index], 5)


@given(st.lists(st.integers(0, 255), max_size=100))
def test_unpack(gammas: list[int]) -> None:
    padded = bytes(gammas) + bytes(-len(gammas) % 32)
    words = [int.from_bytes(padded[i : i + 32], "little") for i in range(0, len(padded), 32)]
    assert unpack(words, len(gammas)) == tuple(gammas)
