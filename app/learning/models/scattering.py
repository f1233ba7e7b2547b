"""Model ``scattering``: images, features without training. Phone: wavelet scattering, bottleneck. MEC: the head.

Bruna and Mallat, "Invariant Scattering Convolution Networks", IEEE TPAMI 35(8), 2013: moduli of wavelet coefficients,
and of the wavelet coefficients of these moduli, averaged over small windows. They are stable under shifts and
deformations, and no record has to be seen to find them. Tramer and Boneh, "Differentially Private Learning Needs Better
Features (or Much More Data)", ICLR 2021, is why they serve under privacy. What is learnt is the bottleneck alone: a
projection on the directions in which the manufacturer's varied public records differ.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.models.phone import UnitNorm

ORIENTATIONS = 8
FINE, COARSE = (7, 0.8), (11, 1.6)  # side of the filter and width of its envelope, in pixels: scales 1 and 2
FREQUENCY = 3 * np.pi / 4  # radians a pixel at scale 1
SLANT = 0.5  # the envelope is this much narrower along the wave than across
WINDOW = 4  # pixels a side over which the coefficients are averaged in the end
CHANNELS = 1 + 2 * ORIENTATIONS + ORIENTATIONS**2  # orders 0, 1 (two scales) and 2 (fine, then coarse)
SPREAD_FLOOR = 0.1  # of the mean deviation of all coefficients: flat ones are not blown up


def stages(shape: tuple[int, ...], bottleneck: int) -> dict[str, nn.Module]:
    """Return the stages in order, for images of ``shape`` (h, w) or (h, w, c)."""
    height, width, colours = (*shape, 1)[:3]
    size = CHANNELS * colours * -(-height // WINDOW) * -(-width // WINDOW)
    return {
        "scattering": nn.Sequential(Scattering(), nn.Flatten()),
        "bottleneck": nn.Sequential(Projection(size, min(bottleneck, size)), UnitNorm()),
    }


class Scattering(nn.Module):
    """Square roots of the scattering coefficients of two scales, eight orientations, up to order 2."""

    fine: Tensor
    coarse: Tensor
    blur: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants of the code: no party has to send them to another.
        self.register_buffer("fine", _bank(*FINE, FREQUENCY), persistent=False)
        self.register_buffer("coarse", _bank(*COARSE, FREQUENCY / 2), persistent=False)
        self.register_buffer("blur", _gaussian(4, 0.8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, colours * `CHANNELS`, h / 4, w / 4) of images (n, colours, h, w), sides rounded up."""
        count, colours, height, width = x.shape
        x = nn.functional.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="replicate")
        x = x.reshape(count * colours, 1, *x.shape[2:])
        first = torch.cat([x, _modulus(x, self.fine), _modulus(x, self.coarse)], dim=1)
        halved = self._halve(first)
        # On the halved grid the fine filters have the coarse scale.
        moduli = halved[:, 1 : 1 + ORIENTATIONS].flatten(0, 1)[:, None]
        second = _modulus(moduli, self.fine).reshape(len(x), ORIENTATIONS**2, *halved.shape[2:])
        found = self._halve(torch.cat([halved, second], dim=1))
        return (found.sign() * found.abs().sqrt()).reshape(count, colours * CHANNELS, *found.shape[2:])

    def _halve(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)[:, None]
        return nn.functional.conv2d(flat, self.blur, stride=2, padding=1).reshape(*x.shape[:2], x.shape[2] // 2, -1)


class Projection(nn.Module):
    """A linear map to the principal components of public records, the strong ones damped.

    A component of variance v is scaled by v**(-1/4): between the projection as it is, in which a few components take
    all of a record's norm and so of what the noise leaves, and whitening, which raises the components without meaning
    to the level of the others. Measured, our choice.
    """

    centre: Tensor
    weight: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("weight", torch.zeros(features, size))

    def fit(self, public: Tensor) -> None:
        """Set the map from public records (n, size), varied so that they show more than themselves."""
        x = public.double()
        centre, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
        deviation = deviation + SPREAD_FLOOR * deviation.mean() + 1e-12
        x = (x - centre) / deviation
        # From the Gram matrix of the records: they are fewer than the coefficients.
        variances, left = torch.linalg.eigh(x @ x.T / len(x))
        largest = variances.argsort(descending=True)[: len(self.weight)]
        variances = variances[largest].clamp_min(1e-6 * variances.max())
        directions = x.T @ left[:, largest] / (len(x) * variances).sqrt()
        weight = (directions / variances**0.25).T / deviation
        self.centre.copy_(centre)
        self.weight.zero_()[: len(weight)] = weight.float()

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, features)."""
        return (x - self.centre) @ self.weight.T


def _bank(side: int, width: float, frequency: float) -> Tensor:
    """Return Morlet wavelets of all orientations, real parts before imaginary ones: (2 * ORIENTATIONS, 1, side, side).

    exp(i f u) under an elongated Gaussian, less a constant under the same Gaussian, so that flat areas give zero.
    """
    y, x = np.mgrid[:side, :side] - side // 2
    waves = []
    for angle in np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS:
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        envelope = np.exp(-(along**2 + (SLANT * across) ** 2) / (2 * width**2))
        envelope /= envelope.sum()
        wave = envelope * np.exp(1j * frequency * along)
        waves.append(wave - wave.sum() * envelope)
    return _kernels(np.concatenate([np.real(waves), np.imag(waves)]))


def _gaussian(side: int, width: float) -> Tensor:
    line = np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * width**2))
    plane = np.outer(line, line)
    return _kernels(plane[np.newaxis] / plane.sum())


def _kernels(filters: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(filters[:, np.newaxis], dtype=np.float32))


def _modulus(x: Tensor, bank: Tensor) -> Tensor:
    """Return the moduli (n, ORIENTATIONS, h, w) of the wavelet coefficients of x (n, 1, h, w)."""
    found = nn.functional.conv2d(x, bank, padding=bank.shape[-1] // 2)
    real, imaginary = found[:, :ORIENTATIONS], found[:, ORIENTATIONS:]
    return (real.square() + imaginary.square()).sqrt()
