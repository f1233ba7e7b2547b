"""Reputations as the contract packs them: 32 to a 256-bit word."""

from __future__ import annotations

from collections.abc import Sequence


def unpack(words: Sequence[int], n: int) -> tuple[int, ...]:
    """Return the first ``n`` bytes of packed reputations: customer i is byte i % 32 of word i // 32, low end first."""
    return tuple(b"".join(word.to_bytes(32, "little") for word in words)[:n])
