from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import ProtocolError
from strategies.reputation import next_reputation, threshold


@pytest.mark.parametrize(("gammas", "h"), [([5], 5), ([5, 6], 5), ([5, 6, 6], 5), ([0, 0, 1], 0), ([10, 10, 0], 6)])
def test_the_threshold_is_the_mean_rounded_down(gammas: list[int], h: int) -> None:
    assert threshold(gammas) == h


# Six customers with mean 5: (gamma, H, expected), h = 5, gamma_max = 10.
TABLE = [
    (10, True, 10),  # at most gamma_max
    (10, False, 9),
    (5, True, 6),
    (5, False, 0),  # exactly h: back to the start
    (2, True, 3),  # isolated: one step up
    (2, False, 3),  # whatever the mark
]


def test_the_four_cases() -> None:
    gammas = [gamma for gamma, _, _ in TABLE]
    assert threshold(gammas) == 5
    honest = [i for i, (_, mark, _) in enumerate(TABLE) if mark]
    assert next_reputation(gammas, range(6), honest, 10) == tuple(expected for _, _, expected in TABLE)


def test_one_above_the_threshold_loses_one_step() -> None:
    assert next_reputation([6, 5, 4, 5], [0, 1, 2, 3], [1, 2, 3], 10) == (5, 6, 5, 6)


def test_only_participants_count_and_change() -> None:
    assert next_reputation([9, 3, 3, 9], [1, 2], [1], 10) == (9, 4, 0, 9)


GAMMAS = st.lists(st.integers(0, 10), min_size=1, max_size=12)


@given(GAMMAS, st.data())
def test_laws(gammas: list[int], data: st.DataObject) -> None:
    everyone = st.sets(st.integers(0, len(gammas) - 1), min_size=1)
    participants = data.draw(everyone)
    honest = {i for i in participants if data.draw(st.booleans())}
    after = next_reputation(gammas, participants, honest, 10)
    h = threshold([gammas[i] for i in participants])
    for i, (old, new) in enumerate(zip(gammas, after, strict=True)):
        assert 0 <= new <= 10
        if i not in participants:
            assert new == old
        elif old < h:
            assert new == old + 1 <= h
        elif i in honest:
            assert new == min(10, old + 1)
        else:
            assert new < old or new == old == 0
            assert new == (0 if old == h else old - 1)


@given(GAMMAS, st.data())
def test_an_h_is_never_worse_than_an_l(gammas: list[int], data: st.DataObject) -> None:
    participants = set(range(len(gammas)))
    honest = {i for i in participants if data.draw(st.booleans())}
    customer = data.draw(st.integers(0, len(gammas) - 1))
    high = next_reputation(gammas, participants, honest | {customer}, 10)
    low = next_reputation(gammas, participants, honest - {customer}, 10)
    assert high[customer] >= low[customer]
    assert all(high[i] == low[i] for i in participants - {customer})


def test_bad_input_is_refused() -> None:
    with pytest.raises(ProtocolError, match="without participants"):
        threshold([])
    with pytest.raises(ProtocolError, match="without participants"):
        next_reputation([1, 2], [], [], 10)
    with pytest.raises(ProtocolError, match="must be participants"):
        next_reputation([1, 2], [0], [1], 10)
    with pytest.raises(ProtocolError, match="customers of the task"):
        next_reputation([1, 2], [0, 2], [], 10)
    for bad in (-1, 11):
        with pytest.raises(ProtocolError, match="outside 0 to 10"):
            next_reputation([1, bad], [0], [0], 10)
