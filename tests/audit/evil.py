"""A manufacturer and a quorum of miners who lie together: they hold their keys, and every digest fits.

What they write is a valid chain with valid signatures; only whoever recomputes the round finds them out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from app.audit.blobs import Blobs, BlockDirectory
from app.audit.chain_file import ChainFile, reexecute
from app.audit.report import AuditError, Report, Section
from app.audit.run import audit_task
from app.audit.task import ChainTask, find_contract, read_task
from app.ledger.chain import embedded_chain
from app.ledger.task_ledger import FinaliseCall, TaskLedger, TaskTerms
from app.mining.election import draw, electorate, next_seed, rank
from app.mining.history import History
from app.mining.outcome import evaluate
from app.mining.round import SealedRound
from app.protocol.digest import sha256
from app.protocol.evaluation import Evaluation
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.manifest import Manifest
from app.protocol.policy import Policy
from app.protocol.record import Election, RoundRecord
from app.protocol.seat import Seat
from app.protocol.tensors import pack, unpack
from app.protocol.verdict import Verdict
from app.protocol.vrf import public_key
from app.store.embedded import EmbeddedStore

SEED = 0
MANUFACTURER = simulation_account(SEED, "manufacturer")


@dataclass(frozen=True)
class Draft:
    """A round's outcome before it is signed: what an honest committee found, to be lied about."""

    evaluation: Evaluation
    model: bytes
    election: Election
    rank: int


Lie = Callable[["World", Draft], Draft]


class World:
    """A task whose members all obey one liar; what customers did is what they did in a good run."""

    def __init__(self, good: Path, home: Path, base: Path | None = None, **terms: Any) -> None:
        """Publish the task of a good run anew, with other terms if asked to; or go on from a copy of ``base``."""
        task, alloc = _known(good)
        self.home = home
        shutil.copytree(
            base or good, home, ignore=shutil.ignore_patterns("chain.sqlite*" if base is None else "", "customers")
        )
        self.store = EmbeddedStore(home / "blobs", fsync=False)
        self.policy = Policy.from_bytes(Blobs("", BlockDirectory(good / "blobs")).small("", task.terms["policy"]))
        sealed = [round_.seal.manifest for round_ in task.rounds if round_.seal]
        self.manifests = [Manifest.from_bytes(self.store.get(ref, ref.size)) for ref in sealed]
        self.miners = [simulation_account(SEED, "miner", index) for index in range(len(task.miners))]
        self.secrets = [simulation_secret(SEED, "vrf", index) for index in range(len(task.miners))]
        self.chain = embedded_chain(home / "chain.sqlite", task.domain.chain_id, funded=alloc)
        self.model = self.policy.model
        if base is not None:
            self.ledger = TaskLedger.attach(self.chain, task.domain.contract)
            return
        given = TaskTerms(**{to_snake(name): value for name, value in task.terms.items()} | terms)
        seats = [Seat(a.address, public_key(s)) for a, s in zip(self.miners, self.secrets, strict=True)]
        self.ledger = TaskLedger.publish(self.chain, MANUFACTURER, given, task.customers, seats)

    def customer(self, address: str) -> Any:
        """Return a customer's account."""
        accounts = [simulation_account(SEED, "customer", index) for index in range(len(self.ledger.customers()))]
        return next(account for account in accounts if account.address == address)

    def seal(
        self, number: int, manifest: Manifest, *, root: bytes | None = None, present: Sequence[int] | None = None
    ) -> None:
        """Seal a round, with another root or other participants than the manifest's if asked to."""
        blob = self.store.put(manifest.to_bytes())
        everyone = self.ledger.customers()
        indices = sorted(everyone.index(signed.customer) for signed in manifest.receipts)
        root = root or manifest.tree(self.ledger.domain).root
        self.ledger.seal(MANUFACTURER, number, root, blob, indices if present is None else present)

    def finalise(self, number: int, lie: Lie | None = None) -> None:
        """Let the quorum sign what an honest one would, as the lie changes it."""
        seal, state = self.ledger.sealed(number), self.ledger.state()
        assert seal is not None
        sealed = SealedRound(
            domain=self.ledger.domain,
            policy=self.policy,
            round=number,
            root=seal.root,
            manifest=seal.manifest,
            participants=seal.participants,
            customers=self.ledger.customers(),
            reputation=self.ledger.reputation(),
            model=self.model,
            seed=state.seed,
            miners=self.ledger.miners(),
            submitted=tuple(
                (self.ledger.customers().index(signed.customer), signed.receipt.update)
                for signed in self.ledger.submissions(number)
            ),
            earlier=History(self.ledger).before(number),
        )
        outcome, voters = evaluate(sealed, self.store), electorate(sealed)
        tickets = [draw(a.address, s, voters.message) for a, s in zip(self.miners, self.secrets, strict=True)]
        ranked = rank(tickets, voters)
        honest = Election(ranked, ranked[0].miner, next_seed(ranked[0].proof))
        draft = Draft(outcome.evaluation, outcome.model, honest, 0)
        self.sign(sealed, lie(self, draft) if lie else draft)

    def sign(self, sealed: SealedRound, draft: Draft) -> None:
        """Sign a draft with every miner's key, and finalise the round with it."""
        record = self.store.put(RoundRecord(draft.evaluation, draft.election).to_bytes())
        self.model = self.store.put(draft.model)
        verdict = Verdict(
            task=self.policy.digest,
            round=sealed.round,
            root=sealed.root,
            model=sha256(draft.model),
            record=record,
            participants=sealed.participants,
            honest=draft.evaluation.honest,
            customers=len(sealed.customers),
            leader=draft.election.leader,
            rank=draft.rank,
            seed=draft.election.seed,
        )
        signers = sorted(self.miners, key=lambda account: int(account.address, 16))
        call = FinaliseCall(
            task=verdict.task,
            round=verdict.round,
            root=verdict.root,
            manifest=sealed.manifest.sha256,
            model=verdict.model,
            record=record,
            participants=verdict.participants,
            honest=verdict.honest,
            leader=verdict.leader,
            seed=verdict.seed,
            signatures=tuple(verdict.sign(account, sealed.domain) for account in signers),
            rank=verdict.rank,
        )
        leader = next(account for account in self.miners if account.address == draft.election.leader)
        self.ledger.finalise(leader, call)

    def audit(self) -> tuple[str, list[str]]:
        """Close the chain and audit the task; return ``ok`` or what is broken, and what is not proven."""
        self.chain.close()
        report = Report("")
        try:
            history = reexecute(self.home / "chain.sqlite", Section(""))
            blobs = Blobs("blobs", BlockDirectory(self.home / "blobs"))
            audit_task(history, find_contract(history), blobs, report)
        except AuditError as error:
            return str(error), report.unproven
        return "ok", report.unproven


@cache
def _known(good: Path) -> tuple[ChainTask, dict[str, int]]:
    history = reexecute(good / "chain.sqlite", Section(""))
    return read_task(history, find_contract(history)), ChainFile.read(good / "chain.sqlite").alloc


def to_snake(name: str) -> str:
    """Return ``gammaMax`` as ``gamma_max``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


# Lies about the outcome


def entry(draft: Draft, which: Callable[[Any], bool], **changes: Any) -> Draft:
    """Change the first entry of the record that fits."""
    customers = list(draft.evaluation.customers)
    position = next(i for i, item in enumerate(customers) if which(item))
    customers[position] = replace(customers[position], **changes)
    return replace(draft, evaluation=replace(draft.evaluation, customers=tuple(customers)))


def with_model(world: World, draft: Draft, change: Callable[[Any], Any]) -> Draft:
    """Change the new model's parameters."""
    layout = world.policy.layout
    vector = unpack(draft.model, layout, MODEL_DTYPE)
    return replace(draft, model=pack(change(vector), layout, MODEL_DTYPE))
