"""Customers that break the rules in ways no honest app would, for tests of whoever has to cope with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors.numpy import save

from app.customer.attacks import Participant
from app.customer.customer import Contribution, Customer
from app.protocol.announcement import Announcement
from app.protocol.keys import simulation_account
from app.protocol.policy import Policy
from app.protocol.receipt import Receipt
from app.store.base import reference

Spoil = Callable[["Hostile", Announcement, Policy, Contribution], Contribution]
"""From an honest contribution to what is sent instead."""


@dataclass(frozen=True)
class Hostile:
    """An honest customer whose contribution is spoilt on its way out."""

    customer: Customer
    spoil: Spoil

    @property
    def address(self) -> str:
        return self.customer.address

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        honest = self.customer.participate(announcement, policy, frozen, model)
        return self.spoil(self, announcement, Policy.from_bytes(policy), honest)

    def signed(self, announcement: Announcement, honest: Contribution, update: bytes, **changes: Any) -> Contribution:
        """Sign a receipt for ``update`` with the customer's own key, with some members changed."""
        blob = reference(update)
        members = {"update": blob.sha256, "size": blob.size, "cid": blob.cid} | changes
        receipt = replace(honest.receipt.receipt, **members)
        return replace(honest, update=update, receipt=self.customer._phone.sign(receipt, announcement.domain))


def raises(_: Hostile, __: Announcement, ___: Policy, ____: Contribution) -> Contribution:
    """Fail."""
    raise RuntimeError("the phone fell into the water")


def nan_weights(of: Hostile, told: Announcement, policy: Policy, honest: Contribution) -> Contribution:
    """Send floats, all of them NaN, under the right names and shapes."""
    update = save({name: np.full(shape, np.nan, np.float32) for name, shape in policy.layout})
    return of.signed(told, honest, update)


def wrong_shapes(of: Hostile, told: Announcement, policy: Policy, honest: Contribution) -> Contribution:
    """Send every tensor with one row too many."""
    update = save({name: np.zeros((shape[0] + 1, *shape[1:]), np.int16) for name, shape in policy.layout})
    return of.signed(told, honest, update)


def wrong_round(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Sign for the next round."""
    return of.signed(told, honest, honest.update, round=told.round + 1)


def another_key(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Sign a receipt in one's own name with a stranger's key."""
    stranger = simulation_account(0, "stranger")
    return replace(honest, receipt=honest.receipt.receipt.sign(stranger, told.domain))


def another_customer(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Claim to be somebody who is not in the task."""
    stranger = simulation_account(0, "stranger")
    receipt: Receipt = replace(honest.receipt.receipt, customer=stranger.address)
    return replace(honest, receipt=receipt.sign(stranger, told.domain))


def another_blob(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Send other bytes than those that were signed for."""
    return replace(honest, update=honest.update[:-1] + bytes([honest.update[-1] ^ 1]))


def huge_blob(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Send 32 MiB."""
    return of.signed(told, honest, bytes(2**25))


def garbage(of: Hostile, told: Announcement, _: Policy, honest: Contribution) -> Contribution:
    """Send bytes that are no safetensors."""
    return of.signed(told, honest, b"\xff" * 100)


SPOILS: dict[str, Spoil] = {
    spoil.__name__: spoil
    for spoil in (
        raises,
        nan_weights,
        wrong_shapes,
        wrong_round,
        another_key,
        another_customer,
        another_blob,
        huge_blob,
        garbage,
    )
}


def hostile(customer: Participant, name: str) -> Hostile:
    """Return a customer that spoils what an honest one sends, by the name in `SPOILS`."""
    assert isinstance(customer, Customer)
    return Hostile(customer, SPOILS[name])
