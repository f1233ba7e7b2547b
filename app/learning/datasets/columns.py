"""Columns to inputs and labels: what a column is, is told from its content, never from its name or its size.

* image: encoded PNG or JPEG bytes, a struct that holds such bytes (the Hugging Face form), or two- or
  three-dimensional numbers. One image column makes an image set.
* signal: one-dimensional lists of numbers, of equal or differing length. One such column makes a signal set.
* table: numbers and text, otherwise. Text becomes one column of 0 and 1 for every category that train has.

Missing and infinite values are refused, not filled in: a fill value computed over all rows would carry one customer's
data to another.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.learning.data import Inputs, Kind
from app.learning.datasets.tables import Column, Columns
from app.protocol.errors import DataError

_LARGEST_EXACT = {2: 2**11, 4: 2**24, 8: 2**53, 16: 2**63}
"""From here on a float of so many bytes may stand for its neighbours too."""
MAX_CATEGORIES = 64
MAX_CLASSES = 1000
MAX_PIXELS = 4096 * 4096
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


@dataclass(frozen=True)
class Schema:
    """How the columns of train are read; test must follow it.

    Attributes
    ----------
    kind : str
        ``signal``, ``image`` or ``table``.
    columns : tuple of str
        The columns that are inputs: one, or all of a table's.
    categories : dict of str to tuple of str
        For each text column of a table its categories, sorted.
    """

    kind: Kind
    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]


def recognise(columns: Columns, where: str) -> Schema:
    """Tell from the content of train's input columns what they are.

    Raises
    ------
    DataError
        If there is nothing to learn from, there are two candidates, or a column is none of the known forms.
    """
    if not columns:
        raise DataError(f"{where}: has no column beside the label")
    forms = {name: _form(column, name, where) for name, column in columns.items()}
    for kind in ("image", "signal"):
        found = [name for name, form in forms.items() if form == kind]
        if len(found) > 1:
            raise DataError(f"{where}: columns {', '.join(found)} all hold {kind}s; keep one")
        if found:
            return Schema("image" if kind == "image" else "signal", (found[0],), {})
    categories = {name: _categories(columns[name], name, where) for name, form in forms.items() if form == "text"}
    return Schema("table", tuple(columns), categories)


def inputs(columns: Columns, schema: Schema, where: str) -> Inputs:
    """Read the input columns by the schema of train.

    Raises
    ------
    DataError
        If a column is missing or not what it was in train, a value is missing or infinite, or images differ in size.
    """
    for name in schema.columns:
        if name not in columns:
            raise DataError(f"{where}: column {name!r} of train is missing (there are: {', '.join(columns)})")
    name = schema.columns[0]
    if schema.kind == "image":
        return _images(columns[name], name, where)
    if schema.kind == "signal":
        return [_signal(value, name, row, where) for row, value in enumerate(columns[name])]
    parts = [_table_column(columns[name], name, schema, where) for name in schema.columns]
    return np.concatenate(parts, axis=1)


def class_names(column: Column, name: str, where: str) -> list[str]:
    """Return the label of every record as text; whole numbers lose their ``.0``.

    Raises
    ------
    DataError
        If a label is missing, or is a measurement rather than a class.
    """
    if isinstance(column, np.ndarray):
        if column.ndim != 1:
            raise DataError(f"{where}: label column {name!r} has shape {column.shape}; one class a record is needed")
        if column.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(column))
            if len(bad):
                raise DataError(f"{where}: label column {name!r} has no value in row {bad[0]} ({len(bad)} such rows)")
            if np.any(column != np.round(column)):
                raise DataError(f"{where}: label column {name!r} holds fractions; classes are whole numbers or text")
            if np.any(np.abs(column) >= _LARGEST_EXACT[column.dtype.itemsize]):
                problem = f"holds {np.abs(column).max():g}, and {column.dtype} does not tell such numbers apart"
                raise DataError(f"{where}: label column {name!r} {problem}; save whole numbers or text")
            column = column.astype(np.int64)
        if column.dtype.kind not in "iub":
            raise DataError(
                f"{where}: label column {name!r} is of type {column.dtype}; whole numbers or text are needed"
            )
        return [str(int(value)) for value in column]
    for row, value in enumerate(column):
        if value is None or value == "":
            raise DataError(f"{where}: label column {name!r} has no value in row {row}")
        if not isinstance(value, str | int | bool):
            raise DataError(
                f"{where}: label column {name!r} holds {type(value).__name__}; whole numbers or text are needed"
            )
    return [str(value) for value in column]


def sorted_classes(names: set[str], where: str) -> tuple[str, ...]:
    """Order class names: by value where all are whole numbers, by text otherwise."""
    if len(names) < 2:
        raise DataError(f"{where}: all records are of class {next(iter(names))!r}; at least two classes are needed")
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{where}: {len(names)} classes; at most {MAX_CLASSES} are allowed (is the label a measurement?)"
        )
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int)) if numeric else tuple(sorted(names))


def _form(column: Column, name: str, where: str) -> str:
    if isinstance(column, np.ndarray):
        if column.dtype.kind not in "iufb":
            raise DataError(f"{where}: column {name!r} is of type {column.dtype}; numbers, text or images are needed")
        return "image" if column.ndim > 2 else "number"
    value = next((entry for entry in column if entry is not None), None)
    if isinstance(value, str):
        return "text"
    if _encoded(value) is not None:
        return "image"
    if isinstance(value, list):
        shape = np.shape(next((row for row in value if isinstance(row, list)), 0))
        return "image" if shape else "signal"
    kind = "nothing" if value is None else type(value).__name__
    raise DataError(f"{where}: column {name!r} holds {kind}; numbers, text, lists of numbers, PNG or JPEG are read")


def _encoded(value: Any) -> bytes | None:
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) and data.startswith(_MAGIC) else None


def _categories(column: Column, name: str, where: str) -> tuple[str, ...]:
    found = {value for value in column if value is not None}
    if len(found) > MAX_CATEGORIES:
        raise DataError(
            f"{where}: text column {name!r} has {len(found)} different values; at most {MAX_CATEGORIES} are allowed, "
            "drop it if it is an identifier"
        )
    return tuple(sorted(found))


def _table_column(column: Column, name: str, schema: Schema, where: str) -> NDArray[np.float32]:
    if name in schema.categories:
        if isinstance(column, np.ndarray):
            raise DataError(f"{where}: column {name!r} holds numbers, in train it holds text")
        missing = [row for row, value in enumerate(column) if value is None]
        _refuse_missing(missing, name, where)
        places = {category: place for place, category in enumerate(schema.categories[name])}
        hot = np.zeros((len(column), len(places)), np.float32)
        for row, value in enumerate(column):
            if value in places:  # a category that train lacks is all zeros
                hot[row, places[value]] = 1
        return hot
    if not isinstance(column, np.ndarray):
        raise DataError(f"{where}: column {name!r} holds text, in train it holds numbers")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        values = column.astype(np.float32).reshape(len(column), -1)
    _refuse_missing(np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist(), name, where)
    return values


def _refuse_missing(rows: list[int], name: str, where: str) -> None:
    if rows:
        raise DataError(
            f"{where}: column {name!r} has a missing or infinite value in row {rows[0]} ({len(rows)} such rows); "
            "fill or drop them first"
        )


def _signal(value: Any, name: str, row: int, where: str) -> NDArray[np.float32]:
    try:
        signal = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        signal = np.empty((0, 0), np.float32)
    if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all():
        raise DataError(f"{where}: column {name!r}, row {row}: a list of finite numbers is needed")
    return signal


def _images(column: Column, name: str, where: str) -> NDArray[Any]:
    if isinstance(column, np.ndarray):
        return _pixels(column, name, where)
    pictures = [_picture(value, name, row, where) for row, value in enumerate(column)]
    for row, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            raise DataError(
                f"{where}: column {name!r}, row {row}: image of shape {picture.shape}, row 0 has {pictures[0].shape}; "
                "all must have one size"
            )
    return _pixels(np.stack(pictures), name, where)


def _picture(value: Any, name: str, row: int, where: str) -> NDArray[Any]:
    if isinstance(value, list):
        try:
            picture = np.array(value)
        except ValueError:
            picture = np.array(None)
        if picture.ndim not in (2, 3) or picture.dtype.kind not in "iufb":
            raise DataError(f"{where}: column {name!r}, row {row}: a rectangle of numbers is needed")
        return picture
    encoded = _encoded(value)
    if encoded is None:
        raise DataError(f"{where}: column {name!r}, row {row}: a PNG or JPEG image is needed")
    return _decode(encoded, name, row, where)


def _decode(encoded: bytes, name: str, row: int, where: str) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{where}: column {name!r}, row {row}: {image.size} is more than 4096 x 4096 pixels")
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            return np.asarray(image if image.mode == "L" else image.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: column {name!r}, row {row}: damaged image ({error})") from error


def _pixels(array: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    if array.ndim == 4 and array.shape[3] > 4 >= array.shape[1]:
        array = array.transpose(0, 2, 3, 1)  # channels first
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] > 4) or 0 in array.shape:
        raise DataError(f"{where}: column {name!r} has shape {array.shape}; (n, h, w) or (n, h, w, 1 to 4) is needed")
    if array.dtype.kind in "iub" and array.min() >= 0 and array.max() <= 255:
        return np.ascontiguousarray(array, dtype=np.uint8)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    _refuse_missing(np.flatnonzero(~finite).tolist(), name, where)
    return values
