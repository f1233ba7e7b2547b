"""Opens the blob store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.protocol.errors import ConfigError
from app.store.base import BlobStore
from app.store.embedded import EmbeddedStore

if TYPE_CHECKING:
    from app.settings import StoreConfig

STORES = ("embedded", "ipfs")


def configured_store(config: StoreConfig, *, default: Path | None = None, patient: bool = False) -> BlobStore:
    """Open the blob store of a configuration's section ``store``.

    Parameters
    ----------
    config : StoreConfig
        The section.
    default : Path, optional
        The directory of an embedded store where the section names none.
    patient : bool, default False
        As `open_store` takes it, and raises.
    """
    return open_store(
        config.name,
        path=Path(config.path).expanduser() if config.path else default,
        url=config.url,
        most_bytes=config.most_bytes,
        pinning=config.pinning,
        patient=patient,
    )


def open_store(
    name: str,
    *,
    path: Path | None = None,
    url: str | None = None,
    most_bytes: int | None = None,
    pinning: str | None = None,
    patient: bool = False,
) -> BlobStore:
    """Open a blob store.

    Parameters
    ----------
    name : str
        ``embedded`` (a directory) or ``ipfs`` (a Kubo node).
    path : Path, optional
        The directory of the embedded store.
    url : str, optional
        Of the node's RPC; by default Kubo's own, ``http://127.0.0.1:5001``.
    most_bytes : int, optional
        How much the directory may hold.
    pinning : str, optional
        The node's remote pinning service that keeps every blob too.
    patient : bool, default False
        Whether a node that was reached once and is away is asked again for a minute, as a party of a running task
        wants it.

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
        return EmbeddedStore(path, most_bytes=most_bytes)
    if name == "ipfs":
        # Imported here: whoever keeps blobs in a directory need not load an HTTP client.
        from app.store.kubo import DEFAULT_URL, PATIENCE, KuboStore

        store = KuboStore(url or DEFAULT_URL, pinning=pinning)
        store.version()
        if patient:
            store.attempts = PATIENCE
        return store
    raise ConfigError("store", f"unknown store {name!r}", STORES)
