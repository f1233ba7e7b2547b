"""One customer of a task: its phone, its MEC server, and what it contributes to a round."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.customer.job import Job, MecServer, ModelFactory, fitting, global_model
from app.customer.phone import Phone
from app.customer.task import TaskConfig, integer
from app.protocol.announcement import Announcement
from app.protocol.digest import canonical_json, hex32, sha256
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt, privacy_units
from app.protocol.tensors import pack
from app.store.base import reference

if TYPE_CHECKING:
    from app.learning.models import SplitModel


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a customer sends back for a round.

    Attributes
    ----------
    update : bytes
        Blob of the update on the task's grid (`app.protocol.tensors`), in integers of its precision.
    receipt : SignedReceipt
        The customer's signed statement on it.
    examples : int
        Records that were trained on.
    loss : float
        Mean training loss of the last epoch.
    saturated : int
        How many entries of the update were outside the range of the grid.
    """

    update: bytes
    receipt: SignedReceipt
    examples: int
    loss: float
    saturated: int


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What local training changed.

    Attributes
    ----------
    policy : Policy
        The task's rules.
    delta : numpy.ndarray of float64
        Trained minus global parameters, shape (parameters,), in the order of the layout.
    loss : float
        Mean training loss of the last epoch.
    """

    policy: Policy
    delta: npt.NDArray[np.float64]
    loss: float


class Customer:
    """A phone paired with its MEC server.

    Calls of one customer must not overlap; different customers may run in threads of one process. A contribution
    depends on the task, the round, the global model and the customer's own data and noise alone.

    Parameters
    ----------
    phone : Phone
        Raw data, features, privacy, wallet.
    mec : MecServer
        Training of the head.
    index : int
        The customer's index in the task, or another number of its own: the order of its batches follows from it.
    split_model : callable
        Opens the task's model, see `ModelFactory`. What it returns is not changed and may be shared.
    """

    def __init__(self, phone: Phone, mec: MecServer, index: int, split_model: ModelFactory) -> None:
        self._phone, self._mec, self._index, self._split_model = phone, mec, index, split_model

    @property
    def address(self) -> str:
        """The customer's checksum address."""
        return self._phone.address

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        """Train on the announced model and sign the update.

        Parameters
        ----------
        announcement : Announcement
            What is asked for: task, round, and the digest of the global model.
        policy, frozen, model : bytes
            The blobs of the task's policy, its frozen part and the global model.

        Raises
        ------
        ProtocolError
            If a blob is not the announced one, the round is not the task's, or training diverged.
        PrivacyError
            If a release is due, would exceed the customer's budget, and there is no earlier one to go on with.
        """
        return self.contribute(announcement, self.learn(announcement, policy, frozen, model))

    def learn(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Learnt:
        """Check what was announced, have the features released if they are not yet, and train; see `participate`."""
        rules = _accepted(announcement, policy, frozen, model)
        split = self._split_model(rules, frozen)
        fitting(model, rules, split.trained)  # before anything is released for a round that cannot be
        seed = training_seed(integer(rules, "seed"), announcement.round, self._index)
        job = Job(policy, frozen, model, seed)
        task = TaskConfig.of(rules)
        if task.by_rounds:
            return self._learn_anew(announcement, rules, task, split, job)
        delta, loss = self._train_on_release(announcement, rules, split, job)
        return Learnt(rules, delta, loss)

    def _learn_anew(
        self, announcement: Announcement, rules: Policy, task: TaskConfig, split: SplitModel, job: Job
    ) -> Learnt:
        """Train where each round lets something new out: count it first, and keep what came of it."""
        parts = {"task": hex32(announcement.task), "round": announcement.round, "model": hex32(announcement.model)}
        asked = sha256(canonical_json(parts))
        kept = self._phone.updates.get(announcement.task, asked)
        if kept is None:
            self._phone.count_round(announcement.round, asked, rules.frozen.sha256, split.phone)
            if task.exposure.joint:
                kept = self._train_jointly(announcement.round, rules, task, split, job)
            else:
                kept = self._train_on_release(announcement, rules, split, job)
            self._phone.updates.put(announcement.task, asked, *kept)
        return Learnt(rules, *kept)

    def _train_jointly(
        self, round_number: int, rules: Policy, task: TaskConfig, split: SplitModel, job: Job
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Return what joint training changed, phone's layers first, as the layout has them; and the loss."""
        from app.learning.weights import get_vector

        own = global_model(split, rules, job.model)
        start = get_vector(own.trained).astype(np.float64)
        head = self._mec.begin(job)
        loss = self._phone.learn(round_number, rules.frozen.sha256, own.phone, task.train, head.step, job.seed)
        trained = np.concatenate([get_vector(own.phone), head.end()]).astype(np.float64)
        return trained - start, loss

    def _train_on_release(
        self, announcement: Announcement, rules: Policy, split: SplitModel, job: Job
    ) -> tuple[npt.NDArray[np.float64], float]:
        """Have the features released if they are not yet, and return what training the head on them changed."""
        key = self._phone.key(rules.frozen.sha256)
        if not self._mec.holds(key):
            release = self._phone.release(rules.frozen.sha256, split.phone)
            self._mec.accept(release)
            key = release.key
        delta, loss = self._mec.train(key, job)
        if announcement.round == rules.rounds:
            # The task is over; should the round be repeated, the phone sends the same bytes again.
            self._mec.forget(key)
        return delta, loss

    def contribute(self, announcement: Announcement, learnt: Learnt) -> Contribution:
        """Put a change of the model on the grid, pack it and sign a receipt for it; see `participate`."""
        integers, saturated = learnt.policy.grid.encode(learnt.delta, learnt.policy.update_dtype)
        update = pack(integers, learnt.policy.layout, learnt.policy.update_dtype)
        return self.vouch(announcement, update, learnt.loss, saturated)

    def vouch(self, announcement: Announcement, update: bytes, loss: float, saturated: int) -> Contribution:
        """Sign a receipt for the bytes of an update; see `participate`."""
        blob, spent = reference(update), self._phone.spent()
        epsilon, delta = privacy_units(spent.record_epsilon, spent.record_delta)
        receipt = Receipt(
            task=announcement.task,
            round=announcement.round,
            customer=self.address,
            model=announcement.model,
            update=blob.sha256,
            size=blob.size,
            cid=blob.cid,
            encoding=ENCODING,
            examples=self._phone.examples,
            epsilonMicros=epsilon,
            deltaPicos=delta,
            releases=spent.releases,
        )
        signed = self._phone.sign(receipt, announcement.domain)
        return Contribution(update, signed, self._phone.examples, loss, saturated)


def training_seed(seed: int, round_number: int, customer: int) -> int:
    """Return the seed of one customer's local training in one round, from 0 to 2**63 - 1.

    A function of its arguments alone, so that the order in which customers run changes nothing.
    """
    text = f"hearth local training: seed {seed}, round {round_number}, customer {customer}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _accepted(announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Policy:
    """Return the policy if everything is what was announced."""
    if sha256(policy) != announcement.task:
        raise ProtocolError("the policy is not the announced task's")
    if sha256(model) != announcement.model:
        raise ProtocolError("the global model is not the announced one")
    rules = Policy.from_bytes(policy)
    if len(frozen) != rules.frozen.size or sha256(frozen) != rules.frozen.sha256:
        raise ProtocolError("the frozen part is not the policy's")
    if not 1 <= announcement.round <= rules.rounds:
        raise ProtocolError(f"round {announcement.round} is not one of the task's {rules.rounds}")
    return rules
