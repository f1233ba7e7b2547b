"""Sets of customer indices as the contract keeps them: index i is bit i % 256 of word i // 256."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.protocol.errors import ProtocolError

WORD_BITS = 256


def bitmap(indices: Iterable[int], n: int) -> list[int]:
    """Return the bitmap of ``indices`` over ``n`` customers.

    Parameters
    ----------
    indices : iterable of int
        Each in ``0..n-1``; order and repetition do not matter.
    n : int
        Number of customers; the bitmap has ``ceil(n / 256)`` words.

    Raises
    ------
    ProtocolError
        If an index is out of range.
    """
    words = [0] * -(-n // WORD_BITS)
    for index in indices:
        if not 0 <= index < n:
            raise ProtocolError(f"customer index {index} is out of range (allowed: 0 to {n - 1})")
        words[index // WORD_BITS] |= 1 << (index % WORD_BITS)
    return words


def indices(words: Sequence[int]) -> tuple[int, ...]:
    """Return the indices in a bitmap, ascending: the inverse of `bitmap`."""
    return tuple(w * WORD_BITS + i for w, word in enumerate(words) for i in range(word.bit_length()) if word >> i & 1)


def unpack(words: Sequence[int], n: int) -> tuple[int, ...]:
    """Return the first ``n`` bytes of packed reputations: customer i is byte i % 32 of word i // 32, low end first."""
    return tuple(b"".join(word.to_bytes(32, "little") for word in words)[:n])
