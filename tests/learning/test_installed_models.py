"""Models that a machine's owner installed: named by a task, brought by none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.config import compose
from app.learning.config import ModelConfig
from app.learning.form import RecordForm
from app.learning.models import build
from app.learning.models import installed as module
from app.learning.models.phone import UnitNorm
from app.protocol.errors import ConfigError

TABLE, IMAGE = RecordForm("table", (4,), ("a", "b"), 50), RecordForm("image", (8, 8), ("a", "b"), 50)


def own(**changes: Any) -> SimpleNamespace:
    members = {
        "KINDS": ("table",),
        "shape": lambda shape: shape,
        "stages": lambda shape, width: {
            "first": nn.Linear(shape[0], 6),
            "bottleneck": nn.Sequential(nn.Linear(6, width), UnitNorm()),
        },
        "prepare": lambda inputs: torch.from_numpy(np.asarray(inputs, np.float32)),
        "augment": lambda inputs, generator: inputs,
    }
    return SimpleNamespace(**{key: value for key, value in (members | changes).items() if value is not None})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    def put(found: object) -> None:
        def load() -> object:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(module, "_found", lambda: {"mine": SimpleNamespace(value="mine:model", load=load)})
        module.load.cache_clear()

    yield put
    module.load.cache_clear()


@pytest.mark.parametrize("noised", [True, False])
def test_an_installed_model_is_built_like_ours(install, noised: bool) -> None:
    install(own())
    split = build(ModelConfig(name="mine", bottleneck=5), TABLE, noised=noised, noise=1.0)
    assert split.stages == ("first", "bottleneck")
    assert split.split == ("bottleneck" if noised else "first")
    features = split.phone(split.phone.prepare(np.ones((3, 4))))
    assert features.shape == (3, 5 if noised else 6)
    assert split.mec(features).shape == (3, 2)
    assert compose(["model.name=mine"]).model.name == "mine"


def test_what_does_not_fit_is_told(install) -> None:
    install(own())
    with pytest.raises(ConfigError, match="mine does not read image data"):
        build(ModelConfig(name="mine"), IMAGE, noised=False)
    with pytest.raises(ConfigError, match="'other' is not known"):
        compose(["model.name=other"])
    install(own(augment=None))
    with pytest.raises(ConfigError, match="has no augment"):
        build(ModelConfig(name="mine"), TABLE, noised=False)
    install(RuntimeError("its own dependency is missing"))
    with pytest.raises(ConfigError, match="cannot be imported: its own dependency is missing"):
        build(ModelConfig(name="mine"), TABLE, noised=False)
