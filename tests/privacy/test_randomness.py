"""Sources of noise: the law of the numbers, repeatability where promised, independence from every global generator."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from app.privacy.randomness import InsecureSeededRandom, RandomSource, SystemRandom

SOURCES = [SystemRandom(), InsecureSeededRandom(1, "law")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_numbers_are_standard_normal_and_independent(source: RandomSource) -> None:
    """False alarm below 1e-8 for the unseeded source; a scale of 1.02 or a shift of 0.02 fails with power > 0.999."""
    n = 400_000
    z = source.normal((n,))
    assert kstest(z, "norm").pvalue > 1e-9
    assert abs(z.mean()) < 6.5 / n**0.5
    assert abs(z.var() - 1) < 6.5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 6.5 * (96 / n) ** 0.5
    for lag in (1, 2, n // 2):  # n // 2: the two numbers of one pair
        assert abs((z[lag:] * z[:-lag]).mean()) < 6.5 / (n - lag) ** 0.5
        assert abs(((z[lag:] ** 2 - 1) * (z[:-lag] ** 2 - 1)).mean()) < 6.5 * 2 / (n - lag) ** 0.5


@pytest.mark.parametrize("shape", [(0,), (0, 5), (1, 1), (3, 5), (7,), (2, 3, 4)])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_shape_and_type(source: RandomSource, shape: tuple[int, ...]) -> None:
    z = source.normal(shape)
    assert z.shape == shape
    assert z.dtype == np.float64
    assert np.isfinite(z).all()


def test_the_same_seed_gives_the_same_numbers_and_each_draw_others() -> None:
    one, two, other = InsecureSeededRandom(7, 3), InsecureSeededRandom(7, 3), InsecureSeededRandom(7, 4)
    first = one.normal((50,))
    assert np.array_equal(first, two.normal((50,)))
    assert not np.isin(first, one.normal((50,))).any()
    assert not np.isin(first, other.normal((50,))).any()
    assert not np.array_equal(InsecureSeededRandom("73").normal((5,)), InsecureSeededRandom(7, 3).normal((5,)))


def test_seeded_numbers_are_pinned() -> None:
    """A change of the stream would change every simulated run."""
    expected = [0.6277828391938, -0.4840907444106, -0.9379617104984, -1.4219990060855]
    assert InsecureSeededRandom(0, "features", 0).normal((4,)) == pytest.approx(expected, abs=1e-12)


def test_system_numbers_never_repeat() -> None:
    assert not np.isin(SystemRandom().normal((100,)), SystemRandom().normal((100,))).any()


def test_global_generators_neither_steer_nor_notice() -> None:
    def seed_all(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    seed_all(5)
    seeded, system = InsecureSeededRandom(1).normal((20,)), SystemRandom().normal((20,))
    after = random.random(), np.random.random(), torch.rand(1).item()
    seed_all(5)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == after
    seed_all(5)
    assert not np.isin(SystemRandom().normal((20,)), system).any()
    seed_all(6)
    assert np.array_equal(InsecureSeededRandom(1).normal((20,)), seeded)


def test_threads_share_a_seeded_source_without_repeating_a_draw() -> None:
    source, draws = InsecureSeededRandom(2), []
    threads = [threading.Thread(target=lambda: draws.append(source.normal((3,)).tobytes())) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = InsecureSeededRandom(2)
    assert set(draws) == {alone.normal((3,)).tobytes() for _ in range(32)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_share_system_noise() -> None:
    script = """
        import os
        from app.privacy.randomness import SystemRandom
        source = SystemRandom()
        source.normal((4,))
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, source.normal((4,)).tobytes())
            os._exit(0)
        child = os.read(read, 32)
        os.wait()
        assert len(child) == 32 and child != source.normal((4,)).tobytes()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_one_draw_has_a_limit() -> None:
    with pytest.raises(ValueError, match="at most"):
        SystemRandom().normal((2**36,))
