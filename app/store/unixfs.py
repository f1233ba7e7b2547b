"""How a file becomes blocks, and blocks become the file again: UnixFS, profile ``unixfs-v1-2025`` (IPIP-499).

A file of up to 1 MiB is one raw block. A longer one is cut into raw blocks of 1 MiB, all at the same depth below
dag-pb nodes of up to 1024 links each, every node but those on the right edge full. So the size of a file alone says
how many blocks there are, how they nest and how many bytes each holds; only their digests are free.

The reader uses this: it knows every byte of a node except the digests in it, and refuses a node that differs. A
hostile graph (cycles, empty leaves, a million links to nothing, lying sizes) cannot cost more than an honest file
of the same size, and a blob has exactly one CID.

Source: https://specs.ipfs.tech/unixfs/, https://github.com/ipfs/specs/pull/499. The same bytes as Kubo's
``ipfs add --cid-version=1 --chunker=size-1048576 --max-file-links=1024``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from app.protocol.errors import BlobTamperedError, ProtocolError, StoreError
from app.store.cid import CID, CID_BYTES, DAG_PB, RAW, uvarint

CHUNK = 1 << 20
MAX_LINKS = 1024
MAX_BLOCK = 2 << 20
"""The largest block that IPFS nodes exchange, in bytes."""

GetBlock = Callable[[CID], bytes]
PutBlock = Callable[[CID, bytes], None]


class Node(NamedTuple):
    """A block and the part of the file below it.

    Attributes
    ----------
    cid : CID
        Name of the block.
    size : int
        Bytes of the file below it.
    height : int
        0 for a raw leaf, otherwise one more than its children's.
    """

    cid: CID
    size: int
    height: int


def height_of(size: int) -> int:
    """Return the levels of nodes above the leaves of a file of ``size`` bytes (0: one leaf is the whole file)."""
    height, span = 0, CHUNK
    while span < size:
        height, span = height + 1, span * MAX_LINKS
    return height


def write_file(stream: BinaryIO, size: int, put: PutBlock) -> CID:
    """Cut a stream into blocks; children are put before their parents, so the root comes last.

    Parameters
    ----------
    stream : BinaryIO
        Where the bytes come from; memory stays at one chunk and 1024 links a level.
    size : int
        How many bytes it holds.
    put : callable
        Called with each block and its CID; a block that occurs twice is put twice.

    Returns
    -------
    CID
        Of the root.

    Raises
    ------
    StoreError
        If the stream holds more or fewer bytes than ``size``.
    """
    root = _write(stream, size, height_of(size), put)
    if stream.read(1):
        raise StoreError(f"the stream holds more than the {size} bytes that were announced")
    return root


def size_of(block: bytes, codec: int) -> int:
    """Return the size in bytes of the file whose root is ``block``; a node may lie, which `walk` finds out.

    Raises
    ------
    ProtocolError
        If it is no node of a file.
    """
    if codec == RAW:
        return len(block)
    at = 0
    while block[at : at + 1] == b"\x12":  # a link
        length, at = _uvarint(block, at + 1)
        at += length
    if block[at : at + 1] != b"\x0a":
        raise ProtocolError("a block is no node of a file")
    _, at = _uvarint(block, at + 1)
    if block[at : at + 3] != b"\x08\x02\x18":
        raise ProtocolError("a block is no node of a file")
    return _uvarint(block, at + 3)[0]


def _uvarint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that stands at a place, and the place after it."""
    value = 0
    for place in range(9):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << 7 * place
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise ProtocolError("a block is no node of a file")


def walk(get: GetBlock, root: CID, size: int) -> Iterator[Node]:
    """Yield all blocks of a file, depth first, reading the nodes and not the leaves.

    Parameters
    ----------
    get : callable
        Returns a block and has verified it.
    root : CID
        Of the file.
    size : int
        Of the file, in bytes.

    Raises
    ------
    BlobTamperedError
        If a node is not the one that a file of this size has at its place.
    """
    height = height_of(size)
    if root.codec != _codec(height):
        raise BlobTamperedError(f"{root} cannot be a file of {size} bytes")
    yield from _walk(get, Node(root, size, height))


def read_file(get: GetBlock, root: CID, size: int) -> Iterator[bytes]:
    """Yield the chunks of a file in order; parameters and errors as for `walk`."""
    for node in walk(get, root, size):
        if node.height == 0:
            chunk = get(node.cid)
            if len(chunk) != node.size:
                raise BlobTamperedError(f"block {node.cid} holds {len(chunk)} bytes, not the {node.size} of its place")
            yield chunk


def _write(stream: BinaryIO, size: int, height: int, put: PutBlock) -> CID:
    if height == 0:
        block = _read_exactly(stream, size)
    else:
        block = _encode_node(size, height, [_write(stream, s, height - 1, put) for s in _child_sizes(size, height)])
    cid = CID.of(block, _codec(height))
    put(cid, block)
    return cid


def _walk(get: GetBlock, node: Node) -> Iterator[Node]:
    yield node
    if node.height:
        children = _decode_node(get(node.cid), node)
        for child, size in zip(children, _child_sizes(node.size, node.height), strict=True):
            yield from _walk(get, Node(child, size, node.height - 1))


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    if size:
        raise StoreError(f"the stream ended {size} bytes before a chunk was full")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _codec(height: int) -> int:
    return DAG_PB if height else RAW


def _child_sizes(size: int, height: int) -> list[int]:
    """Bytes of the file below each child: all full but the last."""
    span = CHUNK * MAX_LINKS ** (height - 1)
    full, rest = divmod(size, span)
    return [span] * full + [rest] * (rest > 0)


def _encode_node(size: int, height: int, children: list[CID]) -> bytes:
    """Encode a dag-pb node: the links (field 2), then the UnixFS record (field 1), as the canonical form demands."""
    sizes = _child_sizes(size, height)
    links = b"".join(
        before + bytes(child) + after
        for child, (before, after) in zip(children, (_link_frame(s, height - 1) for s in sizes), strict=True)
    )
    # UnixFS record: Type = File (field 1), filesize (3), blocksizes (4, not packed).
    record = b"\x08\x02\x18" + uvarint(size) + b"".join(b"\x20" + uvarint(s) for s in sizes)
    return links + b"\x0a" + uvarint(len(record)) + record


@lru_cache(maxsize=64)
def _link_frame(size: int, height: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the CID in a link to a child: Hash (1), empty Name (2), Tsize (3)."""
    after = b"\x12\x00\x18" + uvarint(_tree_size(size, height))
    before = b"\x0a" + uvarint(CID_BYTES)
    return b"\x12" + uvarint(len(before) + CID_BYTES + len(after)) + before, after


def _tree_size(size: int, height: int) -> int:
    """Bytes of all blocks below and including a node; a block that occurs twice counts twice."""
    if height == 0:
        return size
    sizes = _child_sizes(size, height)
    below = (len(sizes) - 1) * _tree_size(sizes[0], height - 1) + _tree_size(sizes[-1], height - 1)
    return below + len(_encode_node(size, height, [CID(_codec(height - 1), bytes(32))] * len(sizes)))


def _decode_node(block: bytes, node: Node) -> list[CID]:
    """Pick the digests out of a node: everything else in it is known beforehand, and compared."""
    children, position = [], 0
    for size in _child_sizes(node.size, node.height):
        before, after = _link_frame(size, node.height - 1)
        end = position + len(before) + CID_BYTES
        children.append(CID(_codec(node.height - 1), block[end - 32 : end]))
        position = end + len(after)
    if block != _encode_node(node.size, node.height, children):
        raise BlobTamperedError(f"{node.cid} is not a node of a file of {node.size} bytes (profile unixfs-v1-2025)")
    return children
