"""The user's own files, without a line of code.

A folder holds ``train.*`` and ``test.*``, or exactly one file that the seed splits, as parquet, CSV or NPZ. The class
is in the column ``label`` unless ``data.label`` names another. In an NPZ file every array is a column whose first
axis is the record: three or four axes are images, two are a table with several columns, one is one column of a table.
Arrays of signals cannot be told from tables; give signals as a list column of a parquet file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.learning.data import Dataset, Source, sample, share_of_test, stratified_sample, stratified_split
from app.learning.datasets import columns as reading
from app.learning.datasets.tables import SUFFIXES, Column, Columns, read
from app.protocol.errors import DataError


def load(
    path: str | None, label: str | None, group: str | None, test_share: float, seed: int, records: int | None = None
) -> Source:
    """Read a folder.

    Parameters
    ----------
    path : str or None
        The folder.
    label : str or None
        Column that holds the class; None means ``label``.
    group : str or None
        Column whose groups are the customers; it is never an input.
    test_share : float
        Share that is held out where there is one file.
    seed : int
        Decides which records those are.
    records : int or None
        How many train records are used; None takes all.

    Raises
    ------
    DataError
        If the files are missing, ambiguous, unreadable, or not what a data set needs; the line names file and column.
    """
    if path is None:
        raise DataError("data.path: names no folder; data.name=folder needs one with train.* and test.*, or one file")
    train, test = find(Path(path).expanduser())
    if test is None:
        source = from_columns(read(train), None, label, group, str(train))
        rest, held = stratified_split(source.train.labels, test_share, seed)
        source = Source(source.train.subset(rest), source.train.subset(held), source.ignored)
        return source if records is None else sample(source, records, seed)
    return from_columns(read(train), read(test), label, group, str(train), str(test), seed, records)


def find(folder: Path) -> tuple[Path, Path | None]:
    """Return the files (train, test), or (the only file, None)."""
    if not folder.is_dir():
        raise DataError(f"data.path: {folder} is not a folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    formats = ", ".join(SUFFIXES)
    if not files:
        raise DataError(f"{folder}: has no data file (allowed: train.* and test.*, or one file; {formats})")
    named = {part: [file for file in files if file.stem.lower() == part] for part in ("train", "test")}
    for part, found in named.items():
        if len(found) > 1:
            raise DataError(f"{folder}: {', '.join(file.name for file in found)}: which is {part}? Keep one")
    if named["train"] and named["test"]:
        return named["train"][0], named["test"][0]
    if len(files) == 1 and not named["test"]:
        return files[0], None
    names = ", ".join(file.name for file in files[:6])
    raise DataError(f"{folder}: holds {names} (allowed: train.* and test.*, or exactly one file; {formats})")


def from_columns(
    train: Columns,
    test: Columns | None,
    label: str | None,
    group: str | None,
    train_name: str,
    test_name: str = "",
    seed: int = 0,
    records: int | None = None,
) -> Source:
    """Make a source of columns; without ``test`` its test set is empty (the caller splits, and takes its sample).

    Of two files no image is decoded that ``records`` leaves out.
    """
    name = label or "label"
    names = reading.class_names(_column(train, name, train_name), name, train_name)
    classes = reading.sorted_classes(set(names), train_name)
    candidates = {key: value for key, value in train.items() if key not in (name, group)}
    schema = reading.recognise(candidates, train_name)
    if group is not None:
        _column(train, group, train_name, "data.column")
    ignored = tuple(key for key in candidates if key not in schema.columns)

    def dataset(part: Columns, labels: list[str], where: str, of: int | None = None) -> Dataset:
        place = {text: position for position, text in enumerate(classes)}
        unknown = sorted({text for text in labels if text not in place})
        if unknown:
            raise DataError(f"{where}: class {unknown[0]!r} is not in train (there are: {', '.join(classes[:12])})")
        groups = np.array([str(value) for value in part[group]]) if group is not None and group in part else None
        positions = np.array([place[text] for text in labels], np.int64)
        if records is not None and test is not None:
            rows = (
                stratified_sample(positions, records, seed)
                if of is None
                else share_of_test(positions, records, of, seed)
            )
            part, positions = {key: _rows(part[key], rows) for key in schema.columns if key in part}, positions[rows]
            groups = None if groups is None else groups[rows]
        return Dataset(reading.inputs(part, schema, where), positions, classes, schema.kind, groups)

    first = dataset(train, names, train_name)
    if test is None:
        return Source(first, first.subset([]), ignored)
    test_names = reading.class_names(_column(test, name, test_name), name, test_name)
    second = dataset(test, test_names, test_name, len(names))
    if first.input_shape != second.input_shape:
        raise DataError(f"{test_name}: records of shape {second.input_shape}, those of train have {first.input_shape}")
    return Source(first, second, ignored)


def _rows(column: Column, rows: NDArray[np.int64]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def _column(part: Columns, name: str, where: str, key: str = "data.label") -> Column:
    if name not in part:
        there = ", ".join(list(part)[:20])
        raise DataError(f"{where}: has no column {name!r}; set {key} to one of: {there}")
    return part[name]
