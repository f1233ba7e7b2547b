"""A customer's own records, in the form that its task asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from app.learning.data import Dataset
from app.learning.datasets import folder
from app.learning.datasets.tables import read
from app.learning.form import RecordForm
from app.protocol.errors import DataError


def own_records(place: str, label: str | None, form: RecordForm) -> Dataset:
    """Read a customer's records: every one of them is trained on.

    Parameters
    ----------
    place : str
        A file (parquet, CSV, NPZ), or a folder with exactly one, see `app.learning.datasets.folder`.
    label : str or None
        Column that holds the class; None means ``label``.
    form : RecordForm
        What the task's records look like. A customer need not have every class, and may have none that the task lacks.

    Raises
    ------
    DataError
        If the file is missing, unreadable, or its records are not of that form.
    """
    path = Path(place).expanduser()
    file, test = folder.find(path) if path.is_dir() else (path, None)
    if test is not None:
        raise DataError(f"{path}: has a test file; a customer's records are one file, all of it to train on")
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    found = folder.from_columns(read(file), None, label, None, str(file)).train
    if (found.kind, found.input_shape) != (form.kind, form.input_shape):
        told = f"{found.kind} records of shape {found.input_shape}"
        raise DataError(f"{file}: holds {told}; the task is about {form.kind} records of shape {form.input_shape}")
    place_of = {name: position for position, name in enumerate(form.classes)}
    strangers = [name for name in found.classes if name not in place_of]
    if strangers:
        known = ", ".join(form.classes[:12])
        raise DataError(f"{file}: class {strangers[0]!r} is none of the task's (there are: {known})")
    position = np.array([place_of[name] for name in found.classes], np.int64)
    return replace(found, labels=position[found.labels], classes=form.classes)
