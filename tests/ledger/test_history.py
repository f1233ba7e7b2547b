"""What miners are told of earlier rounds is what the chain says of them."""

from __future__ import annotations

from task_world import World, blob

from app.ledger.chain import Chain
from app.mining.history import History


def test_finalised_rounds_are_told_and_others_are_not(any_chain: Chain) -> None:
    world = World(any_chain, rounds=3)
    history = History(world.task)
    assert history.before(1) == ()
    for number, honest in ((1, [0, 1, 2, 3]), (2, [0, 1, 2, 3, 4])):
        world.seal(number)
        assert len(history.before(number)) == number - 1
        world.task.finalise(world.miners[0], world.call(number, honest=honest))
    one, two = history.before(3)
    assert (one.round, one.participants, one.honest) == (1, tuple(range(7)), (0, 1, 2, 3))
    assert (two.round, two.honest) == (2, (0, 1, 2, 3, 4))
    assert (two.manifest, two.record) == (world.task.sealed(2).manifest, world.task.finalised(2).record)  # type: ignore[union-attr]
    assert one.manifest == blob("manifest", 1)
    assert history.before(2) == (one,)
    assert History(world.task).before(3) == (one, two)  # another process reads the same
