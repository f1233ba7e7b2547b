from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from app.learning.config import DataConfig, ModelConfig, TrainConfig, default_training
from app.learning.datasets import mnist
from app.learning.form import RecordForm
from app.learning.models import Head, MlpHead, PrototypeHead, build
from app.learning.pretrain import pretrain
from app.learning.training import accuracy_and_loss, features, train_head
from app.learning.views import manufacturer_view
from app.learning.weights import get_vector, save_frozen, set_vector
from app.protocol.errors import ConfigError

SMALL = TrainConfig(epochs=3, batch_size=8, learning_rate=0.05, momentum=0.9)


def benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "accuracy.py"
    spec = importlib.util.spec_from_file_location("accuracy_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(n: int = 50, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    x = rng.normal(size=(n, d)) * 0.3 + np.eye(d)[labels]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def head(kind: str) -> Head:
    torch.manual_seed(0)
    return MlpHead(torch.nn.Identity(), 6, (8,), 3) if kind == "mlp" else PrototypeHead(6, 3, 50, 0.0)


def trained(kind: str, seed: int, start: np.ndarray) -> bytes:
    x, y = data()
    mec = MlpHead(torch.nn.Identity(), 6, (8,), 3) if kind == "mlp" else PrototypeHead(6, 3, 50, 0.0)
    set_vector(mec, start)
    train_head(mec, x, y, SMALL, seed)
    return get_vector(mec).tobytes()


@pytest.mark.parametrize("kind", ["mlp", "prototype"])
def test_training_in_threads_equals_training_alone(kind) -> None:
    start = get_vector(head(kind))
    alone = [trained(kind, seed, start) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        torch.manual_seed(99)
        together = list(pool.map(lambda seed: trained(kind, seed, start), range(6)))
    assert together == alone
    assert len(set(alone)) == 6


@pytest.mark.parametrize("kind", ["mlp", "prototype"])
def test_training_learns_and_reports_the_last_loss(kind) -> None:
    x, y = data()
    mec = head(kind)
    before = accuracy_and_loss(mec, x, y)
    losses = [train_head(mec, x, y, SMALL, seed) for seed in range(10)]
    after = accuracy_and_loss(mec, x, y)
    assert losses[-1] < losses[0]
    assert after[0] > 0.9 > before[0]
    assert after[1] < before[1]
    with torch.no_grad():
        assert after[0] == np.mean(mec(torch.from_numpy(x)).argmax(dim=1).numpy() == y)


def test_whole_process_is_repeatable_across_processes() -> None:
    code = (
        "import hashlib, torch\ntorch.set_num_threads(1)\n"
        "from app.learning.config import *\nfrom app.learning.form import RecordForm\n"
        "from app.learning.models import build\n"
        "from app.learning.pretrain import pretrain\n"
        "from app.learning.views import manufacturer_view\n"
        "from app.learning.weights import get_vector, save_frozen\n"
        "view = manufacturer_view(DataConfig(), 10, 3)\n"
        "model = build(ModelConfig(), RecordForm.of(view.summary), noised=True, noise=1.2, seed=3)\n"
        "pretrain(model, view.public, 3)\n"
        "print(hashlib.sha256(save_frozen(model) + get_vector(model.mec).tobytes()).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout


def test_prototype_is_unbiased_under_noise() -> None:
    x, y = data(300)
    sigma = 2.0
    full = TrainConfig(epochs=1, batch_size=0, learning_rate=1.0)

    def evidence(released: np.ndarray) -> np.ndarray:
        mec = PrototypeHead(6, 3, 300, sigma)
        train_head(mec, released, y, full, 0)
        return mec.evidence.detach().numpy()

    clean = evidence(x)
    rng = np.random.default_rng(1)
    draws = 400
    noisy = [evidence((x + rng.normal(0, sigma, x.shape)).astype(np.float32)) for _ in range(draws)]
    # one entry's standard error: sigma sqrt(n / 3) / n / sqrt(draws)
    error = sigma * np.sqrt(100) / 300 / np.sqrt(draws)
    assert np.abs(np.mean(noisy, axis=0) - clean).max() < 5 * error
    assert np.linalg.norm(clean[:, :-1]) > 50 * error
    np.testing.assert_allclose(np.array(noisy)[:, :, -1] - clean[:, -1], 0, atol=1e-6)  # counts carry no noise


@pytest.mark.parametrize(
    ("train", "key"),
    [
        (TrainConfig(epochs=0), "epochs"),
        (TrainConfig(batch_size=-1), "batch_size"),
        (TrainConfig(learning_rate=0.0), "learning_rate"),
        (TrainConfig(learning_rate=float("nan")), "learning_rate"),
        (TrainConfig(momentum=1.0), "momentum"),
    ],
)
def test_impossible_training_is_refused(train, key) -> None:
    x, y = data()
    with pytest.raises(ConfigError, match=rf"train\.{key}"):
        train_head(head("mlp"), x, y, train, 0)


def test_features_do_not_depend_on_the_batch() -> None:
    view = manufacturer_view(DataConfig(name="digits"), 10, 0)
    model = build(ModelConfig(), RecordForm.of(view.summary), noised=False)
    part = view.test.subset(range(70))
    np.testing.assert_allclose(features(model.phone, part), features(model.phone, part, batch=7), atol=1e-5)


def test_pretraining_leaves_the_phone_frozen_and_the_head_at_the_public_records() -> None:
    view = manufacturer_view(DataConfig(public=5), 10, 0)
    model = build(ModelConfig(), RecordForm.of(view.summary), noised=True, noise=1.2)
    pretrain(model, view.public, 0)
    before = save_frozen(model)
    assert not any(tensor.requires_grad for tensor in model.phone.parameters())
    released = features(model.phone, view.public)
    assert accuracy_and_loss(model.mec, released, view.public.labels)[0] > 0.95
    train_head(model.mec, released, view.public.labels, default_training("prototype", 55), 0)
    assert save_frozen(model) == before


def test_plaid_without_privacy_reaches_eighty_percent() -> None:
    outcome = benchmark().run(DataConfig(), ModelConfig(), "off", 10, 0)
    assert outcome.accuracy[-1] >= 0.80


def test_plaid_with_privacy_gains_from_customers_and_shows_a_flipped_update() -> None:
    outcome = benchmark().run(DataConfig(), ModelConfig(), "8", 10, 0)
    assert outcome.accuracy[-1] > outcome.accuracy[0] + 0.02
    assert outcome.caught >= 8


@pytest.mark.parametrize("epsilon", ["4", "1"])
def test_plaid_does_not_collapse_under_strong_privacy(epsilon) -> None:
    outcome = benchmark().run(DataConfig(), ModelConfig(), epsilon, 10, 0)
    assert min(outcome.accuracy) > outcome.accuracy[0] - 0.02


def test_digits_reach_ninety_percent_without_privacy() -> None:
    outcome = benchmark().run(DataConfig(name="digits", public=10), ModelConfig(), "off", 5, 0)
    assert outcome.accuracy[-1] >= 0.90


@pytest.mark.slow
def test_mnist_without_privacy_reaches_97_percent() -> None:
    if not any(place.is_dir() for place in mnist.places()):
        pytest.skip(f"MNIST is in none of {', '.join(map(str, mnist.places()))}")
    outcome = benchmark().run(DataConfig(name="mnist", public=10), ModelConfig(), "off", 6, 0)
    assert outcome.accuracy[-1] >= 0.97
