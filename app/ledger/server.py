"""An embedded chain served to the other processes of this machine: JSON-RPC over HTTP on loopback.

Loopback keeps other machines out, but not the web pages that a browser on this one has open. They are kept out by three
checks: the Host must be a name of this machine (a page's own name that resolves to 127.0.0.1 is not), the Origin, where
a browser sends one, must be a page of this machine, and the body must be declared as JSON, which a page may not do
without asking first.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from app.ledger.embedded import EmbeddedNode
from app.ledger.json_rpc import INTERNAL, Json, RpcError, respond
from app.ledger.rpc import EmbeddedRpc
from app.protocol.errors import LedgerError

LOOPBACK = "127.0.0.1"
MAX_BODY = 4 * 2**20
"""Bytes of a request: blocks of this chain hold less than that in calldata."""
MAX_CONNECTIONS = 64
IDLE_TIMEOUT = 60  # seconds that a connection may say nothing
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_log = logging.getLogger("hearth.chain")


class ChainServer(ThreadingHTTPServer):
    """Serves one embedded chain; `serving` runs it in a thread.

    Parameters
    ----------
    node : EmbeddedNode
        The chain; this process is its writer, unless it was opened for reading only.
    port : int
        Of 127.0.0.1; 0 takes a free one.

    Raises
    ------
    LedgerError
        If the port cannot be had.

    Attributes
    ----------
    url : str
        Where it can be reached.
    """

    daemon_threads = False  # an answer that has begun is finished before the process ends
    block_on_close = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, node: EmbeddedNode, port: int) -> None:
        self.node, self._rpc = node, EmbeddedRpc(node)
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._ending = False
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise LedgerError(f"port {port} of {LOOPBACK} cannot be had: {reason}") from error
        self.url = f"http://{LOOPBACK}:{self.server_address[1]}"

    def handle_request_json(self, request: Json) -> Json:
        """Answer one JSON-RPC request, whatever happens in it."""
        try:
            return self._rpc.handle(request)
        except LedgerError as error:  # the disk
            _log.error("%s: %s", request["method"], error)
            failure = RpcError(INTERNAL, str(error))
        except Exception as error:  # noqa: BLE001 - a defect in one method must not take the chain from the others
            _log.exception("%s failed", request["method"])
            failure = RpcError(INTERNAL, f"internal error ({type(error).__name__})")
        return {"jsonrpc": "2.0", "id": request.get("id"), "error": failure.to_json()}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or close it at once where there are too many."""
        with self._guard:
            room = len(self._connections) < MAX_CONNECTIONS and not self._ending
            if room:
                self._connections.add(request)
        if room:
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Finish what was asked for, hear nothing new, and let go of the port."""
        self.shutdown()
        with self._guard:
            self._ending = True
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it has gone already
                    connection.shutdown(socket.SHUT_RD)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection died of; clients that hang up are nothing to speak of."""
        _log.debug("a connection ended early", exc_info=True)


@contextlib.contextmanager
def serving(node: EmbeddedNode, port: int = 0) -> Iterator[ChainServer]:
    """Serve a chain inside the ``with`` block; the node itself stays open."""
    server = ChainServer(node, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="chain server")
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection: POST with a body of JSON, and what a browser asks before it sends one."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hearth", ""
    timeout = IDLE_TIMEOUT
    server: ChainServer

    def do_POST(self) -> None:
        """Answer a request or a batch."""
        body = self._body() if self._is_welcome() else None
        if body is not None:
            self._send(HTTPStatus.OK, respond(body, self.server.handle_request_json), "application/json")

    def do_OPTIONS(self) -> None:
        """Let a page of this machine send JSON."""
        if self._is_welcome():
            self._send(HTTPStatus.NO_CONTENT, b"")

    def do_GET(self) -> None:
        """Say what this is to a person who looks with a browser."""
        if self._is_welcome():
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "an Ethereum node: POST JSON-RPC here")

    def _is_welcome(self) -> bool:
        origin = self.headers.get("origin")
        host = _hostname("//" + (self.headers.get("host") or ""))
        if host not in _THIS_MACHINE:
            self._refuse(HTTPStatus.FORBIDDEN, "the Host is not a name of this machine")
        elif origin is not None and _hostname(origin) not in _THIS_MACHINE:
            self._refuse(HTTPStatus.FORBIDDEN, "the Origin is not a page of this machine")
        else:
            return True
        return False

    def _body(self) -> bytes | None:
        kind = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        length = self.headers.get("content-length") or ""
        if kind != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json")
        elif not (length.isascii() and length.isdecimal()) or self.headers.get("transfer-encoding"):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the content-length must be given")
        elif len(length) > 9 or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True  # it hung up
        return None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # the body is not read
        self._send(status, f"{reason}\n".encode(), "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, kind: str | None = None) -> None:
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        origin = self.headers.get("origin")
        if origin is not None and status is not HTTPStatus.FORBIDDEN:
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Headers", "content-type")
            self.send_header("Access-Control-Allow-Methods", "POST, OPTIONS")
            self.send_header("Vary", "Origin")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet: what a person should see is logged by the server."""


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
