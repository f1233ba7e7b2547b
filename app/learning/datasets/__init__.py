"""Sources of records, one per file, and the one function that picks among them."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from app.learning.config import DATA_SETS, DataConfig
from app.learning.data import Source, sample
from app.protocol.errors import ConfigError

_lock = threading.Lock()


def load(data: DataConfig, seed: int) -> Source:
    """Return the source that ``data`` names; the same object for every party in one process.

    Raises
    ------
    ConfigError
        If ``data.name`` is unknown or ``data.test_share`` is not in (0, 1).
    DataError
        If the records are missing or malformed.
    """
    if data.name not in DATA_SETS:
        raise ConfigError("data.name", f"there is no data set {data.name!r}", allowed=DATA_SETS)
    if not 0 < data.test_share < 1:
        raise ConfigError("data.test_share", f"{data.test_share} is not a share", allowed="between 0 and 1")
    group = data.column if data.partition == "column" else None
    with _lock:  # a data set is read once, however many customers ask at the same time
        return _load(data.name, data.path, data.label, group, data.test_share, data.records, seed)


def has_test(name: str, path: str | None) -> bool:
    """Tell whether a source brings its own test records, so that no share of train is held out.

    Raises
    ------
    DataError
        If ``path`` is a folder whose files are not those of a data set.
    """
    from app.learning.datasets import folder, mnist

    if name == "mnist":
        path = mnist.locate(path)
        return not Path(path).expanduser().is_dir() or folder.find(Path(path).expanduser())[1] is not None
    if name == "folder" and path is not None:
        return folder.find(Path(path).expanduser())[1] is not None
    return name == "plaid"


@lru_cache(maxsize=2)
def _load(
    name: str,
    path: str | None,
    label: str | None,
    group: str | None,
    test_share: float,
    records: int | None,
    seed: int,
) -> Source:
    if name == "plaid":
        from app.learning.datasets import plaid

        source = plaid.load()
    elif name == "digits":
        from app.learning.datasets import digits

        source = digits.load(test_share, seed)
    elif name == "mnist":
        from app.learning.datasets import mnist

        return mnist.load(path, label, group, test_share, seed, records)
    else:
        from app.learning.datasets import folder

        return folder.load(path, label, group, test_share, seed, records)
    return source if records is None else sample(source, records, seed)
