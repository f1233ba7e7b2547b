"""A task from its configuration to its open contract: what the manufacturer does before the first round."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from eth_account.signers.local import LocalAccount

from app.config import to_plain
from app.learning.config import default_training
from app.learning.data import ManufacturerData
from app.learning.form import RecordForm
from app.learning.models import SplitModel, bottleneck_width, build
from app.learning.pretrain import pretrain
from app.learning.training import Features, accuracy_and_loss, features
from app.learning.views import manufacturer_view
from app.learning.weights import get_vector, layout, save_frozen, set_vector
from app.ledger.chain import Chain, embedded_chain, rpc_chain
from app.ledger.compatibility import require_evm
from app.ledger.deposits import Role
from app.ledger.docket import TaskDocket
from app.ledger.embedded import CHAIN_ID
from app.ledger.funding import fund, needs, require
from app.ledger.task_ledger import TaskLedger, TaskTerms
from app.ledger.transaction import Waiting
from app.mining.committee import Committee
from app.mining.copies import MILLION
from app.mining.distant import DistantCommittee
from app.mining.miner import Miner
from app.mining.roles import Judges
from app.parties import Parties, parties_of
from app.privacy.exposure import Exposure, require_possible
from app.privacy.labels import flip_matrix
from app.privacy.mechanism import mechanism_of, relative_noise
from app.privacy.randomness import SystemRandom
from app.protocol.digest import sha256
from app.protocol.fixed_point import MODEL_DTYPE, Grid
from app.protocol.policy import Policy
from app.protocol.tensors import pack, unpack
from app.run_directory import RunDirectory
from app.runtime import use_one_thread
from app.settings import Config
from app.store.base import BlobStore, pin_name, reference
from app.store.factory import configured_store
from strategies.stopwatch import Stopwatch

_FUNDS = 10**24
"""Wei for each party that sends transactions on the embedded chain, where ether has no value."""
_NOT_OF_THE_TASK = (
    *("name", "experiment", "members", "chain", "wallet", "store", "engine"),
    *("probe", "contribution", "tracker"),
)
"""Keys that say where and how a task runs. They change neither what is computed nor what is promised."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task that can be published: nothing of it is written or sent yet.

    Attributes
    ----------
    config : Config
        The configuration with every ``auto`` resolved.
    data : ManufacturerData
        The manufacturer's public records and test records.
    model : SplitModel
        The model, trained on the public records alone.
    parties : Parties
        Who takes part, and their keys.
    seconds : float
        Wall time that the preparation took.
    """

    config: Config
    data: ManufacturerData
    model: SplitModel
    parties: Parties
    seconds: float


@dataclass(slots=True)
class Task:
    """An open task, and the manufacturer's means to run and to judge it."""

    prepared: Prepared
    policy: Policy
    ledger: TaskLedger
    chain: Chain
    store: BlobStore
    committee: Judges
    manufacturer: LocalAccount

    def close(self) -> None:
        """Close the store and the chain; their files are then complete."""
        self.store.close()
        self.chain.close()


class Evaluator:
    """Judges global models on the manufacturer's test records: clean features, as a phone computes them for itself."""

    def __init__(self, prepared: Prepared, policy: Policy) -> None:
        self._policy, self._model, self._test = policy, prepared.model, prepared.data.test
        self._mechanism = mechanism_of(prepared.config.privacy, SystemRandom())
        self._frozen = None if self._model.joint else self._features()

    def __call__(self, blob: bytes) -> tuple[float, float]:
        """Return accuracy and mean loss of a global model's blob."""
        set_vector(self._model.trained, self._policy.grid.decode(unpack(blob, self._policy.layout, MODEL_DTYPE)))
        found = self._features() if self._frozen is None else self._frozen
        return accuracy_and_loss(self._model.mec, found, self._test.labels)

    def _features(self) -> Features:
        # The head knows features as they are released, normalised and clipped; a phone adds no noise for itself.
        phone = self._model.phone
        return self._mechanism.clean(features(phone, self._test), phone.space)


def prepare(config: Config) -> Prepared:
    """Load the manufacturer's data and train the initial model on its public records.

    Raises
    ------
    ConfigError, DataError
        If the data set cannot be had, or the model does not fit it.
    """
    parties = parties_of(config)  # a wrong password is told before the work begins
    start = time.perf_counter()
    use_one_thread()
    data = manufacturer_view(config.data, config.customers, config.seed)
    privacy = config.privacy
    form = RecordForm.of(data.summary)
    width = bottleneck_width(config.model, form, noised=privacy.record_level)
    noise, flips = relative_noise(privacy, width), flip_matrix(privacy, len(form.classes))
    model = build(config.model, form, noised=privacy.record_level, noise=noise, flips=flips, seed=config.seed)
    resolved = _resolved(config, model, max(data.summary.per_customer))
    pretrain(model, data.public, config.seed, mechanism_of(privacy, SystemRandom()).clean)
    return Prepared(resolved, data, model, parties, time.perf_counter() - start)


def _resolved(config: Config, model: SplitModel, records: int) -> Config:
    """Return the configuration with everything that was ``auto`` or null as the model and the records have it.

    Raises
    ------
    ConfigError
        If a task that lets something out in every round could not keep its promise.
    """
    privacy, how = config.privacy, {"joint": model.joint, "private": config.privacy.mechanism == "dp_sgd"}
    epochs = config.train.epochs or default_training(model.head, records, **how).epochs
    exposure = Exposure(config.rounds, epochs, model.joint)
    require_possible(privacy, exposure)
    noise = mechanism_of(privacy, SystemRandom(), exposure).deviation(model.phone.space)
    return replace(
        config,
        model=replace(config.model, name=model.name, split=model.split, head=model.head, bottleneck=model.bottleneck),
        train=config.train.resolved(model.head, records, noise=noise, **how),
    )


def exposure_of(config: Config) -> Exposure:
    """Return how often a task with this resolved configuration lets something of each record out."""
    assert config.train.epochs is not None  # resolved
    return Exposure(config.rounds, config.train.epochs, config.model.extractor == "joint")


def publish(prepared: Prepared, directory: RunDirectory, stopwatch: Stopwatch) -> Task:
    """Store the initial model and the policy, open the task on chain, and bring up the miners.

    Parameters
    ----------
    prepared : Prepared
        What `prepare` returned.
    directory : RunDirectory
        Where an embedded chain and an embedded store live.
    stopwatch : Stopwatch
        Receives the seconds of the parts ``chain`` and ``store``.

    Raises
    ------
    LedgerError, StoreError
        If the chain or the store cannot be had as configured.
    """
    config = prepared.config
    store = configured_store(config.store, default=directory.blobs_path, patient=config.members.elsewhere)
    with stopwatch.part("store"):
        policy = _publish_policy(prepared, store)
    parties = prepared.parties
    with stopwatch.part("chain"):
        chain = _open_chain(config, directory, parties)
        ledger = TaskLedger.publish(
            chain,
            parties.manufacturer,
            _terms(config, policy),
            parties.customers,
            parties.seats,
        )
        if config.terms.deposit_wei and parties.keys is not None:
            for role, members in ((Role.CUSTOMER, parties.keys.customers), (Role.MINER, parties.keys.miners)):
                for member in members:
                    ledger.deposits.make(member, role, config.terms.deposit_wei)
    committee = _committee(parties, ledger, store)
    return Task(prepared, policy, ledger, chain, store, committee, parties.manufacturer)


def _committee(parties: Parties, ledger: TaskLedger, store: BlobStore) -> Judges:
    """Return who decides the rounds: miners of this process, or those that are elsewhere."""
    if parties.keys is None:
        return DistantCommittee(ledger, store, parties.manufacturer)
    docket = TaskDocket(ledger, parties.manufacturer)
    mining = zip(parties.keys.miners, parties.keys.secrets, strict=True)
    return Committee([Miner(account, secret, store, docket) for account, secret in mining], docket)


def _publish_policy(prepared: Prepared, store: BlobStore) -> Policy:
    config, trained = prepared.config, prepared.model.trained
    initial, _ = Grid(config.strategy.fractional_bits).encode(get_vector(trained), MODEL_DTYPE)
    model, frozen = pack(initial, layout(trained), MODEL_DTYPE), save_frozen(prepared.model)
    policy = Policy(
        rounds=config.rounds,
        f=config.strategy.f,
        aggregator=config.strategy.aggregator,
        evaluation=config.strategy.evaluation,
        gamma_initial=config.strategy.gamma_initial,
        gamma_max=config.strategy.gamma_max,
        examples_cap=config.strategy.examples_cap,
        fractional_bits=config.strategy.fractional_bits,
        weighting=config.miners.weighting,
        tau=config.miners.tau,
        cohort=config.strategy.cohort,
        precision=config.strategy.precision,
        copy_cosine=round(config.strategy.copy_cosine * MILLION),
        strikes=config.strategy.strikes,
        layout=layout(trained),
        model=reference(model),
        frozen=reference(frozen),
        config=_of_the_task(config) | {"inputs": RecordForm.of(prepared.data.summary).to_json()},
    )
    for what, blob in (("initial-model", model), ("frozen-part", frozen), ("policy", policy.to_bytes())):
        store.put(blob, pin_name(policy.digest, what))
    return policy


def _of_the_task(config: Config) -> dict[str, Any]:
    """Return the configuration without what differs between machines that run the same task."""
    plain = to_plain(replace(config, data=replace(config.data, path=None)))
    return {key: value for key, value in plain.items() if key not in _NOT_OF_THE_TASK}


def _terms(config: Config, policy: Policy) -> TaskTerms:
    return TaskTerms(
        policy=policy.digest,
        model=policy.model.sha256,
        # A miner that chooses its VRF key after the policy is known can sway the first leader, and no later one.
        seed=sha256(b"hearth first seed" + policy.digest),
        rounds=config.rounds,
        f=config.strategy.f,
        gamma_initial=config.strategy.gamma_initial,
        gamma_max=config.strategy.gamma_max,
        reward=config.terms.reward_wei,
        deposit=config.terms.deposit_wei,
        submission_window=config.terms.submission_window,
        seal_window=config.terms.seal_window,
        leader_window=config.terms.leader_window,
        finalise_window=config.terms.finalise_window,
        skips=config.terms.skips,
    )


def _open_chain(config: Config, directory: RunDirectory, parties: Parties) -> Chain:
    terms, journal = config.terms, directory.journal_path
    manufacturer, miners, customers = parties.manufacturer, parties.miners, parties.customers
    if config.chain.name == "embedded":
        senders = [manufacturer.address, *miners, *(customers if terms.deposit_wei else ())]
        funded = {str(sender): _FUNDS + terms.deposit_wei + terms.reward_wei for sender in senders}
        return embedded_chain(directory.chain_path, config.chain.chain_id or CHAIN_ID, funded=funded, journal=journal)
    waiting = Waiting(confirmations=config.chain.depth)
    where = config.chain.url
    chain = rpc_chain(
        config.chain.address, config.chain.chain_id, where=where, journal=journal, waiting=waiting, patient=True
    )
    require_evm(chain)
    needed = needs(
        chain,
        manufacturer.address,
        miners,
        customers if parties.keys else (),
        rounds=config.rounds,
        reward=terms.reward_wei,
        deposit=terms.deposit_wei,
    )
    if config.wallet.name == "simulation":
        fund(chain, manufacturer, needed)
    else:
        require(chain, needed, parties.names)
    return chain
