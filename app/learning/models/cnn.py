"""Model ``cnn``: images. Phone: two convolutions as in the paper, then a bottleneck. MEC: fully connected layers.

Zhao et al., section VI: convolutions with 30 and 80 channels, each with max-pooling, 3,920 features on 28 x 28
(80 x 7 x 7). The paper does not print the kernel; 5 x 5 with padding 2 gives that count.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from app.learning.data import Inputs
from app.learning.models.phone import Scale, UnitNorm

CHANNELS = (30, 80)
KERNEL = 5
SHIFT = 0.08  # of the image's side
TURN = 0.2  # radians
STRETCH = 0.1


def stages(shape: tuple[int, ...], bottleneck: int) -> dict[str, nn.Module]:
    """Return the stages in order, for images of ``shape`` (h, w) or (h, w, c)."""
    height, width, colours = (*shape, 1)[:3]
    # Pooling rounds up, so that an image of any size keeps at least one position.
    positions = -(-height // 4) * -(-width // 4)
    return {
        "conv1": nn.Sequential(Scale((colours, 1, 1), floor=1e-3), *_block(colours, CHANNELS[0])),
        "conv2": nn.Sequential(*_block(CHANNELS[0], CHANNELS[1])),
        "bottleneck": nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS[1] * positions, bottleneck), UnitNorm()),
    }


def prepare(inputs: Inputs) -> Tensor:
    """Return images (n, h, w[, c]) as (n, c, h, w); bytes become 0..1."""
    images = np.asarray(inputs)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    scale = 1 / 255 if images.dtype == np.uint8 else 1.0
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)) * scale


def augment(inputs: Inputs, generator: np.random.Generator) -> Inputs:
    """Return each image a little turned, stretched and shifted."""
    x = prepare(inputs)
    angle, stretch = generator.normal(0, TURN, len(x)), np.exp(generator.normal(0, STRETCH, (2, len(x))))
    shift = generator.uniform(-2 * SHIFT, 2 * SHIFT, (2, len(x)))  # affine_grid's side is 2
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.array([[cos / stretch[0], -sin / stretch[0], shift[0]], [sin / stretch[1], cos / stretch[1], shift[1]]])
    theta = torch.from_numpy(maps.transpose(2, 0, 1).astype(np.float32))
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    moved = nn.functional.grid_sample(x, grid, align_corners=False, padding_mode="border")
    return moved.permute(0, 2, 3, 1).numpy()


def _block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, KERNEL, padding=KERNEL // 2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
