"""What the manufacturer does before the task: train the extractor on its public records, and start the head.

The result is the initial global model: it is as good as the public records alone make it, and no customer's record
has touched it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from app.learning.config import TrainConfig
from app.learning.data import Dataset, Inputs
from app.learning.models.build import SplitModel
from app.learning.models.discriminant import DiscriminantHead
from app.learning.models.heads import SHARPNESS, PrototypeHead
from app.learning.models.phone import Scale
from app.learning.models.scattering import Projection
from app.learning.training import Features, features, train_head
from app.privacy.normalisation import FeatureSpace

Clean = Callable[[Features, FeatureSpace], Features]

VARIANTS = 8  # varied copies of each public record
SCATTERED = 20  # the same where nothing but a projection is learnt from them
STEPS = 400
BATCH = 64
RATE = 2e-3  # of Adam
JITTER = 0.3  # noise on standardised signatures and tables


def pretrain(model: SplitModel, public: Dataset, seed: int, clean: Clean = lambda features, space: features) -> None:
    """Train ``model`` in place on the manufacturer's public records; the phone is frozen afterwards, if it is to be.

    The extractor learns to send the records of one class in one direction: cross-entropy over the cosines between the
    bottleneck's unit vectors and one trainable direction a class, with a cosine-shaped learning rate. The bottleneck
    serves this even where the split comes before it, because it is how the convolutions are trained.

    Parameters
    ----------
    model : SplitModel
        Fresh from `build`.
    public : Dataset
        The manufacturer's records.
    seed : int
        Decides order, variants and jitter.
    clean : callable, optional
        What a release does to features before it adds noise, see `app.privacy.mechanism.Mechanism.clean`: the head
        starts from features as it will know them.
    """
    varied = np.random.default_rng([seed, 0xA06])
    variants = SCATTERED if model.name == "scattering" else VARIANTS
    copies: list[Inputs] = [public.inputs, *(model.augment(public.inputs, varied) for _ in range(variants))]
    records = torch.cat([model.phone.prepare(copy) for copy in copies])
    labels = torch.from_numpy(public.labels).repeat(len(copies))
    _fit_scales(model.extractor, records[: len(public)])
    if model.name == "scattering":
        _fit_projection(model.extractor, records)
    elif model.split == "bottleneck" or model.name == "cnn":
        _train_extractor(model, records, labels, len(public.classes), seed)
    model.phone.requires_grad_(False)
    model.trained.requires_grad_(True)  # stages after the split go on learning there
    found = features(model.phone, public)
    model.phone.fit_constants(found)
    if isinstance(model.mec, DiscriminantHead):
        counts = torch.from_numpy(np.bincount(public.labels, minlength=len(public.classes)))
        varied_features = clean(_in_parts(model.phone, records).numpy(), model.phone.space)
        model.mec.start(torch.from_numpy(varied_features), labels, counts)
    else:
        _start_head(model, clean(found, model.phone.space), public, seed)


def _fit_scales(extractor: nn.ModuleDict, records: Tensor) -> None:
    """Fit each `Scale` on the public records; it is always the first thing that changes them."""
    for layer in extractor.modules():
        if isinstance(layer, Scale):
            layer.fit(records)


def _fit_projection(extractor: nn.ModuleDict, records: Tensor) -> None:
    """Fit the `Projection` on the scattered records."""
    scattered = _in_parts(extractor["scattering"], records)
    for layer in extractor["bottleneck"].modules():
        if isinstance(layer, Projection):
            layer.fit(scattered)


def _in_parts(module: nn.Module, records: Tensor) -> Tensor:
    """Return what ``module`` makes of prepared records, a few at a time: whole sets of moduli are large."""
    with torch.no_grad():
        return torch.cat([module(part) for part in torch.split(records, 64)])


def _train_extractor(model: SplitModel, records: Tensor, labels: Tensor, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jitter = 0.0 if model.name == "cnn" else JITTER
    with torch.no_grad():
        x = records
        fixed = [stage for stage in model.extractor.values() if not list(stage.parameters())]
        for stage in fixed:
            x = stage(x)
    learnt = nn.Sequential(*(stage for stage in model.extractor.values() if list(stage.parameters())))
    learnt.requires_grad_(True)
    width = learnt(x[:1]).shape[1]
    directions = nn.Parameter(torch.randn(classes, width, generator=generator))
    optimiser = torch.optim.Adam([*learnt.parameters(), directions], lr=RATE)
    epochs = -(-STEPS // -(-len(x) // BATCH))
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        for batch in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            noise = jitter * torch.randn(x[batch].shape, generator=generator) if jitter else 0.0
            cosines = learnt(x[batch] + noise) @ nn.functional.normalize(directions, dim=1).T
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(SHARPNESS * cosines, labels[batch]))
            optimiser.step()
    learnt.requires_grad_(False)


def _start_head(model: SplitModel, found: Features, public: Dataset, seed: int) -> None:
    if isinstance(model.mec, PrototypeHead):
        model.mec.start(torch.from_numpy(found), torch.from_numpy(public.labels))
    else:
        train_head(model.mec, found, public.labels, TrainConfig(30, 16, 0.01, 0.9), seed)
