"""What DP-SGD costs in time: `python tests/benchmarks/private_sgd.py` prints a step on the paper's layers and on heads.

A step of 64 records: plain, with Opacus as it comes (hooks, float noise), and ours (functional gradients, integers).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from app.learning.models.cnn import stages
from app.learning.private_sgd import LatticeOptimizer
from app.privacy.randomness import SystemRandom

RECORDS, REPEATS = 64, 10


def square(model: nn.Module, x: Tensor) -> Tensor:
    """Return some loss."""
    return model(x).square().sum(dim=1).mean()


def layers() -> nn.Module:
    """The phone's part of the model cnn."""
    return nn.Sequential(*list(stages((28, 28), 32).values())[:2], nn.Flatten())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "two convolutions": (layers, (1, 28, 28)),
    "head 3920-128-64-10": (
        lambda: nn.Sequential(nn.Linear(3920, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
        (3920,),
    ),
    "head 3920-10": (lambda: nn.Linear(3920, 10), (3920,)),
}


def seconds(step: Callable[[], object]) -> float:
    """Return the fastest of some runs: the others were disturbed."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("model                parameters  plain (ms)  Opacus  ours (ratios to plain)")
    for name, (make, shape) in MODELS.items():
        x = torch.randn(RECORDS, *shape)
        model = make()
        plain = torch.optim.SGD(model.parameters(), lr=1e-6)

        def plainly(model: nn.Module = model, plain: torch.optim.SGD = plain, x: Tensor = x) -> None:
            plain.zero_grad()
            square(model, x).backward()  # type: ignore[no-untyped-call]
            plain.step()

        hooked = GradSampleModule(make())
        inner = torch.optim.SGD(hooked.parameters(), lr=1e-6)
        theirs = DPOptimizer(inner, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=RECORDS)

        def by_opacus(model: nn.Module = hooked, theirs: DPOptimizer = theirs, x: Tensor = x) -> None:
            theirs.zero_grad()
            square(model, x).backward()  # type: ignore[no-untyped-call]
            theirs.step()

        own = make()
        ours = LatticeOptimizer(
            torch.optim.SGD(own.parameters(), lr=1e-6),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=RECORDS,
            source=SystemRandom(),
        )
        base = seconds(plainly)
        opacus = seconds(by_opacus)
        lattice = seconds(lambda own=own, ours=ours, x=x: ours.take(own, square, x))
        count = sum(p.numel() for p in own.parameters())
        print(f"{name:20} {count:10,} {1e3 * base:11.1f} {opacus / base:7.1f} {lattice / base:5.1f}")


if __name__ == "__main__":
    main()
