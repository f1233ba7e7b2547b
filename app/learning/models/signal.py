"""Model ``signal``: appliance signatures. Phone: signature, scale, bottleneck. MEC: the head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from app.learning.data import Inputs
from app.learning.models.phone import Scale, UnitNorm
from app.learning.models.signature import SIZE, signature

HIDDEN = 128


def stages(bottleneck: int) -> dict[str, nn.Module]:
    """Return the stages in order; ``signature`` is the fixed transform that `prepare` has already done."""
    return {
        "signature": nn.Identity(),
        "scale": Scale((SIZE,), floor=0.05),
        "bottleneck": nn.Sequential(nn.Linear(SIZE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, bottleneck), UnitNorm()),
    }


def prepare(inputs: Inputs) -> Tensor:
    """Return the signatures (n, SIZE) of signals."""
    return torch.from_numpy(np.stack([signature(signal) for signal in inputs]))


def augment(inputs: Inputs, generator: np.random.Generator) -> Inputs:
    """Return each signal as another recording of the same switch-on might show it: a shorter piece, another level."""
    varied = []
    for signal in inputs:
        length = len(signal)
        if length > 150:
            length = int(length * generator.uniform(0.6, 1))
        start = int(generator.integers(0, len(signal) - length + 1))
        varied.append((signal[start : start + length] * np.exp(generator.normal() * 0.15)).astype(np.float32))
    return varied
