from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.errors import BlobMissingError, BlobTamperedError, HearthError, StoreError
from app.store import unixfs
from app.store.base import reference
from app.store.cid import CID, DAG_PB, RAW
from app.store.unixfs import CHUNK, Node, height_of, read_file, walk, write_file
from tests.store.unixfs_oracle import layout

# Content, CID: each was compared with a real node (Kubo 0.40.1, profile unixfs-v1-2025).
VECTORS = [
    (lambda: b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    (lambda: b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    (lambda: bytes(262144), "bafkreiekhhjkxu4ztk3tyng3er3ijhg56mb44oe3gwbgquhzu4afrg2ksa"),
    (lambda: bytes(262145), "bafkreifspibstbhkrjv6y4amhvxwh6h47p4p7dxyp2lsrep63jhousvnbq"),
    (lambda: bytes(1048576), "bafkreibq4fevl27rgurgnxbp7adh42aqiyd6ouflxhj3gzmcxcxzbh6lla"),
    (lambda: bytes(1048577), "bafybeihd4yzq7n5umhjngdum4r6k2to7egxfkf2jz6thvwzf6djus22cmq"),
    (lambda: bytes(range(256)) * 20000, "bafybeigl67kr4ijf3chnofm3sqxvbx7use3yuqrzktpt5yz3t53jzpwz3a"),
    (lambda: bytes(45613057), "bafybeihp2d7d2jdhoqc4hit3misyawmwdz4r5uy2lyr2waty7rm65hwdke"),
    (lambda: Random(7).randbytes(1024), "bafkreidn3qix4ugbvtuqedtni6l3ck522a6gmogjvcl5iexhlzdtle7uoi"),
    (lambda: Random(7).randbytes(300000), "bafkreibi5rrndl7aqrn66gxrbwlchm4g27j66h6t7i7a4vaexm6uox326m"),
    (lambda: Random(7).randbytes(5000000), "bafybeidrdnpstzt5ptbro6wd7ioazh3dy3t76bbrrvij5kgazvgi6ugazi"),
    (lambda: Random(7).randbytes(50000000), "bafybeieger3hq5i23ccpcjchwvvwcxnizlzjp6mi6j7ozqrsxon6peg7aa"),
]

# Kubo's published vectors: a ChaCha20 key stream.
PUBLISHED = [
    ("chunk-v1-seed", 1 << 20, "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"),
    ("chunk-v1-seed", (1 << 20) + 1, "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"),
    ("v1-2025-seed", 1 << 30, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),
    ("v1-2025-seed", (1 << 30) + 1, "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"),
]


class KeyStream:
    """ChaCha20 over zeros, read like a file: a gigabyte passes without being held."""

    def __init__(self, seed: str, size: int) -> None:
        key = sha256(seed.encode()).digest()
        self.left, self.cipher = size, Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return self.cipher.update(bytes(size))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks of 5 bytes and 3 links a node: graphs of many levels from a few bytes."""
    monkeypatch.setattr(unixfs, "CHUNK", 5)
    monkeypatch.setattr(unixfs, "MAX_LINKS", 3)
    unixfs._link_frame.cache_clear()
    yield
    unixfs._link_frame.cache_clear()


def blocks_of(data: bytes) -> tuple[CID, dict[CID, bytes]]:
    blocks: dict[CID, bytes] = {}
    return write_file(BytesIO(data), len(data), blocks.__setitem__), blocks


def getter(blocks: dict[CID, bytes]):
    def get(cid: CID) -> bytes:
        if cid not in blocks:
            raise BlobMissingError(str(cid))
        return blocks[cid]

    return get


@pytest.mark.parametrize(("content", "cid"), VECTORS)
def test_cid_is_what_a_real_node_gives(content, cid: str) -> None:
    data = content()
    ref = reference(data)
    assert (ref.cid, ref.size, ref.sha256) == (cid, len(data), sha256(data).digest())


@pytest.mark.parametrize(("seed", "size", "cid"), PUBLISHED)
def test_published_vectors(seed: str, size: int, cid: str) -> None:
    assert str(write_file(KeyStream(seed, size), size, lambda cid, block: None)) == cid


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=600))
def test_layout_equals_an_independent_importer(tiny: None, data: bytes) -> None:
    root, blocks = blocks_of(data)
    assert blocks == layout(data, 5, 3)
    assert root == list(layout(data, 5, 3))[-1]
    assert b"".join(read_file(getter(blocks), root, len(data))) == data
    assert {node.cid for node in walk(getter(blocks), root, len(data))} == set(blocks)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17])
def test_layout_and_round_trip_at_real_sizes(size: int) -> None:
    data = Random(size).randbytes(size)
    root, blocks = blocks_of(data)
    assert blocks == layout(data, CHUNK, 1024)
    assert b"".join(read_file(getter(blocks), root, size)) == data


@pytest.mark.parametrize(
    ("size", "height"),
    [(0, 0), (CHUNK, 0), (CHUNK + 1, 1), (1 << 30, 1), ((1 << 30) + 1, 2), (1 << 40, 2), (2**63 - 1, 5)],
)
def test_height(size: int, height: int) -> None:
    assert height_of(size) == height


@pytest.mark.parametrize("announced", [0, 10, 12, CHUNK + 1])
def test_a_stream_of_another_length_is_refused(announced: int) -> None:
    with pytest.raises(StoreError, match="stream"):
        write_file(BytesIO(b"hello world"), announced, lambda cid, block: None)


def test_short_reads_of_the_stream_do_not_matter() -> None:
    class Dribble(BytesIO):
        def read(self, size: int = -1) -> bytes:
            return super().read(min(size, 100_000))

    data = bytes(range(256)) * 20000
    assert str(write_file(Dribble(data), len(data), lambda cid, block: None)) == VECTORS[6][1]


def test_every_other_size_is_refused(tiny: None) -> None:
    data = bytes(range(100))
    root, blocks = blocks_of(data)
    for size in set(range(400)) - {100}:
        with pytest.raises(BlobTamperedError):
            b"".join(read_file(getter(blocks), root, size))


def test_a_missing_block_is_named(tiny: None) -> None:
    root, blocks = blocks_of(bytes(range(100)))
    for missing in blocks:
        with pytest.raises(BlobMissingError, match=str(missing)):
            b"".join(read_file(getter({k: v for k, v in blocks.items() if k != missing}), root, 100))


def honest_node(size: int) -> tuple[bytes, int]:
    data = Random(size).randbytes(size)
    root, blocks = blocks_of(data)
    return blocks[root], size


NODES = [honest_node(CHUNK + 1), honest_node(2 * CHUNK), honest_node(5 * CHUNK + 3)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NODES), st.data())
def test_a_changed_node_is_refused(node: tuple[bytes, int], data: st.DataObject) -> None:
    """A root block that hashes to its name but is any other node: framed wrong, or linking to what is not there."""
    block, size = node
    at = data.draw(st.integers(0, len(block)))
    block = data.draw(
        st.sampled_from([block[:at], block[:at] + block[at + 1 :], block[:at] + b"\0" + block[at:], block + block[:at]])
        | st.binary(min_size=1, max_size=4).map(lambda b: block[:at] + b + block[at + len(b) :])
    )
    root = CID.of(block, DAG_PB)
    read = getter({root: block})
    with pytest.raises((BlobTamperedError, BlobMissingError)):
        b"".join(read_file(read, root, size))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 2**63 - 1) | st.integers(0, 5 * CHUNK), st.sampled_from([RAW, DAG_PB]))
def test_hostile_blocks_raise_only_our_errors(block: bytes, size: int, codec: int) -> None:
    root = CID.of(block, codec)
    with contextlib.suppress(HearthError):
        assert b"".join(read_file(getter({root: block}), root, size)) == block
        assert size == len(block)


def test_a_graph_cannot_cost_more_than_an_honest_file() -> None:
    """A node with a thousand links to itself: the classic bomb. The reader asks for one block."""
    asked: list[CID] = []
    frame = unixfs._encode_node(1024 * CHUNK, 1, [CID(RAW, bytes(32))] * 1024)
    bomb = unixfs._encode_node(1 << 40, 2, [CID(DAG_PB, bytes(32))] * 1024)

    def get(cid: CID) -> bytes:
        asked.append(cid)
        return bomb if len(asked) == 1 else frame if len(asked) == 2 else b""

    with pytest.raises(BlobTamperedError):
        b"".join(read_file(get, CID.of(bomb, DAG_PB), 1 << 40))
    assert len(asked) == 3


def test_memory_stays_at_a_chunk() -> None:
    tracemalloc.start()
    size = 24 << 20
    write_file(KeyStream("memory", size), size, lambda cid, block: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_walk_yields_parents_before_children_and_the_leaves_in_order() -> None:
    data = Random(1).randbytes(2 * CHUNK + 5)
    root, blocks = blocks_of(data)
    nodes = list(walk(getter(blocks), root, len(data)))
    assert nodes[0] == Node(root, len(data), 1)
    assert [(node.size, node.height) for node in nodes[1:]] == [(CHUNK, 0), (CHUNK, 0), (5, 0)]
