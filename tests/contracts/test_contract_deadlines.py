"""Deadlines: nobody can end a wait too early, and nobody can make one last for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from task_world import MANUFACTURER, STRANGER, TERMS, World, customers, digest, funded, miners, now, reverts, set_time

from app.ledger.chain import Chain, embedded_chain
from app.ledger.task_ledger import Phase, TaskLedger

WINDOWS = {"submission_window": 100, "seal_window": 1000, "leader_window": 60, "finalise_window": 600}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain of its own for each test: its clock is moved."""
    chain = embedded_chain(tmp_path / "chain.sqlite", funded=funded(7, 4), genesis_time=1_700_000_000)
    set_time(chain, 0)
    yield chain
    chain.close()


def until(world: World, seconds: int) -> int:
    """Let the next block be this long after the beginning of the phase; return its time."""
    moment = world.task.state().since + seconds
    set_time(world.task.chain, moment)
    return moment


class TestSubmissionWindow:
    def test_no_seal_before_its_end_without_all_customers(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS)
        moment = until(world, 99)
        with reverts("TooEarly", moment, moment + 1):
            world.seal(1, range(6))
        until(world, 100)
        world.seal(1, range(6))

    @pytest.mark.parametrize("n", [7, 256, 257])
    def test_a_seal_with_all_customers_need_not_wait(self, chain: Chain, n: int) -> None:
        world = World(chain, n=n, **WINDOWS)
        opened = world.task.state().since
        for left_out in {0, n - 1}:
            with reverts("TooEarly", now(chain) + 1, opened + 100):
                world.seal(1, [i for i in range(n) if i != left_out])
        world.seal(1)

    def test_a_customer_that_is_dropped_gets_in(self, chain: Chain) -> None:
        """The manufacturer ignores customer 6, which submits itself in time: every seal without it is refused."""
        world = World(chain, **WINDOWS)
        until(world, 99)
        world.submit(6)
        until(world, 100)
        with reverts("Omitted", 0, 1 << 6):
            world.seal(1, range(6))
        world.seal(1)


class TestLeaders:
    @pytest.mark.parametrize("rank", [0, 1, 2, 3])
    def test_a_rank_waits_for_its_turn(self, chain: Chain, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chain, "wait_until", lambda seconds: None)  # our own client would wait for its turn
        world = World(chain, **WINDOWS)
        world.seal(1)
        if rank:
            moment = until(world, 60 * rank - 1)
            with reverts("TooEarly", moment, moment + 1):
                world.finalise(1, rank=rank)
            until(world, 60 * rank)
        world.finalise(1, rank=rank)
        done = world.task.finalised(1)
        assert done is not None
        assert done.rank == rank

    def test_an_earlier_rank_may_still_act(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS)
        world.seal(1)
        until(world, 599)
        world.finalise(1, rank=0)


class TestExpiry:
    def test_an_unsealed_round_is_skipped(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, skips=1)
        moment = until(world, 999)
        with reverts("TooEarly", moment, moment + 1):
            world.task.expire(STRANGER)
        until(world, 1000)
        sent = world.task.expire(STRANGER)
        state = world.task.state()
        assert (state.phase, state.round, state.skipped, state.model) == (Phase.COLLECTION, 2, 1, digest("model"))
        assert world.task.reputation() == (3,) * 7
        expiry = world.task.expired(1)
        assert expiry is not None
        assert (expiry.during, expiry.block, expiry.tx) == (Phase.COLLECTION, sent.block, sent.hash)
        assert world.task.sealed(1) is world.task.finalised(1) is None

    def test_a_round_without_a_verdict_is_skipped(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, skips=1)
        world.seal(1)
        sealed = world.task.sealed(1)
        moment = until(world, 599)
        with reverts("TooEarly", moment, moment + 1):
            world.task.expire(STRANGER)
        until(world, 600)
        world.task.expire(STRANGER)
        assert world.task.sealed(1) == sealed
        expiry = world.task.expired(1)
        assert expiry is not None
        assert expiry.during is Phase.SEALED
        for attempt in (lambda: world.finalise(1), lambda: world.seal(1)):
            with pytest.raises(Exception, match=r"WrongPhase|WrongRound"):
                attempt()

    def test_late_work_counts_until_somebody_ends_the_wait(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS)
        until(world, 5000)
        world.seal(1)
        until(world, 5000)
        world.finalise(1)
        assert world.task.state().round == 2

    def test_history_is_walked_across_expired_rounds(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, rounds=5, skips=2)
        world.seal(1)
        world.finalise(1)
        until(world, 1000)
        world.task.expire(STRANGER)
        world.seal(3)
        until(world, 600)
        world.task.expire(STRANGER)
        world.seal(4)
        world.finalise(4)
        fresh = TaskLedger.attach(chain, world.task.address)
        assert [fresh.finalised(r) is not None for r in range(7)] == [False, True, False, False, True, False, False]
        assert [fresh.expired(r) is not None for r in range(7)] == [False, False, True, True, False, False, False]
        assert [fresh.sealed(r) is not None for r in range(7)] == [False, True, False, True, True, False, False]
        state = fresh.state()
        assert (state.over, state.finalised, state.skipped, state.round) == (4, 2, 2, 5)

    def test_one_more_fails_the_task(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, skips=1)
        for _ in range(2):
            until(world, 1000)
            world.task.expire(STRANGER)
        state = world.task.state()
        assert (state.phase, state.round, state.over, state.finalised) == (Phase.FAILED, 2, 2, 0)
        assert world.task.expired(2) is not None
        for attempt in (
            lambda: world.task.expire(STRANGER),
            lambda: world.seal(2),
            lambda: world.task.cancel(MANUFACTURER),
        ):
            with reverts("WrongPhase", Phase.FAILED):
                attempt()

    def test_the_last_round_may_be_the_skipped_one(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, rounds=1, skips=1)
        until(world, 1000)
        world.task.expire(STRANGER)
        state = world.task.state()
        assert (state.phase, state.finalised) == (Phase.COMPLETED, 0)

    def test_if_everybody_but_a_stranger_is_gone_the_task_ends(self, chain: Chain) -> None:
        world = World(chain, **WINDOWS, rounds=4, skips=4)
        for _ in range(4):
            until(world, 1000)
            world.task.expire(STRANGER)
        assert world.task.state().phase is Phase.COMPLETED

    def test_nothing_expires_before_the_opening(self, chain: Chain) -> None:
        task = TaskLedger.deploy(chain, MANUFACTURER, TERMS)
        with reverts("WrongPhase", Phase.ADMISSION):
            task.expire(STRANGER)


class TestCancel:
    def test_by_the_manufacturer(self, chain: Chain) -> None:
        world = World(chain)
        for who in (STRANGER, customers(1)[0], miners(1)[0]):
            with reverts("NotManufacturer", who.address):
                world.task.cancel(who)

    def test_in_the_admission(self, chain: Chain) -> None:
        task = TaskLedger.deploy(chain, MANUFACTURER, TERMS)
        task.cancel(MANUFACTURER)
        state = task.state()
        assert (state.phase, state.round, state.over) == (Phase.CANCELLED, 0, 0)
        with reverts("WrongPhase", Phase.CANCELLED):
            task.open(MANUFACTURER)

    def test_between_rounds(self, chain: Chain) -> None:
        world = World(chain)
        world.seal(1)
        world.finalise(1)
        done = world.task.finalised(1)
        world.task.cancel(MANUFACTURER)
        state = world.task.state()
        assert (state.phase, state.round, state.finalised) == (Phase.CANCELLED, 2, 1)
        assert TaskLedger.attach(chain, world.task.address).finalised(1) == done

    def test_not_once_sealed(self, chain: Chain) -> None:
        world = World(chain)
        world.seal(1)
        with reverts("WrongPhase", Phase.SEALED):
            world.task.cancel(MANUFACTURER)


@pytest.mark.parametrize(
    "changes",
    [
        {"submission_window": 1000},
        {"submission_window": 1001},
        {"seal_window": 0, "submission_window": 0},
        {"leader_window": 600},
        {"finalise_window": 0, "leader_window": 0},
    ],
)
def test_windows_that_make_no_sense(chain: Chain, changes: dict[str, int]) -> None:
    given = {**WINDOWS, **changes}
    with reverts("WrongWindows", *given.values()):
        World(chain, **given)
