"""How long the embedded store takes for a round of updates and for one large model.

Usage: ``python tests/benchmarks/store.py [DIRECTORY]``; the directory decides which disk is measured.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.store.embedded import EmbeddedStore

TURNS = 5


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measure(directory: Path, count: int, size: int, fsync: bool) -> None:
    puts, gets = [], []
    for turn in range(TURNS):
        store = EmbeddedStore(directory / f"{count}-{size}-{fsync}-{turn}", fsync=fsync)
        blobs = [os.urandom(size) for _ in range(count)]
        refs = []
        puts.append(seconds(lambda: refs.extend(store.put(b, f"round/{i}") for i, b in enumerate(blobs))))  # noqa: B023
        gets.append(seconds(lambda: [store.get(ref, size) for ref in refs]))  # noqa: B023
    put, get = (f"{1e3 * statistics.median(times):8.1f} ms" for times in (puts, gets))
    print(f"{count:3} x {size:>10,} B   fsync {'on ' if fsync else 'off'}   put {put}   get {get}")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        for fsync in (True, False):
            measure(Path(directory), 20, 100_000, fsync)
            measure(Path(directory), 1, 50_000_000, fsync)


if __name__ == "__main__":
    main()
