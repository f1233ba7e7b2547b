from __future__ import annotations

from app.reporting.sweep_plot import axis, lines, lines_by_round, plot

KEYS = ["privacy", "privacy.epsilon", "seed"]


def row(privacy: str, epsilon: str, seed: str, accuracy: float | None) -> dict[str, object]:
    return {"privacy": privacy, "privacy.epsilon": epsilon, "seed": seed, "accuracy": accuracy, "public_accuracy": 0.5}


ROWS = [
    row("record", "10", "0", 0.9),
    row("record", "2", "0", 0.7),
    row("record", "2", "1", 0.8),
    row("record", "10", "1", None),
    row("none", "-", "0", 0.95),
]


def test_axis_is_the_numeric_key_and_never_the_seed() -> None:
    assert axis(ROWS, KEYS) == "privacy.epsilon"
    assert axis(ROWS, ["privacy", "seed"]) is None


def test_lines_average_over_seeds_ascend_and_leave_failures_out() -> None:
    record, none = lines(ROWS, KEYS, "privacy.epsilon")
    assert (record.label, record.points) == ("privacy=record", ((2.0, (0.7, 0.8)), (10.0, (0.9,))))
    assert (none.label, none.points) == ("privacy=none", ((None, (0.95,)),))


def test_without_a_numeric_key_the_rounds_are_the_axis() -> None:
    rows = [row("record", "-", "0", 0.9), row("record", "-", "1", 0.8)]
    (line,) = lines_by_round(rows, ["privacy", "seed"], [[0.5, 0.9], [0.5, 0.8]])
    assert line.points == ((0.0, (0.5, 0.5)), (1.0, (0.9, 0.8)))


def test_plot_is_a_picture_or_nothing() -> None:
    curves = [[0.5, float(one["accuracy"] or 0)] for one in ROWS]
    assert (plot(ROWS, KEYS, curves) or b"").startswith(b"\x89PNG")
    assert (plot(ROWS, ["privacy", "seed"], curves) or b"").startswith(b"\x89PNG")
    assert plot([row("record", "2", "0", None)], KEYS, [[]]) is None
