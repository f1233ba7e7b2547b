"""The reputation rule on chain, and the points that it earns, against the same in Python, over random histories."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_world import ETHER, World

from app.ledger.chain import Chain

Round = tuple[set[int], set[int]]  # participants, those of them evaluated H


def rule(
    gammas: list[int], participants: set[int], honest: set[int], gamma_max: int
) -> tuple[list[int], int, dict[int, int]]:
    """The four cases of Zhao et al. 2020 with h = floor(mean gamma of the participants); and who earned what."""
    h = sum(gammas[i] for i in participants) // len(participants)
    after = list(gammas)
    earned = {i: gammas[i] for i in participants & honest if gammas[i] >= h}
    for i in participants:
        match (i in honest, gammas[i] - h):
            case (_, d) if d < 0:
                after[i] = gammas[i] + 1
            case (True, _):
                after[i] = min(gamma_max, gammas[i] + 1)
            case (False, 0):
                after[i] = 0
            case (False, _):
                after[i] = gammas[i] - 1
    return after, h, earned


def play(chain: Chain, n: int, rounds: list[Round], gamma_initial: int, gamma_max: int) -> None:
    terms = {"rounds": len(rounds), "gamma_initial": gamma_initial, "gamma_max": gamma_max, "reward": ETHER}
    world = World(chain, n=n, m=1, f=0, **terms)
    gammas, points = [gamma_initial] * n, [0] * n
    for number, (participants, honest) in enumerate(rounds, start=1):
        world.seal(number, sorted(participants))
        world.finalise(number, sorted(participants), sorted(honest))
        gammas, h, earned = rule(gammas, participants, honest, gamma_max)
        points = [points[i] + earned.get(i, 0) for i in range(n)]
        done = world.task.finalised(number)
        assert done is not None
        assert (done.threshold, set(done.participants), set(done.honest)) == (h, participants, honest)
        assert done.credited == sum(earned.values())
        assert list(world.task.reputation()) == gammas
        assert max(gammas) <= gamma_max
    price = world.task.rewards.price()
    assert price == ETHER // (len(rounds) * n * gamma_max)
    some = sorted({*range(min(n, 34)), *range(n - 5, n), *range(250, min(n, 260))} & set(range(n)))
    assert [world.task.rewards.owed(world.addresses[i]) for i in some] == [price * points[i] for i in some]


def histories(draw: st.DrawFn, n: int, most: int) -> list[Round]:
    subset = st.sets(st.integers(0, n - 1), min_size=1)
    everyone = st.just(set(range(n)))
    sealed = draw(st.lists(subset | everyone, min_size=1, max_size=most))
    return [(present, {i for i in draw(subset) if i in present}) for present in sealed]


@st.composite
def tasks(draw: st.DrawFn, sizes: st.SearchStrategy[int], most: int) -> tuple[int, list[Round], int, int]:
    n = draw(sizes)
    gamma_max = draw(st.sampled_from([1, 2, 5, 10, 255]))
    return n, histories(draw, n, most), draw(st.integers(0, gamma_max)), gamma_max


def law(sizes: st.SearchStrategy[int], most: int, examples: int) -> Callable[..., None]:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(task=tasks(sizes, most))
    def test(chain: Chain, task: tuple[int, list[Round], int, int]) -> None:
        play(chain, *task)

    return test


test_small_tasks = law(st.integers(3, 9), most=8, examples=8)
test_across_slots = law(st.integers(31, 66), most=4, examples=3)
test_across_bitmap_words = law(st.sampled_from([255, 256, 257, 300, 513]), most=3, examples=2)
test_many_small_tasks = pytest.mark.long(law(st.integers(3, 9), most=8, examples=25))
test_many_across_slots = pytest.mark.long(law(st.integers(31, 66), most=4, examples=8))
test_many_across_bitmap_words = pytest.mark.long(law(st.sampled_from([255, 256, 257, 300, 513]), most=3, examples=4))


def test_every_case_once(chain: Chain) -> None:
    """By hand, gamma_max 5, all begin at 3; each line is a round: who is evaluated L, and what all have after it."""
    world = World(chain, n=3, m=1, f=0, rounds=6, gamma_initial=3, gamma_max=5)
    rounds = [
        (set(), (4, 4, 4), 3),
        ({2}, (5, 5, 0), 4),  # L at h = 4: all is lost
        ({2}, (5, 5, 1), 3),  # below h: one up although L; the others at gamma_max
        (set(), (5, 5, 2), 3),
        ({0}, (4, 5, 3), 4),  # L above h = 4: one down
        ({0}, (0, 5, 4), 4),  # L at h = 4 again
    ]
    for number, (low, after, h) in enumerate(rounds, start=1):
        world.seal(number)
        world.finalise(number, honest={0, 1, 2} - low)
        done = world.task.finalised(number)
        assert done is not None
        assert (world.task.reputation(), done.threshold) == (after, h)


def test_absent_customers_keep_theirs(chain: Chain) -> None:
    world = World(chain, n=70, m=1, f=0, rounds=1)
    world.seal(1, [0, 33, 69])
    world.finalise(1, [0, 33, 69], [0, 33])
    after = world.task.reputation()
    assert [after[i] for i in (0, 33, 69)] == [4, 4, 0]
    assert {after[i] for i in range(70) if i not in (0, 33, 69)} == {3}


@pytest.mark.parametrize("batch", [1, 7, 32, 33])
def test_batches_of_admission_do_not_matter(chain: Chain, batch: int) -> None:
    world = World(chain, n=67, m=3, f=0, batch=batch)
    assert world.task.reputation() == (3,) * 67
    assert world.task.customers() == tuple(world.addresses)
    assert len(world.task.miners()) == 3
