"""What the integer grid costs in accuracy: python tests/benchmarks/fixed_point.py [SEEDS] [data=mnist rounds=10 ...]

Federated averaging three times over the same customers, models, batches and seeds: once in float32 as plain FedAvg does
it, once through int16 and once through int32 updates, with the rule of ``strategy.aggregator=fedavg``. No privacy
mechanism and no attacker, so that nothing but the grid differs. Prints the accuracy of each on the test records, what
it lost beside float32 in points, and how many entries were saturated; at the end the mean over the seeds (3 unless
given). By default MNIST with 10 customers and 10 rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict

import numpy as np

from app.config import compose
from app.customer.customer import training_seed
from app.launch import limit_threads, quiet_libraries
from app.learning.config import TrainConfig
from app.learning.training import accuracy_and_loss, features, train_head
from app.learning.views import customer_view
from app.learning.weights import get_vector, set_vector
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPES, Grid, apply_update
from app.task import Prepared, prepare
from strategies.fedavg import weighted_mean

DEFAULTS = ("data=mnist", "rounds=10", "customers=10", "privacy=none", "attack=none")


class Customers:
    """The local training of a task's customers, from a global model in float32 to everybody's delta in float64."""

    def __init__(self, prepared: Prepared) -> None:
        config = self._config = prepared.config
        self.head = prepared.model.mec
        views = [customer_view(config.data, config.customers, i, config.seed) for i in range(config.customers)]
        self._records = [(features(prepared.model.phone, view), view.labels) for view in views]
        self.weights = [min(len(labels), config.strategy.examples_cap) for _, labels in self._records]

    def train(self, model: np.ndarray, round_number: int) -> list[np.ndarray]:
        """Return what each customer's training changes."""
        deltas = []
        for index, (x, y) in enumerate(self._records):
            head = deepcopy(self.head)
            set_vector(head, model)
            start = get_vector(head).astype(np.float64)
            seed = training_seed(self._config.seed, round_number, index)
            train_head(head, x, y, TrainConfig(**asdict(self._config.train)), seed)
            deltas.append(get_vector(head).astype(np.float64) - start)
        return deltas


def in_float32(customers: Customers, initial: np.ndarray, rounds: int) -> tuple[np.ndarray, int]:
    """Return the model of plain FedAvg."""
    model, share = initial.astype(np.float32), np.array(customers.weights) / sum(customers.weights)
    for round_number in range(1, rounds + 1):
        for delta, weight in zip(customers.train(model, round_number), share, strict=True):
            model = (model + np.float32(weight) * delta.astype(np.float32)).astype(np.float32)
    return model, 0


def on_grid(grid: Grid, precision: str) -> Callable[[Customers, np.ndarray, int], tuple[np.ndarray, int]]:
    """Return FedAvg in integers of this precision."""

    def run(customers: Customers, initial: np.ndarray, rounds: int) -> tuple[np.ndarray, int]:
        dtype, cut = UPDATE_DTYPES[precision], 0
        model, _ = grid.encode(initial, MODEL_DTYPE)
        for round_number in range(1, rounds + 1):
            encoded = [grid.encode(delta, dtype) for delta in customers.train(grid.decode(model), round_number)]
            cut += sum(saturated for _, saturated in encoded)
            model = apply_update(model, weighted_mean([entries for entries, _ in encoded], customers.weights))
        return grid.decode(model), cut

    return run


def main() -> None:
    """Measure and print."""
    limit_threads()
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdecimal() else 3
    given = [text for text in sys.argv[1:] if not text.isdecimal()]
    named = {text.partition("=")[0] for text in given}
    given += [text for text in DEFAULTS if text.partition("=")[0] not in named]
    losses: dict[str, list[float]] = {}
    for seed in range(seeds):
        with quiet_libraries():
            prepared = prepare(compose([*given, f"seed={seed}"]))
        customers, config = Customers(prepared), prepared.config
        initial, grid = get_vector(customers.head).astype(np.float64), Grid(config.strategy.fractional_bits)
        runs = {"float32": in_float32} | {name: on_grid(grid, name) for name in UPDATE_DTYPES}
        test, labels = features(prepared.model.phone, prepared.data.test), prepared.data.test.labels
        accuracy: dict[str, float] = {}
        for name, run in runs.items():
            start, judged = time.perf_counter(), deepcopy(customers.head)
            model, cut = run(customers, initial, config.rounds)
            set_vector(judged, model)
            accuracy[name], _ = accuracy_and_loss(judged, test, labels)
            lost = 100 * (accuracy["float32"] - accuracy[name])
            losses.setdefault(name, []).append(lost)
            told = f"seed {seed}  {name:8} accuracy {100 * accuracy[name]:7.3f} %  lost {lost:+.3f} points"
            print(f"{told}  saturated {cut}  ({time.perf_counter() - start:.0f} s)", flush=True)
    for name, lost in losses.items():
        print(f"mean over {seeds} seeds: {name:8} lost {np.mean(lost):+.3f} points (worst {max(lost):+.3f})")


if __name__ == "__main__":
    main()
