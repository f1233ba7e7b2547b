"""Customers of a simulation: derived from the run's seed, so that a run can be repeated bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from app.customer.attacks import AttackConfig, Participant, adversary
from app.customer.attacks.crew import Simulation
from app.customer.customer import Customer
from app.customer.mec import Mec
from app.customer.phone import LEDGER, Phone
from app.customer.task import TaskConfig, section
from app.customer.wallets import wallet
from app.privacy.accountant import Accountant
from app.privacy.config import PrivacyConfig
from app.privacy.cost import COORDINATE, RECORD
from app.privacy.labels import flip_matrix, label_treatment
from app.privacy.mechanism import NoMechanism, mechanism_of, relative_noise
from app.privacy.randomness import InsecureSeededRandom, RandomSource, SystemRandom
from app.protocol.errors import PrivacyError, ProtocolError
from app.protocol.keys import simulation_secret
from app.protocol.policy import Policy

if TYPE_CHECKING:
    from app.learning.config import DataConfig, ModelConfig
    from app.learning.data import Dataset
    from app.learning.models import SplitModel

_building = Lock()


def simulated_customer(
    policy: Policy, index: int, home: Path, *, data_path: str | None = None, deployment: bool = False
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
    deployment : bool, default False
        True is refused.

    Raises
    ------
    PrivacyError
        In a deployment: keys, data and noise that follow from a seed protect nobody.
    ProtocolError
        If the configuration is not a task's, or has no such customer.
    """
    refuse_in_deployment(deployment)
    task, attack = TaskConfig.of(policy, data_path), section(policy, "attack", AttackConfig)
    if not 0 <= index < task.customers:
        raise ProtocolError(f"the task has the customers 0 to {task.customers - 1}, not {index}")
    make = partial(_customer, task, data_path)
    if attack.hostile(index, task.customers):
        return adversary(Simulation(make, task.customers, task.seed, home), attack, index)
    return make(index, home)


def refuse_in_deployment(deployment: bool) -> None:
    """Raise `PrivacyError` if simulated customers are asked for where real people's data is at stake."""
    if deployment:
        raise PrivacyError("seeded-insecure randomness and simulation keys are refused in deployment")


def split_model(policy: Policy, frozen: bytes, data_path: str | None = None) -> SplitModel:
    """Return the task's model with its frozen part loaded; one for all customers of a process, never changed."""
    task = TaskConfig.of(policy, data_path)
    with _building:
        return _split_model(task.data, task.model, task.privacy, task.customers, task.seed, frozen)


@lru_cache(maxsize=2)
def _split_model(
    data: DataConfig, model: ModelConfig, privacy: PrivacyConfig, customers: int, seed: int, frozen: bytes
) -> SplitModel:
    from app.learning.models import bottleneck_width, build
    from app.learning.views import inspect
    from app.learning.weights import load_frozen

    summary = inspect(data, customers, seed)
    width = bottleneck_width(model, summary, noised=privacy.record_level)
    noise, flips = relative_noise(privacy, width), flip_matrix(privacy, len(summary.classes))
    split = build(model, summary, noised=privacy.record_level, noise=noise, flips=flips, seed=seed)
    load_frozen(split, frozen)
    return split


def _customer(
    task: TaskConfig,
    data_path: str | None,
    index: int,
    home: Path,
    spoil: Callable[[Dataset], Dataset] | None = None,
    phone: Callable[..., Phone] | None = None,
) -> Customer:
    """Return an honest customer; ``spoil`` and ``phone`` are an adversary's, see `Simulation`."""
    own = home / f"{index:05d}"
    model = partial(split_model, data_path=data_path)
    return Customer(_phone(task, index, own / "phone", spoil, phone or Phone), Mec(own / "mec"), index, model)


def _phone(
    task: TaskConfig, index: int, home: Path, spoil: Callable[[Dataset], Dataset] | None, make: Callable[..., Phone]
) -> Phone:
    from app.learning.views import customer_view

    with _building:
        data = customer_view(task.data, task.customers, index, task.seed)
    account = wallet(task.seed, index)
    return make(
        spoil(data) if spoil else data,
        mechanism_of(task.privacy, _source(task.privacy, task.seed, "features", index)),
        label_treatment(task.privacy, len(data.classes), _source(task.privacy, task.seed, "labels", index)),
        _accountant(task.privacy, account.address, home),
        account,
        simulation_secret(task.seed, "salt", index),
        home,
        deployment=False,
    )


def _source(privacy: PrivacyConfig, seed: int, purpose: str, index: int) -> RandomSource:
    if privacy.randomness == SystemRandom.name:
        return SystemRandom()
    return InsecureSeededRandom(seed, purpose, index)


def _accountant(privacy: PrivacyConfig, owner: str, home: Path) -> Accountant:
    if privacy.mechanism == NoMechanism.name:
        return Accountant(home / LEDGER, owner, math.inf, 0.0)  # nothing is promised, so nothing is refused
    unit = RECORD if privacy.record_level else COORDINATE
    return Accountant(home / LEDGER, owner, privacy.budget, privacy.delta, unit)
