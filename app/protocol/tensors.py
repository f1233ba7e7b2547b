"""Models and updates as blobs: safetensors, one integer tensor a parameter, nothing else.

safetensors cannot execute code. The bytes are canonical: a blob is accepted only if packing what was read from it
gives the same bytes, so one model has exactly one digest.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from app.protocol.errors import ProtocolError

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of the trained parameters, in the order in which they are laid out in the flat vector."""

MAX_PARAMETERS = 2**31 - 1
"""Most scalars of a model that the protocol carries."""
_HEADER_BYTES_PER_PARAMETER = 512  # far above what a name and a shape need


def parameter_count(layout: Layout) -> int:
    """Return the number of scalars in ``layout``."""
    return sum(_size(shape) for _, shape in layout)


def blob_limit(layout: Layout, dtype: np.dtype[np.signedinteger]) -> int:
    """Return the size in bytes that no honest blob of this layout exceeds; larger ones are refused unread."""
    return parameter_count(layout) * dtype.itemsize + _HEADER_BYTES_PER_PARAMETER * (len(layout) + 1)


def pack(vector: npt.NDArray[np.signedinteger], layout: Layout, dtype: np.dtype[np.signedinteger]) -> bytes:
    """Encode a flat integer vector as a safetensors blob.

    Parameters
    ----------
    vector : numpy.ndarray
        Integers, shape ``(parameter_count(layout),)``, within the range of ``dtype``.
    layout : Layout
        Where each parameter lies in the vector.
    dtype : numpy.dtype
        One of `UPDATE_DTYPES`, or `MODEL_DTYPE`.

    Raises
    ------
    ProtocolError
        If the length or the range is wrong.
    """
    if vector.shape != (parameter_count(layout),):
        raise ProtocolError(f"expected {parameter_count(layout)} parameters, got an array of shape {vector.shape}")
    info = np.iinfo(dtype)
    if vector.size and (int(vector.min()) < info.min or int(vector.max()) > info.max):
        raise ProtocolError(f"a parameter is outside the range of {dtype.name}")
    narrow = np.ascontiguousarray(vector.astype(dtype))
    tensors, start = {}, 0
    for name, shape in layout:
        tensors[name] = narrow[start : start + _size(shape)].reshape(shape)
        start += _size(shape)
    return bytes(save(tensors))


def unpack(blob: bytes, layout: Layout, dtype: np.dtype[np.signedinteger]) -> npt.NDArray[np.int64]:
    """Decode what `pack` wrote into a flat int64 vector.

    Raises
    ------
    ProtocolError
        If the blob is too large, is not safetensors, has other names, shapes or types, or is not canonical.
    """
    if len(blob) > blob_limit(layout, dtype):
        raise ProtocolError(f"the blob has {len(blob)} bytes, more than the {blob_limit(layout, dtype)} allowed")
    tensors = read_tensors(blob, "the blob")
    if {(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()} != {(n, s, dtype) for n, s in layout}:
        raise ProtocolError("names, shapes or types differ from the task's model")
    parts = [tensors[name].reshape(-1) for name, _ in layout]
    vector = np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
    if pack(vector, layout, dtype) != blob:
        raise ProtocolError("the blob is not in canonical form")
    return vector


def read_tensors(data: bytes, what: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a safetensors file that anybody may have written; raise `ProtocolError` if it is none."""
    try:
        return dict(load(data))
    except (SafetensorError, KeyError, ValueError, OverflowError, json.JSONDecodeError) as error:
        raise ProtocolError(f"{what} is not safetensors: {error}") from error


def layout_to_json(layout: Layout) -> list[list[object]]:
    """Return the JSON form of a layout, ``[[name, [dimensions]], ...]``."""
    return [[name, list(shape)] for name, shape in layout]


def layout_from_json(value: object) -> Layout:
    """Read what `layout_to_json` wrote; raise `ProtocolError` on anything else, or beyond `MAX_PARAMETERS`."""
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ProtocolError("a model layout is a list of names with their dimensions")
    if not all(isinstance(name, str) and name and isinstance(shape, list) for name, shape in value):
        raise ProtocolError("a model layout is a list of names with their dimensions")
    if not all(type(size) is int and 0 <= size <= MAX_PARAMETERS for _, shape in value for size in shape):
        raise ProtocolError(f"a model layout's dimensions are integers from 0 to {MAX_PARAMETERS}")
    layout = tuple((name, tuple(shape)) for name, shape in value)
    if len(dict(layout)) != len(layout) or parameter_count(layout) > MAX_PARAMETERS:
        raise ProtocolError(f"a model layout has each name once and at most {MAX_PARAMETERS} parameters")
    return layout


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
