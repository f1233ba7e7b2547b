"""Opens the blob store that the configuration names."""

from __future__ import annotations

from pathlib import Path

from app.protocol.errors import ConfigError
from app.store.base import BlobStore
from app.store.embedded import EmbeddedStore

STORES = ("embedded", "ipfs")


def open_store(name: str, *, path: Path | None = None, url: str | None = None) -> BlobStore:
    """Open a blob store.

    Parameters
    ----------
    name : str
        ``embedded`` (a directory) or ``ipfs`` (a Kubo node).
    path : Path, optional
        The directory of the embedded store.
    url : str, optional
        Of the node's RPC; by default Kubo's own, ``http://127.0.0.1:5001``.

    Raises
    ------
    ConfigError
        If the name is unknown, the embedded store has no path, or the URL is malformed.
    StoreUnavailableError
        If no node answers at the URL.
    """
    if name == "embedded":
        if path is None:
            raise ConfigError("store.path", "missing", "the directory of the embedded store")
        return EmbeddedStore(path)
    if name == "ipfs":
        # Imported here: whoever keeps blobs in a directory need not load an HTTP client.
        from app.store.kubo import DEFAULT_URL, KuboStore

        store = KuboStore(url or DEFAULT_URL)
        store.version()
        return store
    raise ConfigError("store", f"unknown store {name!r}", STORES)
