"""Proof that one customer's receipt is under the seal of a round, for whoever has nothing but the chain."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.audit.arguments import Parser, address_of, run_directory
from app.audit.blobs import Blobs, BlockDirectory
from app.audit.chain_file import reexecute
from app.audit.history import History
from app.audit.node import read_history
from app.audit.report import AuditError, Section, holds, same
from app.audit.task import ChainTask, Seal, find_contract, read_task
from app.durable import replace_file
from app.protocol.digest import bytes32, hex32
from app.protocol.errors import ConfigError, ProtocolError, StoreError
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.merkle import verify_inclusion
from app.protocol.receipt import SignedReceipt

FORMAT = "hearth inclusion proof 1"
_MEMBERS = {"format", "chain_id", "contract", "round", "receipt", "siblings"}
_MOST = 2**16  # bytes of a proof
_MOST_SIBLINGS = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """A receipt, and the way from it to the sealed root.

    Attributes
    ----------
    chain_id, contract : int, str
        Where the seal is.
    signed : SignedReceipt
        The receipt; it names customer, round and update.
    siblings : tuple of bytes
        From the leaf up (32 bytes each).
    """

    chain_id: int
    contract: str
    signed: SignedReceipt
    siblings: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        value = {
            "format": FORMAT,
            "chain_id": self.chain_id,
            "contract": self.contract,
            "round": self.signed.receipt.round,
            "receipt": self.signed.to_json(),
            "siblings": [hex32(sibling) for sibling in self.siblings],
        }
        return (json.dumps(value, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Proof:
        """Read what `to_bytes` wrote; raise `AuditError` on anything else."""
        try:
            if len(data) > _MOST:
                raise ProtocolError(f"{len(data)} bytes")
            value = json.loads(data)
            if not isinstance(value, dict) or set(value) != _MEMBERS or value["format"] != FORMAT:
                raise ProtocolError("other members or another format")
            signed = SignedReceipt.from_json(value["receipt"])
            siblings = tuple(bytes32(item) for item in value["siblings"])
            proof = cls(value["chain_id"], value["contract"], signed, siblings)
            if proof.to_bytes() != data or len(siblings) > _MOST_SIBLINGS:
                raise ProtocolError("not as the audit writes it")
        except (ProtocolError, ValueError, TypeError, RecursionError) as error:
            raise AuditError(place, FORMAT, error) from error
        return proof


def main(verb: str, arguments: Sequence[str]) -> int:
    """Run ``hearth audit prove`` or ``hearth audit check``; return the exit code."""
    try:
        if verb == "prove":
            _prove(_prove_parser().parse_args(list(arguments)))
        else:
            _check(_check_parser().parse_args(list(arguments)))
    except AuditError as error:
        print(f"BROKEN {error.place}\n  expected  {error.expected}\n  found     {error.found}")
        return 1
    return 0


def prove(directory: Path, customer: str, number: int) -> Proof:
    """Return the proof for a customer's receipt of a round, from a run's directory.

    Raises
    ------
    ConfigError
        If the customer has no receipt in that round, or the round is not sealed.
    AuditError
        If the evidence that the proof is made of is broken.
    """
    history = reexecute(directory / "chain.sqlite", Section(""))
    task = read_task(history, find_contract(history))
    seal = _seal(task, number)
    limit = (len(seal.participants) + 1) * MAX_RECEIPT_BYTES
    blobs = Blobs("blobs", BlockDirectory(directory / "blobs"))
    manifest = Manifest.from_bytes(blobs.needed(f"round {number}, manifest", seal.manifest, limit))
    order = [signed.customer for signed in manifest.receipts]
    if customer not in order:
        raise ConfigError("--customer", f"{customer} has no receipt in round {number}", order)
    position, tree = order.index(customer), manifest.tree(task.domain)
    proof = Proof(task.domain.chain_id, task.domain.contract, manifest.receipts[position], tree.proof(position))
    check(proof, history, "the new proof")
    return proof


def check(proof: Proof, history: History, place: str) -> ChainTask:
    """Check a proof against a chain; return the task.

    Raises
    ------
    AuditError
        If the chain has no such task or seal, or the receipt is not under it.
    """
    receipt = proof.signed.receipt
    same(f"{place}, chain_id", history.chain_id, proof.chain_id)
    task = read_task(history, proof.contract)
    same(f"{place}, receipt, task", task.terms["policy"], receipt.task)
    holds(receipt.customer in task.customers, f"{place}, receipt, customer", "one of the task", receipt.customer)
    try:
        same(f"{place}, receipt, signer", receipt.customer, proof.signed.signer(task.domain))
        seal = _seal(task, receipt.round)
    except (ProtocolError, ConfigError) as error:
        raise AuditError(f"{place}, receipt", "a signed receipt of a sealed round", error) from error
    index = task.customers.index(receipt.customer)
    holds(index in seal.participants, f"{place}, participants in the seal", f"customer {index}", seal.participants)
    leaf = proof.signed.leaf(task.domain)
    holds(
        verify_inclusion(seal.root, leaf, proof.siblings),
        f"{place}, Merkle root",
        f"{hex32(seal.root)}, sealed for round {receipt.round}",
        "another root from this receipt and its siblings",
    )
    return task


def _seal(task: ChainTask, number: int) -> Seal:
    sealed = {round_.number: round_.seal for round_ in task.rounds if round_.seal is not None}
    if number not in sealed:
        raise ConfigError("--round", f"round {number} is not sealed", f"1..{max(sealed, default=0)}")
    return sealed[number]


def _prove(options: argparse.Namespace) -> None:
    customer = address_of("--customer", options.customer)
    proof = prove(run_directory(options.run), customer, options.round)
    if options.output is None:
        sys.stdout.write(proof.to_bytes().decode())
        return
    try:
        replace_file(Path(options.output), proof.to_bytes(), fsync=True)
    except OSError as error:
        raise StoreError(f"{options.output} cannot be written: {error.strerror}") from error
    print(f"{options.output}: proof for {customer} in round {options.round}")


def _check(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.chain is None):
        raise ConfigError("hearth audit check", "which chain?", "--run RUN_DIR or --chain URL")
    path = Path(options.file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "FILE", f"{path} cannot be read: {error.strerror}", "a proof of hearth audit prove"
        ) from error
    proof = Proof.from_bytes(data, path.name)
    if options.run is not None:
        history = reexecute(run_directory(options.run) / "chain.sqlite", Section(""))
    else:
        history = read_history(options.chain, address_of("contract", str(proof.contract)))
    check(proof, history, path.name)
    receipt = proof.signed.receipt
    print(f"OK     {receipt.customer} signed update {hex32(receipt.update)} for round {receipt.round},")
    print(f"       and the round was sealed with it: contract {proof.contract} on chain {proof.chain_id}")
    number, head = history.head
    whose = "the node's word" if options.chain else "re-executed from its genesis, head"
    print(f"history: {whose} {hex32(head)} (block {number})")


def _prove_parser() -> Parser:
    parser = Parser(prog="hearth audit prove", description="Write a proof that a customer's receipt is under a seal.")
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of a run")
    parser.add_argument("--customer", required=True, metavar="ADDR", help="whose receipt")
    parser.add_argument("--round", required=True, type=int, metavar="N", help="of which round")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; by default the standard output")
    return parser


def _check_parser() -> Parser:
    parser = Parser(prog="hearth audit check", description="Check such a proof against a chain alone.")
    parser.add_argument("file", metavar="FILE", help="the proof")
    parser.add_argument("--chain", metavar="URL", help="a node of the chain")
    parser.add_argument("--run", metavar="RUN_DIR", help="a run, of which only the embedded chain is read")
    return parser
