"""Sets of customers as the contract sees them: bitmaps in 256-bit words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.protocol.errors import ProtocolError

_WORD = 256


def bitmap(indices: Iterable[int], length: int) -> list[int]:
    """Return customer indices as words, bit i of word w standing for customer ``256 w + i``.

    Parameters
    ----------
    indices : iterable of int
        Each from 0 to ``length - 1``.
    length : int
        How many customers there are; the result has ``ceil(length / 256)`` words.

    Raises
    ------
    ProtocolError
        If an index is out of range.
    """
    words = [0] * -(-length // _WORD)
    for index in indices:
        if not 0 <= index < length:
            raise ProtocolError(f"customer index {index} is out of range (allowed: 0 to {length - 1})")
        words[index // _WORD] |= 1 << index % _WORD
    return words


def indices(words: Sequence[int]) -> tuple[int, ...]:
    """Return the customer indices whose bits are set, ascending."""
    return tuple(w * _WORD + bit for w, word in enumerate(words) for bit in range(_WORD) if word >> bit & 1)
