"""``python -m app``: one run, or with ``-m`` a sweep, composed from conf/ and the overrides on the command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from app.protocol.errors import ConfigError, DataError, HearthError

BAD_INPUT, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a run as Ctrl-C does, with the chain closed and a word on where the evidence is."""


def main(arguments: Sequence[str] | None = None, program: str = "python -m app") -> int:
    """Run what the command line asks for.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of this process.
    program : str
        What the user typed to get here.

    Returns
    -------
    int
        0: all is well. 1: a run failed. 2: bad input, and nothing was started. 130: interrupted. 143: terminated.
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _act(_parse(typed), program), verbose="-v" in typed or "--verbose" in typed)


def guarded(action: Callable[[], int], *, verbose: bool = False) -> int:
    """Return an action's exit code, or the one for what ended it, once that was said in a line; see `main`."""
    try:
        with _terminable():
            return action()
    except Terminated as end:
        return _fail("terminated", end, verbose, TERMINATED)
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as interrupt:
        return _fail("interrupted", interrupt, verbose, INTERRUPTED)
    except (ConfigError, DataError) as error:
        return _fail(f"error: {error}", error, verbose, BAD_INPUT)
    except HearthError as error:
        return _fail(f"error: {error}", error, verbose, FAILED)
    except Exception as error:  # noqa: BLE001 - people get one line; the run's log has the traceback
        kind = type(error).__name__
        return _fail(f"error: {kind}: {error} (this is a defect in Hearth; -v shows where)", error, verbose, FAILED)


def _act(options: argparse.Namespace, program: str) -> int:
    from app.launch import launch, limit_threads

    if options.help:
        from app.usage import usage

        print(usage(program))
        return 0
    limit_threads()
    if options.cfg:
        return _print_configs(options)
    if options.optuna is not None:
        if not options.multirun:
            raise ConfigError("--optuna", "chooses the values of a sweep", "-m --optuna N")
        from app.search import search

        return search(options.overrides, options.optuna, resume=options.resume)
    if options.multirun:
        from app.sweep import sweep

        return sweep(options.overrides, resume=options.resume)
    if options.resume:
        raise ConfigError("--resume", "goes on with a sweep (-m); a run goes on with hearth resume", "-m --resume")
    from app.config import compose
    from app.consistency import warnings
    from app.reporting.progress import choose_progress

    config = compose(options.overrides)
    for line in warnings(config):
        print(line, file=sys.stderr)
    progress = choose_progress()
    progress.result(launch(config, progress, verbose=options.verbose))
    return 0


def _print_configs(options: argparse.Namespace) -> int:
    """Print what would run: one YAML document, or with ``-m`` one for each job."""
    from app.config import compose
    from app.run_directory import to_yaml

    if not options.multirun:
        print(to_yaml(compose(options.overrides)), end="")
        return 0
    from app.sweep import plan

    for job in plan(options.overrides):
        print(f"---\n# {job.name}\n{to_yaml(job.config)}", end="")
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn the first SIGTERM inside the ``with`` block into `Terminated`; the second ends the process at once."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only that one may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Parser(argparse.ArgumentParser):
    """Refuses flags as everything else is refused: with one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError("command line", message, "-m, --optuna N, --resume, -v, --cfg, --help and key=value")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--optuna", type=int, metavar="N")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(arguments)


def _fail(line: str, error: BaseException, verbose: bool, code: int) -> int:
    """Print one line, where to look, and with ``-v`` the traceback; return the exit code."""
    if verbose:
        traceback.print_exception(error)
    for text in (" ".join(line.split()), *getattr(error, "__notes__", ())):
        print(text, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
