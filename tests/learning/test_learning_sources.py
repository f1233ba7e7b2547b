from __future__ import annotations

import numpy as np
import pytest

from app.learning.config import DataConfig
from app.learning.datasets import load, mnist, plaid
from app.protocol.errors import ConfigError, DataError


def test_plaid_has_the_published_class_counts_in_numeric_label_order() -> None:
    source = load(DataConfig(name="plaid"), 0)
    assert np.bincount(source.train.labels).tolist() == [33, 88, 57, 19, 78, 18, 57, 86, 69, 19, 13]
    assert np.bincount(source.test.labels).tolist() == [33, 87, 58, 19, 78, 17, 57, 86, 70, 19, 13]
    assert source.train.classes[0] == "air conditioner"
    assert source.train.classes[2] == "fan"
    assert source.train.classes[10] == "washing machine"
    lengths = [len(signal) for signal in source.train.inputs]
    assert (min(lengths), max(lengths)) == (100, 1344)
    assert source.train.kind == "signal"


@pytest.mark.slow
def test_plaid_equals_what_sktime_reads() -> None:
    from sktime.datasets import load_plaid

    frame, labels = load_plaid(split="test", return_X_y=True)
    ours = load(DataConfig(name="plaid"), 0).test
    assert ours.labels.tolist() == [int(label) for label in labels]
    for row in (0, 100, 536):
        np.testing.assert_array_equal(ours.inputs[row], frame.iloc[row, 0].to_numpy().astype(np.float32))


def test_altered_plaid_file_is_refused(tmp_path) -> None:
    file = tmp_path / "PLAID_TRAIN.ts"
    file.write_text("@data\n1,2,3:0\n")
    with pytest.raises(DataError, match="sha256 differs"):
        plaid._read(file)


def test_digits_split_is_stratified_and_follows_the_seed() -> None:
    first, again, other = (load(DataConfig(name="digits"), seed) for seed in (1, 1, 2))
    assert len(first.train) + len(first.test) == 1797
    assert first.train.inputs.shape[1:] == (8, 8)
    assert first.train.inputs.max() == 255
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    assert not np.array_equal(first.test.labels, other.test.labels)
    share = np.bincount(first.test.labels) / np.bincount(np.concatenate([first.train.labels, first.test.labels]))
    assert np.abs(share - 0.2).max() < 0.01


def test_a_source_is_read_once_for_all_parties() -> None:
    assert load(DataConfig(public=3), 0) is load(DataConfig(public=9, partition="dirichlet"), 0)


def test_unknown_data_set_and_test_share_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.name.*plaid"):
        load(DataConfig(name="cifar"), 0)
    with pytest.raises(ConfigError, match=r"data\.test_share"):
        load(DataConfig(name="digits", test_share=1.0), 0)


def test_mnist_path_that_is_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.path: \.\./nowhere/mnist is neither"):
        load(DataConfig(name="mnist", path="../nowhere/mnist"), 0)


def test_unreachable_hub_says_to_name_a_local_folder(monkeypatch) -> None:
    import datasets

    def refuse(name: str) -> None:
        raise ConnectionError(f"no route\nto {name}")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"some/set.*data\.path") as caught:
        load(DataConfig(name="mnist", path="some/set"), 0)
    assert "\n" not in str(caught.value)


def test_hub_data_set_is_read_like_files(monkeypatch) -> None:
    import datasets

    part = datasets.Dataset.from_dict({"image": [[[0, 9], [8, 7]]] * 4, "label": [0, 1, 0, 1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(train=part, test=part))
    source = load(DataConfig(name="mnist", path="some/other"), 0)
    assert source.train.kind == "image"
    assert source.train.inputs.tolist()[0] == [[0, 9], [8, 7]]


def test_mnist_is_looked_for_where_hearth_data_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HEARTH_DATA", str(tmp_path))
    assert mnist.places()[0] == tmp_path / "mnist"


def test_mnist_is_the_canonical_one() -> None:
    if not any(place.is_dir() for place in mnist.places()):
        pytest.skip(f"MNIST is in none of {', '.join(map(str, mnist.places()))}")
    import hashlib

    source = load(DataConfig(name="mnist"), 0)
    header = np.array([2051, 10000, 28, 28], ">u4").tobytes()
    digest = hashlib.sha256(header + source.test.inputs.tobytes()).hexdigest()
    assert digest == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    assert np.bincount(source.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
