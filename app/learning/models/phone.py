"""The phone's part: a frozen chain of named stages that turns records into flat feature vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.data import Inputs
from app.privacy.normalisation import FeatureSpace, constants

Prepare = Callable[[Inputs], Tensor]


class Phone(nn.Module):
    """Records to features, record by record: no output depends on another record.

    Attributes
    ----------
    stages : nn.ModuleDict
        The model's stages by name, in order; all of them, because the manufacturer trains them together.
    split : str
        The last stage that runs on the phone.
    shape : tuple of int
        Of one record's features before they are made flat: (channels, height, width), or (features,).
    """

    public_mean: Tensor
    public_deviation: Tensor

    def __init__(
        self, prepare: Prepare, stages: dict[str, nn.Module], split: str, record_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.split = split
        names = list(stages)
        self.stages = nn.ModuleDict({name: stages[name] for name in names[: names.index(split) + 1]})
        self.requires_grad_(False)
        with torch.no_grad():
            self.shape = tuple(self._maps(torch.zeros(1, *record_shape)).shape[1:])
        # Constants of `privacy.normalisation=public`, one for each channel; frozen, and so shipped, with the stages.
        self.register_buffer("public_mean", torch.zeros(self.shape[0], dtype=torch.float64))
        self.register_buffer("public_deviation", torch.ones(self.shape[0], dtype=torch.float64))

    @property
    def space(self) -> FeatureSpace:
        """Shape and public constants of the features, for whoever releases them."""
        return FeatureSpace(self.shape, self.public_mean.numpy(), self.public_deviation.numpy())

    def fit_constants(self, features: NDArray[np.float32]) -> None:
        """Set the public constants from the features (n, d) of the manufacturer's public records."""
        mean, deviation = constants(features.astype(np.float64), self.space)
        self.public_mean.copy_(torch.from_numpy(mean))
        self.public_deviation.copy_(torch.from_numpy(deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (n, d) of prepared records."""
        return self._maps(x).flatten(1)

    def _maps(self, x: Tensor) -> Tensor:
        for stage in self.stages.values():
            x = stage(x)
        return x


class Scale(nn.Module):
    """Standardise by constants that the manufacturer takes from its public records, then clip to +-6."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: Sequence[int], floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("deviation", torch.ones(tuple(shape)))

    def fit(self, public: Tensor) -> None:
        """Set the constants from public records, over all axes that the constants do not have."""
        axes = [axis for axis in range(public.ndim) if axis == 0 or self.mean.shape[axis - 1] == 1 < public.shape[axis]]
        mean = public.mean(dim=axes)
        deviation = public.std(dim=axes, correction=0) + self.floor
        deviation = torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0)  # a constant column stays 0
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.deviation.copy_(deviation.reshape(self.deviation.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised records, same shape."""
        return ((x - self.mean) / self.deviation).clamp(-6, 6)


class UnitNorm(nn.Module):
    """Scale every feature vector to L2 norm 1, so that clipping at 1 changes nothing and noise has a known size."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (n, d) with rows of norm 1; a zero row stays zero."""
        return nn.functional.normalize(x, dim=1, eps=1e-6)


def to_tensor(inputs: Inputs) -> Tensor:
    """Return an array of records as a float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
