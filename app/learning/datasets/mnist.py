"""MNIST, or any image set of its form: a local folder, or a name on the Hugging Face hub.

Columns ``image`` (a struct of PNG bytes and a path) and ``label``; parts ``train`` and ``test``. LeCun, Cortes,
Burges; CC BY-SA 3.0.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from app.learning.data import Source
from app.learning.datasets import folder
from app.learning.datasets.tables import from_arrow
from app.protocol.errors import DataError

HUB_NAME = "ylecun/mnist"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def load(
    path: str | None, label: str | None, group: str | None, test_share: float, seed: int, records: int | None = None
) -> Source:
    """Read ``path`` (a folder or a hub name); None looks in `places` and then asks the hub for `HUB_NAME`.

    Raises
    ------
    DataError
        If it is in none of them; the line says that ``data.path`` can name a local copy.
    """
    path = locate(path)
    if Path(path).expanduser().is_dir():
        return folder.load(path, label, group, test_share, seed, records)
    if not _HUB.fullmatch(path):
        raise DataError(f"data.path: {path} is neither a folder nor a name on the Hugging Face hub ({HUB_NAME})")
    return _from_hub(path, label, group, seed, records)


def locate(path: str | None) -> str:
    """Return ``path``, or in its place the first of `places` that is there, or else `HUB_NAME`."""
    return path or str(next((place for place in places() if place.is_dir()), HUB_NAME))


def places() -> list[Path]:
    """Return where a local copy is looked for: ``$HEARTH_DATA/mnist``, then beside and in the checkout."""
    checkout = Path(__file__).resolve().parents[3]
    given = os.environ.get("HEARTH_DATA")
    found = [Path(given).expanduser() / "mnist"] if given else []
    return [*found, checkout.parent / "shared" / "data" / "mnist", checkout / "shared" / "data" / "mnist"]


def _from_hub(name: str, label: str | None, group: str | None, seed: int, records: int | None) -> Source:
    import datasets  # takes seconds, and only the hub needs it

    try:
        parts = datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises errors of half a dozen libraries
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{name}: cannot be loaded from the hub ({reason}); set data.path to a local folder") from error
    if not {"train", "test"} <= set(parts):
        raise DataError(f"{name}: has parts {', '.join(map(str, parts))}; train and test are needed")
    train, test = (from_arrow(parts[part].with_format("arrow")[:], f"{name} {part}") for part in ("train", "test"))
    return folder.from_columns(train, test, label, group, f"{name} train", f"{name} test", seed, records)
