"""From configuration to a split model: a named pair of phone part and MEC part, cut after a named stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.learning.config import HEADS, MODELS, ModelConfig
from app.learning.data import Inputs
from app.learning.form import RecordForm
from app.learning.models import cnn, installed, mlp, scattering, signal
from app.learning.models.discriminant import DiscriminantHead
from app.learning.models.heads import Head, MlpHead, PrototypeHead, uniform_start
from app.learning.models.phone import Phone, Prepare
from app.learning.models.signature import SIZE
from app.protocol.errors import ConfigError

Augment = Callable[[Inputs, np.random.Generator], Inputs]
_MODELS_OF_KIND = {"signal": ("signal",), "image": ("scattering", "mlp", "cnn"), "table": ("mlp",)}
_BOTTLENECK = {"scattering": 256, "signal": 32, "cnn": 32, "mlp": 32}
"""Measured: what is learnt from few records wants few features; the fixed transform's components are worth more."""
_FEATURES = 32


@dataclass(frozen=True, eq=False)
class SplitModel:
    """A model and where it is cut.

    Attributes
    ----------
    name, split, head : str
        Resolved names: nothing is ``auto`` any more.
    stages : tuple of str
        Names of all stages, in order.
    phone : Phone
        Records to features; frozen, unless the extractor is joint.
    mec : Head
        Trainable: features to scores.
    trained : nn.Module
        What customers train and the global model holds: the head; with a joint extractor the phone's layers too.
    bottleneck : int
        Features after the stage ``bottleneck``, resolved too.
    feature_size : int
        Features of one record that leave the phone.
    extractor : nn.ModuleDict
        All stages. The manufacturer trains them together; the phone runs those up to the split.
    augment : callable
        How the manufacturer varies its public records.
    """

    name: str
    split: str
    head: str
    stages: tuple[str, ...]
    phone: Phone
    mec: Head
    trained: nn.Module
    bottleneck: int
    feature_size: int
    extractor: nn.ModuleDict
    augment: Augment

    @property
    def joint(self) -> bool:
        """Whether the phone's layers learn too."""
        return self.trained is not self.mec


def build(
    model: ModelConfig,
    form: RecordForm,
    *,
    noised: bool,
    noise: float = 0.0,
    flips: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> SplitModel:
    """Build the model with its first weights, which depend on the seed alone.

    Parameters
    ----------
    model : ModelConfig
        Names may be ``auto``.
    form : RecordForm
        Kind and shape of the records, the classes, and how many records the customers have.
    noised : bool
        Whether features leave the phone with noise; decides what ``auto`` means.
    noise : float
        Standard deviation of that noise on features of norm 1. The head ``prototype`` weighs by it.
    flips : ndarray of float64, shape (K, K), optional
        How labels are randomised, see `app.privacy.labels.flip_matrix`; None for clear ones. The head corrects for it.
    seed : int
        Draws the first weights.

    Raises
    ------
    ConfigError
        If a name is unknown, does not fit the data, or a size is not positive.
    """
    joint = model.extractor == "joint"
    name = _model_name(model, form, noised)
    bottleneck = bottleneck_width(model, form, noised=noised)
    if bottleneck < 1:
        raise ConfigError("model.bottleneck", f"{bottleneck} features are none", allowed=">= 1")
    if any(width < 1 for width in model.hidden):
        raise ConfigError("model.hidden", f"{list(model.hidden)} has an empty layer", allowed="widths >= 1")
    stages, prepare, augment, shape = _stages(name, form, bottleneck)
    uniform_start(nn.ModuleDict(stages), generator := torch.Generator().manual_seed(seed))
    split = _resolve("model.split", model.split, tuple(stages), list(stages)[-1 if noised else -2])
    head = _resolve("model.head", model.head, HEADS[1:], _head(name, noised and not joint))
    phone = Phone(prepare, stages, split, shape)
    cut = math.prod(phone.shape)
    records = form.records
    if head == "prototype":
        mec: Head = PrototypeHead(cut, len(form.classes), records, noise, flips)
    elif head == "discriminant":
        mec = DiscriminantHead(cut, len(form.classes), records, noise, flips)
    else:
        trunk, size = _trunk(stages, split, shape)
        mec = MlpHead(trunk, size, model.hidden, len(form.classes), flips)
        uniform_start(mec.layers, generator)
    trained: nn.Module = mec
    if model.extractor == "joint":
        trained = _joint(phone, mec, name, split)
    every = nn.ModuleDict(stages)
    return SplitModel(name, split, head, tuple(stages), phone, mec, trained, bottleneck, cut, every, augment)


def _joint(phone: Phone, mec: Head, name: str, split: str) -> nn.Module:
    """Return phone and head as one trainable module."""
    phone.requires_grad_(True)
    if not list(phone.parameters()):
        problem = f"nothing of the model {name} up to {split} can be trained"
        raise ConfigError("model.extractor", problem, "frozen, or another model.name or model.split")
    return nn.ModuleDict({"phone": phone, "mec": mec})


def bottleneck_width(model: ModelConfig, form: RecordForm, *, noised: bool) -> int:
    """Return how many features the stage ``bottleneck`` of the model gives that `build` builds."""
    return (
        _BOTTLENECK.get(_model_name(model, form, noised), _FEATURES) if model.bottleneck is None else model.bottleneck
    )


def _model_name(model: ModelConfig, form: RecordForm, noised: bool) -> str:
    fitting = _MODELS_OF_KIND[form.kind]
    if model.name in installed.names() and model.name not in MODELS:
        if form.kind not in (kinds := tuple(installed.load(model.name).KINDS)):
            raise ConfigError("model.name", f"{model.name} does not read {form.kind} data", allowed=kinds)
        return model.name
    if model.name not in MODELS:
        raise ConfigError("model.name", f"there is no model {model.name!r}", allowed=(*MODELS, *installed.names()))
    if model.name not in ("auto", *fitting):
        raise ConfigError("model.name", f"{model.name} does not read {form.kind} data", allowed=("auto", *fitting))
    if model.name != "auto":
        return model.name
    # The fixed transform of `scattering` has nothing that could be trained jointly.
    return fitting[0] if noised and model.extractor == "frozen" else fitting[-1]


def _head(name: str, noised: bool) -> str:
    """Return the head that suits a model: a bottleneck trained by cosines wants them again, see `PrototypeHead`."""
    if not noised:
        return "mlp"
    return "discriminant" if name == "scattering" else "prototype"


def _resolve(key: str, given: str, allowed: tuple[str, ...], auto: str) -> str:
    if given not in ("auto", *allowed):
        raise ConfigError(key, f"the model has no {key.split('.')[1]} {given!r}", allowed=("auto", *allowed))
    return auto if given == "auto" else given


def _stages(
    name: str, form: RecordForm, bottleneck: int
) -> tuple[dict[str, nn.Module], Prepare, Augment, tuple[int, ...]]:
    """Return a model's stages, its transform, its augmentation, and the shape of one prepared record."""
    if name not in MODELS:
        own = installed.load(name)
        record = tuple(own.shape(form.input_shape))
        return own.stages(record, bottleneck), own.prepare, own.augment, record
    if name == "signal":
        return signal.stages(bottleneck), signal.prepare, signal.augment, (SIZE,)
    if name in ("cnn", "scattering"):
        height, width, colours = (*form.input_shape, 1)[:3]
        stages = (cnn if name == "cnn" else scattering).stages(form.input_shape, bottleneck)
        return stages, cnn.prepare, cnn.augment, (colours, height, width)
    columns = math.prod(form.input_shape)
    augment = cnn.augment if form.kind == "image" else mlp.augment
    return mlp.stages(columns, bottleneck), mlp.prepare, augment, (columns,)


def _trunk(stages: dict[str, nn.Module], split: str, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Return the stages between the split and the head as one module of flat features, and its output size.

    The bottleneck narrows what leaves the phone; after the split it has no purpose and is left out.
    """
    names = list(stages)
    cut = names.index(split) + 1
    x: Tensor = torch.zeros(1, *shape)
    with torch.no_grad():
        for name in names[:cut]:
            x = stages[name](x)
        later = [stages[name] for name in names[cut:] if name != "bottleneck"]
        if not later:
            return nn.Identity(), x.flatten(1).shape[1]
        trunk = nn.Sequential(nn.Unflatten(1, tuple(x.shape[1:])), *later, nn.Flatten())
        return trunk, trunk(x.flatten(1)).shape[1]
