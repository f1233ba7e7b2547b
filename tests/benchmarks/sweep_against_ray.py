"""A sweep of six jobs against the same six tasks in Flower's Ray simulation, both from the command line.

python tests/benchmarks/sweep_against_ray.py [data=digits rounds=3 ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBS = 6
ROOT = Path(__file__).resolve().parents[2]


def seconds(arguments: list[str], runs: str) -> float:
    """Return the wall time of ``python -m app``."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "app", *arguments]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"HEARTH_RUNS": runs}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as runs:
        sweep = seconds(["-m", *overrides, f"seed=range({JOBS})", "name=sweep"], runs)
        ray = [seconds([*overrides, f"seed={i}", "engine=ray", f"name=ray-{i}"], runs) for i in range(JOBS)]
        rows = json.loads((Path(runs) / "sweep" / "sweep.json").read_text())
        digests = [
            json.loads((Path(runs) / f"ray-{i}" / "result.json").read_text())["model_digest"] for i in range(JOBS)
        ]
    print(f"sweep of {JOBS} jobs        {sweep:7.1f} s")
    print(f"{JOBS} Ray simulations      {sum(ray):7.1f} s ({min(ray):.1f} to {max(ray):.1f} each)")
    print(f"ratio                  {sum(ray) / sweep:7.1f}")
    print(f"equal models           {[row['model_digest'] for row in rows] == digests}")


if __name__ == "__main__":
    main()
