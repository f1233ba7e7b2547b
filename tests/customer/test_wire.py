"""The one record that crosses from phone to MEC: round trip, every change is noticed, everything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.customer.wire import FeatureRelease
from app.protocol.errors import ProtocolError

KEY = "0f" * 32


def release(records: int = 3, width: int = 2) -> FeatureRelease:
    features = np.arange(records * width, dtype=np.float32).reshape(records, width)
    return FeatureRelease(features, np.arange(records, dtype=np.int64), KEY)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(0, 5)),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)
def test_what_is_read_is_what_was_written(features: np.ndarray) -> None:
    one = FeatureRelease(features, np.arange(len(features), dtype=np.int64), KEY)
    two = FeatureRelease.from_bytes(one.to_bytes())
    assert np.array_equal(one.features, two.features)
    assert np.array_equal(one.labels, two.labels)
    assert (one.key, one.digest, one.to_bytes()) == (two.key, two.digest, two.to_bytes())


def test_every_changed_byte_is_noticed() -> None:
    data = release().to_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        try:
            read = FeatureRelease.from_bytes(bytes(changed))
        except ProtocolError:
            continue
        assert read.to_bytes() == data, position  # padding of the header: nothing of the content


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FeatureRelease.from_bytes(data)


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
def test_a_part_is_refused(cut: int) -> None:
    with pytest.raises(ProtocolError):
        FeatureRelease.from_bytes(release().to_bytes()[:cut])


@pytest.mark.parametrize(
    ("features", "labels", "key"),
    [
        (np.zeros((2, 2), np.float64), np.zeros(2, np.int64), KEY),
        (np.zeros(2, np.float32), np.zeros(2, np.int64), KEY),
        (np.full((2, 2), np.nan, np.float32), np.zeros(2, np.int64), KEY),
        (np.full((2, 2), np.inf, np.float32), np.zeros(2, np.int64), KEY),
        (np.zeros((2, 2), np.float32), np.zeros(3, np.int64), KEY),
        (np.zeros((2, 2), np.float32), np.zeros(2, np.int32), KEY),
        (np.zeros((2, 2), np.float32), np.full(2, -1, np.int64), KEY),
        (np.zeros((2, 2), np.float32), np.zeros(2, np.int64), "../../etc/passwd"),
        (np.zeros((2, 2), np.float32), np.zeros(2, np.int64), KEY.upper()),
    ],
)
def test_anything_else_is_no_release(features: np.ndarray, labels: np.ndarray, key: str) -> None:
    with pytest.raises(ProtocolError):
        FeatureRelease(features, labels, key)


def test_the_digest_covers_features_shape_labels_and_key() -> None:
    base = release()
    others = [
        FeatureRelease(base.features + np.float32(1), base.labels, KEY),
        FeatureRelease(base.features, base.labels + 1, KEY),
        FeatureRelease(base.features, base.labels, "1f" * 32),
        release(2, 3),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5
