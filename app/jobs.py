"""Jobs of a sweep, each in a process of its own, as many at once as there are cores; none outlives the sweep."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from app.protocol.errors import HearthError
from app.settings import Config

_PRELOADED = ["app.launch", "app.engines", "app.server_app", "app.client_app"]
"""Loaded once, in the process that all jobs are forked from: a job starts in milliseconds, in a state nobody used."""
_GRACE = 10.0
"""Seconds that a job's process has to end by itself once it has said how it went."""

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


def run_jobs(
    jobs: Sequence[Job], folder: Path, at_once: int, task: Task, context: Any
) -> Generator[Outcome, None, None]:
    """Yield every job's outcome as it ends, ``at_once`` of them running; whatever happens, none outlives this."""
    waiting = list(reversed(jobs))
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                started = _Running(waiting.pop(), folder, max(1, cores() // at_once), task, context)
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


def job_context(preload: bool) -> Any:
    """Return how processes are made: forked from a clean one where the system can, else started anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED if preload else [])
    return context


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
