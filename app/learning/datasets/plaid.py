"""PLAID: which appliance was switched on, told from its current.

Plug loads of more than 56 homes in Pittsburgh, 11 appliances, 537 + 537 records of 100 to 1,344 samples, in the
edition of the UCR archive (Schaefer and Leser 2017). The two files lie in the wheel of ``sktime``; they are read here
directly, because importing sktime takes seconds. Their digests are checked, so the label order is the one below: the
labels are strings, and sorting them as strings would permute the classes.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from app.learning.data import Dataset, Source
from app.protocol.errors import DataError

CLASSES = (
    "air conditioner",
    "compact fluorescent lamp",
    "fan",
    "fridge",
    "hairdryer",
    "heater",
    "incandescent light bulb",
    "laptop",
    "microwave",
    "vacuum",
    "washing machine",
)
SHA256 = {
    "PLAID_TRAIN.ts": "40deb3bc6bd1e1aa0e6db6e6bfd3cecc4a23bf57f6a6d6ab90fb75e4a2c72344",
    "PLAID_TEST.ts": "aa6da0dc1461e8d374e068a940ce37d1b0bb1a9844596d818920c8af696d656d",
}


def load() -> Source:
    """Return PLAID as signals, with the archive's own split.

    Raises
    ------
    DataError
        If ``sktime`` is not installed, or its files are not the known ones.
    """
    spec = find_spec("sktime")
    if spec is None or spec.origin is None:
        raise DataError("data.name=plaid: the package sktime, which holds the records, is not installed")
    folder = Path(spec.origin).parent / "datasets" / "data" / "PLAID"
    return Source(_read(folder / "PLAID_TRAIN.ts"), _read(folder / "PLAID_TEST.ts"))


def _read(path: Path) -> Dataset:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror}); PLAID comes with the sktime wheel") from error
    if hashlib.sha256(raw).hexdigest() != SHA256[path.name]:
        raise DataError(f"{path}: not the PLAID file of the UCR archive (sha256 differs); reinstall sktime")
    body = raw.decode("utf-8").split("@data\n", 1)[1]
    records = [line.rsplit(":", 1) for line in body.splitlines() if line.strip()]
    inputs = [np.array(values.split(","), dtype=np.float32) for values, _ in records]
    return Dataset(inputs, np.array([int(label) for _, label in records], np.int64), CLASSES, "signal")
