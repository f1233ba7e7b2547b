"""Print what the contract costs: python tests/benchmarks/gas.py

Gas of seal and finalise in the steady state (the third round, one customer in ten evaluated L), of the set-up, and of
a direct submission. The EVM is the embedded one; other nodes with Prague's rules give the same figures.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from task_world import World, customers, digest, funded

from app.ledger.chain import embedded_chain

SIZES = [(10, 4), (10, 10), (100, 10), (1000, 10)]
COLUMNS = ["customers", "miners", "seal", "finalise", "a round", "per customer", "finalise, round 1", "seconds a round"]


def measure(n: int, m: int) -> list[str]:
    """Play three rounds; return one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        chain = embedded_chain(Path(folder) / "chain.sqlite", funded=funded(64, m))
        world = World(chain, n=n, m=m, f=2, gamma_initial=5, gamma_max=10)
        started = time.perf_counter()
        for number in (1, 2, 3):
            world.seal(number)
            world.finalise(number, honest=[i for i in range(n) if i % 10])
        seconds = (time.perf_counter() - started) / 3
        first, seal, final = world.task.finalised(1), world.task.sealed(3), world.task.finalised(3)
        chain.close()
    assert first is not None
    assert seal is not None
    assert final is not None
    total = seal.gas + final.gas
    figures = [n, m, seal.gas, final.gas, total, round(total / n), first.gas]
    return [*(f"{figure:,}" for figure in figures), f"{seconds:.2f}"]


def set_up() -> dict[str, int]:
    """Return the gas of what is paid once, and of a submission past the manufacturer."""
    with tempfile.TemporaryDirectory() as folder:
        chain = embedded_chain(Path(folder) / "chain.sqlite", funded=funded(64, 4))
        task = World(chain, n=64).task
        task.submit(customers(64)[0], 1, digest("update"))
        chain.close()
    return dict(task.gas_spent)


def main() -> None:
    """Print the table."""
    rows = [COLUMNS, *(measure(n, m) for n, m in SIZES)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print("64 customers, 4 miners:", ", ".join(f"{kind} {gas:,}" for kind, gas in set_up().items()))


if __name__ == "__main__":
    main()
