"""A deployed customer: its own records, key and MEC server, and noise from the operating system."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eth_account.signers.local import LocalAccount

from app.customer.attacks import Participant
from app.customer.customer import Customer
from app.customer.distant_mec import DistantMec
from app.customer.job import InProcessMec, MecServer
from app.customer.mec import Mec
from app.customer.phone import Phone
from app.customer.simulation import Cast, accountant, round_protection, simulated_customer, split_model
from app.customer.site import Site
from app.customer.task import TaskConfig
from app.customer.wallets import wallet
from app.durable import write_privately
from app.ledger.keystore import read_private
from app.privacy.labels import label_treatment
from app.privacy.mechanism import mechanism_of
from app.privacy.randomness import SystemRandom
from app.protocol.errors import ConfigError, PrivacyError
from app.protocol.policy import Policy

if TYPE_CHECKING:
    from app.learning.data import Dataset

_PUBLIC = ("plaid", "digits", "mnist")
"""Data sets that anybody has, so that a rehearsal on them gives nothing away."""
_SALT_BYTES = 32


def deployed_customer(policy: Policy, site: Site, account: LocalAccount) -> Participant:
    """Return the customer at ``site``.

    Parameters
    ----------
    policy : Policy
        The task's rules.
    site : Site
        Its machine.
    account : LocalAccount
        Its wallet.

    Raises
    ------
    ConfigError
        If the site cannot take part in such a task.
    DataError
        If its records are not of the task's form.
    PrivacyError
        If the task asks for noise that is not the operating system's.
    ProtocolError
        If the policy's configuration is no task's.
    """
    mec = partial(_mec, site, account)
    if site.rehearse is not None:
        return _rehearsing(policy, site, account, site.rehearse, mec)
    from app.learning.datasets.own import own_records

    task = TaskConfig.of(policy)
    data = own_records(site.data or "", site.label, task.form)
    phone = _phone(task, data, site, account)
    return Customer(phone, mec(site.home / "mec"), int(account.address, 16) % 2**31, split_model)


def _rehearsing(policy: Policy, site: Site, account: LocalAccount, index: int, mec: partial[MecServer]) -> Participant:
    """Return a customer of the public demonstration data, with this site's key and MEC server."""
    name = policy.config.get("data", {}).get("name")
    if name not in _PUBLIC:
        problem = f"the task is about data={name}, of which there is no public demonstration"
        raise ConfigError("node-config rehearse", problem, _PUBLIC)

    def key(seed: int, other: int) -> LocalAccount:
        return account if other == index else wallet(seed, other)

    def server(other: int, home: Path) -> MecServer:
        return mec(home) if other == index else InProcessMec(Mec(home), split_model)

    return simulated_customer(policy, index, site.home, cast=Cast(key, server))


def _phone(task: TaskConfig, data: Dataset, site: Site, account: LocalAccount) -> Phone:
    if task.privacy.randomness != SystemRandom.name and task.privacy.mechanism != "none":
        raise PrivacyError(f"{task.privacy.randomness} noise is refused with real records (privacy.randomness=system)")
    source = SystemRandom()
    return Phone(
        data,
        mechanism_of(task.privacy, source),
        label_treatment(task.privacy, len(task.form.classes), source),
        accountant(task.privacy, account.address, site.home / "phone"),
        account,
        _salt(site.home / "phone" / "salt"),
        site.home / "phone",
        deployment=True,
        protection=round_protection(task, lambda _: source),
    )


def _salt(path: Path) -> bytes:
    """Return the phone's secret salt; the first call draws it."""
    if not path.exists():
        write_privately(path, secrets.token_bytes(_SALT_BYTES))
    salt = read_private(path, "the phone's salt")
    if len(salt) != _SALT_BYTES:
        raise PrivacyError(
            f"{path} does not hold the phone's salt: records that were released would not be known again"
        )
    return salt


def _mec(site: Site, account: LocalAccount, home: Path) -> MecServer:
    if site.mec is None:
        return InProcessMec(Mec(home), split_model)
    return DistantMec(site.mec, site.mec_authority, account, site.mec_patience)
