"""The MEC server of a phone when it is a service: every request is signed with the customer's key."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from eth_account.signers.local import LocalAccount

from app.customer.job import HeadTrainer, Job
from app.customer.mec_messages import (
    SERVICE,
    answer_from_bytes,
    gradient_from_bytes,
    job_to_bytes,
    key_to_bytes,
    metadata_of,
    step_to_bytes,
    trained_from_bytes,
)
from app.customer.wire import FeatureRelease
from app.protocol.errors import ProtocolError
from app.protocol.request import MecRequest
from app.service.client import Client

_NO_RELEASE = "0" * 64  # a joint training needs none
_TRAINING_SECONDS, _SECONDS = 3600.0, 60.0


class DistantMec:
    """A MEC server somewhere else; implements `app.customer.job.MecServer`.

    Parameters
    ----------
    address : str
        ``host:port``; it is also the name that requests are signed for.
    authority : str or None
        File of the certificate that vouches for it; None: it is on this machine.
    account : LocalAccount
        The customer's wallet.
    patience : float
        Seconds in which a server that is away is asked again.
    clock : callable, optional
        Tells the seconds since 1970.
    """

    def __init__(
        self,
        address: str,
        authority: str | None,
        account: LocalAccount,
        patience: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = Client(SERVICE, address, authority, key="node-config mec", patience=patience)
        self._server, self._account, self._clock = address, account, clock

    def holds(self, key: str) -> bool:
        """Tell whether it has the release under ``key``, whole."""
        return answer_from_bytes(self._ask("Holds", key_to_bytes(key), _SECONDS))

    def accept(self, release: FeatureRelease) -> None:
        """Send a release."""
        self._ask("Accept", release.to_bytes(), _TRAINING_SECONDS)

    def train(self, key: str, job: Job) -> tuple[npt.NDArray[np.float64], float]:
        """Have a head trained."""
        return trained_from_bytes(self._ask("Train", job_to_bytes(key, job), _TRAINING_SECONDS))

    def begin(self, job: Job) -> HeadTrainer:
        """Have joint training begin."""
        self._ask("Begin", job_to_bytes(_NO_RELEASE, job), _TRAINING_SECONDS)
        return DistantSteps(self._ask)

    def forget(self, key: str) -> None:
        """Have a release deleted."""
        self._ask("Forget", key_to_bytes(key), _SECONDS)

    def _ask(self, method: str, body: bytes, timeout: float) -> bytes:
        def signed() -> dict[str, str]:  # anew for each attempt: a signature is good once, and not for long
            request = MecRequest(self._server, method, body, int(self._clock() * 1e6))
            return metadata_of(self._account.address, request.time, request.sign(self._account))

        return self._client.call(method, body, timeout=timeout, metadata=signed)


class DistantSteps:
    """Joint training with a MEC server somewhere else; implements `app.customer.job.HeadTrainer`.

    Parameters
    ----------
    ask : callable
        Sends a request: method, body, and the seconds that the answer may take.
    """

    def __init__(self, ask: Callable[[str, bytes, float], bytes]) -> None:
        self._ask, self._number = ask, 0

    def step(self, release: FeatureRelease) -> tuple[npt.NDArray[np.float32], float]:
        """Have a step taken; raise `ProtocolError` if the answer is no gradient of the release."""
        answer = self._ask("Step", step_to_bytes(self._number, release), _TRAINING_SECONDS)
        gradient, loss = gradient_from_bytes(answer)
        if gradient.shape != release.values.shape or not np.isfinite(gradient).all():
            raise ProtocolError("the MEC server's gradient is not one of the features that it was sent")
        self._number += 1
        return gradient, loss

    def end(self) -> npt.NDArray[np.float32]:
        """Return the head's weights."""
        return trained_from_bytes(self._ask("End", b"", _TRAINING_SECONDS))[0].astype(np.float32)
