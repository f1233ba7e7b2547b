"""Content-addressed archives (CARv1): any number of blobs in one file that every IPFS tool reads.

A header names the roots; after it stands each block behind its CID, depth first, each once. The same bytes as Kubo's
``ipfs dag export`` for a single root. Nothing in an archive is believed: a block that does not hash to its CID is
refused, and so is whatever else is not as the format has it.

Source: https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from app.protocol.errors import BlobTamperedError, ProtocolError
from app.store.cid import CID, CID_BYTES, uvarint
from app.store.unixfs import MAX_BLOCK, GetBlock, walk

_MOST_ROOTS = 2**16 - 1
_ROOT_BYTES = 5 + CID_BYTES  # tag 42, a byte string of 37, of which the first byte is 0
_PREFIX = b"\xd8\x2a\x58\x25\x00"
_END = b"gversion\x01"


def write_car(blobs: Sequence[tuple[CID, int]], get: GetBlock, out: BinaryIO) -> int:
    """Write blobs as an archive; memory stays at a block, and 32 bytes for each block written.

    Parameters
    ----------
    blobs : sequence of (CID, int)
        Roots and sizes in bytes.
    get : callable
        Returns a block and has verified it.
    out : BinaryIO
        Where it is written.

    Returns
    -------
    int
        How many blocks it holds.

    Raises
    ------
    ProtocolError
        If there are more than 65,535 blobs, or none.
    BlobMissingError, BlobTamperedError, StoreError
        If a block cannot be had.
    """
    roots = list(dict.fromkeys(cid for cid, _ in blobs))
    if not 0 < len(roots) <= _MOST_ROOTS:
        raise ProtocolError(f"an archive has 1 to {_MOST_ROOTS} roots, not {len(roots)}")
    header = b"\xa2eroots" + _array(len(roots)) + b"".join(_PREFIX + bytes(root) for root in roots) + _END
    out.write(uvarint(len(header)) + header)
    written: set[bytes] = set()
    for root, size in blobs:
        for node in walk(get, root, size):
            if bytes(node.cid) not in written:
                written.add(bytes(node.cid))
                block = get(node.cid)
                out.write(uvarint(CID_BYTES + len(block)) + bytes(node.cid) + block)
    return len(written)


def read_roots(stream: BinaryIO) -> tuple[CID, ...]:
    """Read the header of an archive and return its roots; the blocks follow.

    Raises
    ------
    ProtocolError
        If it is none of CARv1 with roots of our form.
    """
    length = _read_length(stream)
    if length is None or length > 32 + _MOST_ROOTS * _ROOT_BYTES:
        raise ProtocolError("not an archive: it has no header of CARv1")
    header = stream.read(length)
    for width in (1, 2, 3):  # of the array's own head
        count, rest = divmod(length - len(b"\xa2eroots") - width - len(_END), _ROOT_BYTES)
        if len(header) == length and rest == 0 and count > 0 and len(_array(count)) == width:
            break
    else:
        raise ProtocolError("not an archive: its header is not CARv1's")
    at = len(b"\xa2eroots") + width
    cids = [header[at + i * _ROOT_BYTES + 5 : at + (i + 1) * _ROOT_BYTES] for i in range(count)]
    roots = tuple(CID.from_bytes(cid) for cid in cids)
    if header != b"\xa2eroots" + _array(count) + b"".join(_PREFIX + cid for cid in cids) + _END:
        raise ProtocolError("not an archive: its header is not CARv1's")
    return roots


def read_blocks(stream: BinaryIO) -> Iterator[tuple[CID, bytes]]:
    """Yield the blocks after the header, each verified.

    Raises
    ------
    ProtocolError
        If the archive ends in the middle of a block, or holds one that is too large or has another kind of CID.
    BlobTamperedError
        If a block does not hash to its CID.
    """
    while (length := _read_length(stream)) is not None:
        if not CID_BYTES <= length <= CID_BYTES + MAX_BLOCK:
            raise ProtocolError(f"an archive's block has up to {MAX_BLOCK} bytes, not {length - CID_BYTES}")
        section = _exactly(stream, length)
        cid, block = CID.from_bytes(section[:CID_BYTES]), section[CID_BYTES:]
        if CID.of(block, cid.codec) != cid:
            raise BlobTamperedError(f"the archive's block {cid} does not hash to its name")
        yield cid, block


def _array(count: int) -> bytes:
    """Return the head of a CBOR array, in its shortest form."""
    if count < 24:
        return bytes((0x80 | count,))
    return b"\x98" + bytes((count,)) if count < 256 else b"\x99" + count.to_bytes(2, "big")


def _read_length(stream: BinaryIO) -> int | None:
    """Read an unsigned LEB128 number of up to 5 bytes; None at the end of the stream."""
    value = 0
    for place in range(5):
        byte = stream.read(1)
        if not byte:
            if place:
                raise ProtocolError("the archive ends in the middle of a block")
            return None
        value |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:
            if place and byte[0] == 0:
                raise ProtocolError("the archive has a length that is not in its shortest form")
            return value
    raise ProtocolError("the archive has a length that is too long")


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise ProtocolError("the archive ends in the middle of a block")
    return data
