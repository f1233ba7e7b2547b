"""Files to columns: parquet, CSV and NPZ (without pickle), each as named columns of Python-neutral values.

Nothing here knows what a column means. A numeric column becomes an array whose first axis is the record; any other
becomes a list with one entry a record: text, bytes, or a nested list of numbers. Files are measured before they are
expanded, because a small archive can hold a large array.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.protocol.errors import DataError

if TYPE_CHECKING:
    import pyarrow

Column = NDArray[Any] | list[Any]
Columns = dict[str, Column]

SUFFIXES = (".parquet", ".csv", ".npz")
MAX_FILE_BYTES = 2 * 2**30
MAX_EXPANDED_BYTES = 8 * 2**30


def read(path: Path) -> Columns:
    """Read one file into columns of equal length.

    Raises
    ------
    DataError
        If the file is too large, damaged, empty, or holds Python objects.
    """
    _check_size(path, path.stat().st_size, MAX_FILE_BYTES)
    reader = {".parquet": _read_parquet, ".csv": _read_csv, ".npz": _read_npz}[path.suffix.lower()]
    columns = reader(path)
    if not columns:
        raise DataError(f"{path}: has no columns")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: columns differ in length ({_describe(lengths)}); one entry a record is needed")
    if not next(iter(lengths.values())):
        raise DataError(f"{path}: has no rows")
    return columns


def from_arrow(table: pyarrow.Table, where: str) -> Columns:
    """Turn an Arrow table into columns; ``where`` names its origin in errors."""
    import pyarrow as pa

    columns: Columns = {}
    for name in table.column_names:
        if name in columns:
            raise DataError(f"{where}: two columns are named {name!r}")
        column = table.column(name)
        kind = column.type
        if isinstance(column.type, pa.DictionaryType):
            kind = column.type.value_type
            column = column.cast(kind)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            columns[name] = column.to_numpy()
        else:
            columns[name] = column.to_pylist()
    return columns


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            _check_size(path, sum(file.metadata.row_group(i).total_byte_size for i in groups), MAX_EXPANDED_BYTES)
            return from_arrow(file.read(), str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({_one_line(error)})") from error


def _read_csv(path: Path) -> Columns:
    import pandas as pd

    try:
        frame = pd.read_csv(path, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable CSV file in UTF-8 ({_one_line(error)})") from error
    columns: Columns = {}
    for name in frame.columns:
        series = frame[name]
        if pd.api.types.is_numeric_dtype(series.dtype):
            columns[str(name)] = series.to_numpy()
        else:
            columns[str(name)] = [
                None if missing else str(value) for value, missing in zip(series, series.isna(), strict=True)
            ]
    return columns


def _read_npz(path: Path) -> Columns:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(entry.file_size for entry in archive.infolist()), MAX_EXPANDED_BYTES)
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise DataError(
            f"{path}: holds Python objects or a damaged array; save plain arrays ({_one_line(error)})"
        ) from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable NPZ file ({_one_line(error)})") from error
    columns: Columns = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise DataError(f"{path}: array {name!r} is a single value; one entry a record is needed")
        columns[name] = [str(value) for value in array] if array.dtype.kind in "US" and array.ndim == 1 else array
    return columns


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise DataError(f"{path}: {size / 2**30:.1f} GiB is too large (at most {limit / 2**30:.0f} GiB)")


def _describe(lengths: dict[str, int]) -> str:
    return ", ".join(f"{name}: {length}" for name, length in list(lengths.items())[:6])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
