"""A miner's vote on a sealed round."""

from __future__ import annotations

from dataclasses import dataclass

from app.protocol.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Vote:
    """A miner's signed verdict, and the two blobs that it binds, where the miner is in this process.

    Attributes
    ----------
    verdict : Verdict
        What the miner found.
    signature : bytes
        Its signature of the verdict (65 bytes).
    record, model : bytes
        The round record and the new global model, whose digests are in the verdict; empty from a distant miner: nobody
        needs them but the leader, who has its own.
    fetch_seconds, compute_seconds : float
        What the evaluation cost this miner; zero where it had it already.
    """

    verdict: Verdict
    signature: bytes
    record: bytes = b""
    model: bytes = b""
    fetch_seconds: float = 0.0
    compute_seconds: float = 0.0
