from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.learning.config import ModelConfig
from app.learning.data import Dataset
from app.learning.form import RecordForm
from app.learning.models import MlpHead, PrototypeHead, build
from app.learning.models.heads import PULL, REFERENCE
from app.learning.models.signature import SIZE, signature
from app.learning.pretrain import pretrain
from app.learning.training import features
from app.learning.weights import (
    get_vector,
    layout,
    load_frozen,
    save_frozen,
    set_vector,
)
from app.protocol.errors import ConfigError, ProtocolError


def summary(kind: str, shape: tuple[int, ...], classes: int = 3) -> RecordForm:
    return RecordForm(kind, shape, tuple(map(str, range(classes))), 90)


IMAGE = summary("image", (28, 28), 10)
SIGNAL = summary("signal", ())
TABLE = summary("table", (4,))


def table_set(n: int = 60, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    inputs = rng.normal(size=(n, 4)).astype(np.float32) + 3 * np.eye(4, dtype=np.float32)[labels]
    return Dataset(inputs * np.array([1, 1e-6, 1e6, 1], np.float32), labels, ("0", "1", "2"), "table")


def test_paper_cnn_gives_3920_features_on_28_by_28() -> None:
    model = build(ModelConfig(), IMAGE, noised=False)
    assert (model.name, model.split, model.head) == ("cnn", "conv2", "mlp")
    assert model.feature_size == 3920
    images = Dataset(np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int64), IMAGE.classes, "image")
    assert features(model.phone, images).shape == (3, 3920)
    shapes = [tuple(tensor.shape) for tensor in model.phone.parameters()]
    assert shapes == [(30, 1, 5, 5), (30,), (80, 30, 5, 5), (80,)]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (31, 17), (12, 9, 3), (9, 9, 1)])
@pytest.mark.parametrize("split", ["conv1", "conv2", "bottleneck"])
def test_cnn_takes_any_image(shape, split) -> None:
    model = build(ModelConfig(split=split, head="mlp", bottleneck=7), summary("image", shape), noised=False)
    images = Dataset(np.ones((2, *shape), np.uint8), np.zeros(2, np.int64), ("a", "b", "c"), "image")
    found = features(model.phone, images)
    assert found.shape == (2, model.feature_size)
    assert model.mec(torch.from_numpy(found)).shape == (2, 3)


def test_a_cut_after_conv1_leaves_conv2_to_the_mec() -> None:
    model = build(ModelConfig(split="conv1"), IMAGE, noised=False)
    assert model.feature_size == 30 * 14 * 14
    assert ("trunk.1.0.weight", (80, 30, 5, 5)) in layout(model.mec)


@pytest.mark.parametrize(
    ("given", "name", "head"),
    [(IMAGE, "scattering", "discriminant"), (SIGNAL, "signal", "prototype"), (TABLE, "mlp", "prototype")],
)
def test_noised_features_come_from_a_bottleneck_of_norm_one(given, name, head) -> None:
    model = build(ModelConfig(bottleneck=16), given, noised=True, noise=1.0)
    assert (model.name, model.split, model.head, model.feature_size) == (name, "bottleneck", head, 16)
    assert layout(model.mec) == (("evidence", (len(given.classes), 17)),)
    assert not any(tensor.requires_grad for tensor in model.phone.parameters())


@pytest.mark.parametrize("kind", ["image", "signal", "table"])
def test_features_of_a_record_do_not_depend_on_other_records(kind) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.integers(0, 255, (9, 6, 6)).astype(np.uint8),
        "signal": [rng.normal(size=n).astype(np.float32) for n in range(1, 400, 45)],
        "table": rng.normal(size=(9, 4)).astype(np.float32),
    }[kind]
    data = Dataset(inputs, np.zeros(9, np.int64), ("a", "b", "c"), kind)
    name = "cnn" if kind == "image" else "auto"
    model = build(ModelConfig(name=name), summary(kind, data.input_shape), noised=True)
    together = features(model.phone, data)
    alone = np.concatenate([features(model.phone, data.subset([k])) for k in range(9)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "given", "match"),
    [
        (ModelConfig(name="cnn", split="conv3"), IMAGE, r"model\.split.*conv1, conv2, bottleneck"),
        (ModelConfig(split="conv1"), SIGNAL, r"model\.split.*signature, scale, bottleneck"),
        (ModelConfig(head="svm"), TABLE, r"model\.head.*mlp, prototype"),
        (ModelConfig(name="cnn"), SIGNAL, r"model\.name.*auto, signal"),
        (ModelConfig(name="transformer"), SIGNAL, r"model\.name.*cnn"),
        (ModelConfig(bottleneck=0), TABLE, r"model\.bottleneck"),
        (ModelConfig(hidden=(8, 0)), TABLE, r"model\.hidden"),
    ],
)
def test_impossible_models_are_refused(model, given, match) -> None:
    with pytest.raises(ConfigError, match=match):
        build(model, given, noised=False)


def test_first_weights_follow_the_seed_and_not_the_global_generator() -> None:
    def first(seed: int, disturbance: int) -> bytes:
        torch.manual_seed(disturbance)
        model = build(ModelConfig(), IMAGE, noised=False, seed=seed)
        return save_frozen(model) + get_vector(model.mec).tobytes()

    assert first(1, 1) == first(1, 2)
    assert first(1, 1) != first(2, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=1500))
def test_signature_of_any_signal_is_finite_and_of_fixed_size(values) -> None:
    found = signature(np.array(values, np.float32))
    assert found.shape == (SIZE,)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 200


def test_scale_uses_public_statistics_whatever_the_units() -> None:
    data = table_set()
    model = build(ModelConfig(split="scale"), TABLE, noised=False)
    pretrain(model, data, 0)
    found = features(model.phone, data)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=0.05)


def test_constant_column_is_harmless() -> None:
    data = table_set()
    data.inputs[:, 3] = 7.7
    model = build(ModelConfig(), TABLE, noised=True)
    pretrain(model, data, 0)
    assert np.isfinite(features(model.phone, data)).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), noised=st.booleans())
def test_vector_round_trip(seed, noised) -> None:
    mec = build(ModelConfig(hidden=(5,)), TABLE, noised=noised).mec
    size = sum(int(np.prod(shape)) for _, shape in layout(mec))
    vector = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    set_vector(mec, vector)
    np.testing.assert_array_equal(get_vector(mec), vector)
    assert get_vector(mec).dtype == np.float32


def test_set_vector_copies_and_refuses_what_does_not_fit() -> None:
    mec = build(ModelConfig(hidden=()), TABLE, noised=False).mec
    vector = get_vector(mec)
    set_vector(mec, vector)
    vector[:] = 5
    assert get_vector(mec)[0] != 5
    for bad in (vector[:-1], np.append(vector, 0), np.full_like(vector, np.nan), vector[None]):
        with pytest.raises(ProtocolError):
            set_vector(mec, bad)


@pytest.mark.parametrize(("given", "noised"), [(TABLE, True), (TABLE, False), (SIGNAL, True), (IMAGE, True)])
def test_frozen_part_round_trip(given, noised) -> None:
    first = build(ModelConfig(), given, noised=noised, noise=2.0, seed=1)
    second = build(ModelConfig(), given, noised=noised, seed=2)
    for tensor in [*first.phone.state_dict().values(), *first.mec.buffers()]:
        torch.nn.init.normal_(tensor) if tensor.ndim else tensor.fill_(3)
    blob = save_frozen(first)
    assert save_frozen(second) != blob
    load_frozen(second, blob)
    assert save_frozen(second) == blob


def test_malformed_frozen_parts_are_refused() -> None:
    model = build(ModelConfig(), TABLE, noised=True)
    good = save_frozen(model)
    other_width = save_frozen(build(ModelConfig(bottleneck=8), TABLE, noised=True))
    other_model = save_frozen(build(ModelConfig(), SIGNAL, noised=True))
    poisoned = build(ModelConfig(), TABLE, noised=True)
    poisoned.phone.stages["scale"].mean[0] = float("nan")
    for blob in (b"", b"\x80\x04pickle", good[:-1], good + b"x", b"\xff" * 64, other_width, other_model):
        with pytest.raises(ProtocolError, match="frozen part"):
            load_frozen(model, blob)
    with pytest.raises(ProtocolError, match="NaN"):
        load_frozen(model, save_frozen(poisoned))
    assert save_frozen(model) == good


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_frozen_part(blob) -> None:
    with pytest.raises(ProtocolError):
        load_frozen(_TABLE_MODEL, blob)


_TABLE_MODEL = build(ModelConfig(), TABLE, noised=True)


def test_prototype_start_is_the_public_means() -> None:
    head = PrototypeHead(4, 3, records=100, noise=0.0)
    x = torch.nn.functional.normalize(torch.eye(4)[:3].repeat(2, 1) + 0.1, dim=1)
    head.start(x, torch.tensor([0, 1, 2, 0, 1, 2]))
    np.testing.assert_allclose(head.evidence[:, :4].detach(), 2 * x[:3] * REFERENCE / 100, rtol=1e-5)
    assert head(x).argmax(dim=1).tolist() == [0, 1, 2, 0, 1, 2]


def test_prototype_prior_weighs_more_the_more_noise() -> None:
    def share(noise: float) -> float:
        head = PrototypeHead(4, 2, records=100, noise=noise)
        head.start(torch.eye(4)[:2], torch.tensor([0, 1]))
        return float(head.prior[0, 0])

    assert share(0) < share(1.2) < share(7.5)


def test_prototype_loss_gradient_is_mean_feature_and_share_of_each_class() -> None:
    head = PrototypeHead(3, 2, records=10, noise=0.0)
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 1, 0, 1, 1, 1])
    torch.autograd.backward(head.loss(x, y))
    expected = torch.cat([x, torch.ones(8, 1)], dim=1)
    for label in (0, 1):
        np.testing.assert_allclose(-head.evidence.grad[label], expected[y == label].sum(dim=0) / 8, rtol=1e-5)


def test_prototype_pull_bounds_the_evidence() -> None:
    head = PrototypeHead(3, 2, records=10, noise=0.0)
    x, y = torch.ones(4, 3), torch.tensor([0, 0, 0, 0])
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    for _ in range(400):
        optimiser.zero_grad()
        torch.autograd.backward(head.loss(x, y))
        optimiser.step()
    np.testing.assert_allclose(head.evidence[0].detach(), 1 / PULL, rtol=1e-3)


def test_mlp_head_shapes() -> None:
    head = MlpHead(torch.nn.Identity(), 6, (5, 4), 3)
    assert [shape for _, shape in layout(head)] == [(5, 6), (5,), (4, 5), (4,), (3, 4), (3,)]
