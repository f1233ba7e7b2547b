"""A task's rounds without a chain: customers as they are, and what a miner makes of their updates, for measurements."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.customer.simulation import simulated_customer
from app.mining.outcome import evaluate
from app.mining.round import EarlierRound, SealedRound
from app.protocol.announcement import Announcement
from app.protocol.digest import sha256
from app.protocol.errors import HearthError
from app.protocol.evaluation import Evaluation
from app.protocol.fixed_point import UPDATE_DTYPE
from app.protocol.keys import simulation_account
from app.protocol.manifest import Manifest
from app.protocol.record import Election, RoundRecord
from app.protocol.signing import Domain
from app.protocol.tensors import unpack
from app.settings import Config
from app.store.embedded import EmbeddedStore
from app.task import Evaluator, _publish_policy, prepare
from strategies.reputation import next_reputation

DOMAIN = Domain(2020, "0x00000000000000000000000000000000000000C0")


@dataclass(frozen=True)
class Judged:
    """One round: what was sent (by customer index), and what came of it."""

    round: int
    updates: dict[int, npt.NDArray[np.int64]]
    evaluation: Evaluation
    reputation: tuple[int, ...]
    accuracy: float


def judged_rounds(config: Config, accuracy_every: int = 0) -> Iterator[Judged]:
    """Run a task round by round; accuracy is NaN except in every ``accuracy_every``-th round and the last."""
    prepared = prepare(config)
    config = prepared.config
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "blobs")
        policy = _publish_policy(prepared, store)
        accuracy_of = Evaluator(prepared, policy)
        frozen, rules = store.get(policy.frozen, policy.frozen.size), policy.to_bytes()
        people = [
            simulated_customer(policy, index, Path(folder) / "customers", data_path=config.data.path)
            for index in range(config.customers)
        ]
        addresses = tuple(str(simulation_account(config.seed, "customer", i).address) for i in range(config.customers))
        earlier: tuple[EarlierRound, ...] = ()
        gammas, model = (policy.gamma_initial,) * config.customers, policy.model
        for number in range(1, config.rounds + 1):
            told = Announcement(DOMAIN, policy.digest, number, model.sha256)
            blob = store.get(model, model.size)
            receipts, updates = [], {}
            for index, person in enumerate(people):
                try:
                    sent = person.participate(told, rules, frozen, blob)
                except HearthError:
                    continue
                store.put(sent.update)
                receipts.append(sent.receipt)
                try:
                    updates[index] = unpack(sent.update, policy.layout, UPDATE_DTYPE)
                except HearthError:
                    continue
            manifest = Manifest.of(number, receipts)
            present = {receipt.customer for receipt in receipts}
            participants = tuple(i for i, address in enumerate(addresses) if address in present)
            sealed = SealedRound(
                domain=DOMAIN,
                policy=policy,
                round=number,
                root=manifest.tree(DOMAIN).root,
                manifest=store.put(manifest.to_bytes()),
                participants=participants,
                customers=addresses,
                reputation=gammas,
                model=model,
                seed=sha256(b"seed" + bytes([number % 256])),
                miners=(),
                submitted=(),
                earlier=earlier,
            )
            outcome = evaluate(sealed, store)
            record = RoundRecord(outcome.evaluation, Election((), addresses[0], sealed.seed)).to_bytes()
            honest = outcome.evaluation.honest
            earlier += (EarlierRound(number, sealed.manifest, store.put(record), participants, honest),)
            gammas = next_reputation(gammas, participants, honest, policy.gamma_max)
            model = store.put(outcome.model)
            due = number == config.rounds or (accuracy_every and number % accuracy_every == 0)
            accuracy = accuracy_of(outcome.model)[0] if due else float("nan")
            yield Judged(number, updates, outcome.evaluation, gammas, accuracy)
