"""``hearth chain``: an embedded chain made, served to other processes, and looked at."""

from __future__ import annotations

import argparse
import json
import re
import signal
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.command_line import Parser, chain_id, columns, dispatch
from app.protocol.errors import ConfigError

_ABOUT = """\
The embedded chain is an EVM chain in one file. A run has its own; `new` makes one by itself, with ether for whom you
name, and `serve` lets wallets, explorers, miners and runs of this machine use one as they use any Ethereum node:

  hearth chain new chain.sqlite --seed 0
  hearth chain serve chain.sqlite
  python -m app chain=rpc chain.url=http://127.0.0.1:8545     (in another terminal)"""
_FUND = re.compile(r"(0x[0-9A-Fa-f]{40})(?:=(\d{1,9}(?:\.\d{1,18})?))?")
_ETHER = "1000"
_PORT = 8545


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth chain``; return its exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done.
    """
    return dispatch(arguments, _parse, {"new": _new, "serve": _serve, "show": _show})


def _new(options: argparse.Namespace) -> int:
    from web3 import Web3

    from app.ledger.embedded import EmbeddedNode
    from app.protocol.keys import simulation_account

    alloc: dict[str, int] = {}
    for text in options.fund:
        match = _FUND.fullmatch(text)
        if match is None:
            raise ConfigError("--fund", f"'{text}' names no address", "0x and 40 hexadecimal digits, perhaps =ETHER")
        alloc[Web3.to_checksum_address(match[1])] = int(Decimal(match[2] or _ETHER) * 10**18)
    if options.seed is not None:
        alloc[simulation_account(options.seed, "manufacturer").address] = 10**24
    if not alloc:
        raise ConfigError("hearth chain new", "nobody would have ether", "--fund ADDRESS or --seed N, or both")
    node = EmbeddedNode.create(options.file, chain_id=options.chain_id, alloc=alloc)
    node.close()
    print(f"made {options.file}, chain {options.chain_id}, with ether for {', '.join(alloc)}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from app.ledger.embedded import EmbeddedNode
    from app.ledger.server import serving
    from app.places import chain_file

    ended = threading.Event()
    path = chain_file(options.place)
    node = EmbeddedNode.open(path, readonly=options.read_only)
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serving(node, options.port) as server:
            access = ", for reading only" if options.read_only else ""
            print(f"{path}: chain {node.chain_id}, block {node.head()[0]}{access}")
            print(f"serving it at {server.url} (Ctrl-C ends)", flush=True)
            ended.wait()
        number, block_hash = node.head()
        print(f"ended at block {number} 0x{block_hash.hex()}", flush=True)
    finally:
        node.close()
        for name, handler in before.items():
            signal.signal(name, handler)
    return 0


def _show(options: argparse.Namespace) -> int:
    from app.ledger.tasks import find_tasks
    from app.places import open_place

    chain = open_place(options.place)
    try:
        with chain.guard("eth_getBlockByNumber"):
            newest, first = chain.w3.eth.get_block("latest"), chain.w3.eth.get_block(0)
        facts: dict[str, Any] = {
            "chain": chain.where,
            "chain_id": chain.chain_id,
            "block": int(newest["number"]),
            "head": "0x" + bytes(newest["hash"]).hex(),
            "time": int(newest["timestamp"]),
            "genesis": "0x" + bytes(first["hash"]).hex(),
            "tasks": [found.address for found in find_tasks(chain)],
        }
    finally:
        chain.close()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    rows = {**facts, "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["time"]))}
    rows["tasks"] = ", ".join(facts["tasks"]) or "none"
    print("\n".join(columns([(name.replace("_", " "), str(value)) for name, value in rows.items()], indent="")))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="hearth chain", description=_ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="make a chain")
    new.add_argument("file", metavar="FILE", type=Path, help="where no file is yet")
    new.add_argument("--chain-id", metavar="N", type=chain_id, default=2020, help="its EIP-155 id (2020)")
    new.add_argument(
        "--fund", metavar="ADDRESS[=ETHER]", action="append", default=[], help=f"who begins with how much ({_ETHER})"
    )
    new.add_argument("--seed", metavar="N", type=int, help="fund the manufacturer of simulations with this seed")
    serve = commands.add_parser("serve", help="serve a chain as JSON-RPC on 127.0.0.1")
    serve.add_argument("place", metavar="RUN_DIR|FILE", help="a run, or the file of a chain")
    serve.add_argument("--port", metavar="N", type=int, default=_PORT, help=f"which port ({_PORT}); 0: a free one")
    serve.add_argument("--read-only", action="store_true", help="never write; works beside the chain's writer")
    show = commands.add_parser("show", help="print head, height and tasks")
    show.add_argument("place", metavar="RUN_DIR|FILE|URL", help="a run, the file of a chain, or a node's address")
    show.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(arguments)
