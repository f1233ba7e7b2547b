"""``hearth members``: the cards of a task's members, made and checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app.command_line import Parser, columns, dispatch
from app.protocol.errors import ConfigError

_ABOUT = """\
Who wants to take part gives the manufacturer a card: one line that binds what others must know of it to its wallet's
key. The manufacturer joins the lines in a file, which it and every miner use:

  hearth members card miner-0 --miner --service miner0.example.org:7700 >> members.jsonl
  hearth members card alice --customer --node-key node.pub >> members.jsonl
  hearth members show members.jsonl

The order of the cards is the order of the members' indices in the task."""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth members``; return its exit code.

    Raises
    ------
    HearthError
        If what was asked for cannot be done.
    """
    return dispatch(arguments, _parse, {"card": _card, "show": _show, "node-keys": _node_keys})


def _card(options: argparse.Namespace) -> int:
    from app.ledger.keystore import key_path, load
    from app.ledger.password import password
    from app.parties import vrf_secret
    from app.protocol.card import CUSTOMER, MINER, Card
    from app.protocol.vrf import public_key
    from app.service.listen import split_address

    if options.miner and not options.service:
        raise ConfigError("--service", "must be given with --miner", "host:port where the other miners reach it")
    if options.customer and not options.node_key:
        raise ConfigError("--node-key", "must be given with --customer", "the public key of its Flower node")
    if options.miner:
        split_address("--service", options.service)
    node_key = _public_key(options.node_key) if options.customer else ""
    account = load(key_path(options.name), password(options.password_file))
    if options.miner:
        card = Card(MINER, account.address, public_key(vrf_secret(account)), options.service)
    else:
        card = Card(CUSTOMER, account.address, node_key=node_key)
    sys.stdout.write(card.signed(account).to_bytes().decode() + "\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    from app.members import read_members

    members = read_members(str(options.file), "FILE")
    rows: list[tuple[str, ...]] = []
    for role, cards in (("customer", members.customers), ("miner", members.miners)):
        for index, card in enumerate(cards):
            rows.append((f"{role} {index}", card.member, card.service or card.node_key[:60]))
    if rows:
        print("\n".join(columns(rows, "")))
    print(f"{len(members.customers)} customers, {len(members.miners)} miners; every card is signed by its member")
    return 0


def _node_keys(options: argparse.Namespace) -> int:
    """Write every customer's node key to a file, as `flwr supernode register` wants it."""
    from app.members import read_members

    options.folder.mkdir(parents=True, exist_ok=True)
    for index, card in enumerate(read_members(str(options.file), "FILE").customers):
        path = options.folder / f"customer-{index}.pub"
        path.write_text(card.node_key + "\n", "utf-8")
        print(f"flwr supernode register {path}")
    return 0


def _public_key(path: Path) -> str:
    """Return the line of an OpenSSH public key; a private key that was named by mistake is not read on."""
    try:
        text = path.read_text("utf-8")[:4096].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--node-key", f"{path} cannot be read", "an OpenSSH public key") from error
    parts = text.split()
    if "\n" in text or len(parts) < 2 or not parts[0].startswith("ecdsa-sha2-"):
        problem = f"{path} is no ECDSA public key in OpenSSH's form"
        raise ConfigError("--node-key", problem, "the .pub of ssh-keygen -t ecdsa -b 384")
    return " ".join(parts[:2])


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="hearth members", description=_ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    card = commands.add_parser("card", help="print a member's card", description=_ABOUT)
    card.add_argument("name", metavar="NAME", help="the key, as hearth wallet calls it")
    role = card.add_mutually_exclusive_group(required=True)
    role.add_argument("--miner", action="store_true", help="as a miner")
    role.add_argument("--customer", action="store_true", help="as a customer")
    card.add_argument("--service", metavar="HOST:PORT", default="", help="where other miners reach this one")
    card.add_argument("--node-key", metavar="FILE", type=Path, help="public key of the customer's Flower node")
    card.add_argument("--password-file", metavar="FILE", type=Path, help="its first line is the password")
    show = commands.add_parser("show", help="check a file of cards and list it")
    keys = commands.add_parser("node-keys", help="write the customers' node keys for flwr supernode register")
    for command in (show, keys):
        command.add_argument("file", metavar="FILE", type=Path, help="one card a line")
    keys.add_argument("folder", metavar="DIR", type=Path, help="where they are written")
    return parser.parse_args(arguments)
