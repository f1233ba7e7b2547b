"""Feature inversion: a decoder that is trained to draw the record from what was released of it.

The adversary knows the extractor, the mechanism and the label (where it travels in the clear), and owns records of the
same kind. The best it can do in mean squared error is the mean of all records that fit what it sees, so the more noise,
the more its drawing becomes the mean of the class, which it has for nothing.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.models.heads import uniform_start

Array = NDArray[np.float32]

WIDTHS = (512, 1024)
BATCH = 128
RATE = 1e-3  # of Adam
_WINDOW = 7  # side of the windows that SSIM compares
_STABLE = (0.01**2, 0.03**2)  # of images in 0..1


class Decoder(nn.Module):
    """From a release to an image: the mean image of the record's class, and what the release lets add to it."""

    means: Tensor

    def __init__(self, means: Array, features: int, generator: torch.Generator) -> None:
        super().__init__()
        classes, pixels = means.shape
        self.register_buffer("means", torch.from_numpy(means))
        layers: list[nn.Module] = []
        for before, after in pairwise((features + classes, *WIDTHS)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.change = nn.Sequential(*layers, last := nn.Linear(WIDTHS[-1], pixels))
        uniform_start(self.change, generator)
        nn.init.zeros_(last.weight)  # untrained, it draws what the adversary has for nothing
        nn.init.zeros_(last.bias)

    def forward(self, released: Tensor, labels: Tensor) -> Tensor:
        """Return the images (n, pixels) of releases (n, d) with their classes (n,)."""
        hot = nn.functional.one_hot(labels, len(self.means)).to(released.dtype)
        drawn: Tensor = self.means[labels] + self.change(torch.cat([released, hot], dim=1))
        return drawn


def train_decoder(
    clean: Array, labels: NDArray[np.int64], images: Array, means: Array, noise: float, passes: int, seed: int
) -> Decoder:
    """Return a decoder, trained on the adversary's own records with fresh noise in every pass.

    Parameters
    ----------
    clean : ndarray of float32, shape (n, d)
        Features of the adversary's records, without noise.
    labels : ndarray of int64, shape (n,)
        Their classes.
    images : ndarray of float32, shape (n, pixels)
        The records, in 0..1.
    means : ndarray of float32, shape (K, pixels)
        The mean image of each class.
    noise : float
        Standard deviation of the noise on each released feature.
    passes, seed : int
        How long it trains; first weights, order and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder = Decoder(means, clean.shape[1], generator)
    x, truth, y = torch.from_numpy(clean), torch.from_numpy(labels), torch.from_numpy(images)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=RATE)
    for turn in range(passes):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * turn / passes))
        for batch in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            seen = x[batch] + noise * torch.randn(x[batch].shape, generator=generator)
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(decoder(seen, truth[batch]), y[batch]))
            optimiser.step()
    return decoder


def decode(decoder: Decoder, released: Array, labels: NDArray[np.int64]) -> Array:
    """Return the drawings (n, pixels) in 0..1 of releases (n, d)."""
    with torch.no_grad():
        drawn: Array = decoder(torch.from_numpy(released), torch.from_numpy(labels)).clamp(0, 1).numpy()
    return drawn


def squared_error(drawn: Array, true: Array) -> float:
    """Return the mean squared error a pixel."""
    return float(np.mean((drawn.astype(np.float64) - true) ** 2))


def structural_similarity(drawn: Array, true: Array) -> float:
    """Return the mean SSIM of images (n, h, w) in 0..1: 1 for equal ones, about 0 for unrelated ones.

    Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment", IEEE TIP 13(4), 2004, with square windows.
    """
    x, y = (torch.from_numpy(np.asarray(images, np.float64))[:, None] for images in (drawn, true))

    def mean(values: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(values, _WINDOW, stride=1)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    both = mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + _STABLE[0]) * (2 * both + _STABLE[1])
    return float((likeness / ((mean_x**2 + mean_y**2 + _STABLE[0]) * (var_x + var_y + _STABLE[1]))).mean())
