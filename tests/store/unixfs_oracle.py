"""An independent layout of UnixFS files, as streaming importers do it: nobody knows the size before the end.

Chunks are pushed into level 0; a full level becomes one node of the level above. The product's layout is computed from
the size, top down. Both must give the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.store.cid import CID, DAG_PB, RAW


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + varint(number // 128)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def layout(data: bytes, chunk: int, max_links: int) -> dict[CID, bytes]:
    """Return the blocks of ``data``, the root last."""
    blocks: dict[CID, bytes] = {}

    def emit(block: bytes, codec: int) -> CID:
        cid = CID.of(block, codec)
        blocks.pop(cid, None)
        blocks[cid] = block
        return cid

    def close(children: list[tuple[CID, int, int]]) -> tuple[CID, int, int]:
        links = b"".join(field(2, field(1, bytes(c)) + field(2, b"") + b"\x18" + varint(t)) for c, t, _ in children)
        size = sum(child[2] for child in children)
        record = b"\x08\x02\x18" + varint(size) + b"".join(b"\x20" + varint(child[2]) for child in children)
        block = links + field(1, record)
        return emit(block, DAG_PB), len(block) + sum(child[1] for child in children), size

    levels: list[list[tuple[CID, int, int]]] = [[]]

    def push(item: tuple[CID, int, int], level: int) -> None:
        if len(levels) == level:
            levels.append([])
        if len(levels[level]) == max_links:
            full, levels[level] = levels[level], []
            push(close(full), level + 1)
        levels[level].append(item)

    for part in _cut(data, chunk):
        push((emit(part, RAW), len(part), len(part)), 0)
    level = 0
    while level < len(levels) - 1 or len(levels[level]) > 1:
        rest, levels[level] = levels[level], []
        push(close(rest), level + 1)
        level += 1
    root = levels[level][0][0]
    blocks[root] = blocks.pop(root)
    return blocks


def _cut(data: bytes, chunk: int) -> Iterable[bytes]:
    return (data[i : i + chunk] for i in range(0, max(1, len(data)), chunk))
