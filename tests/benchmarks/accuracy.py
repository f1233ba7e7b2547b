"""How good the learning part is by itself: ten customers, plain averaging, no chain, no miners.

    python tests/benchmarks/accuracy.py plaid digits mnist --epsilon inf 8 4 1 --seeds 3

Per data set and epsilon: accuracy of the manufacturer's public records alone and after the rounds, mean over seeds,
and how many rounds Multi-Krum's score (f = 1) puts a customer that flips the sign of its update last. The noise is
numpy's and insecure; it stands in for the release that the phone does. Epsilon "off" is the task without privacy
(head mlp); "inf" is the private shape with no noise.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from app.learning.config import DataConfig, ModelConfig, TrainConfig, default_training
from app.learning.form import RecordForm
from app.learning.models import build
from app.learning.pretrain import pretrain
from app.learning.training import accuracy_and_loss, features, train_head
from app.learning.views import customer_view, manufacturer_view
from app.learning.weights import get_vector, set_vector

# sigma / sensitivity of the analytic Gaussian mechanism at delta = 1e-5; facts: Balle and Wang 2018
SCALE = {"inf": 0.0, "16": 0.344, "8": 0.600, "4": 1.081, "2": 1.994, "1": 3.731, "0.5": 7.032}
STEP = 2.0**-14


@dataclass(frozen=True)
class Outcome:
    """One run: accuracy before and after each round, seconds, and rounds in which the flipped update scored worst."""

    accuracy: list[float]
    seconds: float
    caught: int


def clip(values: np.ndarray) -> np.ndarray:
    """Scale rows of norm above 1 to 1."""
    return (values / np.maximum(1, np.linalg.norm(values, axis=1, keepdims=True))).astype(np.float32)


def worst_by_krum(updates: np.ndarray, f: int = 1) -> int:
    """Return the position of the update with the largest Krum score."""
    distances = ((updates[:, None] - updates[None]) ** 2).sum(axis=2)
    nearest = np.sort(distances, axis=1)[:, 1 : len(updates) - f - 1]
    return int(nearest.sum(axis=1).argmax())


def run(
    data: DataConfig, model: ModelConfig, epsilon: str, rounds: int, seed: int, train: TrainConfig | None = None
) -> Outcome:
    """Run one federated task of ten customers."""
    start = time.perf_counter()
    noised = epsilon != "off"
    sigma = 2 * SCALE[epsilon] if noised else 0.0
    view = manufacturer_view(data, 10, seed)
    split = build(model, RecordForm.of(view.summary), noised=noised, noise=sigma, seed=seed)
    pretrain(split, view.public, seed)
    close = clip if noised else (lambda values: values)
    test = close(features(split.phone, view.test))
    cached = []
    for k in range(10):
        home = customer_view(data, 10, k, seed)
        noise = np.random.default_rng([seed, k])
        clean = close(features(split.phone, home))
        cached.append(((clean + sigma * noise.standard_normal(clean.shape)).astype(np.float32), home.labels))
    weights = np.array([len(labels) for _, labels in cached], np.float64)
    train = train or default_training(split.head, int(weights.mean()))
    vector = get_vector(split.mec).astype(np.float64)
    accuracy, caught = [accuracy_and_loss(split.mec, test, view.test.labels)[0]], 0
    for turn in range(rounds):
        updates = []
        for k, (released, labels) in enumerate(cached):
            set_vector(split.mec, vector)
            train_head(split.mec, released, labels, train, hash((seed, turn, k)) % 2**31)
            delta = get_vector(split.mec).astype(np.float64) - vector
            updates.append(np.clip(np.rint(delta / STEP), -32768, 32767) * STEP)
        flipped = np.array([-updates[0], *updates[1:]])
        caught += worst_by_krum(flipped) == 0
        vector = vector + np.average(updates, axis=0, weights=weights)
        set_vector(split.mec, vector)
        accuracy.append(accuracy_and_loss(split.mec, test, view.test.labels)[0])
    return Outcome(accuracy, time.perf_counter() - start, caught)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["plaid"])
    parser.add_argument("--epsilon", nargs="*", default=["off", "inf", "8", "4", "1"], choices=["off", *SCALE])
    parser.add_argument("--public", nargs="*", type=int, default=[3])
    parser.add_argument("--bottleneck", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--path")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("data     public  epsilon  before  after (every fifth round)        flipped last  seconds")
    for name in chosen.data:
        for public in chosen.public:
            for epsilon in chosen.epsilon:
                outcomes = [
                    run(
                        DataConfig(name=name, path=chosen.path, public=public),
                        ModelConfig(bottleneck=chosen.bottleneck),
                        epsilon,
                        chosen.rounds,
                        seed,
                    )
                    for seed in range(chosen.seeds)
                ]
                mean = np.mean([outcome.accuracy for outcome in outcomes], axis=0)
                shown = sorted({*range(5, chosen.rounds + 1, 5), chosen.rounds} - {0})
                after = "  ".join(f"{mean[turn]:.3f}" for turn in shown)
                caught = np.mean([outcome.caught for outcome in outcomes])
                seconds = np.mean([outcome.seconds for outcome in outcomes])
                row = f"{name:8} {public:6}  {epsilon:>7}  {mean[0]:.3f}   {after:30}"
                print(f"{row} {caught:6.1f}/{chosen.rounds:<5} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
