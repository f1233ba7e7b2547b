"""The attackers: each wraps an honest customer, trains as it would, and signs a valid receipt for something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from app.customer.attacks import vectors
from app.customer.attacks.crew import Blobs, Crew
from app.customer.attacks.foresight import strikers
from app.customer.attacks.vectors import Vector
from app.customer.phone import Phone
from app.durable import write_privately
from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.tensors import unpack

if TYPE_CHECKING:
    from app.customer.customer import Contribution, Customer, Learnt
    from app.learning.data import Dataset
    from app.protocol.announcement import Announcement
    from app.protocol.policy import Policy


_FORMULAS: dict[str, Callable[[Vector, float], Vector]] = {
    "alie": vectors.alie,
    "ipm": vectors.ipm,
    "min_max": vectors.min_max,
}


class Attacker:
    """A hostile customer; a subclass says what it sends.

    It trains even where it does not need to: its phone keeps books like any other.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew, self._scale = crew, crew.attack.scale
        self._customer = self._made(crew)

    @property
    def address(self) -> str:
        """Checksum address."""
        return self._customer.address

    def participate(self, announcement: Announcement, policy: bytes, frozen: bytes, model: bytes) -> Contribution:
        """Take part in a round, against it."""
        blobs = (policy, frozen, model)
        learnt = self._customer.learn(announcement, *blobs)
        return self._send(announcement, blobs, learnt)

    def _made(self, crew: Crew) -> Customer:
        return crew.simulation.customer(crew.index, crew.simulation.home, None, None)

    def _send(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Contribution:
        return self._customer.contribute(told, replace(learnt, delta=self._delta(told, blobs, learnt)))

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        """Return the change of the model that is sent in place of ``learnt.delta``, shape (d,)."""
        return learnt.delta


class SignFlip(Attacker):
    """Sends ``-scale`` times its honest update, saturating at the grid's range."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        return -self._scale * learnt.delta


class LabelFlip(Attacker):
    """Trains on its own records with every class c of C taken for class C - 1 - c."""

    def _made(self, crew: Crew) -> Customer:
        def flip(data: Dataset) -> Dataset:
            return replace(data, labels=len(data.classes) - 1 - data.labels)

        return crew.simulation.customer(crew.index, crew.simulation.home, flip, None)


class Gaussian(Attacker):
    """Sends noise ``scale`` times as long as its honest update."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        return vectors.gaussian(learnt.delta, self._scale, self._crew.generator(told.round))


class Colluder(Attacker):
    """Sends a function of the honest updates that the crew knows, plus a little noise of its own."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        common = _FORMULAS[self._crew.attack.name](self._crew.known(told, blobs), self._scale)
        return vectors.jittered(common, self._crew.attack.jitter, self._crew.generator(told.round))


class Copycat(Attacker):
    """Sends ``scale`` times the update of an honest customer: the first colluder that of the first one, and so on."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        hostile = self._crew.attack.crew(self._crew.simulation.customers)
        victim = (self._crew.index - hostile.start) % max(1, hostile.start)
        stolen: Vector = self._crew.honest([victim], told, blobs)[0]
        return self._scale * stolen


class FreeRider(Attacker):
    """Sends ``scale`` times what the last round changed in the global model; in the first round, what it learnt.

    Fraboni, Vidal, Lorenzi (AISTATS 2021) call this disguise. The last model it knows lies in its own folder.
    """

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        folder = self._crew.simulation.home / f"{self._crew.index:05d}" / "models"
        write_privately(folder / f"{told.round:05d}", blobs[2])
        last = folder / f"{told.round - 1:05d}"
        if not last.exists():
            return learnt.delta
        old, new = (_integers(learnt.policy, blob) for blob in (last.read_bytes(), blobs[2]))
        return self._scale * learnt.policy.grid.decode(new - old).astype(np.float64)


class Replay(Attacker):
    """Sends the update that it learnt in its first round again and again."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        kept = self._crew.simulation.home / f"{self._crew.index:05d}" / "first-update"
        if not kept.exists():
            write_privately(kept, learnt.delta.tobytes())
        return np.frombuffer(kept.read_bytes(), np.float64)


class Zero(Attacker):
    """Sends an update that changes nothing."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        return np.zeros_like(learnt.delta)


class Inflate(Attacker):
    """Sends its honest update, and claims ``scale`` times as many examples as it has."""

    def _made(self, crew: Crew) -> Customer:
        def phone(*arguments: Any, **options: Any) -> Phone:
            return _BoastfulPhone(crew.attack.scale, *arguments, **options)

        return crew.simulation.customer(crew.index, crew.simulation.home, None, phone)


class Intermittent(SignFlip):
    """Flips its update in the rounds that suit its reputation (`foresight`), and is honest in the others."""

    def _delta(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Vector:
        policy, customers = learnt.policy, self._crew.simulation.customers
        hostile = self._crew.attack.crew(customers)
        chosen = strikers(told.round, customers, hostile, policy.gamma_initial, policy.gamma_max)
        return super()._delta(told, blobs, learnt) if self._crew.index in chosen else learnt.delta


class Silent(Attacker):
    """Sends nothing; to the others this is the same as sending too late."""

    def _send(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Contribution:
        raise ProtocolError("this customer is silent")


class Malformed(Attacker):
    """Signs for a blob of the right size, names and shapes that holds floats, all of them NaN."""

    def _send(self, told: Announcement, blobs: Blobs, learnt: Learnt) -> Contribution:
        update = save({name: np.full(shape, np.nan, np.float16) for name, shape in learnt.policy.layout})
        return self._customer.vouch(told, bytes(update), learnt.loss, 0)


class _BoastfulPhone(Phone):
    """A phone that claims more records than it has."""

    def __init__(self, scale: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._claim = scale

    @property
    def examples(self) -> int:
        """Number of records that it claims."""
        return round(self._claim * super().examples)


def _integers(policy: Policy, model: bytes) -> Any:
    return unpack(model, policy.layout, MODEL_DTYPE)
