"""The members of a task as a file: one card a line, the same file for the manufacturer and for every miner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from app.checks import in_range, one_of
from app.protocol.card import CUSTOMER, MINER, MOST_BYTES, Card
from app.protocol.errors import ConfigError, ProtocolError
from app.service.listen import split_address

_MOST_CARDS = 20_000


@dataclass(frozen=True, slots=True)
class MembersConfig:
    """Who takes part: a ``simulation``, all in this process; or the members of a ``file``, each a process of its own.

    Attributes
    ----------
    name : str
        ``simulation`` or ``file``.
    path : str or None
        The file of cards, for ``file`` alone.
    join_seconds : int
        How long the first round waits for customers that are not connected yet.
    reply_seconds : int
        How long a round waits for updates.
    """

    name: str
    path: str | None
    join_seconds: int
    reply_seconds: int

    def __post_init__(self) -> None:
        one_of("members.name", self.name, ("simulation", "file"))
        if (self.path is not None) != (self.name == "file"):
            problem = "must be given with members=file" if self.path is None else "is not used by members=simulation"
            raise ConfigError("members.path", problem, "a file of cards with members=file, else null")
        in_range("members.join_seconds", self.join_seconds, 0, 86_400)
        in_range("members.reply_seconds", self.reply_seconds, 1, 86_400)

    @property
    def elsewhere(self) -> bool:
        """Whether miners and customers are processes of their own."""
        return self.name == "file"


@dataclass(frozen=True, slots=True)
class Members:
    """Who was admitted; a member's index in the task is its place here."""

    customers: tuple[Card, ...]
    miners: tuple[Card, ...]


def read_members(path: str, key: str = "members.path") -> Members:
    """Read a file of cards and check every signature.

    Parameters
    ----------
    path : str
        The file.
    key : str
        What it is called in the configuration, for messages.

    Raises
    ------
    ConfigError
        If it cannot be read, a line is no card, or two cards are of one member or one node.
    """
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > _MOST_CARDS * MOST_BYTES:
            raise ConfigError(key, f"{file} is too large to be a file of cards", f"{_MOST_CARDS} cards")
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(key, f"{file} cannot be read: {error.strerror or error}", "a file of cards") from error
    cards: list[Card] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cards.append(Card.from_bytes(line.strip()))
        except ProtocolError as error:
            raise ConfigError(key, f"{file}, line {number}: {error}", "cards as `hearth members card` makes") from error
    _refuse_doubles(key, file, cards)
    found = Members(*(tuple(card for card in cards if card.role == role) for role in (CUSTOMER, MINER)))
    for card in found.miners:
        split_address(f"{key}: the service of miner {card.member}", card.service)
    return found


def _refuse_doubles(key: str, file: Path, cards: list[Card]) -> None:
    for what, values in (
        ("member", Counter((card.role, card.member) for card in cards)),
        ("VRF key", Counter(card.vrf_key for card in cards if card.role == MINER)),
        ("service", Counter(card.service for card in cards if card.role == MINER)),
        ("node key", Counter(card.node_key for card in cards if card.node_key)),
    ):
        twice = [value for value, times in values.items() if times > 1]
        if twice:
            raise ConfigError(key, f"{file} has two cards with one {what}: {twice[0]!r:.80}", "one card each")
