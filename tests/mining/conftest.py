"""A small task in memory: customers, miners, a store that verifies, and sealed rounds with any single thing wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from app.ledger.task_records import Finalisation
from app.mining.miner import Miner
from app.mining.outcome import evaluate
from app.mining.roles import Docket
from app.mining.round import EarlierRound, SealedRound
from app.protocol import vrf
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import BlobMissingError, BlobTamperedError, LedgerError, StoreUnavailableError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.manifest import Manifest
from app.protocol.policy import Policy
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt
from app.protocol.record import Election, RoundRecord
from app.protocol.seat import Seat
from app.protocol.signing import Domain
from app.protocol.tensors import Layout, pack, parameter_count
from app.protocol.verdict import SignedVerdict, quorum_of
from app.store.base import block_cid, check_reference, reference

sys.path.append(str(Path(__file__).parent))

LAYOUT: Layout = (("head.weight", (8, 12)), ("head.bias", (12,)))
CONTRACT = simulation_account(0, "contract").address


class DictStore:
    """A blob store in a dictionary that verifies on read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.names: list[str] = []
        self.read: list[BlobRef] = []
        self.down = False

    def put(self, data: bytes, name: str = "") -> BlobRef:
        if self.down:
            raise StoreUnavailableError("the store is down")
        ref = reference(data)
        self.blobs[ref.cid] = data
        self.names.append(name)
        return ref

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        if self.down:
            raise StoreUnavailableError("the store is down")
        check_reference(ref, max_bytes)
        self.read.append(ref)
        if ref.cid not in self.blobs:
            raise BlobMissingError(f"no blob {ref.cid}")
        data = self.blobs[ref.cid]
        if sha256(data) != ref.sha256 or len(data) != ref.size:
            raise BlobTamperedError(f"blob {ref.cid} is not what its reference says")
        return data

    def get_block(self, digest: bytes) -> bytes:
        return self.blobs[str(block_cid(digest))]

    def has(self, ref: BlobRef) -> bool:
        return ref.cid in self.blobs

    def close(self) -> None:
        pass


@dataclass
class Submission:
    """What one customer sends, and what the relayer makes of it."""

    receipt: Receipt
    blob: bytes
    signer: int
    stored: bool = True


class MemoryDocket:
    """The verdicts of one task in memory, taken by the contract's rules as far as signatures and turns go."""

    def __init__(self, domain: Domain, miners: int) -> None:
        self.domain, self.quorum = domain, quorum_of(miners)
        self.rounds: dict[int, Finalisation] = {}
        self.accused: list[tuple[SignedVerdict, SignedVerdict]] = []
        self.without_deposit: frozenset[str] = frozenset()
        self.turns: list[int] = []

    def finalise(self, leader, verdict, manifest, signatures) -> None:
        if verdict.round in self.rounds:
            raise LedgerError("WrongPhase")
        signers = [verdict.signer(signature, self.domain) for signature in signatures]
        numbers = [int(signer, 16) for signer in signers]
        if leader.address != verdict.leader or len(signers) < self.quorum or numbers != sorted(set(numbers)):
            raise LedgerError("the contract refuses")
        if self.without_deposit & {*signers}:
            raise LedgerError("NoDeposit")
        self.turns.append(verdict.rank)
        self.rounds[verdict.round] = Finalisation(
            round=verdict.round,
            leader=verdict.leader,
            rank=verdict.rank,
            root=verdict.root,
            model=verdict.model,
            record=verdict.record,
            participants=verdict.participants,
            honest=verdict.honest,
            seed=verdict.seed,
            threshold=0,
            credited=0,
            signers=(),
            block=1,
            gas=100_000,
            tx=bytes(32),
        )

    def finalised(self, round_number: int) -> Finalisation | None:
        return self.rounds.get(round_number)

    def barred(self) -> frozenset[str]:
        return self.without_deposit

    def accuse(self, one: SignedVerdict, two: SignedVerdict) -> bool:
        self.accused.append((one, two))
        return True


Tweak = Callable[[Submission], Submission]


class World:
    """One task. Indices are the order of registration, which is not the order of addresses."""

    def __init__(self, customers: int = 10, miners: int = 4, **policy: object) -> None:
        self.store = DictStore()
        self.domain = Domain(31337, CONTRACT)
        self.accounts = [simulation_account(7, "customer", i) for i in range(customers)]
        self.customers = tuple(account.address for account in self.accounts)
        self.secrets = [simulation_secret(7, "vrf", i) for i in range(miners)]
        self.miner_accounts = [simulation_account(7, "miner", i) for i in range(miners)]
        self.model_vector = np.random.default_rng(1).integers(-(2**20), 2**20, parameter_count(LAYOUT))
        self.model = self.store.put(pack(self.model_vector, LAYOUT, MODEL_DTYPE))
        settings = {
            "rounds": 10,
            "f": 2,
            "cohort": 256,
            "precision": "int16",
            "aggregator": "multi_krum",
            "evaluation": "outlier",
            "gamma_initial": 5,
            "gamma_max": 10,
            "examples_cap": 100,
            "fractional_bits": 14,
            "weighting": "equal",
            "tau": 3,
            "copy_cosine": 999_000,
            "strikes": 0,
            "layout": LAYOUT,
            "model": self.model,
            "frozen": self.model,
            "config": {},
        }
        self.docket: Docket = MemoryDocket(self.domain, miners)
        self.policy = Policy(**settings | policy)  # type: ignore[arg-type]

    def miners(self) -> list[Miner]:
        pairs = zip(self.miner_accounts, self.secrets, strict=True)
        return [Miner(account, secret, self.store, self.docket) for account, secret in pairs]

    def update(self, index: int, scale: float = 1.0) -> npt.NDArray[np.int64]:
        """An honest update: a common step and a deviation of the customer's own, times ``scale``."""
        common = np.random.default_rng(2).normal(0, 300, parameter_count(LAYOUT))
        own = np.random.default_rng([3, index]).normal(0, 200, parameter_count(LAYOUT))
        return np.rint(scale * (common + own)).astype(np.int64)

    def submission(self, index: int, vector: npt.NDArray[np.int64], round_number: int = 1) -> Submission:
        blob = pack(vector, LAYOUT, self.policy.update_dtype)
        receipt = Receipt(
            task=self.policy.digest,
            round=round_number,
            customer=self.customers[index],
            model=self.model.sha256,
            update=sha256(blob),
            size=len(blob),
            cid=reference(blob).cid,
            encoding=ENCODING,
            examples=50 + index,
            epsilonMicros=4_000_000,
            deltaPicos=10_000_000,
            releases=1,
        )
        return Submission(receipt, blob, index)

    def seal(
        self,
        updates: dict[int, npt.NDArray[np.int64]] | None = None,
        tweaks: dict[int, Tweak] | None = None,
        reputation: tuple[int, ...] | None = None,
        round_number: int = 1,
        earlier: tuple[EarlierRound, ...] = (),
        submitted: tuple[int, ...] = (),
    ) -> SealedRound:
        """Seal a round; every customer sends an honest update unless ``updates`` or ``tweaks`` say otherwise."""
        vectors = {i: self.update(i) for i in range(len(self.customers))} if updates is None else updates
        entries = [
            self._entry((tweaks or {}).get(i, lambda s: s)(self.submission(i, vector, round_number)))
            for i, vector in vectors.items()
        ]
        manifest = Manifest.of(round_number, entries)
        if isinstance(self.docket, MemoryDocket):
            self.docket.rounds.pop(round_number, None)
        return SealedRound(
            domain=self.domain,
            policy=self.policy,
            round=round_number,
            root=manifest.tree(self.domain).root,
            manifest=self.store.put(manifest.to_bytes()),
            participants=tuple(sorted(vectors)),
            customers=self.customers,
            reputation=reputation or (self.policy.gamma_initial,) * len(self.customers),
            model=self.model,
            seed=sha256(b"genesis"),
            miners=tuple(
                Seat(account.address, vrf.public_key(secret))
                for account, secret in zip(self.miner_accounts, self.secrets, strict=True)
            ),
            submitted=tuple((i, sha256(pack(vectors[i], LAYOUT, self.policy.update_dtype))) for i in submitted),
            earlier=earlier,
        )

    def past(self, sealed: SealedRound) -> EarlierRound:
        """Return a sealed round as a finalised one, with everything that it leaves in the store."""
        outcome = evaluate(sealed, self.store)
        self.store.put(outcome.model)
        record = RoundRecord(outcome.evaluation, Election((), self.miner_accounts[0].address, sealed.seed))
        ref = self.store.put(record.to_bytes())
        return EarlierRound(sealed.round, sealed.manifest, ref, sealed.participants, outcome.evaluation.honest)

    def _entry(self, sent: Submission) -> SignedReceipt:
        ref = self.store.put(sent.blob)
        if not sent.stored:
            del self.store.blobs[ref.cid]
        return sent.receipt.sign(self.accounts[sent.signer], self.domain)


def of_blob(receipt: Receipt, blob: bytes) -> Receipt:
    """Return the receipt for another blob."""
    ref = reference(blob)
    return replace(receipt, update=ref.sha256, size=ref.size, cid=ref.cid)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[..., World]:
    return World


@pytest.fixture
def with_receipt() -> Callable[..., Tweak]:
    """Return a tweak that changes members of the receipt before it is signed."""

    def tweak(**members: object) -> Tweak:
        return lambda sent: replace(sent, receipt=replace(sent.receipt, **members))  # type: ignore[arg-type]

    return tweak


@pytest.fixture
def with_blob() -> Callable[[bytes], Tweak]:
    """Return a tweak that sends another blob, rightly signed for."""

    def tweak(blob: bytes) -> Tweak:
        return lambda sent: replace(sent, blob=blob, receipt=of_blob(sent.receipt, blob))

    return tweak
