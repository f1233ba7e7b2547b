"""What each party may see: the manufacturer its public records and the test set, a customer its own records."""

from __future__ import annotations

from functools import lru_cache

from app.learning.config import DataConfig
from app.learning.data import Dataset, DataSummary, ManufacturerData
from app.learning.datasets import load
from app.learning.partition import Indices, customers_shares, public_share
from app.protocol.errors import ConfigError


def inspect(data: DataConfig, customers: int, seed: int) -> DataSummary:
    """Read the data and divide it as the task would; any mistake in it shows here, before anything starts.

    Raises
    ------
    ConfigError, DataError
        See `app.learning.datasets.load` and `app.learning.partition.customers_shares`.
    """
    source = load(data, seed)
    shares = _shares(data, customers, seed)
    sizes = tuple(len(share) for share in shares)
    return DataSummary(
        kind=source.train.kind,
        input_shape=source.train.input_shape,
        classes=source.train.classes,
        train=len(source.train),
        public=len(source.train) - sum(sizes),
        test=len(source.test),
        per_customer=sizes,
        ignored=source.ignored,
    )


def manufacturer_view(data: DataConfig, customers: int, seed: int) -> ManufacturerData:
    """Return the manufacturer's public records and the test set."""
    source = load(data, seed)
    public = source.train.subset(public_share(source.train.labels, data.public, seed))
    return ManufacturerData(public, source.test, inspect(data, customers, seed))


def customer_view(data: DataConfig, customers: int, index: int, seed: int) -> Dataset:
    """Return the records of customer ``index`` (0 to customers - 1)."""
    shares = _shares(data, customers, seed)
    if not 0 <= index < customers:
        raise ConfigError("customers", f"there is no customer {index}", allowed=f"0 to {customers - 1}")
    return load(data, seed).train.subset(shares[index])


@lru_cache(maxsize=8)
def _shares(data: DataConfig, customers: int, seed: int) -> tuple[Indices, ...]:
    return customers_shares(load(data, seed).train, data, customers, seed)
