from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.learning.config import DataConfig
from app.learning.data import Dataset
from app.learning.partition import customers_shares, public_share
from app.learning.views import customer_view, inspect, manufacturer_view
from app.protocol.errors import ConfigError


def made(labels, groups=None) -> Dataset:
    labels = np.asarray(labels, np.int64)
    names = tuple(str(k) for k in range(int(labels.max()) + 1))
    return Dataset(np.zeros((len(labels), 1), np.float32), labels, names, "table", groups)


def check_cover(train: Dataset, data: DataConfig, customers: int, seed: int) -> None:
    public = public_share(train.labels, data.public, seed)
    shares = customers_shares(train, data, customers, seed)
    together = np.concatenate([public, *shares])
    assert len(shares) == customers
    assert all(len(share) for share in shares)
    assert np.sort(together).tolist() == list(range(len(train)))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=30, max_size=120),
    customers=st.integers(1, 9),
    public=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_iid_shares_are_disjoint_and_cover_all_but_the_public_records(labels, customers, public, seed) -> None:
    train = made(labels)
    data = DataConfig(public=public)
    rest = len(train) - len(public_share(train.labels, public, seed))
    if rest < customers:
        with pytest.raises(ConfigError, match="customers"):
            customers_shares(train, data, customers, seed)
        return
    check_cover(train, data, customers, seed)
    shares = customers_shares(train, data, customers, seed)
    for label in range(5):
        counts = [int(np.sum(train.labels[share] == label)) for share in shares]
        assert max(counts) - min(counts) <= 1


@settings(max_examples=8, deadline=None)
@given(alpha=st.sampled_from([0.3, 1.0, 100.0]), customers=st.integers(2, 6), seed=st.integers(0, 1000))
def test_dirichlet_shares_are_disjoint_and_cover(alpha, customers, seed) -> None:
    train = made(np.arange(300) % 3)
    data = DataConfig(partition="dirichlet", alpha=alpha, public=2)
    check_cover(train, data, customers, seed)
    again = customers_shares(train, data, customers, seed)
    for first, second in zip(customers_shares(train, data, customers, seed), again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_dirichlet_differs_between_customers() -> None:
    train = made(np.arange(1000) % 5)
    shares = customers_shares(train, DataConfig(partition="dirichlet", alpha=0.1, public=1), 5, 0)
    largest = [np.bincount(train.labels[share], minlength=5).max() / len(share) for share in shares]
    assert np.mean(largest) > 0.45


def test_dirichlet_that_starves_customers_names_alpha() -> None:
    with pytest.raises(ConfigError, match=r"data\.alpha: 0\.001"):
        customers_shares(made(np.arange(40) % 2), DataConfig(partition="dirichlet", alpha=0.001, public=1), 18, 0)
    with pytest.raises(ConfigError, match=r"data\.alpha"):
        customers_shares(made(np.arange(40) % 2), DataConfig(partition="dirichlet", alpha=0.0), 2, 0)


def test_one_group_a_customer() -> None:
    groups = np.array([f"home{k % 4}" for k in range(80)])
    train = made(np.arange(80) % 3, groups)
    data = DataConfig(partition="column", column="home", public=2)
    check_cover(train, data, 4, 0)
    for share in customers_shares(train, data, 4, 0):
        assert len(set(groups[share])) == 1
    with pytest.raises(ConfigError, match=r"customers: 5 customers.*4 groups.*allowed: 4"):
        customers_shares(train, data, 5, 0)
    with pytest.raises(ConfigError, match=r"data\.column"):
        customers_shares(train, replace(data, column=None), 4, 0)
    with pytest.raises(ConfigError, match="no columns to group by"):
        customers_shares(made(np.arange(80) % 3), data, 4, 0)


def test_public_share_is_at_most_half_of_a_class() -> None:
    labels = np.array([0] * 20 + [1] * 5 + [2])
    public = public_share(labels, 4, 0)
    assert np.bincount(labels[public]).tolist() == [4, 2, 1]
    with pytest.raises(ConfigError, match=r"data\.public"):
        public_share(labels, 0, 0)


def test_unknown_partition_and_too_many_customers() -> None:
    with pytest.raises(ConfigError, match=r"data\.partition.*iid, dirichlet, column"):
        customers_shares(made([0, 1] * 20), DataConfig(partition="shards"), 2, 0)
    with pytest.raises(ConfigError, match="allowed: 1 to 34"):
        customers_shares(made([0, 1] * 20), DataConfig(), 35, 0)
    with pytest.raises(ConfigError, match=r"the 0 records.*data\.public=3.*data\.test_share") as none_left:
        customers_shares(made([0, 1]), DataConfig(), 3, 0)
    assert "1 to 0" not in str(none_left.value)


def test_views_agree_with_the_summary() -> None:
    data = DataConfig(name="plaid", public=3)
    summary = inspect(data, 10, 5)
    view = manufacturer_view(data, 10, 5)
    sizes = tuple(len(customer_view(data, 10, k, 5)) for k in range(10))
    assert (summary.kind, summary.input_shape, summary.train, summary.test) == ("signal", (), 537, 537)
    assert summary == view.summary
    assert summary.per_customer == sizes
    assert (summary.public, len(view.public)) == (33, 33)
    assert sum(sizes) + summary.public == summary.train
    with pytest.raises(ConfigError):
        customer_view(data, 10, 10, 5)


def test_another_process_finds_the_same_records() -> None:
    code = (
        "from app.learning.config import DataConfig\nfrom app.learning.views import customer_view\n"
        "print(float(sum(x.sum() for x in customer_view(DataConfig(), 10, 4, 7).inputs)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(out) == float(sum(x.sum() for x in customer_view(DataConfig(), 10, 4, 7).inputs))


def test_default_path_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom app.learning.config import DataConfig\nfrom app.learning.views import customer_view\n"
        "customer_view(DataConfig(), 10, 0, 0)\n"
        "print([m for m in ('torch', 'sktime', 'pandas', 'flwr', 'flwr_datasets', 'web3') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
