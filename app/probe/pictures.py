"""The reconstructions as one picture: a row for what was there, a row a strength, a row for what costs nothing."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

GAP, ZOOM = 2, 3


def grid(rows: list[NDArray[np.float32]]) -> bytes:
    """Return rows of images in 0..1, each (columns, height, width), as a PNG file."""
    from PIL import Image

    columns, height, width = rows[0].shape
    canvas = np.full((len(rows) * (height + GAP) + GAP, columns * (width + GAP) + GAP), 0.5)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            canvas[top : top + height, left : left + width] = image
    pixels = np.round(255 * canvas.clip(0, 1)).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)).save(out, format="PNG")
    return out.getvalue()
