"""A sweep: every job in a process of its own, as many at once as there are cores, and one table at the end."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.config import compose_all, sweep_parameters, to_plain
from app.consistency import unused, warnings
from app.jobs import Job, Outcome, Task, cores, job_context, run_jobs
from app.overrides import expand
from app.protocol.errors import ConfigError
from app.reporting.pivot import detection, pivot, pivot_plot
from app.reporting.summary import percent, short, thousands
from app.reporting.sweep_plot import UNUSED, plot
from app.run_directory import (
    RunDirectory,
    make_fresh_directory,
    make_named_directory,
    runs_home,
    write_atomically,
)
from app.settings import KEYS, Config

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

_DRAWN = {"scaling": "seconds", "cost": "gas_per_customer"}
"""What the plot of an experiment shows where that is not accuracy."""
_RESOLVED = ("model", "train", "engine")
"""Sections of a configuration that a run fills in, or that a sweep sets: the rest tells whether a job is another."""


def sweep(
    overrides: Sequence[str], task: Task | None = None, console: Console | None = None, *, resume: bool = False
) -> int:
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
    resume : bool, default False
        Go on with the sweep that has this name: jobs that have ended well are not run again, one that was stopped goes
        on from where its chain stands, and the others are run.

    Returns
    -------
    int
        0, or 1 if a job failed.

    Raises
    ------
    ConfigError
        If any job's configuration is not possible, the sweep's folder cannot be made, or there is nothing to resume.
    """
    console = console or table_console()
    jobs = plan(overrides)
    folder = _earlier(jobs) if resume else new_folder(jobs[0].config.name, "sweep")
    finished = [found for job in jobs if (found := _finished(job, folder)) is not None] if resume else []
    left = [job for job in jobs if job not in [outcome.job for outcome in finished]]
    at_once = 1 if any(job.config.engine.name == "ray" for job in jobs) else min(cores(), max(1, len(left)))
    for line in dict.fromkeys(line for job in jobs for line in warnings(job.config)):
        print(line, file=sys.stderr)
    ended = f" ({len(finished)} have ended well)" if resume else ""
    console.print(f"{len(jobs)} jobs{ended}, {at_once} at a time; evidence: {folder}", soft_wrap=True)
    rows = {outcome.job.name: row_of(outcome, folder) for outcome in finished}
    curves = {outcome.job.name: _curve(outcome) for outcome in finished}
    try:
        with closing(run_jobs(left, folder, at_once, task or run_job, job_context(preload=task is None))) as outcomes:
            for outcome in outcomes:
                row = rows[outcome.job.name] = row_of(outcome, folder)
                curves[outcome.job.name] = _curve(outcome)
                said = outcome.error or f"accuracy {_cell(row['accuracy'], percent)}"
                console.print(Text(f"{len(rows)}/{len(jobs)} {outcome.job.name}: {said}"), soft_wrap=True)
                write_rows(folder, [rows[job.name] for job in jobs if job.name in rows])
    except BaseException as error:
        error.add_note(f"what the sweep wrote until then ({len(rows)} of {len(jobs)} jobs ended): {folder}")
        raise
    done = [rows[job.name] for job in jobs]
    console.print(table(done))
    keys = list(jobs[0].overrides)
    if (by_rule := pivot(done, keys)) is not None:
        console.print(by_rule)
    written = ["sweep.json", "sweep.csv"]
    if picture := pivot_plot(done, keys) or plot(
        done, keys, [curves[job.name] for job in jobs], _DRAWN.get(jobs[0].config.experiment or "", "accuracy")
    ):
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
    """Run one whole task in ``folder/name``; go on with one that lies there and was stopped."""
    from app.launch import launch, resume
    from app.reporting.progress import SilentProgress

    begun = folder / name
    if (begun / "config.yaml").exists():
        return resume(RunDirectory.at(begun), SilentProgress())
    if begun.is_dir():
        shutil.rmtree(begun)  # it was stopped before it had written what it is
    return launch(config, SilentProgress(), parent=folder, name=name)


def _earlier(jobs: Sequence[Job]) -> Path:
    """Return the folder of the sweep that is to go on."""
    name = jobs[0].config.name
    if name is None:
        raise ConfigError("--resume", "which sweep is to go on?", "name=NAME, the name of its folder")
    folder = runs_home() / name
    if not folder.is_dir():
        raise ConfigError("--resume", f"{folder} is not there", "the name of a sweep that was begun")
    return folder


def _finished(job: Job, folder: Path) -> Outcome | None:
    """Return the outcome of a job that has ended well, None for one that has not; refuse another one of its name."""
    directory = RunDirectory(folder / job.name)
    if not directory.config_path.exists():
        return None
    there, wanted = (to_plain(config) for config in (directory.read_config(), job.config))
    if any(there[key] != wanted[key] for key in wanted if key not in _RESOLVED and key != "name"):
        raise ConfigError("--resume", f"{directory.path} is a job of another sweep", "the same keys and values again")
    if not directory.result_path.exists():
        return None
    result = directory.read_result()
    seconds = result.get("seconds", {}).get("total", 0.0)
    return Outcome(job, float(seconds), result, None)


def row_of(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Return the job's entry of the tables: its overrides, then `_FIELDS`."""
    result = outcome.result or {}
    directory = folder / outcome.job.name
    values = (
        result.get("accuracy"),
        result["accuracy_by_round"][0] if result.get("accuracy_by_round") else None,
        *detection(result),
        result.get("privacy", {}).get("epsilon"),
        result.get("gas", {}).get("per_customer"),
        round(outcome.seconds, 1),
        result.get("model_digest"),
        str(directory) if directory.is_dir() else None,
        outcome.error,
    )
    return {**outcome.job.overrides, **dict(zip(_FIELDS, values, strict=True))}


def _curve(outcome: Outcome) -> list[float]:
    return list((outcome.result or {}).get("accuracy_by_round", []))


def table_console() -> Console:
    """Return the standard output, wide enough for a table where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def new_folder(name: str | None, kind: str) -> Path:
    """Make the folder for several jobs: the one that was named, or one that begins with ``kind`` and the time."""
    if name is not None:
        return make_named_directory(runs_home(), name)
    return make_fresh_directory(runs_home(), time.strftime(f"{kind}-%Y%m%d-%H%M%S"))


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write what the jobs came to, as JSON and as CSV."""
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
