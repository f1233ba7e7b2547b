"""A blob store on a real IPFS node: Kubo's RPC through ``ipfshttpclient``, and no trust in either.

What a node says is checked, because nodes err without an error: Kubo answers a read with status 200 and half a file if
a block is missing, serves blocks that rotted on its disk, and pins what arrived of an upload that was cut short.

The client library is used through ``Client(...)``: its ``connect`` refuses every node of today by its version.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import ipfshttpclient
from ipfshttpclient import exceptions as ipfs

from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import (
    BlobMissingError,
    BlobTamperedError,
    ConfigError,
    ProtocolError,
    StoreError,
    StoreUnavailableError,
)
from app.store.base import block_cid, check_name, check_reference, reference
from app.store.cid import CID
from app.store.unixfs import CHUNK, MAX_LINKS

DEFAULT_URL = "http://127.0.0.1:5001"

T = TypeVar("T")

# The library asserts and indexes what it reads from the node: a strange answer surfaces as one of these.
_STRANGE_ANSWER = (AssertionError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
_LONGEST_PAUSE = 8.0
PATIENCE = 12
"""Attempts of a party that waits for a node which is being restarted: a minute."""
_RETRIED_STATUS = {408, 429, 502, 503, 504}
_REFUSED_STATUS = {401, 403}
_NO_SPACE = ("no space left", "disk quota", "storagemax")
_NOT_THERE = ("not found", "could not find", "context deadline exceeded", "request timed out")


class KuboStore:
    """A `BlobStore` on a Kubo node.

    The CID is computed here before anything is sent, and the node's answer is compared with it. A blob is read whole
    and verified by size, SHA-256 and CID. Failures of the transport are repeated, with growing pauses; a wrong answer
    is not.

    Parameters
    ----------
    url : str, optional
        Of the node's RPC: ``http://host:port``, ``https://host``, or a multiaddr
        (``/ip4/127.0.0.1/tcp/5001/http``).
    timeout : tuple of float, optional
        Seconds to wait for a connection and for the next bytes.
    fetch_seconds : int, optional
        How long the node may take to find and send a blob; one second for each MiB of it is added.
    attempts : int, optional
        How often a request is sent before the node counts as unavailable.
    sleep : callable, optional
        Pauses for a number of seconds.
    pinning : str, optional
        A remote pinning service that the node knows by this name: it is asked to keep every blob too.

    Raises
    ------
    ConfigError
        If ``url`` is none of the allowed forms.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: tuple[float, float] = (3.0, 60.0),
        fetch_seconds: int = 30,
        attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
        pinning: str | None = None,
    ) -> None:
        address, auth, self.url = _parse_url(url)
        self._fetch_seconds, self.attempts, self._sleep, self._pinning = fetch_seconds, attempts, sleep, pinning
        # urllib3 2 warns about an argument that the library passes. One narrow filter for good: scoping it to each
        # call would swap the interpreter's list of filters under other threads.
        warnings.filterwarnings("ignore", message="The 'strict' parameter", category=FutureWarning)
        try:
            self._client = ipfshttpclient.Client(address, chunk_size=CHUNK, timeout=timeout, auth=auth, session=True)
        except (ipfs.AddressError, *_STRANGE_ANSWER) as error:
            raise _bad_url(url) from error

    def version(self) -> str:
        """Return the node's version: the cheapest proof that it is there.

        Raises
        ------
        StoreUnavailableError
            If it is not.
        """
        return str(self._ask(lambda: self._client.version()["Version"]))

    def put(self, data: bytes, name: str = "") -> BlobRef:
        """Store and pin a blob (see `BlobStore.put`).

        Raises
        ------
        BlobTamperedError
            If the node stored something else, for example what a proxy let through of it.
        """
        check_name(name)
        ref = reference(data)
        options = {
            # All that decides about the CID, so that no setting of the node does.
            "cid-version": "1",
            "hash": "sha2-256",
            "raw-leaves": "true",
            "chunker": f"size-{CHUNK}",
            "max-file-links": str(MAX_LINKS),
            "trickle": "false",
            "inline": "false",
            "pin": "true",
        } | ({"pin-name": name} if name else {})
        stored = self._ask(lambda: str(self._client.add_bytes(data, opts=options)))
        if not _is_same(stored, CID.parse(ref.cid)):
            raise BlobTamperedError(f"IPFS node {self.url} stored {stored!r:.80}, not {ref.cid}")
        if self._pinning is not None:
            self._pin_remotely(ref, name)
        return ref

    def _pin_remotely(self, ref: BlobRef, name: str) -> None:
        """Ask the pinning service to keep a blob; it fetches it in its own time."""
        options = {"service": self._pinning or "", "background": "true"} | ({"name": name} if name else {})
        # The library has no method for it; the request is the node's own.
        request = self._client._client.request
        self._ask(lambda: request("/pin/remote/add", (ref.cid,), opts=options, decoder="json"))

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        """Return a verified blob (see `BlobStore.get`)."""
        check_reference(ref, max_bytes)
        data = self._ask(lambda: self._download(ref))
        if len(data) < ref.size:
            raise BlobMissingError(f"IPFS node {self.url} has only {len(data)} of the {ref.size} bytes of {ref.cid}")
        if reference(data) != ref:
            raise BlobTamperedError(f"IPFS node {self.url} gave other bytes than {ref.cid}")
        return data

    def get_block(self, digest: bytes) -> bytes:
        """Return a blob of one block by its SHA-256 (see `BlobStore.get_block`)."""
        cid = block_cid(digest)
        limit = {"timeout": f"{self._fetch_seconds}s"}
        data = bytes(self._ask(lambda: self._client.block.get(str(cid), opts=limit)))
        if sha256(data) != digest:
            raise BlobTamperedError(f"IPFS node {self.url} gave another block than {cid}")
        return data

    def has(self, ref: BlobRef) -> bool:
        """Say whether the node itself holds the root block of the blob (see `BlobStore.has`)."""
        check_reference(ref, ref.size)
        try:
            # A js-ipfs node does not know "offline"; the timeout ends its search.
            limit = {"timeout": f"{self._fetch_seconds}s"}
            self._ask(lambda: self._client.block.stat(ref.cid, offline=True, opts=limit))
        except BlobMissingError:
            return False
        return True

    def close(self) -> None:
        """Close the connections to the node."""
        self._client.close()

    def _download(self, ref: BlobRef) -> bytes:
        """Read until the end, or until there is more than the blob has: an endless answer costs no memory."""
        whole = BytesIO()  # which hands over its buffer: the blob is in memory once, not twice
        seconds = self._fetch_seconds + ref.size // CHUNK
        with self._client.cat(ref.cid, stream=True, opts={"timeout": f"{seconds}s"}) as chunks:
            for chunk in chunks:
                whole.write(chunk)
                if whole.tell() > ref.size:
                    break
        return whole.getvalue()

    def _ask(self, request: Callable[[], T]) -> T:
        """Send a request, again while only the transport fails; sending one twice is harmless, CIDs see to that."""
        attempt = 1
        while True:
            try:
                return request()
            # OSError: an answer that breaks off surfaces as an exception of `requests`, which the library lets through.
            except (ipfs.Error, OSError, *_STRANGE_ANSWER) as error:
                failure = self._failure(error)
                if attempt >= self.attempts or not isinstance(failure, StoreUnavailableError):
                    raise failure from error
            # Jitter: the customers of a node that was restarted should not all come back in the same moment.
            self._sleep(min(_LONGEST_PAUSE, 0.25 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))
            attempt += 1

    def _failure(self, error: Exception) -> StoreError:
        """Say what an exception of the library means."""
        text = " ".join(str(error).split())[:200]
        status = _status(error)
        if isinstance(error, ipfs.ErrorResponse) and status not in _REFUSED_STATUS | _RETRIED_STATUS:
            said = text.lower()
            if any(words in said for words in _NO_SPACE):
                return StoreError(f"IPFS node {self.url} has no space left: {text}")
            if any(words in said for words in _NOT_THERE):
                return BlobMissingError(f"IPFS node {self.url} does not have it: {text}")
            return StoreError(f"IPFS node {self.url} refused: {text}")
        if status in _REFUSED_STATUS:
            return StoreError(f"IPFS node {self.url} does not let us in (status {status}): check user and password")
        if status is not None and status not in _RETRIED_STATUS:
            return StoreError(f"IPFS node {self.url} answered with status {status}: is this the RPC of a Kubo node?")
        if isinstance(error, (ipfs.EncoderError, *_STRANGE_ANSWER)):
            return StoreError(f"IPFS node {self.url} gave an answer that is none ({type(error).__name__}: {text})")
        return StoreUnavailableError(f"IPFS node {self.url} cannot be reached: {_reason(error)}")


def _parse_url(url: str) -> tuple[str, tuple[str, str] | None, str]:
    """Return the multiaddr, the user and password if any, and the URL without them, for messages."""
    if url.startswith("/"):
        return url, None, url
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 5001)
    except ValueError as error:
        raise _bad_url(url) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") not in ("", "api/v0"):
        raise _bad_url(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return f"/{_host(parts.hostname)}/tcp/{port}/{parts.scheme}", auth, shown


def _host(name: str) -> str:
    """Return the part of a multiaddr that names a host."""
    try:
        return f"ip{ip_address(name).version}/{name}"
    except ValueError:
        # Fixing the address family of our own machine also keeps a proxy of the environment out of the way.
        return f"dns4/{name}" if name == "localhost" else f"dns/{name}"


def _bad_url(url: str) -> ConfigError:
    allowed = "http://host:port, https://host, or a multiaddr such as /ip4/127.0.0.1/tcp/5001/http"
    return ConfigError("store.url", f"not the address of an IPFS node: {url.rpartition('@')[2]!r:.200}", allowed)


def _is_same(text: str, cid: CID) -> bool:
    try:
        return CID.parse_any(text) == cid
    except ProtocolError:
        return False


def _status(error: Exception) -> int | None:
    """Return the HTTP status behind an exception of the library."""
    status = getattr(getattr(getattr(error, "original", None), "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException) -> str:
    """Return the few words at the bottom of a chain of exceptions (``Connection refused``)."""
    while not (isinstance(error, OSError) and error.strerror) and (below := error.__cause__ or error.__context__):
        error = below
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((words or type(error).__name__).split())[:200]
