"""A node on loopback that speaks as much of Kubo's RPC as the store uses, and fails in the ways Kubo fails.

Real HTTP, blocks in memory. Like Kubo it serves blocks without verifying them, sends status 200 before it knows whether
it has the whole file, puts a late error where no client sees it (the trailer), and pins what arrived of an upload.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

from app.store.cid import CID
from app.store.unixfs import walk, write_file

PROFILE = {
    "cid-version": "1",
    "hash": "sha2-256",
    "raw-leaves": "true",
    "chunker": "size-1048576",
    "max-file-links": "1024",
    "trickle": "false",
    "inline": "false",
    "pin": "true",
}

Fault = Callable[["Handler"], None]


class KuboServer:
    """A context manager; `url` is where the node listens, `faults[command]` what the next requests run into."""

    def __init__(self) -> None:
        self.blocks: dict[CID, bytes] = {}
        self.sizes: dict[CID, int] = {}
        self.pins: dict[str, str] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.stopped = threading.Event()
        self.pinning_fails = False
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"node": self}))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.multiaddr = f"/ip4/127.0.0.1/tcp/{self.http.server_port}/http"

    def __enter__(self) -> KuboServer:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()

    def commands(self) -> list[str]:
        return [command for command, _, _ in self.requests]

    def store(self, data: bytes, name: str = "") -> CID:
        cid = write_file(BytesIO(data), len(data), self.blocks.__setitem__)
        self.sizes[cid] = len(data)
        self.pins[str(cid)] = name
        return cid


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each small answer waits 40 ms for an acknowledgement
    node: KuboServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        command = url.path.removeprefix("/api/v0/")
        options = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.node.requests.append((command, options, dict(self.headers)))
        body = self.read_body()
        try:
            if self.node.faults[command]:
                self.node.faults[command].popleft()(self)
            elif command == "version":
                self.answer({"Version": "0.40.1", "Commit": "", "Repo": "18", "System": "", "Golang": ""})
            elif command == "add":
                self.add(options, self.file_in(body))
            elif command == "cat":
                self.cat(options["arg"])
            elif command == "pin/remote/add":
                if self.node.pinning_fails:
                    return self.refuse("no such service")
                self.answer({"Cid": options["arg"], "Name": options.get("name", ""), "Status": "queued"})
            elif command == "block/stat":
                self.stat(options["arg"])
            elif command == "block/get":
                self.block(options["arg"])
            else:
                self.send_error(404)
        except ConnectionError:
            self.close_connection = True

    def add(self, options: dict[str, str], data: bytes) -> None:
        if {key: options.get(key) for key in PROFILE} != PROFILE:
            return self.refuse(f"not the profile that was agreed on: {options}")
        cid = str(self.node.store(data, options.get("pin-name", "")))
        self.answer({"Name": cid, "Hash": cid, "Size": str(len(data))})

    def stat(self, text: str) -> None:
        if (block := self.node.blocks.get(CID.parse(text))) is None:
            return self.missing(text)
        self.answer({"Key": text, "Size": len(block)})

    def block(self, text: str) -> None:
        if (block := self.node.blocks.get(CID.parse(text))) is None:
            return self.missing(text)
        self.raw(block, kind="text/plain")

    def cat(self, text: str) -> None:
        cid = CID.parse(text)
        if cid not in self.node.blocks:
            return self.missing(text)
        self.stream(self.chunks(cid))

    def chunks(self, cid: CID) -> Iterator[bytes]:
        for node in walk(self.node.blocks.__getitem__, cid, self.node.sizes[cid]):
            if node.height == 0:
                yield self.node.blocks[node.cid]

    def missing(self, text: str) -> None:
        self.refuse(f"block was not found locally (offline): ipld: could not find {text}")

    def refuse(self, message: str) -> None:
        self.answer({"Message": message, "Code": 0, "Type": "error"}, status=500)

    def answer(self, value: object, status: int = 200) -> None:
        self.raw(json.dumps(value).encode() + b"\n", status, "application/json")

    def raw(self, body: bytes, status: int = 200, kind: str = "text/html") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Stream-Error")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")

    def stream(self, chunks: Iterator[bytes]) -> None:
        self.start_stream()
        trailer = b""
        try:
            for chunk in chunks:
                self.chunk(chunk)
        except KeyError as error:
            trailer = f"X-Stream-Error: could not find {error}\r\n".encode()
        self.wfile.write(b"0\r\n" + trailer + b"\r\n")

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def file_in(self, body: bytes) -> bytes:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head)
        boundary = b"--" + message.get_boundary().encode()
        return body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n" + boundary, 1)[0]


def stall(handler: Handler) -> None:
    """Say nothing until the node stops."""
    handler.node.stopped.wait()
    handler.close_connection = True


def stall_in_body(handler: Handler) -> None:
    handler.start_stream()
    handler.chunk(b"half")
    handler.node.stopped.wait()
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Drop the connection with RST before an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """End the connection in the middle of a chunked body."""
    handler.start_stream()
    handler.chunk(b"half")
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.start_stream()
    while not handler.node.stopped.is_set():
        handler.chunk(bytes(1 << 16))


def status(code: int, body: bytes = b"<html>no</html>") -> Fault:
    return lambda handler: handler.raw(body, code)


def says(message: str) -> Fault:
    return lambda handler: handler.refuse(message)


def answers(value: object) -> Fault:
    return lambda handler: handler.answer(value)


def answers_raw(body: bytes, code: int = 200) -> Fault:
    return lambda handler: handler.raw(body, code, "application/json")
