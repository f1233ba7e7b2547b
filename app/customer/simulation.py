"""Customers of a simulation: derived from the run's seed, so that a run can be repeated bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from eth_account.signers.local import LocalAccount

from app.customer.attacks import AttackConfig, Participant, adversary
from app.customer.attacks.crew import Simulation
from app.customer.customer import Customer
from app.customer.job import InProcessMec, MecServer
from app.customer.mec import Mec
from app.customer.phone import LEDGER, Phone
from app.customer.task import TaskConfig, section
from app.customer.wallets import wallet
from app.learning.form import RecordForm
from app.privacy.accountant import Accountant
from app.privacy.config import PrivacyConfig
from app.privacy.cost import COORDINATE, RECORD
from app.privacy.labels import flip_matrix, label_treatment
from app.privacy.mechanism import NoMechanism, mechanism_of, relative_noise
from app.privacy.randomness import InsecureSeededRandom, RandomSource, SystemRandom
from app.privacy.rounds import RoundProtection
from app.protocol.errors import ProtocolError
from app.protocol.keys import simulation_secret
from app.protocol.policy import Policy

if TYPE_CHECKING:
    from app.learning.config import ModelConfig
    from app.learning.data import Dataset
    from app.learning.models import SplitModel

_building = Lock()


def _own_mec(index: int, home: Path) -> MecServer:
    return InProcessMec(Mec(home), split_model)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays with which key, and on which MEC server.

    Attributes
    ----------
    wallet : callable
        From the run's seed and a customer's index to its account.
    mec : callable
        From a customer's index and a folder to its MEC server.
    """

    wallet: Callable[[int, int], LocalAccount] = wallet
    mec: Callable[[int, Path], MecServer] = _own_mec


def simulated_customer(
    policy: Policy, index: int, home: Path, *, data_path: str | None = None, cast: Cast | None = None
) -> Participant:
    """Return customer ``index`` of a simulated task.

    Its data, its wallet and its noise follow from ``policy.config``: ``seed``, ``customers``, and the sections
    ``data``, ``model``, ``train``, ``privacy`` and ``attack``. What it must remember lies under ``home``, so another
    process can go on with the same customer.

    Parameters
    ----------
    policy : Policy
        The task's rules.
    index : int
        Which customer, from 0.
    home : Path
        Folder of all simulated customers. This one has a folder of its own in it, and its phone and its MEC server
        have one each in that.
    data_path : str, optional
        Where the data is on this machine; the policy does not say.
    cast : Cast, optional
        Other keys or MEC servers than a simulation's own.

    Raises
    ------
    ProtocolError
        If the configuration is not a task's, or has no such customer.
    """
    task, attack = TaskConfig.of(policy, data_path), section(policy, "attack", AttackConfig)
    if not 0 <= index < task.customers:
        raise ProtocolError(f"the task has the customers 0 to {task.customers - 1}, not {index}")
    make = partial(_customer, task, cast or Cast())
    if attack.hostile(index, task.customers):
        return adversary(Simulation(make, task.customers, task.seed, home), attack, index)
    return make(index, home)


def split_model(policy: Policy, frozen: bytes) -> SplitModel:
    """Return the task's model with its frozen part loaded; one for all customers of a process, never changed."""
    task = TaskConfig.of(policy)
    with _building:
        return _split_model(task.form, task.model, task.privacy, task.seed, frozen)


@lru_cache(maxsize=2)
def _split_model(form: RecordForm, model: ModelConfig, privacy: PrivacyConfig, seed: int, frozen: bytes) -> SplitModel:
    from app.learning.models import bottleneck_width, build
    from app.learning.weights import load_frozen

    width = bottleneck_width(model, form, noised=privacy.record_level)
    noise, flips = relative_noise(privacy, width), flip_matrix(privacy, len(form.classes))
    split = build(model, form, noised=privacy.record_level, noise=noise, flips=flips, seed=seed)
    load_frozen(split, frozen)
    return split


def _customer(
    task: TaskConfig,
    cast: Cast,
    index: int,
    home: Path,
    spoil: Callable[[Dataset], Dataset] | None = None,
    phone: Callable[..., Phone] | None = None,
) -> Customer:
    """Return an honest customer; ``spoil`` and ``phone`` are an adversary's, see `Simulation`."""
    own = home / f"{index:05d}"
    made = _phone(task, cast.wallet(task.seed, index), index, own / "phone", spoil, phone or Phone)
    return Customer(made, cast.mec(index, own / "mec"), index, split_model)


def _phone(
    task: TaskConfig,
    account: LocalAccount,
    index: int,
    home: Path,
    spoil: Callable[[Dataset], Dataset] | None,
    make: Callable[..., Phone],
) -> Phone:
    from app.learning.views import customer_view

    with _building:
        data = customer_view(task.data, task.customers, index, task.seed)
    return make(
        spoil(data) if spoil else data,
        mechanism_of(task.privacy, _source(task.privacy, task.seed, "features", index)),
        label_treatment(task.privacy, len(data.classes), _source(task.privacy, task.seed, "labels", index)),
        accountant(task.privacy, account.address, home),
        account,
        simulation_secret(task.seed, "salt", index),
        home,
        deployment=False,
        protection=round_protection(task, lambda purpose: _source(task.privacy, task.seed, purpose, index)),
    )


def round_protection(task: TaskConfig, source: Callable[[str], RandomSource]) -> RoundProtection | None:
    """Return how a phone protects each round of a task that lets something out in every one; None for other tasks."""
    return RoundProtection(task.privacy, task.exposure, source) if task.by_rounds else None


def _source(privacy: PrivacyConfig, seed: int, purpose: str, index: int) -> RandomSource:
    if privacy.randomness == SystemRandom.name:
        return SystemRandom()
    return InsecureSeededRandom(seed, purpose, index)


def accountant(privacy: PrivacyConfig, owner: str, home: Path) -> Accountant:
    """Return the accountant of the phone that lives in ``home``, with the budget that a task's privacy asks for."""
    if privacy.mechanism == NoMechanism.name:
        return Accountant(home / LEDGER, owner, math.inf, 0.0)  # nothing is promised, so nothing is refused
    unit = RECORD if privacy.protects_records else COORDINATE
    return Accountant(home / LEDGER, owner, privacy.budget, privacy.delta, unit)
