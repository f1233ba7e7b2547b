"""What the contract of a task says, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from web3 import Web3

from app.protocol.bitmap import bitmap
from app.protocol.cid import cid_to_bytes
from app.protocol.digest import BlobRef

DAY = 86_400  # seconds


class Phase(enum.IntEnum):
    """What the contract waits for; the numbers are the contract's."""

    ADMISSION = 0  # members, then `open`
    COLLECTION = 1  # updates, then `seal`
    SEALED = 2  # the miners' verdict, then `finalise`
    COMPLETED = 3
    CANCELLED = 4  # by the manufacturer
    FAILED = 5  # more rounds expired than the terms allow

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in the task but payments."""
        return self >= Phase.COMPLETED


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What the manufacturer fixes when it publishes a task.

    Attributes
    ----------
    policy, model, seed : bytes
        SHA-256 of the resolved configuration, SHA-256 of the initial model, seed of the first election (32 bytes
        each, not zero).
    rounds : int
        Number of rounds.
    f : int
        Byzantine customers a round must survive; 2f + 3 customers are needed.
    gamma_initial, gamma_max : int
        First and highest reputation, 0..255; ``rounds * gamma_max`` stays below 65,535.
    reward : int
        Wei that the manufacturer escrows when it opens the task; 0: nobody is paid.
    deposit : int
        Wei that each member deposits to take part; 0: none.
    submission_window : int
        Seconds from a round's beginning in which only a seal with all customers counts, so that one that was left out
        can submit itself. 0 leaves the manufacturer free to seal at once: only for simulations.
    seal_window : int
        Seconds from a round's beginning after which anyone may end an unsealed round.
    leader_window : int
        Seconds for each leader: rank k may finalise k of these after the seal. 0: all ranks at once.
    finalise_window : int
        Seconds from the seal after which anyone may end a round that has no verdict.
    skips : int
        Rounds that may expire before the task fails.
    """

    policy: bytes
    model: bytes
    seed: bytes
    rounds: int
    f: int
    gamma_initial: int
    gamma_max: int
    reward: int = 0
    deposit: int = 0
    submission_window: int = 0
    seal_window: int = DAY
    leader_window: int = 0
    finalise_window: int = DAY
    skips: int = 0


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where a task stands in one block.

    Attributes
    ----------
    round, rounds : int
        The current round, from 1 on (0 during admission; the last that began once the task has ended), and how many
        there are.
    phase : Phase
        What the contract waits for.
    model, seed, policy : bytes
        SHA-256 of the current global model, seed of the current election, SHA-256 of the resolved configuration.
    quorum : int
        Signatures that a verdict needs.
    opened_at, sealed_at : int
        Blocks in which the round began (or the last one ended) and in which a round was last sealed.
    skipped : int
        Rounds that expired and did not end the task.
    since : int
        Time at which the phase began (seconds since 1970).
    credited : int
        Points that all customers earned so far.
    price : int
        Wei for one point.
    block, block_hash : int, bytes
        The block that was read.
    """

    phase: Phase
    round: int
    rounds: int
    skipped: int
    quorum: int
    opened_at: int
    sealed_at: int
    since: int
    credited: int
    price: int
    model: bytes
    seed: bytes
    policy: bytes
    block: int
    block_hash: bytes

    @property
    def over(self) -> int:
        """Number of rounds that are over: finalised, or expired."""
        return self.round if self.phase in (Phase.COMPLETED, Phase.FAILED) else max(0, self.round - 1)

    @property
    def finalised(self) -> int:
        """Number of rounds that are finalised."""
        return self.over - self.skipped - (self.phase is Phase.FAILED)


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed round: Merkle root of the receipts, the manifest that holds them, and the customers under the root."""

    round: int
    root: bytes
    manifest: BlobRef
    participants: tuple[int, ...]
    block: int
    gas: int
    tx: bytes


@dataclass(frozen=True, slots=True)
class Finalisation:
    """A finalised round: the verdict, and what the contract made of it.

    Attributes
    ----------
    leader, rank : str, int
        The miner that sent it (checksum address), and its rank in the election, from 0.
    root, model : bytes
        Merkle root as sealed; SHA-256 of the model after this round.
    record : BlobRef
        The round's record.
    participants, honest : tuple of int
        Customer indices, ascending: who took part, and who was evaluated H.
    seed : bytes
        Seed of the next election.
    threshold : int
        h of the reputation rule.
    credited : int
        Points that the round's customers earned.
    signers : tuple of int
        Indices of the miners who signed.
    """

    round: int
    leader: str
    rank: int
    root: bytes
    model: bytes
    record: BlobRef
    participants: tuple[int, ...]
    honest: tuple[int, ...]
    seed: bytes
    threshold: int
    credited: int
    signers: tuple[int, ...]
    block: int
    gas: int
    tx: bytes


@dataclass(frozen=True, slots=True)
class Expiry:
    """A round that ended without a verdict, because its deadline passed in the phase ``during``."""

    round: int
    during: Phase
    block: int
    tx: bytes


@dataclass(frozen=True, slots=True)
class FinaliseCall:
    """What the leader sends: the verdict that the miners signed, and their signatures by ascending signer.

    Attributes
    ----------
    task : bytes
        The policy's digest.
    manifest : bytes
        SHA-256 of the manifest, as sealed.
    record : BlobRef
        The round's record; digest, size and CID are in the verdict.
    participants, honest : tuple of int
        Customer indices.
    signatures : tuple of bytes
        65 bytes each (r, s, v).
    rank : int
        Of the leader in the election, from 0.
    """

    task: bytes
    round: int
    root: bytes
    manifest: bytes
    model: bytes
    record: BlobRef
    participants: tuple[int, ...]
    honest: tuple[int, ...]
    leader: str
    seed: bytes
    signatures: tuple[bytes, ...]
    rank: int = 0

    def verdict(self, customers: int) -> tuple[Any, ...]:
        """Return the verdict as the contract takes it, in a task of that many customers."""
        return (
            self.task,
            self.round,
            self.root,
            self.model,
            self.record.sha256,
            self.record.size,
            cid_to_bytes(self.record.cid),
            bitmap(self.participants, customers),
            bitmap(self.honest, customers),
            Web3.to_checksum_address(self.leader),
            self.rank,
            self.seed,
        )
