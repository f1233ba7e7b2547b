from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.ledger.packed import unpack


@given(st.lists(st.integers(0, 255), max_size=100))
def test_unpack(gammas: list[int]) -> None:
    padded = bytes(gammas) + bytes(-len(gammas) % 32)
    words = [int.from_bytes(padded[i : i + 32], "little") for i in range(0, len(padded), 32)]
    assert unpack(words, len(gammas)) == tuple(gammas)
