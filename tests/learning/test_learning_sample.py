"""A part of a data set: as many of each class as its share, the same records for every party."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.learning.config import DataConfig, ModelConfig
from app.learning.data import stratified_sample
from app.learning.datasets import folder, load
from app.learning.form import RecordForm
from app.learning.models import build
from app.learning.training import features
from app.learning.views import inspect, manufacturer_view
from app.protocol.errors import ConfigError


@given(st.lists(st.integers(0, 4), min_size=5, max_size=200), st.data())
def test_every_class_has_its_share_and_one_at_least(labels: list[int], data: st.DataObject) -> None:
    values = np.array(labels)
    classes = np.unique(values)
    count = data.draw(st.integers(len(classes), len(values)))
    chosen = stratified_sample(values, count, seed=3)
    assert len(chosen) == count == len(set(chosen.tolist()))
    assert sorted(chosen.tolist()) == chosen.tolist()
    for label in classes:
        have, share = np.sum(values[chosen] == label), np.sum(values == label) * count / len(values)
        assert have >= 1
        assert have <= share + 1 or have == 1
        assert have >= share - len(classes)


@pytest.mark.parametrize("count", [2, 11])
def test_too_few_and_too_many_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=r"data\.records.*allowed: 3\.\.10"):
        stratified_sample(np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]), count, 0)


@pytest.mark.parametrize("name", ["digits", "plaid"])
def test_test_records_keep_their_proportion(name: str) -> None:
    whole, part = (load(DataConfig(name=name, records=records), 0) for records in (None, 300))
    assert len(part.train) == 300
    assert len(part.test) == round(len(whole.test) * 300 / len(whole.train))
    assert set(part.train.labels.tolist()) == set(whole.train.labels.tolist())
    assert inspect(DataConfig(name=name, records=300), 10, 0).train == 300


def test_a_folder_with_two_files_is_cut_row_by_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {
        part: rng.integers(0, 256, (count, 4, 4), dtype=np.uint8) for part, count in (("train", 60), ("test", 20))
    }
    for part, pixels in images.items():
        np.savez(tmp_path / f"{part}.npz", image=pixels, label=np.arange(len(pixels)) % 3)
    source = folder.load(str(tmp_path), None, None, 0.2, 7, 30)
    assert (len(source.train), len(source.test)) == (30, 10)
    for dataset, part in ((source.train, "train"), (source.test, "test")):
        places = [next(i for i, image in enumerate(images[part]) if np.array_equal(image, x)) for x in dataset.inputs]
        assert (dataset.labels == np.array(places) % 3).all()


def test_a_perceptron_reads_pixels() -> None:
    data = DataConfig(name="digits", records=300)
    view = manufacturer_view(data, 5, 0)
    split = build(ModelConfig(name="mlp"), RecordForm.of(view.summary), noised=False, seed=0)
    assert (split.name, split.split, split.head) == ("mlp", "scale", "mlp")
    assert features(split.phone, view.public).shape == (len(view.public), 64)
