"""A MEC server as a process of its own: many phones, each with a folder of its own, and none that is not a customer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import numpy as np
from eth_utils import is_address, to_checksum_address

from app.customer.cache import Cache
from app.customer.job import HeadTrainer, InProcessMec, ModelFactory
from app.customer.mec import Mec
from app.customer.mec_messages import (
    answer_to_bytes,
    gradient_to_bytes,
    job_from_bytes,
    key_from_bytes,
    read_metadata,
    step_from_bytes,
    trained_to_bytes,
)
from app.customer.wire import FeatureRelease
from app.members import read_members
from app.protocol.errors import ConfigError, ProtocolError, RefusedError
from app.protocol.request import GOOD_FOR, MecRequest
from app.service.metrics import Metrics
from app.service.server import Caller, Method

_LOG = logging.getLogger(__name__)


class MecService:
    """Answers phones.

    Requests of one customer are worked on one after the other, those of different customers at the same time.

    Parameters
    ----------
    customers : iterable of str
        Checksum addresses of those that are served.
    names : sequence of str
        What the server is called by its customers: the addresses that they were given.
    cache : Cache
        Where releases lie.
    split_model : callable
        Opens a task's model, see `app.customer.job.ModelFactory`.
    metrics : Metrics
        Is told how things stand.
    clock : callable, optional
        Tells the seconds since 1970.
    """

    def __init__(
        self,
        customers: Iterable[str],
        names: Iterable[str],
        cache: Cache,
        split_model: ModelFactory,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._busy, self._names, self._cache = {customer: Lock() for customer in customers}, tuple(names), cache
        self._split_model, self._metrics, self._clock = split_model, metrics, clock
        self._joint: dict[str, _Joint] = {}
        self._seen: dict[bytes, int] = {}
        self._seeing = Lock()

    @property
    def methods(self) -> dict[str, Method]:
        """What it answers."""
        plain: dict[str, Callable[[str, bytes], bytes]] = {
            "Holds": self._holds,
            "Accept": self._accept,
            "Train": self._train,
            "Begin": self._begin,
            "Step": self._step,
            "End": self._end,
            "Forget": self._forget,
        }
        return {name: self._for_customers(name, method) for name, method in plain.items()}

    def _for_customers(self, name: str, method: Callable[[str, bytes], bytes]) -> Method:
        def answer(body: bytes, caller: Caller) -> bytes:
            customer = self._admitted(name, body, caller)
            with self._busy[customer]:
                return method(customer, body)

        return answer

    def _admitted(self, method: str, body: bytes, caller: Caller) -> str:
        """Return whose request this is.

        Raises
        ------
        RefusedError
            If it is nobody's that is served here, is too old, or was made before.
        """
        try:
            customer, signed_at, signature = read_metadata(dict(caller.metadata))
            now = int(self._clock() * 1e6)
            if customer not in self._busy:
                raise RefusedError(f"{customer} is not served here")
            if abs(now - signed_at) > GOOD_FOR * 1_000_000:
                raise RefusedError(f"the request was signed {(now - signed_at) // 1_000_000} s ago; is a clock wrong?")
            requests = (MecRequest(server, method, body, signed_at) for server in self._names)
            if customer not in {request.signer(signature) for request in requests}:
                raise RefusedError(f"the request is not signed by {customer} for this server")
        except ProtocolError as error:
            raise RefusedError(str(error)) from error
        with self._seeing:
            self._seen = {known: at for known, at in self._seen.items() if abs(now - at) <= 2 * GOOD_FOR * 1_000_000}
            if signature in self._seen:
                raise RefusedError("the request was made before")
            self._seen[signature] = now
        return customer

    def _mec(self, customer: str) -> Mec:
        return Mec(self._cache.shelf(customer))

    def _holds(self, customer: str, body: bytes) -> bytes:
        return answer_to_bytes(self._mec(customer).holds(key_from_bytes(body)))

    def _accept(self, customer: str, body: bytes) -> bytes:
        release = FeatureRelease.from_bytes(body)
        self._cache.make_room(len(body))
        self._mec(customer).accept(release)
        _LOG.info("%s: took %d records of %d features", customer, *release.values.shape)
        self._tell()
        return b""

    def _train(self, customer: str, body: bytes) -> bytes:
        key, job = job_from_bytes(body)
        start = time.perf_counter()
        self._cache.used(customer, key)
        delta, loss = InProcessMec(self._mec(customer), self._split_model).train(key, job)
        seconds = time.perf_counter() - start
        self._metrics.tell("train_seconds", "Seconds that the last training took", seconds)
        _LOG.info("%s: trained in %.1f s, loss %.4f", customer, seconds, loss)
        return trained_to_bytes(delta, loss)

    def _begin(self, customer: str, body: bytes) -> bytes:
        _, job = job_from_bytes(body)
        self._joint[customer] = _Joint(InProcessMec(self._mec(customer), self._split_model).begin(job))
        _LOG.info("%s: joint training begins", customer)
        return b""

    def _step(self, customer: str, body: bytes) -> bytes:
        number, release = step_from_bytes(body)
        return self._begun(customer).step(number, release)

    def _end(self, customer: str, body: bytes) -> bytes:
        joint = self._begun(customer)
        _LOG.info("%s: joint training ends after %d steps", customer, joint.taken)
        return joint.end()

    def _begun(self, customer: str) -> _Joint:
        if customer not in self._joint:
            raise ProtocolError("no joint training was begun here; the server may have been started anew meanwhile")
        return self._joint[customer]

    def _forget(self, customer: str, body: bytes) -> bytes:
        self._mec(customer).forget(key_from_bytes(body))
        _LOG.info("%s: forgot a release", customer)
        self._tell()
        return b""

    def _tell(self) -> None:
        self._metrics.tell("cache_bytes", "Bytes of releases on the disk", self._cache.size())


class _Joint:
    """One customer's joint training, of which there is one at a time: the next one that it begins replaces it.

    A step that a phone sends twice, because the answer was lost, is taken once. When it has ended, the last answer is
    all that stays in memory.
    """

    def __init__(self, trainer: HeadTrainer) -> None:
        self._trainer: HeadTrainer | None = trainer
        self.taken, self._answer = 0, b""

    def step(self, number: int, release: FeatureRelease) -> bytes:
        if self._trainer is None:
            raise ProtocolError("this joint training has ended")
        if number == self.taken - 1:
            return self._answer
        if number != self.taken:
            raise ProtocolError(f"step {number} does not follow on {self.taken} steps")
        self._answer = gradient_to_bytes(*self._trainer.step(release))
        self.taken += 1
        return self._answer

    def end(self) -> bytes:
        if self._trainer is not None:
            self._answer, self._trainer = trained_to_bytes(self._trainer.end().astype(np.float64), 0.0), None
        return self._answer


def read_customers(path: str) -> tuple[str, ...]:
    """Return the customers in a file of cards (see `app.members`), or of addresses, one a line.

    Raises
    ------
    ConfigError
        If it cannot be read, or names nobody.
    """
    file = Path(path).expanduser()
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("customers", f"{file} cannot be read: {error}", "a file of cards or addresses") from error
    if all(map(is_address, lines)):
        found = tuple(str(to_checksum_address(line)) for line in lines)
    else:
        found = tuple(card.member for card in read_members(path, "customers").customers)
    if not found:
        raise ConfigError("customers", f"{file} names no customer", "a file of cards or addresses")
    return found
