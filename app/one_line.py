"""What somebody else said, as it may be shown: other parties' errors end up on terminals, in logs and in headers."""

from __future__ import annotations


def one_line(text: str, longest: int = 300) -> str:
    """Return a text as one line of up to ``longest`` printable characters."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:longest]
