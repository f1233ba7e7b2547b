"""What is seen while a run goes on."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from app.reporting.progress import (
    PlainProgress,
    Progress,
    RichProgress,
    RoundReport,
    SilentProgress,
    choose_progress,
    round_line,
    time_left,
)

REPORT = RoundReport(
    round=3,
    rounds=12,
    accuracy=0.6125,
    loss=0.8,
    participants=10,
    aggregated=8,
    void=False,
    saturated=0,
    dissent=0,
    rejected={"0x1234567890abcdef": "outlier"},
    isolated=("0x9999999999999999",),
    absent=("0x7777777777777777",),
    leader="0x5555555555555555",
    gas_seal=91_234,
    gas_finalise=154_321,
    seconds=1.93,
)
RESULT = {"customers": 3, "rounds": 2, "seed": 0, "accuracy_by_round": [0.25, 0.5, 0.75]}


def drive(progress: Progress) -> None:
    """Tell of two rounds as the engine does: customers from several threads."""
    progress.prepare()
    progress.begin("plaid, 3 customers", 2, 0.25, "/runs/x")
    for number in (1, 2):
        threads = [threading.Thread(target=progress.customer_done, args=(done, 3)) for done in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.round_done(replace(REPORT, round=number, rounds=2))
    progress.end()
    progress.end()
    progress.result(RESULT)


def test_plain_is_a_line_a_round() -> None:
    file = io.StringIO()
    drive(PlainProgress(file))
    lines = file.getvalue().splitlines()
    assert lines[:3] == ["plaid, 3 customers", "evidence: /runs/x", "2 rounds; the public set alone gives 25.0%"]
    assert [line[:9] for line in lines if line.startswith("round ")] == ["round 1/2", "round 2/2"]
    assert "public set alone 25.0% -> with the customers' data 75.0% (+50.0 points)" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_a_rounds_line_has_the_most_important_first_and_fits() -> None:
    file = io.StringIO()
    PlainProgress(file).round_done(REPORT)
    (line,) = file.getvalue().splitlines()
    assert line.startswith(
        "round  3/12  accuracy  61.3%  8 of 10 updates in  gas 246 k  1.9 s  rejected 0x12345678 (outlier)"
    )


def test_a_log_loses_nobody_and_a_terminal_keeps_to_one_line() -> None:
    report = replace(REPORT, rejected={f"0x{number:040x}": "farther than the others" for number in range(30)})
    log, screen = io.StringIO(), io.StringIO()
    PlainProgress(log).round_done(report)
    RichProgress(Console(file=screen, width=80)).round_done(report)
    assert log.getvalue().count("farther than the others") == 30
    assert len(log.getvalue().splitlines()) == len(screen.getvalue().splitlines()) == 1


def test_what_is_out_of_the_ordinary_is_said() -> None:
    line = round_line(replace(REPORT, void=True, saturated=2, dissent=1))
    assert "VOID: too few valid updates, the model is the old one" in line
    assert "2 saturated" in line
    assert "1 miners dissent" in line


@pytest.mark.parametrize("width", [40, 80, 100])
def test_bars_leave_the_same_lines_behind(width: int) -> None:
    file = io.StringIO()
    drive(RichProgress(Console(file=file, width=width, force_terminal=True, highlight=False)))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "round 1/2  accuracy" in text
    assert "round 2/2  accuracy" in text
    assert "preparing" in text
    assert "\x1b[?25h" in file.getvalue(), "the cursor is shown again"


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    drive(SilentProgress())
    assert capsys.readouterr() == ("", "")


def test_bars_are_for_terminals() -> None:
    assert isinstance(choose_progress(io.StringIO()), PlainProgress)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(choose_progress(Terminal()), RichProgress)


@pytest.mark.parametrize(
    ("seconds", "rounds", "told"),
    [
        ([2.0], 3, "6 s"),
        ([100.0, 1.0, 1.0, 1.0, 1.0, 1.0], 59, "59 s"),  # the last five: the first round warms up
        ([60.0], 3, "3 min"),
        ([1800.0], 4, "2.0 h"),
    ],
)
def test_what_is_left_is_judged_by_the_last_rounds(seconds: list[float], rounds: int, told: str) -> None:
    assert time_left(seconds, rounds) == told


def test_a_resumed_run_begins_with_its_own_round() -> None:
    file = io.StringIO()
    progress = RichProgress(Console(file=file, force_terminal=True, width=120))
    progress.begin("plaid, 3 customers", 12, 0.25, "/runs/x", 7)
    progress.end()
    assert "round  8/12" in file.getvalue()
