"""``hearth status``: who is up, where the task stands, who lags, what budgets still have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.command_line import Parser
from app.protocol.errors import ConfigError, HearthError

if TYPE_CHECKING:
    from app.store.base import BlobStore

_ABOUT = """\
Look at a running task from outside, as anybody can. PLACE is a run directory, the file of an embedded chain, or the
address of a node. With --members each miner's service is asked how it is; with --store it shows what customers' last
receipts say they have spent. Exit code 0: nothing is wrong; 1: something is, and the last lines say what."""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth status``; return its exit code.

    Raises
    ------
    HearthError
        If the chain cannot be read.
    """
    parser = Parser(prog="hearth status", description=_ABOUT)
    parser.add_argument("place", metavar="PLACE")
    parser.add_argument("--contract", metavar="ADDRESS", help="which task; the newest, where it is left out")
    parser.add_argument("--members", metavar="FILE", help="the cards of its members")
    parser.add_argument("--authority", metavar="FILE", help="the certificate that vouches for the miners' services")
    parser.add_argument("--store", metavar="URL|DIR", help="where its blobs are")
    parser.add_argument("--json", action="store_true", help="for machines")
    try:
        options = parser.parse_args(list(arguments) or ["--help"])
    except SystemExit as end:  # argparse ends so after --help
        return int(end.code or 0)
    from app.ledger.task_ledger import TaskLedger
    from app.ledger.tasks import find_tasks
    from app.members import read_members
    from app.mining.follower import policy_of
    from app.places import contract_of, open_place
    from app.reporting.status import describe, status_of

    members = read_members(options.members, "--members") if options.members else None
    chain = open_place(options.place)
    try:
        contract = options.contract or contract_of(options.place)
        if contract is None:
            found = find_tasks(chain)
            if not found:
                raise ConfigError("PLACE", f"there is no task on {chain.where}", "a chain with one")
            contract = found[-1].address
        ledger = TaskLedger.attach(chain, contract)
        store = _store(options.store, options.place)
        policy = policy_of(ledger, store) if store else None
        status = status_of(ledger, members, options.authority, policy, store)
    finally:
        chain.close()
    print(json.dumps(status.to_json(), indent=2) if options.json else describe(status))
    return 1 if status.worries else 0


def _store(given: str | None, place: str) -> BlobStore | None:
    """Return the store that was named, or the run directory's own; None where there is neither."""
    from app.places import is_url
    from app.run_directory import RunDirectory
    from app.store.factory import open_store

    if given is not None:
        if given.startswith(("http://", "https://", "/ip")):
            return open_store("ipfs", url=given)
        return open_store("embedded", path=Path(given).expanduser())
    if is_url(place):
        return None
    own = RunDirectory(Path(place).expanduser().absolute()).blobs_path
    try:
        return open_store("embedded", path=own) if own.is_dir() else None
    except HearthError:
        return None
