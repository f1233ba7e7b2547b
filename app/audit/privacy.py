"""What each customer spent, by its signed receipts and by its phone's own books, against the task's budget."""

from __future__ import annotations

import hashlib
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from app.audit import exposure
from app.audit.costs import check_cost, cost_of
from app.audit.report import AuditError, Section, holds, same
from app.audit.rounds import Checked
from app.audit.task import ChainTask
from app.protocol.digest import canonical_json, hex32, parse_json, sha256
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy
from app.protocol.receipt import UNBOUNDED, Receipt, SignedReceipt

_MOST_LINE = 2**13
_ENTRY = {"previous", "release", "record_set", "parameters", "costs"}
HOUSEKEEPING = ("phone/privacy.jsonl.lock", "phone/updates", "mec")
"""What lies in a customer's folder and is no evidence: the ledger's lock, updates that a phone kept so as to send the
same again (what it sent is under a seal), and what its MEC server had cached."""


def micros(epsilon: float) -> int:
    """Return an epsilon as receipts state it: in units of 1e-6, rounded up."""
    return math.ceil(Decimal(str(epsilon)) * 10**6)


def picos(delta: float) -> int:
    """Return a delta as receipts state it: in units of 1e-12, rounded up."""
    return math.ceil(Decimal(str(delta)) * 10**12)


def promised(policy: Policy) -> tuple[int, int] | None:
    """Return the cost of the task's one release, as an honest receipt states it.

    None where the phones' books tell: in the paper's mode it depends on how many records a customer has, and where
    every round lets something out it depends on the rounds.
    """
    privacy = policy.config["privacy"]
    if privacy["mechanism"] == "none":
        return UNBOUNDED, 0
    if privacy["mechanism"] == "paper" or exposure.by_rounds(policy):
        return None
    return micros(privacy["epsilon"]), picos(0.0 if privacy["mechanism"] == "laplace" else privacy["delta"])


def latest_receipts(rounds: list[Checked]) -> dict[str, Receipt]:
    """Return each customer's last sealed receipt."""
    return {s.customer: s.receipt for checked in rounds if checked.manifest for s in checked.manifest.receipts}


def contradicting(policy: Policy, receipts: dict[str, Receipt]) -> list[str]:
    """Return the customers whose receipt states another cost than the task's, sorted."""
    units = promised(policy)
    if units is None:
        return []
    return sorted(c for c, receipt in receipts.items() if (receipt.epsilonMicros, receipt.deltaPicos) != units)


def check_receipts(policy: Policy, rounds: list[Checked], section: Section) -> None:
    """Check what the receipts say: nobody above its budget, and what was spent never becomes less."""
    privacy = policy.config["privacy"]
    protects = privacy["mechanism"] in (
        "gaussian",
        "laplace",
        "dp_sgd",
    )  # the paper's budget is a coordinate's, not a record's
    before: dict[str, tuple[int, int, int]] = {}
    for checked in rounds:
        for signed in checked.manifest.receipts if checked.manifest else ():
            receipt = signed.receipt
            place = f"round {receipt.round}, manifest, receipt of {receipt.customer}"
            spent = (receipt.epsilonMicros, receipt.deltaPicos, receipt.releases)
            if protects:
                budget = micros(privacy["budget"])
                holds(spent[0] <= budget, f"{place}, epsilonMicros", f"at most the budget, {budget}", spent[0])
                most = picos(privacy["delta"])
                holds(spent[1] <= most, f"{place}, deltaPicos", f"at most the budget, {most}", spent[1])
            last = before.get(receipt.customer, (0, 0, 0))
            for name, old, new in zip(("epsilonMicros", "deltaPicos", "releases"), last, spent, strict=True):
                holds(new >= old, f"{place}, {name}", f"no less than before, {old}", new)
            before[receipt.customer] = spent
            section.counts["receipts"] += 1


def check_phones(home: Path, policy: Policy, task: ChainTask, rounds: list[Checked], section: Section) -> list[str]:
    """Check the books of the phones in a run directory: ledgers, kept receipts, released features.

    Returns
    -------
    list of str
        What was signed and is not under a seal: an update that a relayer dropped, or a message that was lost.
    """
    last, unsealed = latest_receipts(rounds), []
    known = {f"{i:05d}": customer for i, customer in enumerate(task.customers)}
    others = {folder.name for folder in home.iterdir()} - set(known) if home.is_dir() else set()
    section.counts["other folders"] += len(others)  # simulated adversaries keep notes there; nobody is judged by them
    for name, customer in known.items():
        place, folder = f"customers/{name}/phone", home / name / "phone"
        if customer not in last and not folder.exists():
            continue  # it never took part
        entries = _check_ledger(folder / "privacy.jsonl", place, customer, policy)
        path = folder / "receipts.jsonl"
        silent = customer not in last and not path.exists()  # it trained and signed nothing
        kept = [] if silent else _kept_receipts(path, place, customer, task)
        unsealed += _compare_receipts(place, customer, kept, rounds)
        if customer in last:
            counted = sum(max((cost["steps"] for cost in entry["costs"]), default=1) for entry in entries)
            same(f"{place}/privacy.jsonl, releases in the last receipt", counted, last[customer].releases)
            if exposure.by_rounds(policy):
                costs = [[cost_of(cost, place) for cost in entry["costs"]] for entry in entries]
                stated = last[customer].epsilonMicros / 1e6
                exposure.check_spent(policy, costs, stated, f"{place}/privacy.jsonl, epsilon in the last receipt")
        _check_releases(folder, place, entries, policy, section)
        section.counts.update({"phones": 1, "ledger entries": len(entries), "kept receipts": len(kept)})
    return unsealed


def _check_ledger(path: Path, place: str, owner: str, policy: Policy) -> list[dict[str, Any]]:
    place, privacy = f"{place}/{path.name}", policy.config["privacy"]
    lines = _lines(path, place)
    same(f"{place}, head", canonical_json({"ledger": "hearth privacy ledger 2", "owner": owner}) + b"\n", lines[0])
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines[1:], start=2):
        here = f"{place}, line {number}"
        entry = _canonical(line, here)
        same(f"{here}, members", sorted(_ENTRY), sorted(entry))
        same(f"{here}, digest of the line before", sha256(lines[number - 2]).hex(), entry["previous"])
        check_cost(entry, here, policy)
        entries.append(entry)
    if not exposure.by_rounds(policy):  # there each round's noise is checked against the budget of all
        _check_budget(entries, place, privacy)
    same(f"{place}, releases, each counted once", len({entry["release"] for entry in entries}), len(entries))
    return entries


def _check_budget(entries: list[dict[str, Any]], place: str, privacy: dict[str, Any]) -> None:
    """Check that each unit's sum is within the budget, as far as sums can tell (see `app.privacy.composition`)."""
    if privacy["mechanism"] == "none" or len(entries) > 1:
        return  # several releases are composed more tightly than by adding up; the receipts' budget is checked anyway
    for unit in ("record", "coordinate"):
        costs = [cost for entry in entries for cost in entry["costs"] if cost["unit"] == unit]
        for name, budget in (("epsilon", privacy["budget"]), ("delta", privacy["delta"])):
            spent = sum((Decimal(str(cost[name])) for cost in costs), Decimal(0))
            holds(spent <= Decimal(str(budget)), f"{place}, {name} spent for a {unit}", f"at most {budget}", spent)


def _kept_receipts(path: Path, place: str, customer: str, task: ChainTask) -> list[SignedReceipt]:
    place, kept = f"{place}/{path.name}", []
    for number, line in enumerate(_lines(path, place), start=1):
        here = f"{place}, line {number}"
        record = _canonical(line, here)
        same(f"{here}, members", ["chain_id", "contract", "receipt"], sorted(record))
        same(f"{here}, chain_id", task.domain.chain_id, record["chain_id"])
        same(f"{here}, contract", task.domain.contract, record["contract"])
        try:
            signed = SignedReceipt.from_json(record["receipt"])
            same(f"{here}, signer", customer, signed.signer(task.domain))
        except ProtocolError as error:
            raise AuditError(f"{here}, receipt", "a signed receipt", error) from error
        same(f"{here}, customer", customer, signed.customer)
        kept.append(signed)
    return kept


def _compare_receipts(place: str, customer: str, kept: list[SignedReceipt], rounds: list[Checked]) -> list[str]:
    """Check that what was sealed in a customer's name is among what its phone kept; return what was not sealed."""
    place, sealed = f"{place}/receipts.jsonl", []
    for checked in rounds:
        for signed in checked.manifest.receipts if checked.manifest else ():
            if signed.customer == customer:
                holds(signed in kept, f"{place}, receipt of round {checked.round.number}", "the sealed one", "none")
                sealed.append(signed)
    numbers = [signed.receipt.round for signed in kept]
    same(f"{place}, rounds, ascending", sorted(numbers), numbers)
    same(f"{place}, lines, each once", len({signed.signature for signed in kept}), len(kept))
    over = {checked.round.number for checked in rounds if checked.round.over}
    for signed in kept:
        # The phone saw a round that this chain does not have: the chain was cut off, or is another one.
        number = signed.receipt.round
        holds(number in over or number == len(over) + 1, f"{place}, round {number}", "a round on the chain", "none")
    return [f"{place}: signed for round {s.receipt.round}, not under its seal" for s in kept if s not in sealed]


def _check_releases(folder: Path, place: str, entries: list[dict[str, Any]], policy: Policy, section: Section) -> None:
    """Check that the released batches that the phone kept are those that its ledger counts."""
    counted = {entry["release"] for entry in entries}
    files = sorted((folder / "released").glob("*")) if (folder / "released").is_dir() else []
    for path in files:
        here = f"{place}/released/{path.name}"
        digest = _release_digest(path, here)
        holds(digest in counted, f"{here}, digest", "one that the ledger counts", digest)
        section.counts["releases"] += 1
    if policy.config["privacy"]["mechanism"] != "none":
        # Where every round releases anew, a phone keeps no batch.
        same(f"{place}/released, batches", 0 if exposure.by_rounds(policy) else len(entries), len(files))


def _release_digest(path: Path, place: str) -> str:
    """Return the digest of a released batch: its key, type, shape, step, values and labels."""
    data = path.read_bytes()
    try:
        tensors = load(data)
        values, step, labels = tensors["values"], float(tensors["step"].item()), tensors["labels"]
        key = tensors["key"].tobytes().hex()
    except (SafetensorError, KeyError, ValueError, OverflowError, json.JSONDecodeError) as error:
        raise AuditError(place, "a released batch", error) from error
    same(f"{place}, bytes in canonical form", sha256(bytes(save(tensors))), sha256(data))
    same(f"{place}, key", path.stem, key)
    shapes = (values.dtype, values.ndim, labels.dtype, labels.shape)
    same(f"{place}, types", (np.dtype("<i4"), 2, np.dtype("<i8"), values.shape[:1]), shapes)
    content = hashlib.sha256(f"{key} {values.dtype.name} {values.shape} {step.hex()}".encode())
    content.update(np.ascontiguousarray(values).data)
    content.update(np.ascontiguousarray(labels).data)
    same(f"{place}, digest inside", hex32(content.digest()), hex32(tensors["digest"].tobytes()))
    return content.hexdigest()


def _lines(path: Path, place: str) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise AuditError(place, "the phone's own record", error.strerror) from error
    holds(bool(lines), place, "at least one line", "none")
    return lines


def _canonical(line: bytes, place: str) -> dict[str, Any]:
    if len(line) > _MOST_LINE:
        raise AuditError(place, f"a line of at most {_MOST_LINE} bytes", len(line))
    try:
        value = parse_json(line, place)
    except ProtocolError as error:
        raise AuditError(place, "a JSON object", error) from error
    same(f"{place}, canonical form", canonical_json(value) + b"\n", line)
    return value
