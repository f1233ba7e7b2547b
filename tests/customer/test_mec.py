"""The MEC server's cache: it outlives the process, notices damage, and is gone when the task is over."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from app.customer.mec import Mec
from app.customer.wire import FeatureRelease
from app.learning.config import TrainConfig
from app.learning.models.heads import MlpHead
from app.learning.weights import get_vector
from app.protocol.errors import ProtocolError, StoreError

KEY, OTHER = "0f" * 32, "1f" * 32


def release(key: str = KEY) -> FeatureRelease:
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    return FeatureRelease(features, 1.0, (features[:, 0] > 0).astype(np.int64), key)


def head() -> MlpHead:
    model = MlpHead(nn.Identity(), 3, (), 2)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_a_release_is_held_and_outlives_the_process(tmp_path: Path) -> None:
    mec = Mec(tmp_path)
    assert not mec.holds(KEY)
    mec.accept(release())
    assert mec.holds(KEY)
    again = Mec(tmp_path)
    assert again.holds(KEY)
    assert not again.holds(OTHER)
    trained = [m.train(KEY, head(), TrainConfig(2, 4, 0.1, 0.9), 5) for m in (mec, again)]
    assert np.array_equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


def test_it_trains_the_head_it_is_given() -> None:
    mec, model = Mec(None), head()
    mec.accept(release())
    vector, loss = mec.train(KEY, model, TrainConfig(20, 4, 0.5, 0.9), 5)
    assert vector.shape == (8,)
    assert vector.dtype == np.float32
    assert np.array_equal(vector, get_vector(model))
    assert loss < 0.3  # log 2 before training
    assert not np.array_equal(vector, mec.train(KEY, head(), TrainConfig(20, 4, 0.5, 0.9), 6)[0])


def test_without_the_release_it_cannot_train() -> None:
    with pytest.raises(ProtocolError, match="holds no release"):
        Mec(None).train(KEY, head(), TrainConfig(), 1)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "pickle", "another key"])
def test_a_damaged_cache_is_noticed_and_taken_as_lost(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    Mec(tmp_path).accept(release())
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-30] ^= 4
    path.write_bytes(
        {
            "cut": path.read_bytes()[:-1],
            "bit": bytes(data),
            "empty": b"",
            "pickle": b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
            "another key": release(OTHER).to_bytes(),
        }[damage]
    )
    mec = Mec(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert not mec.holds(KEY)
    assert "damaged" in caplog.text
    mec.accept(release())
    assert Mec(tmp_path).holds(KEY)


def test_forgetting_deletes_memory_and_disk(tmp_path: Path) -> None:
    mec = Mec(tmp_path)
    mec.accept(release())
    mec.accept(release(OTHER))
    mec.forget(KEY)
    assert not mec.holds(KEY)
    assert mec.holds(OTHER)
    assert len(list(tmp_path.iterdir())) == 1
    Mec(None).forget(KEY)
    Mec(tmp_path / "never made").forget(KEY)


def test_a_disk_that_refuses_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        Mec(tmp_path / "file").accept(release())
