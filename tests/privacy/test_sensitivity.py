"""The joint sensitivity of a batch: searched for by hill-climbing, which must reach it and must not beat it."""

from __future__ import annotations

import numpy as np
import pytest

from app.privacy.cost import COORDINATE
from app.privacy.normalisation import FeatureSpace, normalise
from app.privacy.sensitivity import column_sensitivity
from tests.privacy.make import PAPER, make


def moved(name: str, pair: np.ndarray, space: FeatureSpace) -> float:
    """Return the L1 distance of two normalised batches that differ in their first record.

    ``pair`` holds the other N - 1 records, then the two versions of the first.
    """
    one, other = (normalise(name, np.vstack([row[None], pair[:-2]]), space) for row in pair[-2:])
    return float(np.abs(one - other).sum())


def climb(name: str, records: int, space: FeatureSpace, steps: int, seed: int) -> float:
    """Return the largest distance that random changes, kept where they help, come to."""
    rng = np.random.default_rng(seed)
    # Large values, so that the floor of the variance does not matter; the first record far out, as outliers move most.
    pair = rng.choice([-1e3, 1e3], size=(records + 1, space.size))
    best, size = moved(name, pair, space), 1.0
    for _ in range(steps):
        trial = pair.copy()
        chosen = rng.integers(records + 1) if rng.random() < 0.5 else records - 1 + rng.integers(2)
        trial[chosen] = trial[chosen] * np.exp(size * rng.normal()) + 1e3 * size * rng.normal()
        if (distance := moved(name, trial, space)) > best:
            pair, best = trial, distance
        else:
            size = max(0.01, size * 0.999)
    return best


@pytest.mark.parametrize(("records", "published"), [(8, 11.576), (16, 20.656), (64, 72.569), (256, 272.533)])
def test_the_formula_gives_the_published_values(records: int, published: float) -> None:
    assert column_sensitivity(records) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("records", "steps"), [(8, 4000), pytest.param(64, 9000, marks=pytest.mark.long)])
def test_a_search_on_one_column_reaches_the_bound_and_does_not_beat_it(records: int, steps: int) -> None:
    bound, space = column_sensitivity(records), FeatureSpace((1,))
    found = max(climb("batch", records, space, steps, seed) for seed in range(2))
    assert 0.95 * bound < found <= bound * (1 + 1e-9)
    assert found > 2 * (records - 1) ** 0.5  # the paper's bound, which is one value's


def worst_batches(records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pair at which the bound is attained: t with cos t' = 0, see `app.privacy.sensitivity`."""
    root = records**0.5
    others = np.resize([1.0, -1.0], records - 1)
    others = (others - others.mean()) / others.std()
    best = max(
        (np.linspace(-1, 1, 4001) * root * 3),
        key=lambda value: moved("batch", np.r_[others, value, 1e9][:, None], FeatureSpace((1,))),
    )
    return np.r_[best, others], np.r_[1e9, others]


def test_at_64_records_the_attained_change_is_the_published_one() -> None:
    one, other = worst_batches(64)
    space = FeatureSpace((1,))
    distance = np.abs(normalise("batch", one[:, None], space) - normalise("batch", other[:, None], space)).sum()
    assert 72.0 < distance <= 72.5695


def test_maps_have_the_same_bound_for_each_position() -> None:
    """A channel normalised as a whole: P times a column's bound, reached by records constant over positions."""
    records, space = 16, FeatureSpace((1, 2, 2))
    bound = 4 * column_sensitivity(records)
    found = max(climb("map", records, space, 3000, seed) for seed in range(2))
    assert found <= bound * (1 + 1e-9)
    one, other = worst_batches(records)
    pair = np.repeat(np.r_[one[1:], one[0], other[0]][:, None], 4, axis=1)
    assert 0.95 * bound < moved("map", pair, space) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("records", [1, 2, 3, 4, 5])
def test_small_batches(records: int) -> None:
    bound = column_sensitivity(records)
    assert bound <= 2 * records
    found = max(climb("batch", records, FeatureSpace((1,)), 600, seed) for seed in range(3))
    assert found <= bound * (1 + 1e-9)


@pytest.mark.parametrize("calibration", ["batch", "map"])
def test_what_a_release_costs_a_record_bounds_what_the_record_moves(calibration: str) -> None:
    records, width = 16, 3
    space = FeatureSpace((1, 1, width))
    mechanism = make(PAPER, batch_size=records, calibration=calibration)
    cost = mechanism.cost(records, space)
    assert cost.unit == COORDINATE
    assert cost.record_epsilon is not None
    scale = mechanism.scale(mechanism.radius(records, space))  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    one, _ = worst_batches(records)
    pairs = [np.repeat(np.r_[one[1:], one[0], 1e6][:, None], width, axis=1)]
    pairs += [rng.normal(size=(records + 1, width)) * rng.exponential(50, size=(records + 1, 1)) for _ in range(30)]
    moves = []
    for pair in pairs:
        both = [np.vstack([row[None], pair[:-2]]).astype(np.float32) for row in pair[-2:]]
        values = [make(PAPER, 1, batch_size=records, calibration=calibration).release(x, space).values for x in both]
        moves.append(np.abs(values[0].astype(np.int64) - values[1]).sum() / scale)
    assert max(moves) <= cost.record_epsilon
    if calibration == "batch":
        assert max(moves) > 0.75 * cost.record_epsilon  # clipping at sqrt(N - 1) takes the rest


def test_costs_at_the_papers_size() -> None:
    """Facts: d = 3920, N = 64: 17,920 epsilon for a record; d epsilon were the statistics constants; and the grid's."""
    space = FeatureSpace((80, 7, 7))
    coupled = make(PAPER, epsilon=1.0, normalisation="batch").cost(6400, space)
    assert coupled.epsilon == 1.0
    assert 17_920 < coupled.for_a_record < 17_920 * 1.02
    wide = make(PAPER, epsilon=1.0, normalisation="map", calibration="map").cost(6400, space)
    assert 2_540 < wide.for_a_record < 2_540 * 1.06
    apart = make(PAPER, epsilon=1.0, normalisation="public").cost(6400, space)
    assert apart.for_a_record == 3920.0
    last = make(PAPER, epsilon=1.0, normalisation="batch").cost(64 + 1, space)
    assert last.for_a_record == coupled.for_a_record  # the larger batch is worse off
    assert make(PAPER, epsilon=1.0, normalisation="batch").cost(1, space).for_a_record == 0.0  # nothing but zeros
