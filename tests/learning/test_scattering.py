from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from sklearn.decomposition import PCA

from app.learning.config import ModelConfig
from app.learning.data import Dataset
from app.learning.form import RecordForm
from app.learning.models import build
from app.learning.models.scattering import CHANNELS, ORIENTATIONS, SPREAD_FLOOR, Projection, Scattering
from app.learning.pretrain import pretrain
from app.learning.training import accuracy_and_loss, features

DIGIT = np.random.default_rng(3).random((8, 12)).astype(np.float32)


def halved(x: np.ndarray, blur: np.ndarray) -> np.ndarray:
    return correlate2d(np.pad(x, 1), blur, mode="valid")[::2, ::2]


def test_coefficients_are_those_of_an_independent_convolution() -> None:
    layer = Scattering()
    found = layer(torch.from_numpy(DIGIT)[None, None])[0].numpy()
    fine, coarse, blur = (bank.numpy().astype(np.float64)[:, 0] for bank in (layer.fine, layer.coarse, layer.blur))

    def modulus(x: np.ndarray, bank: np.ndarray, angle: int) -> np.ndarray:
        return np.abs(correlate2d(x, bank[angle], "same") + 1j * correlate2d(x, bank[ORIENTATIONS + angle], "same"))

    assert found.shape == (CHANNELS, 2, 3)
    for angle in (0, 3, 7):
        first = halved(modulus(DIGIT, fine, angle), blur[0])
        second = modulus(first, fine, 5)
        expected = {
            0: halved(halved(DIGIT, blur[0]), blur[0]),
            1 + angle: halved(first, blur[0]),
            1 + ORIENTATIONS + angle: halved(halved(modulus(DIGIT, coarse, angle), blur[0]), blur[0]),
            1 + 2 * ORIENTATIONS + angle * ORIENTATIONS + 5: halved(second, blur[0]),
        }
        for channel, values in expected.items():
            np.testing.assert_allclose(found[channel], np.sqrt(values), rtol=1e-4, atol=1e-4)


def test_flat_images_have_no_wavelet_coefficients_inside() -> None:
    found = Scattering()(torch.full((1, 1, 40, 40), 0.7))[0]
    assert found[0, 4:6, 4:6].min() > 0.8
    assert found[1:, 4:6, 4:6].max() < 1e-3


def test_a_shift_changes_them_less_than_it_changes_the_pixels() -> None:
    x = torch.zeros(1, 1, 28, 28)
    x[..., 8:20, 13:15] = 1
    moved = x.roll(1, dims=3)

    def change(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm() / a.norm())

    assert change(Scattering()(x), Scattering()(moved)) < 0.5 * change(x, moved)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (31, 17), (12, 9, 3)])
@pytest.mark.parametrize("split", ["scattering", "bottleneck"])
def test_takes_any_image(shape, split) -> None:
    given = RecordForm("image", shape, ("a", "b"), 8)
    model = build(ModelConfig(name="scattering", split=split, head="mlp"), given, noised=False)
    found = features(model.phone, Dataset(np.ones((2, *shape), np.uint8), np.zeros(2, np.int64), ("a", "b"), "image"))
    assert found.shape == (2, model.feature_size)
    assert np.isfinite(found).all()


def test_projection_is_the_principal_components_damped() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + 5
    layer = Projection(6, 4)
    layer.fit(torch.from_numpy(x).float())
    deviation = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / (deviation + SPREAD_FLOOR * deviation.mean())
    pca = PCA(4).fit(scaled)
    expected = pca.transform(scaled) / (pca.explained_variance_ * 49 / 50) ** 0.25
    found = layer(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-3)


def test_fewer_public_records_than_features_leave_the_rest_empty() -> None:
    layer = Projection(30, 20)
    layer.fit(torch.randn(5, 30, generator=torch.Generator().manual_seed(0)))
    found = layer(torch.randn(3, 30, generator=torch.Generator().manual_seed(1)))
    assert torch.isfinite(found).all()
    assert (found[:, 5:] == 0).all()


def test_noised_images_take_scattering_and_learn_from_a_few_public_records() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    images = rng.integers(0, 60, (60, 12, 12)).astype(np.uint8)
    images[labels == 0, 2:10, 5:7] = 255
    images[labels == 1, 5:7, 2:10] = 255
    images[labels == 2, 3:9, 3:9] = 255
    data = Dataset(images, labels, ("a", "b", "c"), "image")
    given = RecordForm("image", (12, 12), data.classes, 51)
    model = build(ModelConfig(), given, noised=True, noise=1.2)
    assert (model.name, model.split, model.head, model.bottleneck) == ("scattering", "bottleneck", "discriminant", 256)
    pretrain(model, data.subset(np.arange(0, 60, 7)), 0)
    assert accuracy_and_loss(model.mec, features(model.phone, data), labels)[0] > 0.9
