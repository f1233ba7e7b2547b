"""Archives: the bytes that Kubo writes, back again, and nothing believed that is not so; quotas; remote pins."""

from __future__ import annotations

import hashlib
import random
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli import main
from app.config import compose
from app.protocol.errors import BlobMissingError, BlobTamperedError, ConfigError, HearthError, ProtocolError, StoreError
from app.store.base import reference
from app.store.car import read_blocks, read_roots, write_car
from app.store.cid import CID, uvarint
from app.store.embedded import EmbeddedStore
from app.store.kubo import KuboStore
from tests.store.kubo_server import KuboServer

# Of Kubo 0.40.1's `ipfs dag export`, profile unixfs-v1-2025.
HELLO = bytes.fromhex(
    "3aa265726f6f747381d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde96776657273"
    "696f6e012f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde968656c6c6f20776f726c64"
)
REPEATED = bytes(range(256)) * 20_000
REPEATED_SHA256 = "3ae4cb6532f3bd5d04e531858a0573a2f1ed931ceda731325f7b9fa14f97422e"


def store(path: Path, *blobs: bytes) -> EmbeddedStore:
    found = EmbeddedStore(path, fsync=False)
    for number, blob in enumerate(blobs):
        found.put(blob, f"blob {number}")
    return found


def packed(of: EmbeddedStore) -> bytes:
    out = BytesIO()
    write_car([(pin.cid, pin.size) for pin in of.pins()], of.block, out)
    return out.getvalue()


def test_the_bytes_are_kubos(tmp_path: Path) -> None:
    assert packed(store(tmp_path / "a", b"hello world")) == HELLO
    repeated = packed(store(tmp_path / "b", REPEATED))
    assert (len(repeated), hashlib.sha256(repeated).hexdigest()) == (1_974_706, REPEATED_SHA256)


@pytest.mark.parametrize("count", [1, 2, 23, 24, 25, 255, 256, 300])
def test_any_number_of_blobs_there_and_back(tmp_path: Path, count: int) -> None:
    blobs = [number.to_bytes(4, "big") for number in range(count)]
    archive = packed(store(tmp_path / "from", *blobs))
    other = EmbeddedStore(tmp_path / "to", fsync=False)
    found = other.take(BytesIO(archive))
    assert list(found) == [reference(blob) for blob in blobs]
    assert [other.get(ref, 4) for ref in found] == blobs
    assert packed(other) == archive
    assert other.gc() == 0


def test_large_blobs_that_share_blocks(tmp_path: Path) -> None:
    noise = random.Random(3).randbytes(2_500_000)
    blobs = (noise, noise[:1_048_576] + b"end", b"", bytes(3_000_000))
    archive = packed(store(tmp_path / "from", *blobs))
    assert len(archive) < sum(map(len, blobs)) - 2_000_000
    other = EmbeddedStore(tmp_path / "to", fsync=False)
    assert [other.get(ref, 2**22) for ref in other.take(BytesIO(archive))] == list(blobs)


def test_an_archive_that_lacks_a_block_pins_nothing(tmp_path: Path) -> None:
    archive = packed(store(tmp_path / "from", REPEATED))
    stream = BytesIO(archive)
    read_roots(stream)
    header = archive[: stream.tell()]
    blocks = list(read_blocks(stream))
    cut = header + b"".join(uvarint(36 + len(block)) + bytes(cid) + block for cid, block in blocks[:-1])
    other = EmbeddedStore(tmp_path / "to", fsync=False)
    with pytest.raises(BlobMissingError):
        other.take(BytesIO(cut))
    assert other.pins() == []
    assert other.gc() == len(blocks) - 1


def test_a_node_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    block = b"\x0a\x05\x08\x02\x18\xff\x7f"  # a file of 16,383 bytes with no blocks
    cid = CID.of(block, 0x70)
    header = b"\xa2eroots\x81\xd8\x2a\x58\x25\x00" + bytes(cid) + b"gversion\x01"
    archive = uvarint(len(header)) + header + uvarint(36 + len(block)) + bytes(cid) + block
    with pytest.raises(BlobTamperedError):
        EmbeddedStore(tmp_path, fsync=False).take(BytesIO(archive))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_an_archive_with_one_byte_changed_raises_our_errors_alone_and_never_pins_another_blob(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(HELLO)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255).filter(lambda value: value != HELLO[at]))
    target = EmbeddedStore(tmp_path_factory.mktemp("car"), fsync=False)
    with pytest.raises(HearthError):
        target.take(BytesIO(bytes(changed)))
    assert target.pins() == []


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_from_anybody_raise_our_errors_alone(data: bytes) -> None:
    with suppress(ProtocolError, BlobTamperedError):
        stream = BytesIO(data)
        read_roots(stream)
        list(read_blocks(stream))
    with suppress(ProtocolError, BlobTamperedError):
        list(read_blocks(BytesIO(data)))


@pytest.mark.parametrize("cut", [0, 1, 30, 58, 60, 90, 106])
def test_half_an_archive_is_none(tmp_path: Path, cut: int) -> None:
    target = EmbeddedStore(tmp_path, fsync=False)
    with pytest.raises((ProtocolError, BlobMissingError)):
        target.take(BytesIO(HELLO[:cut]))
    assert target.pins() == []


def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    full = EmbeddedStore(tmp_path / "s", fsync=False, most_bytes=2**20)
    first = full.put(bytes(700_000))
    with pytest.raises(StoreError, match=r"is full: it holds 700000 of the 1048576 bytes .*store\.most_bytes"):
        full.put(b"x" * 700_000)
    assert full.get(first, 2**20) == bytes(700_000)
    full.put(bytes(700_000), "again")  # it is here already
    full.put(b"y" * 300_000)
    full.unpin(first.cid)
    full.gc()
    full.put(b"x" * 700_000)  # there is room again
    archive = packed(store(tmp_path / "other", b"z" * 700_000))
    with pytest.raises(StoreError, match="is full"):
        full.take(BytesIO(archive))


class TestCommand:
    def test_a_store_is_packed_and_unpacked(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        store(tmp_path / "s", b"hello world", b"other")
        assert main(["store", "show", str(tmp_path / "s")]) == 0
        assert "blob 1" in capsys.readouterr().out
        assert main(["store", "export", str(tmp_path / "s"), str(tmp_path / "all.car")]) == 0
        assert (
            main(["store", "export", str(tmp_path / "s"), str(tmp_path / "one.car"), reference(b"hello world").cid])
            == 0
        )
        assert (tmp_path / "one.car").read_bytes() == HELLO
        assert main(["store", "import", str(tmp_path / "t"), str(tmp_path / "all.car")]) == 0
        assert "2 blobs taken" in capsys.readouterr().out
        assert main(["store", "gc", str(tmp_path / "t")]) == 0
        assert EmbeddedStore(tmp_path / "t").get(reference(b"other"), 10) == b"other"

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["show", "nowhere"], "holds no blobs"),
            (["export", "s", "taken"], "is not overwritten"),
            (["export", "s", "new", "nonsense"], "not a CID"),
            (["export", "s", "new", reference(b"not there").cid], "has no blob"),
            (["import", "s", "nowhere"], "cannot be read"),
            (["import", "s", "taken"], "not an archive"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, monkeypatch, capsys, arguments: list[str], problem: str) -> None:
        monkeypatch.chdir(tmp_path)
        store(tmp_path / "s", b"hello world")
        (tmp_path / "taken").write_bytes(b"something else")
        assert main(["store", *arguments]) != 0
        assert problem in capsys.readouterr().err
        assert (tmp_path / "taken").read_bytes() == b"something else"
        assert not (tmp_path / "new").exists()


def test_a_pinning_service_is_asked_to_keep_every_blob() -> None:
    with KuboServer() as node:
        kubo = KuboStore(node.url, pinning="far-away", attempts=1)
        ref = kubo.put(b"hello world", "task/round-0001/model")
        [(command, options, _)] = [request for request in node.requests if request[0].startswith("pin/")]
        wanted = {"arg": ref.cid, "service": "far-away", "background": "true", "name": "task/round-0001/model"}
        assert (command, {key: options[key] for key in wanted}) == ("pin/remote/add", wanted)
        node.pinning_fails = True
        with pytest.raises(StoreError, match="no such service"):
            kubo.put(b"other")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["store=ipfs", "store.path=x"], r"store\.path: is not used by store=ipfs"),
        (["store=ipfs", "store.most_bytes=2000000"], r"store\.most_bytes: is not used by store=ipfs"),
        (["store.pinning=x"], r"store\.pinning: is not used by store=embedded"),
        (["store.most_bytes=5"], r"store\.most_bytes: 5 is out of range"),
    ],
)
def test_keys_of_the_other_store_are_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        compose(overrides)
