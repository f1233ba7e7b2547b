"""DP-SGD (Abadi et al. 2016) through Opacus, with gradients that are clipped and noised as whole numbers.

Opacus' optimiser keeps the order in which things happen (clip, sum, noise, scale) and refuses gradients that were used
already. Two of its steps are ours: it sums clipped gradients in float32, whose rounding one record can sway, and draws
float noise from a generator that can be seeded. Here each record's gradient is put on a grid and clipped to a ball of
radius K in exact integers (`app.privacy.lattice`), the sum is exact, and the noise is the discrete Gaussian of
`app.privacy.sampler`, with the same allowance for the grid as released features have
(`app.privacy.record_level.GaussianMechanism`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from app.learning.config import TrainConfig
from app.learning.models.heads import Head
from app.learning.training import Features, Labels, check
from app.privacy.lattice import to_ball_quickly
from app.privacy.randomness import RandomSource
from app.privacy.sampler import discrete_gaussian
from app.protocol.errors import PrivacyError

Loss = Callable[..., Tensor]
_NOISE_STEPS, _BALL_STEPS = 2.0**13, 2.0**9
"""The noise's deviation and the ball's radius, in steps of the grid, at least. A gradient's many entries are small: on
a coarse grid most of them would be rounded to nothing."""
_MOST_NOISE_STEPS = 2.0**17  # more would need too large a table; it goes before the others
_SMOOTHING = 2.0
_AT_ONCE = 64  # records whose gradients are held at a time; it changes no result


class LatticeOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' DP-SGD optimiser over integers.

    With K the ball's radius and z the multiplier, the noise on the sum has sigma**2 = (z K)**2 + 2**2 steps squared.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Takes the steps.
    noise_multiplier : float
        z, over the norm that one gradient is clipped to.
    max_grad_norm : float
        That norm.
    expected_batch_size : float
        Divides the sum: of a sampled batch the expected size, which tells nothing of who was in it.
    source : RandomSource
        Where the noise comes from.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        source: RandomSource,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._source = source
        noise = noise_multiplier * max_grad_norm
        fine = math.floor(math.log2(min(noise / _NOISE_STEPS, max_grad_norm / _BALL_STEPS)))
        self.grid = 2.0 ** max(fine, math.ceil(math.log2(noise / _MOST_NOISE_STEPS)))
        self.radius = math.floor(max_grad_norm / self.grid)
        self.sigma = math.hypot(noise_multiplier * self.radius, _SMOOTHING)

    def clip_and_accumulate(self) -> None:
        """Add each record's gradient, on the grid and inside the ball, to the sum.

        Raises
        ------
        PrivacyError
            If a gradient is NaN or infinite.
        """
        for p in self.params:
            _check_processed_flag(p.grad_sample)
        samples = [sample.flatten(1).double() for sample in self.grad_samples]
        rows = torch.cat(samples, dim=1).numpy() / self.grid
        if not np.isfinite(rows).all():
            raise PrivacyError("a record's gradient is NaN or infinite; nothing is released")
        total = torch.from_numpy(to_ball_quickly(rows, self.radius).sum(axis=0))
        sizes = [p.numel() for p in self.params]
        for p, part in zip(self.params, torch.split(total, sizes), strict=True):
            p.summed_grad = part if p.summed_grad is None else p.summed_grad + part
            _mark_as_processed(p.grad_sample)

    def add_noise(self) -> None:
        """Set each parameter's gradient to the noised sum."""
        for p in self.params:
            _check_processed_flag(p.summed_grad)
            noise = discrete_gaussian(self.sigma, tuple(p.summed_grad.shape), self._source)
            noised = (p.summed_grad.numpy() + noise) * self.grid
            p.grad = torch.from_numpy(noised.astype(np.float32)).view_as(p)
            _mark_as_processed(p.summed_grad)

    def take(self, module: nn.Module, loss: Loss, *batch: Tensor) -> None:
        """Take one step on a batch, which may be empty: then all that there is to it is noise.

        Parameters
        ----------
        module : nn.Module
            What learns: its trainable parameters are the optimiser's.
        loss : callable
            From the module and one record of each tensor of ``batch``, with a leading axis of 1, to its loss.
        *batch : Tensor
            Records, shape (n, ...), and what belongs to them.
        """
        parts = list(zip(*(torch.split(tensor, _AT_ONCE) for tensor in batch), strict=True)) or [batch]
        for number, part in enumerate(parts, start=1):
            self.zero_grad()
            for p, of_records in record_gradients(module, loss, *part):
                p.grad_sample = of_records  # type: ignore[attr-defined]
            self.signal_skip_step(do_skip=number < len(parts))  # Opacus sums over the parts, and noises the sum once
            self.step()


class _Loss(nn.Module):
    """A module's loss as the forward pass of another module, which `torch.func` can differentiate in its parameters."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, *record: Tensor) -> Tensor:
        """Return the loss."""
        return self._loss(self.module, *record)


def record_gradients(module: nn.Module, loss: Loss, *batch: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Return each trainable parameter with the gradients, shape (n, *its own), of every record's own loss."""
    learnt = {f"module.{name}": p for name, p in module.named_parameters() if p.requires_grad}
    if not len(batch[0]):
        return [(p, torch.zeros(0, *p.shape)) for p in learnt.values()]

    whole = _Loss(module, loss)

    def of_one(parameters: dict[str, Tensor], *record: Tensor) -> Tensor:
        value: Tensor = torch.func.functional_call(whole, parameters, tuple(part[None] for part in record))
        return value

    values = {name: p.detach() for name, p in learnt.items()}
    found = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, *(0 for _ in batch)))(values, *batch)
    return [(p, found[name]) for name, p in learnt.items()]


def sample(rate: float, records: int, source: RandomSource) -> npt.NDArray[np.int64]:
    """Return which of ``records`` are in a step, each on its own with probability ``rate`` (Poisson sampling).

    To a part in 2**64: a word of 64 bits has to lie below ``rate`` times their number.
    """
    limit = math.floor(rate * 2.0**64)
    words = source.words(records)
    chosen = np.ones(records, bool) if limit >= 2**64 else words < np.uint64(limit)
    return np.flatnonzero(chosen)


def train_head_privately(
    mec: Head,
    clean: Features,
    labels: Labels,
    train: TrainConfig,
    *,
    rate: float,
    steps: int,
    clip: float,
    noise_multiplier: float,
    source: RandomSource,
) -> float:
    """Train a head in place by DP-SGD on sampled batches.

    Parameters
    ----------
    mec : Head
        The trainable part.
    clean : ndarray of float32, shape (n, d)
        Features, n >= 1.
    labels : ndarray of int64, shape (n,)
        Their classes.
    train : TrainConfig
        Learning rate and momentum; epochs and batches follow from ``steps`` and ``rate``.
    rate : float
        Probability with which a record is in a step.
    steps : int
        How many.
    clip : float
        L2 norm that a record's gradient is clipped to.
    noise_multiplier : float
        Deviation of the noise over ``clip``.
    source : RandomSource
        Decides who is in a batch, and draws the noise.

    Returns
    -------
    float
        Mean loss over all records after the last step; it is not private, and stays with the customer.
    """
    check(train)
    x, y = torch.from_numpy(clean), torch.from_numpy(labels)
    optimiser = LatticeOptimizer(
        torch.optim.SGD(mec.parameters(), lr=train.learning_rate, momentum=train.momentum),
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_batch_size=rate * len(x),
        source=source,
    )
    for _ in range(steps):
        batch = torch.from_numpy(sample(rate, len(x), source))
        optimiser.take(mec, _head_loss, x[batch], y[batch])
    with torch.no_grad():
        return float(mec.loss(x, y))


def _head_loss(mec: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    assert isinstance(mec, Head)
    return mec.loss(features, labels)
