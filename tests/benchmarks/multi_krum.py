"""Multi-Krum against Flower's on the same updates: python tests/benchmarks/multi_krum.py [N] [D]

N updates (32 unless given; 200 is the size to look at) of D parameters (1,000,000), a fifth of them hostile. Flower
gets the models as float32 arrays, as its clients send them; ours gets what the screening holds, int16 updates, and, on
a line of its own, the blobs they are read from. Both end with the aggregate, and both have all cores (``taskset -c 0``
gives both one). The two run in turns in one process, after one warm-up of each that is not counted; the ratio is that
of the medians. Extra memory is the peak of what is allocated during the call, beyond the updates themselves
(tracemalloc, in a pass of its own).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from app.protocol.fixed_point import UPDATE_DTYPES
from app.protocol.tensors import pack, unpack
from strategies.aggregation import AGGREGATORS, combine, judge

REPEATS = 3
BITS = 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Multi-Krum against Flower's on the same updates.")
    parser.add_argument("n", nargs="?", type=int, default=32)
    parser.add_argument("d", nargs="?", type=int, default=1_000_000)
    options = parser.parse_args()
    count, size, hostile = options.n, options.d, options.n // 5
    rng = np.random.default_rng(0)
    common, model = rng.normal(0, 0.05, size), rng.normal(0, 0.05, size).astype(np.float32)
    updates, contents, blobs = [], [], []
    layout, dtype = (("w", (size,)),), UPDATE_DTYPES["int16"]
    for index in range(count):
        delta = (common + rng.normal(0, 0.05, size)) * (-3 if index < hostile else 1)
        updates.append(np.rint(delta * 2**BITS).astype(np.int16))
        arrays = ArrayRecord({"w": Array(model + updates[-1].astype(np.float32) / 2**BITS)})
        contents.append(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}))
        blobs.append(pack(updates[-1], layout, dtype))
    digests = [index.to_bytes(4, "big") for index in range(count)]
    rule = AGGREGATORS["multi_krum"]

    def flower() -> object:
        kept = select_multikrum(contents, hostile, count - hostile)
        return aggregate_arrayrecords(kept, "num-examples")

    def exact() -> object:
        opinion = judge(updates, digests, hostile, rule)
        assert min(opinion.kept) >= hostile
        return combine(updates, opinion.shares, hostile, rule)

    def read() -> object:
        return [unpack(blob, layout, dtype).astype(dtype) for blob in blobs]

    seconds = _interleaved({"Flower MultiKrum": flower, "Hearth, exact": exact, "reading the blobs": read})
    memory = {name: _extra(run) for name, run in (("Flower MultiKrum", flower), ("Hearth, exact", exact))}
    print(f"n = {count}, d = {size:,}, f = {hostile}, cores: {len(os.sched_getaffinity(0))}, median of {REPEATS}")
    for name, spent in seconds.items():
        told = f"  extra memory {memory[name] / 2**20:8.0f} MB" if name in memory else ""
        print(f"{name:18} {statistics.median(spent):7.3f} s (least {min(spent):.3f}){told}")
    theirs, ours = (statistics.median(seconds[name]) for name in memory)
    print(f"Flower / Hearth    {theirs / ours:7.2f}")


def _interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(REPEATS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _extra(run: Callable[[], object]) -> int:
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
