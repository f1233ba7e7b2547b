from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.protocol.errors import ConfigError, StoreError, StoreUnavailableError
from app.settings import StoreConfig
from app.store.base import BlobStore
from app.store.embedded import EmbeddedStore
from app.store.factory import configured_store, open_store
from app.store.kubo import KuboStore
from tests.store.kubo_server import KuboServer


def test_embedded(tmp_path: Path) -> None:
    store = open_store("embedded", path=tmp_path / "blobs")
    assert isinstance(store, EmbeddedStore)
    assert store.get(store.put(b"x"), 1) == b"x"
    store.close()


def test_ipfs() -> None:
    with KuboServer() as server:
        store = open_store("ipfs", url=server.url)
        assert isinstance(store, KuboStore)
        assert store.get(store.put(b"x"), 1) == b"x"
        store.close()


def test_all_that_a_section_says_reaches_the_store(tmp_path: Path) -> None:
    """A miner and the manufacturer read the same section, so a miner's blobs are pinned elsewhere too."""

    def put(config: StoreConfig, default: Path | None, blob: bytes) -> BlobStore:
        store = configured_store(config, default=default)
        store.put(blob)
        store.close()
        return store

    with KuboServer() as node:
        put(StoreConfig("ipfs", node.url, None, None, "far-away"), None, b"x")
        assert [options["service"] for command, options, _ in node.requests if command == "pin/remote/add"] == [
            "far-away"
        ]
    here = StoreConfig("embedded", None, str(tmp_path / "here"), 2**20, None)
    with pytest.raises(StoreError, match=f"^blob store {tmp_path / 'here'} is full"):
        put(here, tmp_path / "default", bytes(2**20 + 1))
    put(StoreConfig("embedded", None, None, None, None), tmp_path / "default", b"x")
    assert (tmp_path / "default" / "blocks").is_dir()


def test_ipfs_without_a_node_fails_at_once(monkeypatch) -> None:
    monkeypatch.setitem(KuboStore.__init__.__kwdefaults__, "sleep", lambda seconds: None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(StoreUnavailableError, match=f"^IPFS node {url} cannot be reached: Connection refused$"):
            open_store("ipfs", url=url)


@pytest.mark.parametrize("name", ["", "Embedded", "s3"])
def test_an_unknown_store(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^store: unknown store .* \(allowed: embedded, ipfs\)$"):
        open_store(name, path=tmp_path)


def test_embedded_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"^store\.path: missing"):
        open_store("embedded")


def test_the_embedded_store_loads_no_http_client() -> None:
    code = "import sys, app.store.factory; print([m for m in ('requests', 'ipfshttpclient') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
