"""One run from its configuration to its result: the threads, the run directory, the log."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.protocol.errors import ConfigError, HearthError, LedgerError, StoreError

if TYPE_CHECKING:
    from app.reporting.progress import Progress
    from app.run_directory import RunDirectory
    from app.settings import Config
    from app.task import Prepared

_LIBRARIES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM")
}
"""What a disk, or a system that is out of something, answers; any other `OSError` is a defect of ours."""
_log = logging.getLogger("hearth")

Engine = Callable[["Prepared", "RunDirectory", "Progress"], dict[str, Any]]
"""Runs a prepared task in its run directory; returns the contents of ``result.json``."""


def limit_threads() -> None:
    """Let numerical libraries that are not loaded yet use one thread each, unless the user chose otherwise.

    Customers run side by side, one a core; threads inside each of them would only wait for one another.
    """
    for name in _LIBRARIES:
        os.environ.setdefault(name, "1")


def launch(
    config: Config,
    progress: Progress,
    *,
    parent: Path | None = None,
    name: str | None = None,
    verbose: bool = False,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Run one task and return the contents of its ``result.json``.

    Nothing is written before the data is loaded and the model is built. What fails later leaves its run directory,
    with the traceback in its log, and says where in a note of the exception.

    Parameters
    ----------
    config : Config
        What to run.
    progress : Progress
        Is told about every round.
    parent, name : Path and str, optional
        Where the run directory is made and what it is called, see `RunDirectory.create`.
    verbose : bool, default False
        Leave the libraries' own words on the terminal.
    engine : callable, optional
        What runs the prepared task, by default the engine that the configuration names.

    Raises
    ------
    HearthError
        If the task cannot be run as configured, or cannot go on.
    """
    from app.reporting.tracker import require_tracker
    from app.run_directory import RunDirectory, refuse_taken, runs_home
    from app.task import prepare

    require_tracker(config.tracker)
    if config.name is not None and name is None:
        refuse_taken(parent or runs_home(), config.name)
    with quiet_libraries(verbose):
        progress.prepare()
        try:
            prepared = prepare(config)
            directory = RunDirectory.create(prepared.config, parent, name)
            return _run(prepared, directory, progress, engine)
        finally:
            progress.end()


def resume(
    directory: RunDirectory, progress: Progress, *, verbose: bool = False, engine: Engine | None = None
) -> dict[str, Any]:
    """Go on with a run that was stopped, from where its chain stands, and return the contents of its ``result.json``.

    Parameters
    ----------
    directory : RunDirectory
        Its folder.
    progress : Progress
        Is told about every round.
    verbose : bool, default False
        Leave the libraries' own words on the terminal.
    engine : callable, optional
        What runs it: Flower's, for a run of ``flwr run``.

    Raises
    ------
    ConfigError
        If the folder is no run's, or one of another entry's, or this version would run something else.
    HearthError
        If the task cannot go on.
    """
    from app import engines
    from app.run_directory import to_yaml
    from app.task import prepare

    config = directory.read_config()
    if (config.engine.name in engines.ENGINES) != (engine is None):
        problem = f"{directory.path} was run with engine={config.engine.name}"
        raise ConfigError("resume", problem, how_to_resume(directory, engine is None))
    with quiet_libraries(verbose):
        progress.prepare()
        try:
            prepared = prepare(config)
            if to_yaml(prepared.config) != to_yaml(config):
                problem = f"{directory.config_path} would come to another configuration with this version of Hearth"
                raise ConfigError("hearth resume", problem, "the version that began the run")
            return _run(prepared, directory, progress, engine)
        finally:
            progress.end()


def how_to_resume(directory: RunDirectory, by_flower: bool) -> str:
    """Return what is typed to go on with a run that was stopped, of ``flwr run`` or of ``python -m app``."""
    if by_flower:
        return f"""flwr run . SUPERLINK -c 'resume="{directory.path}"'"""
    return f"hearth resume {directory.path}"


def _run(prepared: Prepared, directory: RunDirectory, progress: Progress, engine: Engine | None) -> dict[str, Any]:
    from app import engines

    with _log_file(directory.log_path):
        try:
            return (engine or engines.run)(prepared, directory, progress)
        except BaseException as error:
            _log.error("the run ended early", exc_info=error)
            told = _told(error, directory)
            told.add_note(f"what the run wrote until then: {directory.path}")
            told.add_note(f"to go on with it: {how_to_resume(directory, engine is not None)}")
            if told is error:
                raise
            raise told from error


def _told(error: BaseException, directory: RunDirectory) -> BaseException:
    """Return the error as people are told it: what the system refused is nobody's defect, and one line."""
    if isinstance(error, sqlite3.Error):
        return LedgerError(f"{directory.chain_path} cannot be written: {error}")
    if isinstance(error, OSError) and not isinstance(error, HearthError) and error.errno in _REFUSALS:
        return StoreError(f"{error.filename or f'a file of {directory.path}'} cannot be written: {error.strerror}")
    return error


@contextmanager
def quiet_libraries(verbose: bool = False) -> Iterator[None]:
    """Keep Flower's lines and Python's warnings off the terminal inside the ``with`` block; the log still gets them."""
    if verbose:
        yield
        return
    from flwr.common.logger import FLOWER_LOGGER

    handlers = list(FLOWER_LOGGER.handlers)
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


class _LogFile(logging.FileHandler):
    """A log that stays silent when the disk refuses: what is being logged then is the error that matters."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # the file is opened with the first line
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the standard library's
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Let every logger of the process write to ``path`` too, from INFO on."""
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
