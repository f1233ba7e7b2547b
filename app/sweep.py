"""A sweep: every job in a process of its own, as many at once as there are cores, and one table at the end."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import StringIO
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.config import compose_all, sweep_parameters
from app.consistency import unused, warnings
from app.overrides import expand
from app.protocol.errors import ConfigError, HearthError
from app.reporting.pivot import detection, pivot, pivot_plot
from app.reporting.summary import percent, short, thousands
from app.reporting.sweep_plot import UNUSED, plot
from app.run_directory import make_fresh_directory, make_named_directory, runs_home, write_atomically
from app.settings import KEYS, Config

_PRELOADED = ["app.launch", "app.engines", "app.server_app", "app.client_app"]
"""Loaded once, in the process that all jobs are forked from: a job starts in milliseconds, in a state nobody used."""
_GRACE = 10.0
"""Seconds that a job's process has to end by itself once it has said how it went."""
_FIELDS = (
    "accuracy",
    "public_accuracy",
    "attackers_low",
    "honest_low",
    "epsilon",
    "gas_per_customer",
    "seconds",
    "model_digest",
    "directory",
    "error",
)

Task = Callable[[Config, Path, str], dict[str, Any]]
"""Runs one job: its configuration, the sweep's folder, the job's name; returns the contents of ``result.json``."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep.

    Attributes
    ----------
    name : str
        Name of its run directory in the sweep's folder.
    overrides : dict of str to str
        The keys that differ between jobs, with this job's values.
    config : Config
        What it runs.
    """

    name: str
    overrides: dict[str, str]
    config: Config


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a result, or with a line that says why there is none."""

    job: Job
    seconds: float
    result: dict[str, Any] | None
    error: str | None

    def row(self, folder: Path) -> dict[str, Any]:
        """Return the job's entry of the tables: its overrides, then `_FIELDS`."""
        result = self.result or {}
        directory = folder / self.job.name
        values = (
            result.get("accuracy"),
            result["accuracy_by_round"][0] if result.get("accuracy_by_round") else None,
            *detection(result),
            result.get("privacy", {}).get("epsilon"),
            result.get("gas", {}).get("per_customer"),
            round(self.seconds, 1),
            result.get("model_digest"),
            str(directory) if directory.is_dir() else None,
            self.error,
        )
        return {**self.job.overrides, **dict(zip(_FIELDS, values, strict=True))}


def sweep(overrides: Sequence[str], task: Task | None = None, console: Console | None = None) -> int:
    """Run every combination of the overrides' values and print one table.

    Nothing starts before every job's configuration has been composed and checked. A job that fails, or is killed,
    leaves its error in the table and does not stop the others.

    Parameters
    ----------
    overrides : sequence of str
        In Hydra's grammar, with several values for some keys: ``seed=0,1``, ``rounds=range(1,4)``,
        ``privacy=glob(*)``. An experiment may bring its own in ``hydra.sweeper.params``.
    task : callable, optional
        What a job runs, by default a whole task; it is pickled by name.
    console : Console, optional
        By default standard output.

    Returns
    -------
    int
        0, or 1 if a job failed.

    Raises
    ------
    ConfigError
        If any job's configuration is not possible, or the sweep's folder cannot be made.
    """
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    jobs = plan(overrides)
    folder = _folder(jobs[0].config.name)
    at_once = 1 if any(job.config.engine.name == "ray" for job in jobs) else min(_cores(), len(jobs))
    for line in dict.fromkeys(line for job in jobs for line in warnings(job.config)):
        print(line, file=sys.stderr)
    console.print(f"{len(jobs)} jobs, {at_once} at a time; evidence: {folder}", soft_wrap=True)
    rows: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[float]] = {}
    try:
        with closing(_run(jobs, folder, at_once, task or run_job, _context(preload=task is None))) as outcomes:
            for outcome in outcomes:
                row = rows[outcome.job.name] = outcome.row(folder)
                curves[outcome.job.name] = (outcome.result or {}).get("accuracy_by_round", [])
                said = outcome.error or f"accuracy {_cell(row['accuracy'], percent)}"
                console.print(Text(f"{len(rows)}/{len(jobs)} {outcome.job.name}: {said}"), soft_wrap=True)
                _write(folder, [rows[job.name] for job in jobs if job.name in rows])
    except BaseException as error:
        error.add_note(f"what the sweep wrote until then ({len(rows)} of {len(jobs)} jobs ended): {folder}")
        raise
    done = [rows[job.name] for job in jobs]
    console.print(table(done))
    keys = list(jobs[0].overrides)
    if (by_rule := pivot(done, keys)) is not None:
        console.print(by_rule)
    written = ["sweep.json", "sweep.csv"]
    if picture := pivot_plot(done, keys) or plot(done, keys, [curves[job.name] for job in jobs]):
        write_atomically(folder / "sweep.png", picture)
        written.append("sweep.png")
    console.print(Text(f"evidence: {folder} ({', '.join(written)})"), soft_wrap=True)
    return 1 if any(row["error"] for row in rows.values()) else 0


def plan(overrides: Sequence[str]) -> list[Job]:
    """Return the jobs of a sweep in the order of Hydra's own sweeper: the last key varies fastest.

    Jobs that differ only in keys that they do not use are one: ``privacy=record,none privacy.epsilon=1,2`` is three.

    Raises
    ------
    ConfigError
        If any of them is not possible.
    """
    single = [text for text in overrides if text.lstrip("+").startswith("experiment=")]
    typed = {text.lstrip("+").partition("=")[0] for text in overrides}
    preset = [f"{key}={values}" for key, values in sweep_parameters(single).items() if key not in typed]
    combinations = expand([*preset, *overrides], KEYS)
    pairs = [dict(_pair(text) for text in combination) for combination in combinations]
    swept = [key for key in pairs[0] if len({pair[key] for pair in pairs}) > 1]
    digits = len(str(len(pairs)))
    if "name" in swept:
        raise ConfigError("name", "names the folder of the whole sweep, its jobs are numbered", "one name")
    configs = compose_all(combinations)
    jobs: list[Job] = []
    for config, pair in zip(configs, pairs, strict=True):
        idle = {key for key, _ in unused(config, set(swept))}
        values = {key: UNUSED if key in idle else pair[key] for key in swept}
        if any(values == job.overrides for job in jobs):
            continue
        slug = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", ",".join(f"{key}={value}" for key, value in values.items()))
        jobs.append(Job(f"{len(jobs) + 1:0{digits}d}-{slug or 'job'}"[:90].rstrip("."), values, config))
    return jobs


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the sweep's table: a line a job, first what it was, then what came of it."""
    keys = [key for key in rows[0] if key not in _FIELDS]
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for key in keys or ["job"]:
        grid.add_column(key, overflow="fold")
    for name in ("accuracy", "public only", "epsilon", "gas/customer", "seconds"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("model", no_wrap=True)
    grid.add_column("directory or error", overflow="fold", min_width=18)
    for number, row in enumerate(rows, 1):
        place = Path(row["directory"]).name if row["directory"] else ""
        grid.add_row(
            *([str(row[key]) for key in keys] or [str(number)]),
            *(_cell(row["accuracy"], percent), _cell(row["public_accuracy"], percent)),
            *(_cell(row["epsilon"], "{:g}".format), _cell(row["gas_per_customer"], thousands)),
            *(f"{row['seconds']:.1f}", _cell(row["model_digest"], short)),
            Text(row["error"], style="red") if row["error"] else Text(place),
        )
    return grid


def run_job(config: Config, folder: Path, name: str) -> dict[str, Any]:
    """Run one whole task in ``folder/name``."""
    from app.launch import launch
    from app.reporting.progress import SilentProgress

    return launch(config, SilentProgress(), parent=folder, name=name)


def _run(jobs: Sequence[Job], folder: Path, at_once: int, task: Task, context: Any) -> Generator[Outcome, None, None]:
    """Yield every job's outcome as it ends, ``at_once`` of them running; whatever happens, none outlives this."""
    waiting = list(reversed(jobs))
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                started = _Running(waiting.pop(), folder, max(1, _cores() // at_once), task, context)
                running[started.receiver] = started
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                yield running.pop(receiver).outcome()
    finally:
        for job in running.values():
            job.end()


class _Running:
    """A job in its process. Its receiver is ready when the job has said how it went, or has died."""

    def __init__(self, job: Job, folder: Path, workers: int, task: Task, context: Any) -> None:
        self._job, self._start = job, time.perf_counter()
        receiver, sender = context.Pipe(duplex=False)
        self.receiver: Connection = receiver
        config = job.config
        if config.engine.name == "local" and config.engine.workers == 0:
            config = replace(config, engine=replace(config.engine, workers=workers))
        self._process = context.Process(target=_child, args=(task, config, folder, job.name, sender), name=job.name)
        self._process.start()
        sender.close()

    def outcome(self) -> Outcome:
        """Return how the job ended."""
        result, error = None, None
        try:
            result, error = self.receiver.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode or 0
            error = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended early with exit code {code}"
        self._process.join(_GRACE)
        self.end()
        return Outcome(self._job, time.perf_counter() - self._start, result, error)

    def end(self) -> None:
        """End the process, if it still runs, and let go of it."""
        self.receiver.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _child(task: Task, config: Config, folder: Path, name: str, sender: Connection) -> None:
    """Run one job and send its result or its error; what it prints goes to a file beside its run directory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the sweep ends its jobs
    threading.Thread(target=_end_with_parent, daemon=True).start()
    printed = folder / f"{name}.log"
    descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        sender.send((task(config, folder, name), None))
    except HearthError as error:
        traceback.print_exc()
        sender.send((None, " ".join(str(error).split())))
    except Exception as error:  # noqa: BLE001 - the sweep goes on without this job; its log has the traceback
        traceback.print_exc()
        sender.send((None, f"defect in Hearth, see {printed.name}: {type(error).__name__}: {error}"))
    sys.stdout.flush()
    sys.stderr.flush()
    if printed.stat().st_size == 0:
        printed.unlink()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _context(preload: bool) -> Any:
    """Return how processes are made: forked from a clean one where the system can, else started anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED if preload else [])
    return context


def _folder(name: str | None) -> Path:
    if name is not None:
        return make_named_directory(runs_home(), name)
    return make_fresh_directory(runs_home(), time.strftime("sweep-%Y%m%d-%H%M%S"))


def _write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(folder / "sweep.json", (json.dumps(rows, indent=2) + "\n").encode())
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "sweep.csv", text.getvalue().encode())


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _cell(value: Any, show: Callable[[Any], str]) -> str:
    return "-" if value is None else show(value)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
