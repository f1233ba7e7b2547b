from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from base64 import b32encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.digest import BlobRef
from app.protocol.errors import BlobMissingError, BlobTamperedError, HearthError, ProtocolError, StoreError
from app.store.base import reference
from app.store.cid import CID, DAG_PB, RAW
from app.store.embedded import EmbeddedStore
from app.store.unixfs import CHUNK

BIG = Random(3).randbytes(2 * CHUNK + 1000)  # a node and three leaves
LIMIT = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def files(store: EmbeddedStore) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}


def block_files(store: EmbeddedStore) -> list[Path]:
    return sorted(store.path.glob("blocks/*/*"))


def temporary_files(store: EmbeddedStore) -> list[Path]:
    return [file for file in store.path.rglob("*") if ".temp-" in file.name]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3000), name=st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=60))
def test_what_is_put_is_got(store: EmbeddedStore, data: bytes, name: str) -> None:
    if not name.isprintable():
        name = ""
    ref = store.put(data, name)
    assert ref == reference(data)
    assert store.get(ref, len(data)) == data
    assert store.has(ref)
    assert ref.cid in store.names()


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(BIG)])
def test_sizes_and_a_second_process(store: EmbeddedStore, size: int) -> None:
    ref = store.put(BIG[:size], f"size {size}")
    other = EmbeddedStore(store.path)
    assert other.get(ref, LIMIT) == BIG[:size]
    assert other.names() == {ref.cid: f"size {size}"}


def test_reading_writes_nothing(store: EmbeddedStore) -> None:
    ref = reference(b"nowhere")
    assert not store.has(ref)
    assert store.names() == {}
    with pytest.raises(BlobMissingError):
        store.get(ref, 100)
    assert not store.path.exists()


def test_a_blob_above_the_limit_is_refused_before_it_is_read(store: EmbeddedStore, monkeypatch) -> None:
    ref = store.put(b"12345")
    monkeypatch.setattr(store._blocks, "get", lambda cid: pytest.fail("a block was read"))
    with pytest.raises(StoreError, match=r"5 bytes \(allowed: up to 4\)"):
        store.get(ref, 4)


@pytest.mark.parametrize("data", [b"small", BIG])
def test_every_part_of_the_reference_is_checked(store: EmbeddedStore, data: bytes) -> None:
    ref = store.put(data)
    other = store.put(data + b"!")
    for wrong in (
        replace(ref, sha256=other.sha256),
        replace(ref, sha256=bytes(32)),
        replace(ref, size=ref.size + 1),
        replace(ref, size=ref.size - 1),
        replace(ref, size=0),
        replace(ref, size=-1),
        replace(ref, size=ref.size + 40 * CHUNK),
        replace(ref, cid=other.cid),
    ):
        with pytest.raises(BlobTamperedError):
            store.get(wrong, LIMIT)
    # The right digest under the other codec would be a second name of the same blob.
    other_codec = CID(RAW + DAG_PB - CID.parse(ref.cid).codec, CID.parse(ref.cid).digest)
    with pytest.raises(BlobTamperedError):
        store.get(replace(ref, cid=str(other_codec)), LIMIT)
    for text in ("", "../../etc/passwd", ref.cid.upper(), "/ipfs/" + ref.cid, ref.cid + "/x"):
        with pytest.raises(ProtocolError):
            store.get(replace(ref, cid=text), LIMIT)


def spoil(how: str, file: Path) -> None:
    data = file.read_bytes()
    match how:
        case "flipped bit":
            file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "last bit":
            file.write_bytes(data[:-1] + bytes([data[-1] ^ 128]))
        case "truncated":
            file.write_bytes(data[:-1])
        case "empty":
            file.write_bytes(b"")
        case "longer":
            file.write_bytes(data + b"\0")
        case "huge":
            with open(file, "r+b") as handle:
                handle.truncate(1 << 40)  # sparse: the reader must not load it
        case "deleted":
            file.unlink()


DAMAGE = ["flipped bit", "last bit", "truncated", "empty", "longer", "huge", "deleted"]


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_to_any_block_is_noticed_and_put_heals_it(store: EmbeddedStore, how: str) -> None:
    ref = store.put(BIG, "round-0001")
    sound = files(store)
    for file in block_files(store):
        spoil(how, file)
        with pytest.raises(BlobMissingError if how == "deleted" else BlobTamperedError):
            store.get(ref, LIMIT)
        assert store.put(BIG) == ref
        assert store.get(ref, LIMIT) == BIG
    assert {f: d for f, d in files(store).items() if f.name != "pins"} == {
        f: d for f, d in sound.items() if f.name != "pins"
    }
    assert store.names() == {ref.cid: "round-0001"}


def test_has_sees_what_is_not_there(store: EmbeddedStore) -> None:
    ref = store.put(BIG)
    for file in block_files(store):
        data = file.read_bytes()
        for how in ("truncated", "deleted"):
            spoil(how, file)
            assert not store.has(ref)
            file.write_bytes(data)
        assert store.has(ref)


def test_blocks_of_two_blobs_are_shared(store: EmbeddedStore) -> None:
    first, second = store.put(BIG), store.put(BIG[:CHUNK])
    assert len(block_files(store)) == 4
    store.unpin(first.cid)
    assert store.gc() == 3
    assert store.get(second, LIMIT) == BIG[:CHUNK]
    with pytest.raises(BlobMissingError):
        store.get(first, LIMIT)


def test_layout_is_that_of_a_kubo_data_store(store: EmbeddedStore) -> None:
    store.put(b"hello world")
    assert (store.path / "blocks" / "SHARDING").read_text() == "/repo/flatfs/shard/v1/next-to-last/2\n"
    multihash = bytes.fromhex("1220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")
    key = b32encode(multihash).decode().rstrip("=")
    assert key.startswith("CIQ")
    assert [file.relative_to(store.path / "blocks") for file in block_files(store)] == [Path(key[-3:-1], f"{key}.data")]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "SHARDING").write_text("/repo/flatfs/shard/v1/prefix/5\n")
    with pytest.raises(StoreError, match="next-to-last/2"):
        EmbeddedStore(tmp_path)


# ---- names, collection


def test_names(store: EmbeddedStore) -> None:
    one, two = store.put(b"1", "task/round-0001"), store.put(b"2")
    assert store.names() == {one.cid: "task/round-0001", two.cid: ""}
    store.put(b"1", "task/round-0002")
    store.put(b"1")  # no name takes none away
    assert store.names() == {one.cid: "task/round-0002", two.cid: ""}
    store.unpin(one.cid)
    store.unpin(one.cid)
    assert store.names() == {two.cid: ""}
    assert store.gc() == 1


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\x1b[31m", "\ud800", "é" * 128, "a" * 256])
def test_names_that_would_break_a_line_are_refused(store: EmbeddedStore, name: str) -> None:
    with pytest.raises(StoreError, match="pin name"):
        store.put(b"x", name)
    assert not store.path.exists()


def test_the_longest_name(store: EmbeddedStore) -> None:
    name = "é" * 127 + " "
    ref = store.put(b"x", name)
    assert EmbeddedStore(store.path).names() == {ref.cid: name}


def test_gc_takes_only_what_nobody_needs(store: EmbeddedStore) -> None:
    keep = store.put(BIG, "keep")
    orphan = CID.of(b"orphan", RAW)
    store._blocks.put(orphan, b"orphan")
    folder = block_files(store)[0].parent
    (folder / ".temp-ABC.data").write_bytes(b"half")
    blake2b = b32encode(b"\xa0\xe4\x02\x20" + bytes(32)).decode().rstrip("=")
    for name in ("notes", blake2b):
        (folder / f"{name}.data").write_bytes(b"not ours")
    store.put(BIG, "keep")
    assert store.gc() == 2
    assert store.gc() == 0
    assert all((folder / f"{name}.data").exists() for name in ("notes", blake2b))
    assert store.get(keep, LIMIT) == BIG
    assert (store.path / "pins").read_text() == f"{keep.cid} {len(BIG)} keep\n"


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_gc_reports_a_damaged_blob_and_deletes_nothing(store: EmbeddedStore, how: str) -> None:
    store.put(BIG, "task/round-0007")
    store._blocks.put(CID.of(b"orphan", RAW), b"orphan")
    for file in block_files(store):
        if file.stat().st_size == 6:
            continue
        data = file.read_bytes()
        spoil(how, file)
        before = files(store)
        with pytest.raises(StoreError, match=r"'task/round-0007' is damaged \(put it again"):
            store.gc()
        assert files(store) == before
        file.write_bytes(data)
    assert store.gc() == 1


# ---- the list of pins


def test_a_torn_last_line_is_ignored_and_cut_off(store: EmbeddedStore) -> None:
    one = store.put(b"1", "one")
    pins = store.path / "pins"
    line = pins.read_bytes()
    two = reference(b"2")
    whole = f"{two.cid} 1 two\n".encode()
    for length in range(len(whole)):
        pins.write_bytes(line + whole[:length])
        assert store.names() == {one.cid: "one"}
    store.put(b"2", "two")
    assert pins.read_bytes() == line + whole
    pins.write_bytes(bytes(10_000))  # what some file systems leave after a power cut
    store.put(b"2", "two")
    assert pins.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"",
        b"cid 1 name",
        b"%s",
        b"%s 1",
        b"%s -1 name",
        b"%s 01 name",
        b"%s +1 name",
        b"%s 1.0 name",
        b"\xff\xfe",
    ],
)
def test_a_damaged_line_stops_gc(store: EmbeddedStore, line: bytes) -> None:
    ref = store.put(b"1", "one")
    with open(store.path / "pins", "ab") as file:
        file.write(line.replace(b"%s", ref.cid.encode()) + b"\n")
    for read in (store.names, store.gc, lambda: store.unpin(ref.cid)):
        with pytest.raises(StoreError, match="line 2: not a pin"):
            read()
    assert store.get(ref, 1) == b"1"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200))
def test_hostile_lists_raise_only_our_errors(store: EmbeddedStore, junk: bytes) -> None:
    store.path.mkdir(parents=True, exist_ok=True)
    (store.path / "pins").write_bytes(junk)
    for read in (store.names, store.gc):
        with contextlib.suppress(HearthError):
            read()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ref=st.builds(
        BlobRef,
        st.binary(min_size=32, max_size=32),
        st.integers(-1, 2**63),
        st.text(max_size=70) | st.binary(min_size=32, max_size=32).map(lambda b: str(CID(0x70, b))),
    )
)
def test_hostile_references_raise_only_our_errors(store: EmbeddedStore, ref: BlobRef) -> None:
    with pytest.raises(HearthError):
        store.get(ref, 2**70)
    with contextlib.suppress(HearthError):
        assert not store.has(ref)


# ---- the operating system says no


def fail_after(calls: int, real, error: int = errno.ENOSPC):
    """Let ``calls`` calls pass, then fail all others."""
    count = iter(range(10**9))

    def call(*args, **kwargs):
        if next(count) >= calls:
            raise OSError(error, os.strerror(error))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("function", ["fsync", "fdatasync", "pwrite"])
@pytest.mark.parametrize("calls", [0, 1, 2, 5])
def test_a_full_disk_leaves_no_pin_and_no_temporary_file(
    store: EmbeddedStore, monkeypatch, function: str, calls: int
) -> None:
    kept = store.put(b"before", "before")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail_after(calls if function == "fsync" else 0, getattr(os, function)))
        with pytest.raises(StoreError, match="No space left on device"):
            store.put(BIG, "lost")
    assert store.names() == {kept.cid: "before"}
    assert temporary_files(store) == []
    assert (store.path / "pins").read_text().count("\n") == 1
    assert store.get(kept, 10) == b"before"
    ref = store.put(BIG, "now")
    assert store.get(ref, LIMIT) == BIG


def test_a_full_disk_in_the_middle_of_a_pin(store: EmbeddedStore, monkeypatch) -> None:
    store.put(b"before", "before")
    before = (store.path / "pins").read_bytes()
    real, calls = os.pwrite, []

    def short(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:20], offset)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(StoreError, match="No space left"):
        store.put(b"x", "lost")
    assert len(calls) == 2
    assert (store.path / "pins").read_bytes() == before


def test_a_really_full_file(store: EmbeddedStore) -> None:
    """The kernel's own limit on the size of a file, in the middle of a block."""
    store.put(b"before", "before")
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            store.put(BIG, "lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(store.names().values()) == ["before"]
    assert temporary_files(store) == []


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for act in (
        lambda: EmbeddedStore(tmp_path / "file"),
        lambda: EmbeddedStore(tmp_path / "file").put(b"x"),
        lambda: EmbeddedStore(tmp_path / "file").get(reference(b"x"), 1),
    ):
        with pytest.raises(StoreError, match=r"file: Not a directory$"):
            act()


def test_without_fsync_nothing_is_synced(tmp_path: Path, monkeypatch) -> None:
    store = EmbeddedStore(tmp_path, fsync=False)
    for function in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, function, lambda descriptor: pytest.fail("synced"))
    ref = store.put(BIG, "fast")
    store.gc()
    assert store.get(ref, LIMIT) == BIG


def test_order_of_a_put_survives_a_power_cut(store: EmbeddedStore, monkeypatch) -> None:
    """Data before its name, the name's folder before the pin: whatever comes last is durable only after the rest."""
    events: list[str] = []

    def name(descriptor: int) -> str:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return "folder" if path.is_dir() and path.name not in ("blocks", "store") else path.name.split("-")[0]

    def record(function, label):
        def call(descriptor, *args):
            events.append(f"{label} {name(descriptor)}")
            return function(descriptor, *args)

        return call

    real_replace = Path.replace
    store.put(b"first")
    monkeypatch.setattr(os, "fsync", record(os.fsync, "sync"))
    monkeypatch.setattr(os, "fdatasync", record(os.fdatasync, "sync"))
    monkeypatch.setattr(os, "pwrite", record(os.pwrite, "write"))
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), real_replace(self, to))[1])
    store.put(b"one block")
    assert events == ["sync blocks", "sync .temp", "rename", "sync folder", "write pins", "sync pins"]
    events.clear()
    store.put(b"one block")  # already there: its folder is synced all the same, its writer may have been killed
    assert events == ["sync folder", "write pins", "sync pins"]


# ---- threads


def test_many_threads_read_while_one_writes(store: EmbeddedStore) -> None:
    blobs = [Random(i).randbytes(CHUNK // 2 + i * 200_000) for i in range(8)]
    refs = [store.put(blob) for blob in blobs[:4]]

    def read(turn: int) -> bool:
        ref = refs[turn % 4]
        return store.has(ref) and store.get(ref, LIMIT) == blobs[turn % 4]

    def write(turn: int) -> bool:
        return store.put(blobs[4 + turn % 4], f"turn {turn}") == reference(blobs[4 + turn % 4])

    with ThreadPoolExecutor(6) as pool:
        results = [*pool.map(lambda turn: write(turn) if turn % 5 == 0 else read(turn), range(60))]
    assert all(results)
    assert len(store.names()) == 8
    assert store.gc() == 0
