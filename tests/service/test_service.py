"""What every service of ours does: it lets in whom it should, as often as it should, and never shows a traceback."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from app.protocol.errors import (
    ConfigError,
    ProtocolError,
    RefusedError,
    RoundError,
    ServiceError,
    ServiceUnavailableError,
)
from app.service.client import Client
from app.service.limit import RateLimit
from app.service.listen import ListenConfig
from app.service.metrics import Metrics
from app.service.process import _JsonLines
from app.service.server import Caller, Server

ROOT = Path(__file__).resolve().parent.parent.parent
LISTEN = ListenConfig("127.0.0.1:0", None, None, 2**16, 1000, 4, None)


def echo(request: bytes, caller: Caller) -> bytes:
    return request + b" of " + caller.host.encode() + b" " + caller.metadata.get("who", "").encode()


def raising(error: Exception):
    def method(request: bytes, caller: Caller) -> bytes:
        raise error

    return method


METHODS = {
    "Echo": echo,
    "Refuse": raising(RefusedError("not you")),
    "Malformed": raising(ProtocolError("no such form")),
    "Away": raising(ServiceUnavailableError("later")),
    "Round": raising(RoundError("two\nlines \x1b[31m of it")),
    "Defect": raising(KeyError("a secret of ours")),
}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server("hearth.Test", METHODS, LISTEN, Metrics("test"))
    found.start()
    yield found
    found.stop(0)


def client(of: Server, authority: str | None = None, patience: float = 0.3) -> Client:
    return Client("hearth.Test", of.address, authority, key="peer", patience=patience)


def test_bytes_there_and_back(server: Server) -> None:
    answer = client(server).call("Echo", b"hello", timeout=5, metadata=lambda: {"who": "me"})
    assert answer == b"hello of 127.0.0.1 me"


@pytest.mark.parametrize(
    ("method", "kind", "told"),
    [
        ("Refuse", RefusedError, "not you"),
        ("Malformed", ServiceError, "no such form"),
        ("Away", ServiceUnavailableError, "later"),
        ("Round", ServiceError, r"two lines \[31m of it$"),
        ("Defect", ServiceError, "answered: KeyError$"),
        ("Nothing", ServiceError, "Method not found"),
    ],
)
def test_what_goes_wrong_is_one_line(server: Server, method: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told) as caught:
        client(server).call(method, b"", timeout=5)
    assert "secret" not in str(caught.value)


def test_a_request_that_is_too_large_is_not_read(server: Server) -> None:
    assert client(server).call("Echo", bytes(2**15), timeout=5)
    with pytest.raises(ServiceUnavailableError, match="larger than max"):
        client(server).call("Echo", bytes(2**17), timeout=5)


def test_who_asks_too_often_is_sent_away_and_others_are_not() -> None:
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    assert sum(limit.admits("one") for _ in range(100)) == 60
    assert limit.admits("other")
    now[0] = 2.5
    assert [limit.admits("one") for _ in range(3)] == [True, True, False]
    now[0] = 1e6
    assert sum(limit.admits("one") for _ in range(100)) == 60
    for number in range(20_000):
        limit.admits(str(number))
    assert len(limit._left) == 10_000


def test_the_limit_holds_over_the_wire() -> None:
    strict = Server("hearth.Test", METHODS, replace(LISTEN, per_minute=3), Metrics("test"))
    strict.start()
    asking = client(strict, patience=0.0)
    for _ in range(3):
        asking.call("Echo", b"", timeout=5)
    with pytest.raises(ServiceUnavailableError, match="too many requests"):
        asking.call("Echo", b"", timeout=5)
    strict.stop(0)


def test_the_health_service_tells_whether_the_party_can_work(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
    ask = lambda: stub.Check(health_pb2.HealthCheckRequest(service="hearth.Test")).status  # noqa: E731
    assert ask() == health_pb2.HealthCheckResponse.SERVING
    server.serving(False)
    assert ask() == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_server_that_comes_back_is_found_again() -> None:
    first = Server("hearth.Test", METHODS, LISTEN, Metrics("test"))
    first.start()
    asking = client(first, patience=30)
    asking.call("Echo", b"", timeout=5)
    first.stop(0)
    second: list[Server] = []

    def come_back() -> None:
        second.append(Server("hearth.Test", METHODS, replace(LISTEN, address=first.address), Metrics("test")))
        second[0].start()

    timer = threading.Timer(0.5, come_back)
    timer.start()
    assert asking.call("Echo", b"again", timeout=5).startswith(b"again")
    timer.join()
    second[0].stop(0)


def test_a_taken_address_is_said_so(server: Server) -> None:
    with pytest.raises(ConfigError, match="cannot be listened on"):
        Server("hearth.Test", METHODS, replace(LISTEN, address=server.address), Metrics("test"))


class TestTls:
    @pytest.fixture
    def certs(self, tmp_path: Path) -> Path:
        made = subprocess.run(
            [ROOT / "deploy" / "make-certificates", tmp_path / "certs", "127.0.0.1", "elsewhere.example.org"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        return tmp_path / "certs"

    def secure(self, certs: Path, name: str = "127.0.0.1") -> Server:
        listen = replace(LISTEN, certificate=str(certs / f"{name}.crt"), key=str(certs / f"{name}.key"))
        server = Server("hearth.Test", METHODS, listen, Metrics("test"))
        server.start()
        return server

    def test_a_certificate_of_the_authority_is_believed_and_no_other(self, certs: Path, tmp_path: Path) -> None:
        server = self.secure(certs)
        assert client(server, str(certs / "ca.crt")).call("Echo", b"x", timeout=5)
        subprocess.run([ROOT / "deploy" / "make-certificates", tmp_path / "other", "127.0.0.1"], check=True)
        with pytest.raises(ServiceUnavailableError):
            client(server, str(tmp_path / "other" / "ca.crt")).call("Echo", b"x", timeout=5)
        with pytest.raises(ServiceUnavailableError):
            client(server).call("Echo", b"x", timeout=5)  # in the clear
        server.stop(0)

    def test_keys_are_for_their_owner_and_never_overwritten(self, certs: Path) -> None:
        for path in certs.glob("*.key"):
            assert path.stat().st_mode & 0o077 == 0
        again = subprocess.run(
            [ROOT / "deploy" / "make-certificates", certs, "127.0.0.1"], capture_output=True, text=True, check=False
        )
        assert again.returncode == 2
        assert "not overwritten" in again.stderr

    @pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
    def test_a_certificate_that_is_none_is_refused(self, certs: Path, content: str) -> None:
        (certs / "bad.crt").write_text(content)
        (certs / "bad.key").write_text(content)
        with pytest.raises(ConfigError):
            self.secure(certs, "bad")


def test_another_machine_is_never_spoken_to_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="no certificate to know it by"):
        Client("hearth.Test", "10.1.2.3:7700", None, key="authority")
    with pytest.raises(ConfigError, match="cannot be read"):
        Client("hearth.Test", "10.1.2.3:7700", "/nowhere/ca.crt", key="authority")


def test_numbers_in_prometheus_form() -> None:
    metrics = Metrics("test")
    metrics.tell("round", "Round that the chain is at", 3)
    metrics.tell("round", "Round that the chain is at", 4)
    metrics.open(0)
    text = urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10).read().decode()
    assert "# HELP hearth_test_round Round that the chain is at\n" in text
    assert "\nhearth_test_round 4.0\n" in text
    with pytest.raises(ConfigError, match=r"listen\.monitor"):
        Metrics("other").open(metrics.port)
    metrics.close()


def test_a_log_line_as_json_is_one_line() -> None:
    record = logging.LogRecord("hearth", logging.ERROR, "", 1, "round %d\nfailed", (3,), None)
    line = _JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "round 3\nfailed"
