"""Digits: 1,797 handwritten digits of 8 x 8 pixels, inside scikit-learn; the set for tests and first tries."""

from __future__ import annotations

import numpy as np

from app.learning.data import Dataset, Source, stratified_split


def load(test_share: float, seed: int) -> Source:
    """Return the digits as uint8 images (values 0..16 spread over 0..255), split by the seed."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    data = Dataset(pixels, labels.astype(np.int64), tuple(str(digit) for digit in range(10)), "image")
    train, test = stratified_split(data.labels, test_share, seed)
    return Source(data.subset(train), data.subset(test))
