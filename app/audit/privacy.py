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
from app.audit.noise import gaussian_delta
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
                costs = [[_cost(cost, place) for cost in entry["costs"]] for entry in entries]
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
        _check_cost(entry, here, policy)
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


def _check_cost(entry: dict[str, Any], place: str, policy: Policy) -> None:
    """Check one release: its parameters are the task's, its noise is what they take, its costs are what it gives."""
    privacy = policy.config["privacy"]
    parameters, mechanism = entry["parameters"], privacy["mechanism"]
    costs, flips = [_cost(cost, place) for cost in entry["costs"]], privacy["labels"] == "randomized_response"
    stated = {"mechanism": mechanism, "normalisation": privacy["normalisation"], "neighbours": "replace one record"}
    clear = mechanism in ("none", "dp_sgd")
    stated |= {"randomness": "none" if clear else privacy["randomness"], "labels": privacy["labels"]}
    stated |= {"unit": "coordinate" if mechanism == "paper" else "record"}
    if privacy["normalisation"] in ("batch", "map") or mechanism == "paper":
        stated["batch_size"] = privacy["batch_size"]
    if flips:
        stated |= {"epsilon_label": privacy["epsilon_label"], "label_randomness": privacy["randomness"]}
    features = features_share(privacy)
    about = {name: parameters.get(name) for name in ("records", "shape")}
    if exposure.by_rounds(policy):
        of_round = exposure.check_round(policy, parameters, costs, place, lambda: _joint(parameters, place, privacy))
        stated |= of_round | _grid(parameters, place, policy, costs)
        same(f"{place}, parameters", stated | about, parameters)
        return
    expected = {
        "gaussian": ("gaussian", "record", features, privacy["delta"]),
        "laplace": ("laplace", "record", features, 0.0),
        "paper": ("paper", "coordinate", privacy["epsilon"], 0.0),
        "none": ("none", "record", "infinite", 0.0),
    }[mechanism]
    label = [("randomized_response", "record", privacy["epsilon_label"], 0.0)] * flips
    same(f"{place}, costs", [expected, *label], [cost[:4] for cost in costs])
    if mechanism in ("gaussian", "laplace"):
        stated |= _check_noise(parameters, place, privacy, features)
    elif mechanism == "paper":
        stated |= {"epsilon": privacy["epsilon"], "calibration": privacy["calibration"]}
        same(f"{place}, record_epsilon", _joint(parameters, place, privacy), costs[0][4])
    same(f"{place}, parameters", stated | about, parameters)


def _grid(parameters: dict[str, Any], place: str, policy: Policy, costs: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the members that tell of features' noise where every round releases them; check it against its cost."""
    privacy = policy.config["privacy"]
    if privacy["mechanism"] == "paper":
        return {"epsilon": privacy["epsilon"], "calibration": privacy["calibration"]}
    if privacy["mechanism"] != "gaussian":
        return {}
    grid, scale = _noise_on_grid(parameters, place, privacy, privacy["epsilon"])
    same(f"{place}, noise of features, to nine digits", round(scale / costs[0][5], 9), 1.0)
    return grid | {"delta": privacy["delta"]}


def features_share(privacy: dict[str, Any]) -> float:
    """Return how much of a task's epsilon goes to a record's features."""
    if privacy["labels"] == "clear" or privacy["mechanism"] == "paper":
        return float(privacy["epsilon"])
    return float(Decimal(str(privacy["epsilon"])) - Decimal(str(privacy["epsilon_label"])))


def _cost(cost: Any, place: str) -> tuple[Any, ...]:
    names = ("mechanism", "unit", "epsilon", "delta", "record_epsilon", "noise_multiplier", "sampling_rate", "steps")
    holds(isinstance(cost, dict) and set(cost) == set(names), f"{place}, cost, members", sorted(names), cost)
    return tuple(cost[name] for name in names)


def _check_noise(parameters: dict[str, Any], place: str, privacy: dict[str, Any], epsilon: float) -> dict[str, Any]:
    """Check a record-level mechanism's noise against what its radius and epsilon take; return its parameters.

    Two records differ by at most twice the radius, in steps of the grid.
    """
    delta = privacy["delta"]
    grid, scale = _noise_on_grid(parameters, place, privacy, epsilon)
    if privacy["mechanism"] == "laplace":
        holds(epsilon * (1 - 1e-6) < 1 / scale <= epsilon, f"{place}, scale", f"what epsilon {epsilon} takes", scale)
        return grid
    reached = gaussian_delta(scale, epsilon)
    holds(reached <= delta * (1 + 1e-9), f"{place}, sigma", f"noise enough for delta {delta}", f"delta {reached}")
    spare = gaussian_delta(scale * (1 - 1e-6), epsilon)
    holds(spare > delta * (1 - 1e-9), f"{place}, sigma", "no more noise than it takes", grid["sigma"])
    return grid | {"delta": delta}


def _noise_on_grid(
    parameters: dict[str, Any], place: str, privacy: dict[str, Any], epsilon: float
) -> tuple[dict[str, Any], float]:
    """Return the members that tell of the grid and the noise on it, and the noise's scale over the sensitivity."""
    clip = privacy["clip"]
    step: Any = parameters.get("step")
    radius: Any = parameters.get("radius")
    holds(type(step) is float and step > 0 and math.frexp(step)[0] == 0.5, f"{place}, step", "a power of two", step)
    same(f"{place}, radius", math.floor(clip / step), radius)
    name = "scale" if privacy["mechanism"] == "laplace" else "sigma"
    noise: Any = parameters.get(name)
    holds(type(noise) is float and noise > 0, f"{place}, {name}", "a positive number", noise)
    grid = {"clip": clip, "epsilon": epsilon, "step": step, "radius": radius, name: noise}
    # Two records differ by twice the radius; with Gaussian noise two steps of the deviation pay for the grid.
    return grid, (noise if name == "scale" else math.sqrt(noise * noise - 4.0)) / (2.0 * radius)


def _joint(parameters: dict[str, Any], place: str, privacy: dict[str, Any]) -> float:
    """Return what the paper's release costs a record: by what it can move of its batch, over the scale of the noise."""
    records: Any = parameters.get("records")
    shape: Any = parameters.get("shape")
    right = type(records) is int and isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    holds(right and len(shape) in (1, 3), f"{place}, shape", "of features or of feature maps", shape)
    size, positions = math.prod(shape), math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    epsilon, full = float(privacy["epsilon"]), privacy["batch_size"]
    if privacy["normalisation"] not in ("batch", "map"):
        return float(size * epsilon)
    per_record = positions if privacy["calibration"] == "map" else 1
    bound = math.sqrt(max(full * per_record - 1, 0)) or 1.0
    fine = math.floor(math.log2(min(bound / 512, 2.0 * bound / epsilon / 256)))
    step = 2.0 ** max(fine, math.ceil(math.log2(max(2.0 * bound / epsilon / 2**14, bound / 2**22))))
    worst = 0.0
    for n in {min(records, full), records % full} - {0}:
        radius = math.floor(math.sqrt(n * per_record - 1) / step)
        if radius:
            root = math.sqrt(n)
            column = n * min(2.0, math.sqrt((root + 1.0) / (root - 1.0))) if n > 1 else 2.0
            scale = 2.0 * radius / epsilon * (1.0 + 2.0**-30)
            worst = max(worst, size * min(column / step + n, 2.0 * radius * n) / scale)
    return float(worst)


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
