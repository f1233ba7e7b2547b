"""Model ``mlp``: tables, and images as rows of pixels. Phone: scale, bottleneck. MEC: the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.data import Inputs
from app.learning.models.phone import Scale, UnitNorm, to_tensor

HIDDEN = 128


def stages(columns: int, bottleneck: int) -> dict[str, nn.Module]:
    """Return the stages in order, for a table of ``columns`` columns."""
    return {
        "scale": Scale((columns,), floor=0.0),
        "bottleneck": nn.Sequential(nn.Linear(columns, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, bottleneck), UnitNorm()),
    }


def prepare(inputs: Inputs) -> Tensor:
    """Return table or images as a tensor (n, columns); bytes become 0..1."""
    scale = 1 / 255 if isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 else 1.0
    return to_tensor(inputs).flatten(1) * scale


def augment(inputs: Inputs, generator: np.random.Generator) -> Inputs:
    """Return the table with each value moved by a tenth of its column's spread."""
    table = np.asarray(inputs, dtype=np.float32)
    noise = generator.normal(size=table.shape).astype(np.float32)
    varied: NDArray[np.float32] = table + np.float32(0.1) * table.std(axis=0) * noise
    return varied
