"""``hearth miner``: one miner as a process of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from app.command_line import dispatch, service_parser

_ABOUT = """\
A miner follows a task on its chain, judges every sealed round from the blobs that the chain binds, votes when another
miner asks, and finalises when it is elected. With a contract it runs until that task has ended, else from task to task;
stopped and started again, it goes on. Every key of conf/miner.yaml can be given, in a file or here:

  hearth miner run members=members.jsonl key.name=miner-0 store.url=http://127.0.0.1:5001

The password of the key comes from $HEARTH_PASSWORD_FILE, $HEARTH_PASSWORD or the terminal."""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth miner``; return its exit code.

    Raises
    ------
    HearthError
        If the configuration is wrong, or the task cannot be followed.
    """
    return dispatch(arguments, _parse, {"run": _run})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    return service_parser("miner", "run", "follow tasks until it is stopped", _ABOUT).parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    from app.launch import limit_threads

    limit_threads()
    from app.ledger.keystore import key_path, load
    from app.ledger.password import password
    from app.mining.config import MinerConfig
    from app.mining.process import run_miner
    from app.service.config import compose_service
    from app.service.process import log_to_stderr, until_stopped

    config = compose_service("miner", MinerConfig, options.overrides, options.config)
    folder = Path(config.key.folder).expanduser() if config.key.folder else None
    account = load(key_path(config.key.name, folder), password(None))
    log_to_stderr(config.log)
    with until_stopped() as stopped:
        run_miner(config, account, stopped)
    return 0
