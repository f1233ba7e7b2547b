"""Processes that are killed while they write, and processes that write at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from app.protocol.errors import BlobMissingError
from app.store.base import reference
from app.store.embedded import EmbeddedStore
from app.store.unixfs import CHUNK

BIG = Random(3).randbytes(2 * CHUNK + 1000)
LIMIT = 1 << 30

# Kills itself before the n-th of the calls that change the disk.
SUICIDE = """
import os, signal, sys
from pathlib import Path
from random import Random
from app.store.embedded import EmbeddedStore

path, fatal = Path(sys.argv[1]), int(sys.argv[2])
count = 0

def deadly(function):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

def half(function):
    return lambda descriptor, data, offset: function(descriptor, data[: max(1, len(data) // 2)], offset)

os.pwrite = half(os.pwrite)  # a pin takes several writes, so that one can be cut in the middle
for holder, names in ((os, ("fsync", "fdatasync", "pwrite", "ftruncate")), (Path, ("replace", "mkdir"))):
    for name in names:
        setattr(holder, name, deadly(getattr(holder, name)))
EmbeddedStore(path).put(Random(3).randbytes(2 * (1 << 20) + 1000), "second")
print("finished")
"""

WRITER = """
import sys
from pathlib import Path
from random import Random
from app.store.embedded import EmbeddedStore

store = EmbeddedStore(Path(sys.argv[1]))
for turn in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{turn}"
    store.put(Random(name if turn % 3 else turn).randbytes(20_000 + turn), name)
    print(name, flush=True)
"""


def blob(writer: str, turn: int) -> bytes:
    """Return what `WRITER` puts: every third blob is the same in all writers."""
    return Random(f"{writer}-{turn}" if turn % 3 else turn).randbytes(20_000 + turn)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_at_every_step_of_a_put(tmp_path: Path) -> None:
    first, second = reference(b"first"), reference(BIG)
    outcomes = set()
    for fatal in range(1, 200):
        store = EmbeddedStore(tmp_path / f"{fatal}", fsync=False)
        store.put(b"first", "first")
        process = start(SUICIDE, store.path, fatal)
        output, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            assert output == "finished\n"
            break
        assert (process.returncode, errors) == (-9, "")
        names = store.names()
        assert set(names) in ({first.cid}, {first.cid, second.cid})
        outcomes.add(len(names))
        if second.cid in names:  # a pin never stands without its blob
            assert store.get(second, LIMIT) == BIG
        store.gc()
        assert not [file for file in store.path.rglob("*") if ".temp-" in file.name]
        assert store.get(first, LIMIT) == b"first"
        if second.cid not in names:
            with pytest.raises(BlobMissingError):
                store.get(second, LIMIT)
        store.put(BIG, "again")
        assert store.get(second, LIMIT) == BIG
        assert store.names() == {first.cid: "first", second.cid: "again"}
        assert store.gc() == 0
    else:
        pytest.fail("the writer never finished")
    assert fatal > 20, "too few steps were cut"
    assert outcomes == {1, 2}


def test_killed_in_a_loop(tmp_path: Path) -> None:
    """Kill -9 wherever the writer happens to be; all that it said it had stored is there."""
    store = EmbeddedStore(tmp_path / "store")
    done: dict[str, bytes] = {}
    for life in range(8):
        process = start(WRITER, store.path, f"life{life}", 10_000)
        assert process.stdout is not None
        for turn in range(5 + 3 * life):
            name = process.stdout.readline().strip()
            assert name == f"life{life}-{turn}"
            done[name] = blob(f"life{life}", turn)
        process.kill()
        process.communicate(timeout=60)
        if life % 2:
            store.gc()
        names = store.names()
        for data in done.values():
            ref = reference(data)
            assert ref.cid in names
            assert store.get(ref, LIMIT) == data
    store.gc()
    assert store.gc() == 0


def test_processes_write_at_once(tmp_path: Path) -> None:
    path, turns = tmp_path / "store", 30
    processes = [start(WRITER, path, writer, turns) for writer in ("a", "b", "c")]
    store = EmbeddedStore(path)
    collected = 0
    while any(process.poll() is None for process in processes):
        collected += store.gc()  # never takes what a writer is about to pin
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    assert collected == 0
    blobs = [blob(writer, turn) for writer in ("a", "b", "c") for turn in range(turns)]
    assert all(store.get(reference(data), LIMIT) == data for data in blobs)
    assert set(store.names()) == {reference(data).cid for data in blobs}
    assert store.gc() == 0
