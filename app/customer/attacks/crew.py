"""What hostile customers of a simulation know of the others.

The threat model is the literature's worst case: before they send anything, the hostile ones know what the honest ones
will send in this round. No message carries that knowledge, because no honest code may know of attackers. In a
simulation every customer follows from the task's seed, so a hostile one recomputes the others' honest updates itself,
whichever process it runs in, and all engines come to the same bits. Each process does so once a round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from app.customer.attacks.config import AttackConfig
from app.customer.attacks.vectors import Vector

if TYPE_CHECKING:
    from app.customer.customer import Customer, Learnt
    from app.customer.phone import Phone
    from app.learning.data import Dataset
    from app.protocol.announcement import Announcement

Blobs = tuple[bytes, bytes, bytes]
"""What goes with an announcement: policy, frozen part, global model."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How customers of the simulated task are made.

    Attributes
    ----------
    customer : callable
        ``customer(index, home, spoil, phone)`` makes customer ``index`` with a folder of its own under ``home``.
        ``spoil`` changes its records first, and ``phone`` is what makes its phone; None leaves both as they are.
    customers : int
        How many there are.
    seed : int
        The run's seed.
    home : Path
        Folder of all customers.
    """

    customer: Callable[[int, Path, Callable[[Dataset], Dataset] | None, Callable[..., Phone] | None], Customer]
    customers: int
    seed: int
    home: Path


@dataclass(frozen=True, slots=True)
class Crew:
    """The hostile customers of a task, as one of them sees it."""

    simulation: Simulation
    attack: AttackConfig
    index: int

    def known(self, told: Announcement, blobs: Blobs) -> Vector:
        """Return the honest updates that the attack is made of, shape (n, d), by customer index."""
        hostile = self.attack.crew(self.simulation.customers)
        omniscient = self.attack.knowledge == "omniscient" and len(hostile) < self.simulation.customers
        return self.honest(range(hostile.start) if omniscient else hostile, told, blobs)

    def honest(self, indices: Sequence[int], told: Announcement, blobs: Blobs) -> Vector:
        """Return what these customers learn from the announced model, shape (n, d)."""
        return np.stack([_spied.learnt(self.simulation, index, told, blobs).delta for index in indices])

    def generator(self, round_number: int) -> np.random.Generator:
        """Return this customer's own randomness for a round."""
        return np.random.default_rng([self.simulation.seed, 0xBAD, round_number, self.index])


class _Spied:
    """The others' honest updates of the current round, each recomputed once a process."""

    def __init__(self) -> None:
        self._lock, self._round, self._learnt = Lock(), (b"", 0, b"", ""), dict[int, "Learnt"]()

    def learnt(self, simulation: Simulation, index: int, told: Announcement, blobs: Blobs) -> Learnt:
        # Phones write down what they release: a process's copies of customers need folders that nobody else uses.
        home = simulation.home / f"spied-{os.getpid()}"
        with self._lock:
            if self._round != (current := (told.task, told.round, told.model, str(home))):
                self._round, self._learnt = current, {}
            if index not in self._learnt:
                self._learnt[index] = simulation.customer(index, home, None, None).learn(told, *blobs)
            return self._learnt[index]


_spied = _Spied()
