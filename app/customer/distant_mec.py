"""The MEC server of a phone when it is a service: every request is signed with the customer's key."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from eth_account.signers.local import LocalAccount

from app.customer.job import Job
from app.customer.mec_messages import (
    SERVICE,
    answer_from_bytes,
    job_to_bytes,
    key_to_bytes,
    metadata_of,
    trained_from_bytes,
)
from app.customer.wire import FeatureRelease
from app.protocol.request import MecRequest
from app.service.client import Client

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

    def forget(self, key: str) -> None:
        """Have a release deleted."""
        self._ask("Forget", key_to_bytes(key), _SECONDS)

    def _ask(self, method: str, body: bytes, timeout: float) -> bytes:
        def signed() -> dict[str, str]:  # anew for each attempt: a signature is good once, and not for long
            request = MecRequest(self._server, method, body, int(self._clock() * 1e6))
            return metadata_of(self._account.address, request.time, request.sign(self._account))

        return self._client.call(method, body, timeout=timeout, metadata=signed)
