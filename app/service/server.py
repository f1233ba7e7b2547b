"""A gRPC service whose messages are bytes: each party has its own forms, and reads them with its own care.

Nothing is generated from a schema: messages are canonical JSON or safetensors, sizes are capped before anything is
parsed, and whatever goes wrong reaches the caller as a status and one line, never as a traceback.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from app.one_line import one_line
from app.protocol.errors import (
    ConfigError,
    HearthError,
    ProtocolError,
    RefusedError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from app.service.limit import RateLimit
from app.service.listen import ListenConfig, read_pem, split_address
from app.service.metrics import Metrics

_LOG = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[HearthError], grpc.StatusCode], ...] = (
    (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
    (ProtocolError, grpc.StatusCode.INVALID_ARGUMENT),
    (ServiceUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (StoreUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (HearthError, grpc.StatusCode.FAILED_PRECONDITION),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    host : str
        The address that the connection comes from.
    metadata : mapping of str to str
        What came with the request; nobody has checked it.
    """

    host: str
    metadata: Mapping[str, str]


Method = Callable[[bytes, Caller], bytes]
"""Answers a request; raises a `HearthError` where it cannot."""


class Server:
    """Serves methods under one name until it is stopped.

    Parameters
    ----------
    name : str
        Of the service, such as ``hearth.Miner``; the standard health service tells of it and of ``""``.
    methods : mapping of str to Method
        By name.
    listen : ListenConfig
        Where, and within which limits.
    metrics : Metrics
        Counts requests and their seconds.

    Raises
    ------
    ConfigError
        If the address is taken, or certificate or key are not readable.
    """

    def __init__(self, name: str, methods: Mapping[str, Method], listen: ListenConfig, metrics: Metrics) -> None:
        self._name, self._metrics, self._limit = name, metrics, RateLimit(listen.per_minute)
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(listen.workers, thread_name_prefix="service"),
            options=[
                ("grpc.max_receive_message_length", listen.most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two services on one port are a mistake, not a cluster
            ],
            maximum_concurrent_rpcs=4 * listen.workers,
        )
        handlers = {what: grpc.unary_unary_rpc_method_handler(self._guarded(what, do)) for what, do in methods.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        host, _ = split_address("listen.address", listen.address)
        self.address = f"{host}:{self._bind(listen)}"

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        self.serving(True)

    def serving(self, well: bool) -> None:
        """Tell the health service whether this party can do its work."""
        status = health_pb2.HealthCheckResponse
        for name in ("", self._name):
            self._health.set(name, status.SERVING if well else status.NOT_SERVING)

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, and give those that are being worked on ``grace`` seconds."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()

    def _bind(self, listen: ListenConfig) -> int:
        try:
            if listen.certificate is None or listen.key is None:
                return int(self._server.add_insecure_port(listen.address))
            certificate = read_pem("listen.certificate", listen.certificate)
            pair = (read_pem("listen.key", listen.key), certificate)
            return int(self._server.add_secure_port(listen.address, grpc.ssl_server_credentials([pair])))
        except (RuntimeError, ValueError) as error:
            problem = f"{listen.address} cannot be listened on: it is taken, or certificate and key do not fit"
            raise ConfigError("listen.address", problem) from error

    def _guarded(self, what: str, method: Method) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            start, code = time.perf_counter(), grpc.StatusCode.OK
            caller = Caller(_host(context.peer()), _metadata(context))
            try:
                if not self._limit.admits(caller.host):
                    code = grpc.StatusCode.RESOURCE_EXHAUSTED
                    _end(context, code, "too many requests; come back in a minute")
                return method(request, caller)
            except HearthError as error:
                code = next(status for kind, status in _STATUS if isinstance(error, kind))
                level = logging.DEBUG if code is grpc.StatusCode.UNAVAILABLE else logging.INFO
                _LOG.log(level, "%s of %s: %s", what, caller.host, error)
                _end(context, code, one_line(str(error)))
            except Exception as error:
                if code is grpc.StatusCode.OK:  # else it is gRPC's own way of ending a call
                    code = grpc.StatusCode.INTERNAL
                    _LOG.exception("%s of %s failed", what, caller.host)
                    _end(context, code, type(error).__name__)
                raise
            finally:
                self._metrics.request(what, code.name.lower(), time.perf_counter() - start)

        return answer


def _end(context: grpc.ServicerContext, code: grpc.StatusCode, words: str) -> NoReturn:
    context.abort(code, words)
    raise AssertionError("abort raises")


def _host(peer: str) -> str:
    """Return the host in what gRPC calls a caller: ``ipv4:127.0.0.1:1234``, ``ipv6:%5B::1%5D:1234``."""
    return peer.partition(":")[2].rpartition(":")[0]


def _metadata(context: grpc.ServicerContext) -> dict[str, str]:
    return {item.key: item.value for item in context.invocation_metadata() if isinstance(item.value, str)}
