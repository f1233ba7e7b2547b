"""A search: values are chosen by what earlier jobs came to, through Optuna, instead of all combinations being run.

::

    python -m app -m --optuna 30 privacy.clip=interval(0.2,2) train.epochs=range(1,6) model.head=prototype,mlp

Intervals are searched continuously (``tag(log,interval(...))`` on a logarithmic scale), ranges in whole numbers, lists
as choices. What is sought is the accuracy after the last round on the manufacturer's test records: report a search's
winner by another seed, or the test records have chosen it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from app.config import compose
from app.consistency import warnings
from app.jobs import Job, Outcome, Task, cores, job_context, run_jobs
from app.overrides import axes_of
from app.protocol.errors import ConfigError
from app.run_directory import runs_home
from app.settings import KEYS
from app.sweep import new_folder, row_of, run_job, table, table_console, write_rows

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

MOST_TRIALS = 10_000


def search(
    overrides: Sequence[str],
    trials: int,
    task: Task | None = None,
    console: Console | None = None,
    *,
    resume: bool = False,
) -> int:
    """Run ``trials`` jobs, each with values that what came before suggests, and print their table, the best first.

    Parameters
    ----------
    overrides : sequence of str
        In Hydra's grammar; those with several values are searched, the others hold for every job.
    trials : int
        How many jobs.
    task : callable, optional
        What a job runs, by default a whole task.
    console : Console, optional
        By default standard output.
    resume : bool, default False
        Go on with the search that has this name: what it has learnt is kept, and only jobs that are missing are run.

    Returns
    -------
    int
        0, or 1 if a job failed.

    Raises
    ------
    ConfigError
        If Optuna is not installed, nothing is searched, or a value is not possible.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise ConfigError("--optuna", f"{trials} is out of range", f"1..{MOST_TRIALS}")
    fixed, axes = axes_of(overrides, KEYS)
    if not axes:
        raise ConfigError("--optuna", "nothing is searched", "key=interval(a,b), key=range(a,b) or key=a,b,c")
    console = console or table_console()
    config = compose([*fixed, *(f"{key}={_example(values)}" for key, values in axes.items())])
    for line in warnings(config):
        print(line, file=sys.stderr)
    folder = _folder(config.name, resume)
    study = _study(folder, config.seed)
    at_once = 1 if config.engine.name == "ray" else min(cores(), trials)
    console.print(f"{trials} jobs, {at_once} at a time; evidence: {folder}", soft_wrap=True)
    distributions = {key: _distribution(values) for key, values in axes.items()}
    context, rows = job_context(preload=task is None), _done(study)
    while len(rows) < trials:
        asked = [study.ask(distributions) for _ in range(min(at_once, trials - len(rows)))]
        jobs = {_name(trial.number): trial for trial in asked}
        started = [_job(name, trial.params, fixed) for name, trial in jobs.items()]
        with closing(run_jobs(started, folder, at_once, task or run_job, context)) as outcomes:
            for outcome in outcomes:
                row = row_of(outcome, folder)
                rows.append(row)
                _tell(study, jobs[outcome.job.name], outcome, row)
                said = outcome.error or f"accuracy {row['accuracy']:.1%}"
                console.print(Text(f"{len(rows)}/{trials} {outcome.job.overrides}: {said}"), soft_wrap=True)
        write_rows(folder, rows)
    rows.sort(key=lambda row: -(row["accuracy"] or 0.0))
    console.print(table(rows))
    console.print(Text(f"evidence: {folder} (sweep.json, sweep.csv, optuna.sqlite)"), soft_wrap=True)
    return 1 if any(row["error"] for row in rows) else 0


def _study(folder: Path, seed: int) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("--optuna", "optuna is not installed", "pip install 'hearth[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.sqlite'}",
        study_name="search",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        load_if_exists=True,
    )


def _done(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the rows of the jobs that an earlier process ended; one that it died in is not among them."""
    return [trial.user_attrs["row"] for trial in study.trials if "row" in trial.user_attrs]


def _tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome, row: dict[str, Any]) -> None:
    from optuna.trial import TrialState

    trial.set_user_attr("row", row)
    if outcome.error is not None or row["accuracy"] is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, row["accuracy"])


def _job(name: str, values: Mapping[str, Any], fixed: Sequence[str]) -> Job:
    chosen = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return Job(name, chosen, compose([*fixed, *(f"{key}={value}" for key, value in chosen.items())]))


def _name(number: int) -> str:
    return f"{number:05d}"


def _example(values: Any) -> str:
    """Return one of an axis' values, with which the configuration is checked before anything starts."""
    low = values[0]
    return f"{low:.6g}" if isinstance(low, float) else str(low)


def _distribution(values: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, tuple):  # an interval: low, high, logarithmic
        low, high, logarithmic = values
        return FloatDistribution(low, high, log=logarithmic)
    numbers = [int(text) for text in values if text.lstrip("-").isdecimal()]
    if len(numbers) == len(values) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return IntDistribution(numbers[0], numbers[-1])
    return CategoricalDistribution(values)


def _folder(name: str | None, resume: bool) -> Path:
    if resume:
        if name is None or not (runs_home() / name / "optuna.sqlite").is_file():
            raise ConfigError("--resume", "there is no such search to go on with", "name=NAME, the name of its folder")
        return runs_home() / name
    return new_folder(name, "search")
