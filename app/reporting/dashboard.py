"""The dashboard: reports of runs that are going on, served on loopback and read from their folders at each request.

It reads and never writes. It answers only who asks for this machine by a loopback name, so that no page from elsewhere
can make a browser read it through a name of its own (DNS rebinding), and only names of runs that lie in the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from app.protocol.errors import ConfigError
from app.reporting.comparison import measures, shown
from app.reporting.page import Prices, environment, render
from app.reporting.run_view import read_run

REFRESH = 5
"""Seconds after which a browser asks again."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_QUIET = 600.0
"""Seconds without a written line after which a run that has not ended is called quiet: it may have been killed."""
_SHOWN = 200  # runs, the newest ones


def serve(folder: Path, port: int, prices: Prices, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve the runs in ``folder`` until interrupted.

    Parameters
    ----------
    folder : Path
        The folder of runs' folders.
    port : int
        On 127.0.0.1; 0 for a free one.
    prices : Prices
        What gas costs.
    ready : callable, optional
        Is told the address once it can be asked.

    Raises
    ------
    ConfigError
        If the folder is none, or the port is taken.
    """
    if not folder.is_dir():
        raise ConfigError("hearth dashboard", f"{folder} is not a folder", "the folder that runs go to")
    handler = type("Handler", (_Handler,), {"folder": folder, "prices": prices})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise ConfigError("--port", f"{port} cannot be had: {error.strerror}", "a free port, or 0") from error
    server.daemon_threads = True
    with server:
        ready(f"http://127.0.0.1:{server.server_address[1]}/")
        server.serve_forever(poll_interval=0.1)


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    prices: Prices
    server_version, sys_version = "hearth", ""

    def do_GET(self) -> None:
        """Answer one request."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or (self.headers.get("Host") or "")
        if host not in _LOCAL:
            self._answer(403, "text/plain", "this dashboard is for this machine alone")
            return
        path = unquote(urlsplit(self.path).path)
        try:
            if path == "/":
                self._answer(200, "text/html", _index(self.folder))
            elif path.startswith("/run/") and (name := path.removeprefix("/run/")) in _names(self.folder):
                run = read_run(self.folder / name)
                self._answer(200, "text/html", render([run], self.prices, REFRESH if run.result is None else None))
            else:
                self._answer(404, "text/plain", "there is no such run")
        except ConfigError as error:  # one broken run: its name is in the message, and the others go on
            self._answer(500, "text/plain", str(error))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests that went well."""

    def _answer(self, code: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)


def _names(folder: Path) -> list[str]:
    """Return the names of the runs in a folder, and of those in its sweeps, the newest first."""
    found = [config.parent for pattern in ("*/config.yaml", "*/*/config.yaml") for config in folder.glob(pattern)]
    real = [run for run in found if run.resolve() == folder.resolve() / run.relative_to(folder)]  # no link leads away
    return [run.relative_to(folder).as_posix() for run in sorted(real, key=_written, reverse=True)]


def _written(run: Path) -> float:
    """Return when a run's folder last had a line or a result written."""
    times = [path.stat().st_mtime for name in ("config", "metrics", "result") for path in run.glob(f"{name}.*")]
    return max(times, default=0.0)


def _index(folder: Path) -> str:
    rows = [_row(folder, name) for name in _names(folder)[:_SHOWN]]
    return environment().get_template("dashboard.html").render(folder=folder, rows=rows, refresh=REFRESH)


def _row(folder: Path, name: str) -> dict[str, str]:
    written = _written(folder / name)
    age = max(0.0, time.time() - written)
    state, row = _seen(folder / name, written)
    if state == "going on" and age > _QUIET:
        state = "quiet"
    tone = {"going on": "good", "quiet": "warn", "damaged": "warn"}.get(state, "")
    return row | {"name": name, "age": _ago(age), "state": state, "tone": tone}


@lru_cache(maxsize=1024)
def _seen(run: Path, written: float) -> tuple[str, dict[str, str]]:
    """Return the state of a run and what is told of it; read again only when something new was ``written``."""
    try:
        view = read_run(run)
    except ConfigError:
        return "damaged", dict.fromkeys(("rounds", "accuracy", "epsilon", "low"), "-")
    found = measures(view)
    return "going on" if view.result is None else "done", {
        "rounds": f"{len(view.rounds)} of {view.planned}",
        "accuracy": shown("accuracy", found["accuracy"]),
        "epsilon": shown("epsilon", found["epsilon"]),
        "low": shown("judged L", found["judged L"]),
    }


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
