"""The one record that crosses from phone to MEC: round trip, every change is noticed, everything else is refused."""

from __future__ import annotations

from typing import Any

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
    return FeatureRelease(features, 1.0, np.arange(records, dtype=np.int64), KEY)


SHAPES = st.tuples(st.integers(0, 5), st.integers(0, 5))
CLEAR = arrays(np.float32, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
WHOLE = arrays(np.int32, SHAPES, elements=st.integers(-(2**24) + 1, 2**24 - 1))


@given(st.one_of(st.tuples(CLEAR, st.just(0)), st.tuples(WHOLE, st.integers(-60, 60))))
def test_what_is_read_is_what_was_written(made: tuple[np.ndarray, int]) -> None:
    values, exponent = made
    one = FeatureRelease(values, 2.0**exponent, np.arange(len(values), dtype=np.int64), KEY)
    two = FeatureRelease.from_bytes(one.to_bytes())
    assert two.values.dtype == values.dtype
    assert np.array_equal(one.values, two.values)
    assert np.array_equal(two.features.astype(np.float64), values * 2.0**exponent)  # no rounding
    assert np.array_equal(one.labels, two.labels)
    assert (one.step, one.key, one.digest, one.to_bytes()) == (two.step, two.key, two.digest, two.to_bytes())


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
    "change",
    [
        {"values": np.zeros((2, 2), np.float64)},
        {"values": np.zeros((2, 2), np.int64)},
        {"values": np.zeros(2, np.int32)},
        {"values": np.full((2, 2), np.nan, np.float32), "step": 1.0},
        {"values": np.full((2, 2), np.inf, np.float32), "step": 1.0},
        {"values": np.zeros((2, 2), np.float32), "step": 0.5},
        {"step": 0.0},
        {"step": 3.0},
        {"step": -1.0},
        {"step": np.inf},
        {"step": np.nan},
        {"labels": np.zeros(3, np.int64)},
        {"labels": np.zeros(2, np.int32)},
        {"labels": np.full(2, -1, np.int64)},
        {"key": "../../etc/passwd"},
        {"key": KEY.upper()},
    ],
)
def test_anything_else_is_no_release(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {"values": np.zeros((2, 2), np.int32), "step": 0.25, "labels": np.zeros(2, np.int64)}
    FeatureRelease(**right, key=KEY)
    with pytest.raises(ProtocolError):
        FeatureRelease(**({"key": KEY} | right | change))


def test_the_digest_covers_values_step_type_labels_and_key() -> None:
    values, labels = np.arange(6, dtype=np.int32).reshape(3, 2), np.arange(3, dtype=np.int64)
    releases = [
        FeatureRelease(values, 0.5, labels, KEY),
        FeatureRelease(values + 1, 0.5, labels, KEY),
        FeatureRelease(values, 0.25, labels, KEY),
        FeatureRelease(values.view(np.float32), 1.0, labels, KEY),
        FeatureRelease(values, 1.0, labels, KEY),
        FeatureRelease(values, 0.5, labels + 1, KEY),
        FeatureRelease(values, 0.5, labels, "1f" * 32),
        FeatureRelease(values.reshape(2, 3), 0.5, labels[:2], KEY),
    ]
    assert len({release.digest for release in releases}) == len(releases)
