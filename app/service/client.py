"""Asking another party's service: patiently while it is away, and never longer than agreed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

import grpc

from app.one_line import one_line
from app.protocol.errors import ConfigError, RefusedError, ServiceError, ServiceUnavailableError
from app.service.listen import LARGEST, is_loopback, read_pem, split_address

_LONGEST_PAUSE = 5.0
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
_REFUSED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


class Client:
    """A service at an address.

    Parameters
    ----------
    name : str
        Of the service, such as ``hearth.Miner``.
    address : str
        ``host:port``.
    authority : str or None
        File of the certificate (PEM) that vouches for the service's own; None speaks in the clear, to this machine.
    key : str
        What the address is called in the configuration, for messages.
    patience : float
        Seconds in which a service that is away is asked again.

    Raises
    ------
    ConfigError
        If the address is none, or is elsewhere and there is no ``authority``.
    """

    def __init__(self, name: str, address: str, authority: str | None, *, key: str, patience: float = 60.0) -> None:
        self._channel = open_channel(address, authority, key=key)
        self._name, self.address, self._patience = name, address, patience

    def call(
        self, method: str, request: bytes, *, timeout: float, metadata: Callable[[], Mapping[str, str]] | None = None
    ) -> bytes:
        """Return a method's answer.

        Parameters
        ----------
        method : str
            Its name.
        request : bytes
            The message.
        timeout : float
            Seconds in which one attempt must be answered.
        metadata : callable, optional
            Returns what goes with it, anew for each attempt.

        Raises
        ------
        ServiceUnavailableError
            If the service is away longer than our patience.
        RefusedError
            If it does not let us in.
        ServiceError
            If it answers with an error.
        """
        ask = self._channel.unary_unary(f"/{self._name}/{method}")
        start, pause = time.monotonic(), 0.1
        while True:
            try:
                return bytes(ask(request, timeout=timeout, metadata=tuple(metadata().items() if metadata else ())))
            except grpc.RpcError as error:
                failure, again = _failure(self.address, error)
                left = self._patience - (time.monotonic() - start)
                if not again or left <= 0:
                    raise failure from error
            # Jitter: those who wait for a service that was restarted should not all come back in the same moment.
            time.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


def open_channel(address: str, authority: str | None, *, key: str) -> grpc.Channel:
    """Return a connection to a service, which is made when it is first used; the arguments are those of `Client`."""
    host, _ = split_address(key, address)
    options = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", -1)]
    if authority is not None:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(read_pem(key, authority)), options)
    if not is_loopback(host):
        problem = f"{address} is on another machine, and there is no certificate to know it by"
        raise ConfigError(key, problem, "the file of its certificate authority beside it")
    return grpc.insecure_channel(address, options)


def _failure(address: str, error: grpc.RpcError) -> tuple[ServiceError, bool]:
    """Return what a failed call means, and whether it may succeed later."""
    code, words = error.code(), one_line(str(error.details() or ""))
    if code in _AWAY:
        return ServiceUnavailableError(f"{address} does not answer ({code.name.lower()}: {words})"), True
    kind = RefusedError if code in _REFUSED else ServiceError
    return kind(f"{address} answered: {words or code.name.lower()}"), False
