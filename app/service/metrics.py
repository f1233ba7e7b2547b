"""What a party tells of itself: numbers in Prometheus' text form, on loopback, if it is asked to."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from app.protocol.errors import ConfigError


class Metrics:
    """The numbers of one process.

    Every party counts its requests; what else it tells are gauges of its own.

    Parameters
    ----------
    party : str
        Begins each name: ``hearth_miner_...``.
    """

    def __init__(self, party: str) -> None:
        self.registry, self._prefix = CollectorRegistry(), f"hearth_{party}"
        self._requests = Counter(
            f"{self._prefix}_requests",
            "Requests by method and how they ended",
            ("method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{self._prefix}_request_seconds", "Seconds that requests took", ("method",), registry=self.registry
        )
        self._gauges: dict[str, Gauge] = {}
        self._stop: Callable[[], None] | None = None

    def request(self, method: str, status: str, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)

    def tell(self, name: str, what: str, value: float) -> None:
        """Set a number, described by ``what`` the first time it is told."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"{self._prefix}_{name}", what, registry=self.registry)
        self._gauges[name].set(value)

    def open(self, port: int | None) -> None:
        """Serve the numbers on a port of loopback; None serves nothing.

        Raises
        ------
        ConfigError
            If the port is taken.
        """
        if port is None:
            return
        try:
            server, thread = start_http_server(port, "127.0.0.1", self.registry)
        except OSError as error:
            raise ConfigError("listen.monitor", f"port {port} cannot be listened on: {error.strerror}") from error
        self.port = server.server_port

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop

    def close(self) -> None:
        """Stop serving."""
        if self._stop is not None:
            self._stop()
            self._stop = None
