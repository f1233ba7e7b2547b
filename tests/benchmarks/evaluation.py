"""Who is judged L, and who is weighed, over many rounds: honest customers and attackers.

    python -m tests.benchmarks.evaluation data=digits data.partition=dirichlet privacy=none attack=alie attack.count=2 \
        strategy.f=2 rounds=100 seed=0

Takes the overrides of ``python -m app``. No chain runs: a miner's evaluation of each round, and the reputation that
follows from it.
"""

from __future__ import annotations

import sys

from app.config import compose
from tests.benchmarks.rounds import judged_rounds


def main() -> None:
    """Run one task; print which share of the evaluations was L, and how many updates were aggregated."""
    config = compose(sys.argv[1:])
    hostile = set(config.attack.crew(config.customers))
    low, judged, weighed, accuracy = [0, 0], [0, 0], [0, 0], float("nan")
    for done in judged_rounds(config):
        for entry in done.evaluation.customers:
            judged[entry.index in hostile] += 1
            low[entry.index in hostile] += entry.mark == "L"
            weighed[entry.index in hostile] += entry.weight > 0
        accuracy = done.accuracy
    for name, part, taken, whole in zip(("honest", "attackers"), low, weighed, judged, strict=True):
        if whole:
            print(f"{name}: {part} of {whole} evaluations are L ({part / whole:.2%}), {taken} updates aggregated")
    print(f"accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
