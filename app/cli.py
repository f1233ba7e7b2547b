"""The ``hearth`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from app.protocol.errors import ConfigError, DataError, HearthError

_USAGE = """\
usage: hearth COMMAND ...

  run [key=value ...]   run a task, as python -m app does; hearth run --help says more
  resume RUN_DIR        go on with a run that was stopped, from where its chain stands
  show RUN_DIR          print the tables of a finished run again
  report RUN_DIR ...    one HTML page of one or several runs; hearth report --help says more
  compare A B           where two runs differ, and what came of it
  dashboard [RUNS_DIR]  the same pages while runs are going on, served on loopback
  chain COMMAND ...     an embedded chain made, served to other programs, shown; hearth chain --help says more
  audit RUN_DIR         recompute a run from its evidence alone; hearth audit --help says more
  store COMMAND ...     an embedded blob store: show, export, import, gc
  status PLACE          who of a running task is up, who lags, what is wrong; hearth status --help says more
  task COMMAND ...      the tasks of a chain: list, show, claim, cancel and more; hearth task --help says more
  wallet COMMAND ...    keys in encrypted files: new, show, import; hearth wallet --help says more
  members COMMAND ...   the cards of a deployed task's members: card, show, node-keys
  miner run ...         a miner as a process of its own; hearth miner --help says more
  mec serve ...         a MEC server as a process of its own; hearth mec --help says more
  --version             print the version"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (0: well, 1: failed, 2: bad input)."""
    command, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    try:
        if command not in COMMANDS:
            raise ConfigError("command", f"'{command}' is not known", COMMANDS)
        code = COMMANDS[command](rest)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except HearthError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError | DataError) else 1


def _run(arguments: Sequence[str]) -> int:
    from app.__main__ import main as run

    return run(arguments, "hearth run")


def _resume(arguments: Sequence[str]) -> int:
    from app.__main__ import guarded
    from app.launch import limit_threads

    def act() -> int:
        from app.command_line import Parser
        from app.launch import resume
        from app.reporting.progress import choose_progress
        from app.run_directory import RunDirectory

        parser = Parser(
            prog="hearth resume",
            description="Go on with a run that was stopped or killed, from where its chain stands. Rounds that are "
            "finalised stay; one that was sealed is decided; the rest is run as it would have been.",
        )
        parser.add_argument("run", metavar="RUN_DIR", help="the folder of a run of python -m app")
        directory = RunDirectory.at(parser.parse_args(list(arguments)).run)
        if directory.result_path.exists():
            print(f"{directory.path} has ended well: there is nothing left to do (hearth show prints its tables)")
            return 0
        progress = choose_progress()
        progress.result(resume(directory, progress))
        return 0

    limit_threads()
    return guarded(act)


def _show(arguments: Sequence[str]) -> int:
    from rich.console import Console

    from app.command_line import Parser
    from app.reporting.summary import print_summary
    from app.run_directory import RunDirectory

    parser = Parser(prog="hearth show", description="Print the tables of a finished run again.")
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of a finished run")
    directory = RunDirectory.at(parser.parse_args(list(arguments)).run)
    result = directory.read_result()
    try:
        print_summary(result, Console(highlight=False))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        problem = f"{directory.result_path} is not the result of a run ({type(error).__name__}: {error})"
        raise ConfigError("run directory", problem, "the folder of a finished run") from error
    return 0


def _later(module: str, function: str = "main") -> Callable[[Sequence[str]], int]:
    """Return a command that is imported when it is called: none of them waits for what the others need."""

    def command(arguments: Sequence[str]) -> int:
        return int(getattr(import_module(module), function)(arguments))

    return command


def _version(arguments: Sequence[str]) -> int:
    from importlib.metadata import version

    print(f"hearth {version('hearth')}")
    return 0


def _help(arguments: Sequence[str]) -> int:
    print(_USAGE)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "resume": _resume,
    "show": _show,
    "report": _later("app.report_command", "report"),
    "compare": _later("app.report_command", "compare"),
    "dashboard": _later("app.report_command", "dashboard"),
    "chain": _later("app.chain_command"),
    "audit": _later("app.audit.command"),
    "task": _later("app.task_command"),
    "wallet": _later("app.wallet_command"),
    "members": _later("app.members_command"),
    "status": _later("app.status_command"),
    "store": _later("app.store_command"),
    "miner": _later("app.miner_command"),
    "mec": _later("app.mec_command"),
    "--version": _version,
    "--help": _help,
    "-h": _help,
}

if __name__ == "__main__":
    sys.exit(main())
