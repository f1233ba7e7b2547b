"""Who has which record: the manufacturer's public share, and disjoint parts for the customers.

Everything follows from labels, groups, configuration and seed, so every party finds its own records without asking
another. The parts are disjoint and, with the public share, cover train.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from app.learning.config import PARTITIONS, DataConfig
from app.learning.data import Dataset
from app.protocol.errors import ConfigError

Indices = NDArray[np.int64]


def public_share(labels: Indices, per_class: int, seed: int) -> Indices:
    """Return the manufacturer's positions: ``per_class`` of every class, at most half of a class, at least one."""
    if per_class < 1:
        raise ConfigError("data.public", f"{per_class} records of a class are too few to start from", allowed=">= 1")
    rng = np.random.default_rng([seed, 0x9B1C])
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: min(per_class, max(1, len(members) // 2))])
    return np.sort(np.concatenate(chosen))


def customers_shares(train: Dataset, data: DataConfig, customers: int, seed: int) -> tuple[Indices, ...]:
    """Return each customer's positions in ``train``, sorted.

    Raises
    ------
    ConfigError
        If the partition is unknown or cannot give every customer at least one record.
    """
    if data.partition not in PARTITIONS:
        raise ConfigError("data.partition", f"there is no partition {data.partition!r}", allowed=PARTITIONS)
    rest = np.setdiff1d(np.arange(len(train)), public_share(train.labels, data.public, seed))
    if not 1 <= customers <= len(rest):
        problem = f"{customers} customers cannot share the {len(rest)} records that data.public={data.public} leaves"
        more = "more records, or a smaller data.public or data.test_share"
        raise ConfigError("customers", problem, f"1 to {len(rest)}; {more}" if len(rest) else more)
    if data.partition == "iid":
        shares = _iid(train.labels, rest, customers, seed)
    elif data.partition == "dirichlet":
        shares = _dirichlet(train.labels, rest, customers, data.alpha, seed)
    else:
        shares = _by_column(train, data.column, rest, customers)
    return tuple(np.sort(share) for share in shares)


def _iid(labels: Indices, rest: Indices, customers: int, seed: int) -> list[Indices]:
    """Deal the shuffled records of one class after the other round the table: sizes differ by one at most."""
    rng = np.random.default_rng([seed, 0x11D])
    shuffled = rng.permutation(rest)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [by_class[customer::customers] for customer in range(customers)]


def _dirichlet(labels: Indices, rest: Indices, customers: int, alpha: float, seed: int) -> list[Indices]:
    if not alpha > 0:
        raise ConfigError("data.alpha", f"{alpha} is not a concentration", allowed="> 0")
    import datasets
    from flwr_datasets.partitioner import DirichletPartitioner  # takes seconds, so only where it is used

    partitioner = DirichletPartitioner(
        num_partitions=customers,
        partition_by="label",
        alpha=alpha,
        min_partition_size=1,
        self_balancing=False,
        seed=seed,
    )
    partitioner.dataset = datasets.Dataset.from_dict({"label": labels[rest], "position": rest})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # one per draw that starves a customer; the error says it once
            return [np.array(partitioner.load_partition(k)["position"], np.int64) for k in range(customers)]
    except ValueError as error:
        raise ConfigError(
            "data.alpha",
            f"{alpha} leaves some of {customers} customers without a record",
            allowed="a larger data.alpha, or fewer customers",
        ) from error


def _by_column(train: Dataset, column: str | None, rest: Indices, customers: int) -> list[Indices]:
    if column is None:
        raise ConfigError("data.column", "data.partition=column needs the column whose groups are the customers")
    if train.groups is None:
        raise ConfigError("data.partition", "this data set has no columns to group by", allowed="iid, dirichlet")
    groups = np.unique(train.groups)
    if len(groups) != customers:
        problem = f"{customers} customers, but column {column!r} has {len(groups)} groups, one for each customer"
        raise ConfigError("customers", problem, allowed=str(len(groups)))
    shares = [rest[train.groups[rest] == group] for group in groups]
    empty = [str(group) for group, share in zip(groups, shares, strict=True) if not len(share)]
    if empty:
        problem = f"the public share takes all records of group {empty[0]!r} of column {column!r}"
        raise ConfigError("data.public", problem, allowed="a smaller number, or larger groups")
    return shares
