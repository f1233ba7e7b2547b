"""The records of a task as every source hands them over, whatever they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.protocol.errors import ConfigError

Kind = Literal["signal", "image", "table"]
Inputs = list[NDArray[np.float32]] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled records of one kind.

    Attributes
    ----------
    inputs : list of ndarray or ndarray
        ``signal``: a list of n one-dimensional float32 arrays, lengths may differ. ``image``: (n, h, w) or
        (n, h, w, c), uint8 or float32. ``table``: (n, d) float32.
    labels : ndarray of int64, shape (n,)
        Positions in ``classes``.
    classes : tuple of str
        Names of the classes.
    kind : str
        ``signal``, ``image`` or ``table``.
    groups : ndarray of str, shape (n,), optional
        Group of each record (a household), where the source has such a column.
    """

    inputs: Inputs
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    kind: Kind
    groups: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one record; ``()`` for signals, whose lengths differ."""
        return () if isinstance(self.inputs, list) else tuple(self.inputs.shape[1:])

    def subset(self, indices: NDArray[np.int64] | Sequence[int] | slice) -> Dataset:
        """Return the records at ``indices`` (positions or a slice), in that order."""
        positions = np.arange(len(self))[indices] if isinstance(indices, slice) else np.asarray(indices, np.int64)
        inputs: Inputs
        if isinstance(self.inputs, list):
            inputs = [self.inputs[i] for i in positions]
        else:
            inputs = self.inputs[indices] if isinstance(indices, slice) else self.inputs[positions]
        groups = None if self.groups is None else self.groups[positions]
        return Dataset(inputs, self.labels[positions], self.classes, self.kind, groups)


@dataclass(frozen=True, eq=False)
class Source:
    """What a data set gives: train, test, and the columns that were not used."""

    train: Dataset
    test: Dataset
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSummary:
    """What everybody may know of the data before the task starts.

    Attributes
    ----------
    kind : str
        ``signal``, ``image`` or ``table``.
    input_shape : tuple of int
        Shape of one record; ``()`` for signals.
    classes : tuple of str
        Names of the classes.
    train, public, test : int
        Records of the source's train part, of the manufacturer's share of it, and of the test set.
    per_customer : tuple of int
        Records of each customer; they and ``public`` add up to ``train``.
    ignored : tuple of str
        Columns of the files that are not used.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    train: int
    public: int
    test: int
    per_customer: tuple[int, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ManufacturerData:
    """What the manufacturer owns: a few labelled records, and the test set it judges the model by."""

    public: Dataset
    test: Dataset
    summary: DataSummary


def stratified_sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` positions, ascending: of every class its share of them, drawn by the seed, and one at least.

    Raises
    ------
    ConfigError
        If there are fewer records, or more classes.
    """
    classes = np.unique(labels)
    if not len(classes) <= count <= len(labels):
        problem = f"{count} cannot be taken of {len(labels)} records of {len(classes)} classes"
        raise ConfigError("data.records", problem, f"{len(classes)}..{len(labels)}")
    rng = np.random.default_rng([seed, 0x5A3])
    place = np.empty(len(labels))
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[0]] = 0.0
    return np.sort(np.argsort(place, kind="stable")[:count])


def sample(source: Source, count: int, seed: int) -> Source:
    """Return a source with ``count`` of its train records, and the same share of its test records."""
    train, test = source.train, source.test
    kept = share_of_test(test.labels, count, len(train), seed)
    return Source(train.subset(stratified_sample(train.labels, count, seed)), test.subset(kept), source.ignored)


def share_of_test(labels: NDArray[np.int64], count: int, of: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of the test records that go with ``count`` of ``of`` train records."""
    classes = len(np.unique(labels))
    return stratified_sample(labels, min(len(labels), max(classes, round(len(labels) * count / of))), seed)


def stratified_split(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split positions into (rest, held out), class by class.

    ``share`` of every class is held out, rounded, but at least one record of a class that has two and never all.
    """
    rng = np.random.default_rng([seed, 0x7E57])
    held: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.append(members[:count])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out
