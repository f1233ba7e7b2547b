from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from app.protocol.errors import HearthError, ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPE
from app.protocol.tensors import Layout, blob_limit, layout_from_json, layout_to_json, pack, parameter_count, unpack

LAYOUT: Layout = (("b", (2, 3)), ("a", (4,)), ("scalar", ()))
VECTOR = np.arange(-5, 6)
BLOB = pack(VECTOR, LAYOUT, UPDATE_DTYPE)
LAYOUTS = st.lists(
    st.tuples(
        st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=8),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
    ),
    max_size=4,
    unique_by=lambda item: item[0],
).map(tuple)


@given(LAYOUTS, st.sampled_from([UPDATE_DTYPE, MODEL_DTYPE]), st.data())
def test_round_trip(layout: Layout, dtype: np.dtype, data: st.DataObject) -> None:
    info, size = np.iinfo(dtype), parameter_count(layout)
    vector = np.array(
        data.draw(st.lists(st.integers(info.min, info.max), min_size=size, max_size=size)), dtype=np.int64
    )
    blob = pack(vector, layout, dtype)
    assert len(blob) <= blob_limit(layout, dtype)
    assert unpack(blob, layout, dtype).tolist() == vector.tolist()
    assert unpack(blob, layout, dtype).dtype == np.int64


@pytest.mark.parametrize("vector", [np.arange(10), np.arange(12), np.arange(22).reshape(11, 2)])
def test_pack_refuses_the_wrong_length(vector: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="expected 11 parameters"):
        pack(vector, LAYOUT, UPDATE_DTYPE)


@pytest.mark.parametrize("peak", [2**15, -(2**15) - 1])
def test_pack_refuses_what_does_not_fit(peak: int) -> None:
    with pytest.raises(ProtocolError, match="outside the range of int16"):
        pack(np.full(11, peak), LAYOUT, UPDATE_DTYPE)


def _tensors(**changes: np.ndarray) -> bytes:
    tensors = {"b": np.zeros((2, 3), "<i2"), "a": np.zeros(4, "<i2"), "scalar": np.zeros((), "<i2")}
    return bytes(save(tensors | changes))


@pytest.mark.parametrize(
    "blob",
    [
        _tensors(b=np.zeros((3, 2), "<i2")),
        _tensors(a=np.zeros(4, "<i4")),
        _tensors(a=np.zeros(4, "<f2")),
        _tensors(a=np.zeros(4, "<u2")),
        _tensors(extra=np.zeros(1, "<i2")),
        bytes(save({"b": np.zeros((2, 3), "<i2"), "a": np.zeros(4, "<i2")})),
        pack(VECTOR, LAYOUT, MODEL_DTYPE),
        b"",
        BLOB[:-1],
        BLOB + b"\0",
        bytes(
            save(
                {"b": np.zeros((2, 3), "<i2"), "a": np.zeros(4, "<i2"), "scalar": np.zeros((), "<i2")},
                metadata={"x": "y"},
            )
        ),
    ],
)
def test_unpack_refuses_anything_else(blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(blob, LAYOUT, UPDATE_DTYPE)


def test_unpack_refuses_another_text_of_the_same_tensors() -> None:
    """A header with more blanks decodes to the same numbers, but one update must have one digest."""
    length = int.from_bytes(BLOB[:8], "little")
    padded = (length + 8).to_bytes(8, "little") + BLOB[8 : 8 + length] + b" " * 8 + BLOB[8 + length :]
    with pytest.raises(ProtocolError, match="canonical"):
        unpack(padded, LAYOUT, UPDATE_DTYPE)


def test_a_large_blob_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ProtocolError, match="more than the"):
        unpack(bytes(blob_limit(LAYOUT, UPDATE_DTYPE) + 1), LAYOUT, UPDATE_DTYPE)


DTYPES = [
    "I16",
    "U16",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F4",
    "F6_E2M3",
    "F8_E8M0",
    "C64",
    "BOOL",
    "I8",
    "?",
    3,
    None,
]


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(-1, 2**70), max_size=3) | st.just([4]) | st.none(),
    st.lists(st.integers(-1, 2**70), max_size=3) | st.just([0, 8]) | st.just([0, 4]),
    st.binary(max_size=16),
)
@settings(max_examples=300)
def test_hostile_headers_raise_our_error(dtype: object, shape: object, offsets: object, tail: bytes) -> None:
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    with pytest.raises(HearthError):
        unpack(len(header).to_bytes(8, "little") + header + tail, LAYOUT, UPDATE_DTYPE)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if isinstance(d, str)])
def test_well_formed_headers_of_other_types_raise_our_error(dtype: str) -> None:
    for size in (1, 2, 4, 8, 16):
        header = json.dumps({"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}}).encode()
        with pytest.raises(HearthError):
            unpack(len(header).to_bytes(8, "little") + header + bytes(size), LAYOUT, UPDATE_DTYPE)


@given(st.integers(0, len(BLOB)), st.integers(0, 8), st.binary(max_size=8))
@settings(max_examples=300)
def test_changed_blobs_are_refused_or_canonical(start: int, length: int, new: bytes) -> None:
    blob = BLOB[:start] + new + BLOB[start + length :]
    try:
        vector = unpack(blob, LAYOUT, UPDATE_DTYPE)
    except HearthError:
        return
    assert pack(vector, LAYOUT, UPDATE_DTYPE) == blob


@given(LAYOUTS)
def test_layout_round_trip(layout: Layout) -> None:
    assert layout_from_json(json.loads(json.dumps(layout_to_json(layout)))) == layout


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "ab",
        [["a"]],
        [["a", 3]],
        [[1, [2]]],
        [["a", [-1]]],
        [["a", [True]]],
        [["a", ["2"]]],
        [["a", [1.0]]],
        [["", [2]]],
        [["a", ""]],
        [["a", [2]], ["a", [3]]],
        [["a", [2**40]]],
        [["a", [2**16, 2**16]]],
    ],
)
def test_bad_layouts_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="a model layout"):
        layout_from_json(value)
