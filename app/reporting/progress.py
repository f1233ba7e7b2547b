"""What people see while a task runs: a bar within each round, and one line for each finished one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from app.reporting.summary import print_summary, short


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What one round came to.

    Attributes
    ----------
    round, rounds : int
        Number of the round, from 1, and of all rounds.
    accuracy, loss : float
        Of the new global model on the manufacturer's test records.
    participants, aggregated : int
        Customers whose updates were sealed, and whose updates went into the model.
    void : bool
        Whether too few updates were valid, so that the model is the old one.
    saturated, dissent : int
        Participants whose updates reach the ends of the grid, and miners outside the quorum.
    rejected : mapping of str to str
        Addresses whose updates were judged bad, and why.
    isolated, absent : tuple of str
        Addresses whose reputation was too low to count, and that sent nothing that could be sealed.
    leader : str
        Address of the miner that finalised the round.
    gas_seal, gas_finalise : int
        Gas used by the round's two transactions.
    seconds : float
        Wall time.
    """

    round: int
    rounds: int
    accuracy: float
    loss: float
    participants: int
    aggregated: int
    void: bool
    saturated: int
    dissent: int
    rejected: Mapping[str, str]
    isolated: tuple[str, ...]
    absent: tuple[str, ...]
    leader: str
    gas_seal: int
    gas_finalise: int
    seconds: float


class Progress(Protocol):
    """Whoever is told how a run goes on. Calls may come from any thread."""

    def prepare(self) -> None:
        """Hear that the data is being loaded and the initial model trained."""

    def begin(self, title: str, rounds: int, public_accuracy: float, place: str, done: int = 0) -> None:
        """Hear that the rounds begin, or go on.

        Parameters
        ----------
        title : str
            What is run.
        rounds : int
            How many rounds the task has.
        public_accuracy : float
            What the initial model reaches, which knows the manufacturer's public set alone.
        place : str
            Where the evidence lies.
        done : int, default 0
            How many rounds were over before.
        """

    def customer_done(self, done: int, of: int) -> None:
        """Hear that ``done`` of the round's ``of`` customers have answered."""

    def round_done(self, report: RoundReport) -> None:
        """Hear that a round is finalised."""

    def end(self) -> None:
        """Hear that no more rounds follow, whether all went well or not."""

    def result(self, result: Mapping[str, Any]) -> None:
        """Hear what a finished run came to: the contents of its ``result.json``."""


class SilentProgress:
    """Says nothing: jobs of a sweep, tests."""

    def prepare(self) -> None:
        """Do nothing."""

    def begin(self, title: str, rounds: int, public_accuracy: float, place: str, done: int = 0) -> None:
        """Do nothing."""

    def customer_done(self, done: int, of: int) -> None:
        """Do nothing."""

    def round_done(self, report: RoundReport) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def result(self, result: Mapping[str, Any]) -> None:
        """Do nothing."""


class PlainProgress:
    """One line a round, for logs and pipes.

    Parameters
    ----------
    file : file, optional
        Where to write; by default standard output.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self._console = Console(file=file or sys.stdout, width=100, color_system=None, highlight=False)

    def prepare(self) -> None:
        """Do nothing."""

    def begin(self, title: str, rounds: int, public_accuracy: float, place: str, done: int = 0) -> None:
        """Print what is run, and where it leaves its evidence."""
        _print_opening(self._console, title, rounds, public_accuracy, place)

    def customer_done(self, done: int, of: int) -> None:
        """Do nothing: a line a round is enough."""

    def round_done(self, report: RoundReport) -> None:
        """Print the round's line, however long: whoever reads a log wants to know who was rejected."""
        self._console.print(Text(round_line(report)), soft_wrap=True)

    def end(self) -> None:
        """Do nothing."""

    def result(self, result: Mapping[str, Any]) -> None:
        """Print the final tables."""
        print_summary(result, self._console)


class RichProgress:
    """A bar that fills while the round's customers train, and turns into the round's line when it is finalised.

    Parameters
    ----------
    console : Console
        The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds = 0
        self._seconds: list[float] = []
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._bar = self._bars.add_task("", total=None, what="")

    def prepare(self) -> None:
        """Show that something is going on."""
        self._bars.reset(self._bar, total=None, description="preparing", what="data and initial model")
        self._bars.start()

    def begin(self, title: str, rounds: int, public_accuracy: float, place: str, done: int = 0) -> None:
        """Print what is run, and show the first round's bar."""
        self._rounds = rounds
        self._bars.start()
        self._show(done + 1)
        _print_opening(self._console, title, rounds, public_accuracy, place)

    def customer_done(self, done: int, of: int) -> None:
        """Move the bar."""
        what = "customers" if done < of else "miners verify"
        self._bars.update(self._bar, completed=done, total=of, what=what)

    def round_done(self, report: RoundReport) -> None:
        """Print the round's line above the next round's bar."""
        _print_round(self._console, report)
        self._seconds.append(report.seconds)
        self._show(report.round + 1)

    def end(self) -> None:
        """Take the bar away."""
        self._bars.stop()

    def result(self, result: Mapping[str, Any]) -> None:
        """Print the final tables."""
        print_summary(result, self._console)

    def _show(self, number: int) -> None:
        more = number <= self._rounds
        label = f"round {number:>{len(str(self._rounds))}}/{self._rounds}"
        label += f", about {time_left(self._seconds, self._rounds - number + 1)} left" if self._seconds else ""
        self._bars.reset(self._bar, total=None, visible=more, description=label, what="customers")


def choose_progress(file: IO[str] | None = None) -> Progress:
    """Return bars where standard output (or ``file``) is a terminal, and plain lines where it is not."""
    console = Console(file=file or sys.stdout, highlight=False)
    return RichProgress(console) if console.is_terminal else PlainProgress(file)


def time_left(seconds: Sequence[float], rounds: int) -> str:
    """Return how long ``rounds`` more rounds will take, as people say it, if they are like the last five."""
    recent = seconds[-5:]
    left = rounds * sum(recent) / len(recent)
    if left < 60:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"


def round_line(report: RoundReport) -> str:
    """Return what a finished round came to in one line, the most important first."""
    digits = len(str(report.rounds))
    parts = [
        f"round {report.round:>{digits}}/{report.rounds}",
        f"accuracy {report.accuracy:6.1%}",
        f"{report.aggregated} of {report.participants} updates in",
        f"gas {(report.gas_seal + report.gas_finalise) / 1000:,.0f} k",
        f"{report.seconds:.1f} s",
    ]
    parts += ["VOID: too few valid updates, the model is the old one"] if report.void else []
    parts += [f"{report.saturated} saturated (see strategy.fractional_bits)"] if report.saturated else []
    parts += [f"{report.dissent} miners dissent"] if report.dissent else []
    parts += [f"rejected {short(address)} ({reason})" for address, reason in report.rejected.items()]
    parts += [f"isolated {short(address)}" for address in report.isolated if address not in report.rejected]
    parts += [f"absent {short(address)}" for address in report.absent]
    return "  ".join(parts)


def _print_opening(console: Console, title: str, rounds: int, public_accuracy: float, place: str) -> None:
    console.print(Text(title, style="bold"))
    console.print(Text(f"evidence: {place}"), soft_wrap=True)  # never broken: it is there to be copied
    console.print(Text(f"{rounds} rounds; the public set alone gives {public_accuracy:.1%}"))


def _print_round(console: Console, report: RoundReport) -> None:
    console.print(Text(round_line(report)), overflow="ellipsis", no_wrap=True, crop=True)
