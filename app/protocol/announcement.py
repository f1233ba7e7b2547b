"""The announcement: what a customer is told at the start of a round, before it trains."""

from __future__ import annotations

from dataclasses import dataclass

from app.protocol.signing import Domain


@dataclass(frozen=True, slots=True)
class Announcement:
    """One round of one task.

    Attributes
    ----------
    domain : Domain
        Chain id and contract.
    task : bytes
        Digest of the policy (32 bytes).
    round : int
        The round, from 1.
    model : bytes
        Digest of the global model that is to be trained on (32 bytes), as the chain finalised it.
    """

    domain: Domain
    task: bytes
    round: int
    model: bytes
