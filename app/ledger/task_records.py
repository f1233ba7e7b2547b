"""What the contract of a task says, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from app.protocol.digest import BlobRef


class Phase(enum.IntEnum):
    """What the contract waits for; the numbers are the contract's."""

    ADMISSION = 0  # members, then `open`
    COLLECTION = 1  # updates, then `seal`
    SEALED = 2  # the miners' verdict, then `finalise`
    COMPLETED = 3


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
        First and highest reputation, 0..255.
    """

    policy: bytes
    model: bytes
    seed: bytes
    rounds: int
    f: int
    gamma_initial: int
    gamma_max: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where a task stands in one block.

    Attributes
    ----------
    round, rounds : int
        The current round, from 1 on (0 during admission; the last one once completed), and how many there are.
    phase : Phase
        What the contract waits for.
    model, seed, policy : bytes
        SHA-256 of the current global model, seed of the current election, SHA-256 of the resolved configuration.
    quorum : int
        Signatures that a verdict needs.
    opened_at, sealed_at : int
        Blocks in which the round began and in which a round was last sealed.
    block, block_hash : int, bytes
        The block that was read.
    """

    round: int
    rounds: int
    phase: Phase
    model: bytes
    seed: bytes
    policy: bytes
    quorum: int
    opened_at: int
    sealed_at: int
    block: int
    block_hash: bytes

    @property
    def finalised(self) -> int:
        """Number of rounds that are finalised."""
        return self.rounds if self.phase is Phase.COMPLETED else max(0, self.round - 1)


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
    leader : str
        The miner that sent it (checksum address).
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
    signers : tuple of int
        Indices of the miners who signed.
    """

    round: int
    leader: str
    root: bytes
    model: bytes
    record: BlobRef
    participants: tuple[int, ...]
    honest: tuple[int, ...]
    seed: bytes
    threshold: int
    signers: tuple[int, ...]
    block: int
    gas: int
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
        The round's record; its digest is in the verdict.
    participants, honest : tuple of int
        Customer indices.
    signatures : tuple of bytes
        65 bytes each (r, s, v).
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
