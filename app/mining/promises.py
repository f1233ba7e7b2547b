"""What a miner has signed, on its disk before it leaves: a restarted miner does not contradict itself.

A round's outcome follows from its seal, but for one thing: a blob that a store did not have at one time and had at
another. A miner that signed, died, and then judges anew might come to another outcome and lose its deposit for it. So
it keeps what it promised and signs nothing else about that seal.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from app.durable import append_privately
from app.protocol.bitmap import bitmap
from app.protocol.digest import canonical_json, hex32, parse_json, sha256
from app.protocol.errors import ProtocolError, RoundError, StoreError
from app.protocol.verdict import Verdict

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 2**28


class Promises:
    """The outcomes that a miner stands by, by task, round and sealed root.

    Parameters
    ----------
    path : Path
        The file: a line a promise.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line before the last is none.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._kept = path, _read(path)

    def keep(self, verdict: Verdict) -> None:
        """Stand by a verdict's outcome from now on; it is on the disk when this returns.

        Raises
        ------
        RoundError
            If another outcome of the same seal was promised.
        StoreError
            If the disk refuses.
        """
        seal, outcome = _seal(verdict), _outcome(verdict)
        known = self._kept.get(seal)
        if known is None:
            append_privately(self._path, canonical_json({"seal": seal, "outcome": outcome}) + b"\n")
            self._kept[seal] = outcome
        elif known != outcome:
            problem = "this miner signed another outcome of the same seal before, and does not contradict itself"
            raise RoundError(f"round {verdict.round}: {problem}")


def _seal(verdict: Verdict) -> str:
    return f"{hex32(verdict.task)} {verdict.round} {hex32(verdict.root)}"


def _outcome(verdict: Verdict) -> str:
    """Return the digest of what two verdicts on one seal must agree in, see `app.protocol.verdict.contradict`."""
    who = [bitmap(members, verdict.customers) for members in (verdict.participants, verdict.honest)]
    return hex32(sha256(canonical_json({"model": hex32(verdict.model), "customers": verdict.customers, "who": who})))


def _read(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise StoreError(f"{path} is too large to be a miner's promises (allowed: up to {_MOST_BYTES} bytes)")
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    kept: dict[str, str] = {}
    for number, line in enumerate(lines[:-1], start=1):
        try:
            value = parse_json(line, "a promise")
            kept[str(value["seal"])] = str(value["outcome"])
        except (ProtocolError, KeyError) as error:
            raise StoreError(f"{path}, line {number} is no promise: it was changed, or the disk is failing") from error
    if lines[-1]:  # its writer died before it was whole, so nothing that it promised has left
        _LOG.warning("%s ended in half a line, which is dropped", path)
        _cut(path, len(lines[-1]))
    return kept


def _cut(path: Path, size: int) -> None:
    try:
        os.truncate(path, path.stat().st_size - size)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
