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

from app.privacy.randomness import InsecureSeededRandom, RandomSource, SystemRandom

SOURCES = [SystemRandom(), InsecureSeededRandom(1, "law")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_words_are_uniform_and_independent(source: RandomSource) -> None:
    """False alarm below 1e-7 for the unseeded source: 6.5 standard errors for 64 bits and 2016 pairs of them."""
    n = 200_000
    bits = np.unpackbits(source.words(n).view(np.uint8).reshape(n, 8), axis=1).astype(np.float64) - 0.5
    assert np.abs(bits.mean(axis=0)).max() < 6.5 * 0.5 / n**0.5
    correlations = bits.T @ bits / n - 0.25 * np.eye(64)
    assert np.abs(correlations).max() < 6.5 * 0.25 / n**0.5
    for lag in (1, 2, n // 2):
        assert np.abs((bits[lag:] * bits[:-lag]).mean(axis=0)).max() < 6.5 * 0.25 / (n - lag) ** 0.5


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_as_asked_for(source: RandomSource, count: int) -> None:
    words = source.words(count)
    assert words.shape == (count,)
    assert words.dtype == np.uint64


def test_the_same_seed_gives_the_same_numbers_and_each_draw_others() -> None:
    one, two, other = InsecureSeededRandom(7, 3), InsecureSeededRandom(7, 3), InsecureSeededRandom(7, 4)
    first = one.words(50)
    assert np.array_equal(first, two.words(50))
    assert not np.isin(first, one.words(50)).any()
    assert not np.isin(first, other.words(50)).any()
    assert not np.array_equal(InsecureSeededRandom("73").words(5), InsecureSeededRandom(7, 3).words(5))


def test_seeded_numbers_are_pinned() -> None:
    """A change of the stream would change every simulated run."""
    expected = [9756621182503599588, 5969572822818130655]
    assert InsecureSeededRandom(0, "features", 0).words(2).tolist() == expected


def test_system_numbers_never_repeat() -> None:
    assert not np.isin(SystemRandom().words(100), SystemRandom().words(100)).any()


def test_global_generators_neither_steer_nor_notice() -> None:
    def seed_all(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    seed_all(5)
    seeded, system = InsecureSeededRandom(1).words(20), SystemRandom().words(20)
    after = random.random(), np.random.random(), torch.rand(1).item()
    seed_all(5)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == after
    seed_all(5)
    assert not np.isin(SystemRandom().words(20), system).any()
    seed_all(6)
    assert np.array_equal(InsecureSeededRandom(1).words(20), seeded)


def test_threads_share_a_seeded_source_without_repeating_a_draw() -> None:
    source, draws = InsecureSeededRandom(2), []
    threads = [threading.Thread(target=lambda: draws.append(source.words(3).tobytes())) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = InsecureSeededRandom(2)
    assert set(draws) == {alone.words(3).tobytes() for _ in range(32)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_share_system_noise() -> None:
    script = """
        import os
        from app.privacy.randomness import SystemRandom
        source = SystemRandom()
        source.words(4)
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, source.words(4).tobytes())
            os._exit(0)
        child = os.read(read, 32)
        os.wait()
        assert len(child) == 32 and child != source.words(4).tobytes()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_one_draw_has_a_limit() -> None:
    with pytest.raises(ValueError, match="at most"):
        SystemRandom().words(2**36)
