"""A small HTTP server on loopback that answers with whatever a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HangUpError(Exception):
    """The client gets no answer."""


@contextmanager
def answering(respond: Callable[[bytes], bytes]) -> Iterator[str]:
    """Serve inside the ``with`` block; ``respond`` makes an answer's body of a request's, or hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                body = respond(self.rfile.read(int(self.headers["content-length"])))
            except HangUpError:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
