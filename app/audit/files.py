"""What a run says about itself, against what was recomputed: config.yaml, result.json, metrics.jsonl, rounds/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.audit import exposure
from app.audit.costs import features_share
from app.audit.privacy import contradicting, latest_receipts, promised
from app.audit.report import AuditError, Section, holds, same, same_json
from app.audit.reputation import points_of, rewards
from app.audit.rounds import Checked
from app.audit.task import ChainTask
from app.protocol.digest import hex32
from app.protocol.policy import Policy
from app.protocol.tensors import parameter_count

_MOST = 2**28  # bytes of a file that is parsed
_UNCONFIRMED = {
    "result.json": {
        *("name", "place", "seconds", "accuracy_by_round", "loss_by_round", "absent", "dissent"),
    },
    "metrics.jsonl": {"seconds", "accuracy", "loss", "absent", "dissent"},
}
"""Members that nothing signed or committed can confirm: times, the manufacturer's measurements on its own test
records, why somebody sent nothing or voted otherwise. Where they occur twice, both are compared."""
_MEASURED = {"contribution"}
"""Members that are there where a run was asked to measure them, and are its own word too."""
OWN_WORD = (
    "accuracy, loss, contribution, seconds, sizes of the data, how it ran on its machine, why somebody was absent or "
    "dissented"
)
"""The same for people."""


def read_config(path: Path) -> dict[str, Any]:
    """Return config.yaml, which must be as the run wrote it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    data = _read(path)
    try:
        plain = OmegaConf.to_container(OmegaConf.create(data.decode()))
        written = OmegaConf.to_yaml(OmegaConf.create(plain)).encode()
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise AuditError(path.name, "a configuration", error) from error
    same(f"{path.name}, as the run writes it", written, data)
    if not isinstance(plain, dict):
        raise AuditError(path.name, "sections", plain)
    return {str(key): item for key, item in plain.items()}


def check_rounds(folder: Path, rounds: list[Checked], section: Section) -> None:
    """Compare rounds/NNNN/ with the blobs that the chain binds."""
    finalised = [checked for checked in rounds if checked.round.finalisation]
    expected = {f"{checked.round.number:04d}" for checked in finalised}
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    same("rounds/, folders", sorted(expected), sorted(found))
    for checked in finalised:
        name = f"{checked.round.number:04d}"
        files = {"manifest.json": checked.manifest_bytes, "record.json": checked.record_bytes}
        same(f"rounds/{name}, files", sorted(files), sorted(path.name for path in (folder / name).iterdir()))
        for file, data in files.items():
            same(f"rounds/{name}/{file}, the blob that the chain binds", data, _read(folder / name / file))
            section.counts["files"] += 1


def check_metrics(path: Path, task: ChainTask, timeline: list[tuple[int, ...]], rounds: list[Checked]) -> list[Any]:
    """Compare metrics.jsonl line by line; return its lines."""
    lines = [_json(line, f"{path.name}, line {n}") for n, line in enumerate(_read(path).splitlines(True), start=1)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    same(f"{path.name}, as the run writes it", text, _read(path))
    finalised = [checked for checked in rounds if checked.round.finalisation]
    same(f"{path.name}, lines", len(finalised), len(lines))
    for line, checked in zip(lines, finalised, strict=True):
        place = f"{path.name}, round {checked.round.number}"
        expected = _metrics(task, timeline, checked)
        _compare(place, path.name, expected, line)
        absent = set(task.customers) - set(expected["participants"])
        same(f"{place}, absent", sorted(absent), sorted(absent & set(line["absent"])))
        _check_dissent(place, task, checked, line["dissent"])
    return lines


def check_result(
    path: Path,
    policy: Policy,
    config: dict[str, Any],
    task: ChainTask,
    chain: dict[int, bytes],
    timeline: list[tuple[int, ...]],
    rounds: list[Checked],
    metrics: list[Any],
) -> list[str]:
    """Compare result.json; return its members that this audit does not know."""
    data = _read(path)
    result = _json(data, path.name)
    same(f"{path.name}, as the run writes it", (json.dumps(result, indent=2) + "\n").encode(), data)
    expected = _result(policy, config, task, timeline, rounds) | {"head": _head(result.get("head"), chain, path.name)}
    expected["accuracy"] = metrics[-1]["accuracy"] if metrics else result.get("accuracy")
    unknown = _compare(path.name, path.name, expected, result)
    for name in ("accuracy", "loss"):
        lines = [line[name] for line in metrics]
        same(f"{path.name}, {name}_by_round and metrics.jsonl", lines, result[f"{name}_by_round"][1:])
    for name in ("absent", "dissent"):
        same_json(f"{path.name}, {name}", {str(m["round"]): m[name] for m in metrics if m[name]}, result[name])
    return unknown


def _head(stated: Any, chain: dict[int, bytes], name: str) -> dict[str, Any]:
    """Return the head that a run noted, with the hash that its block has; blocks may have followed since."""
    holds(isinstance(stated, dict) and type(stated.get("number")) is int, f"{name}, head", "a block's number", stated)
    number = stated["number"]
    holds(number in chain, f"{name}, head, number", f"0 to {max(chain)}", number)
    return {"number": number, "hash": hex32(chain[number])}


def _compare(place: str, file: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    for name in (*expected, *_UNCONFIRMED[file]):
        holds(name in found, f"{place}, {name}", "a member", "none")
    for name, value in expected.items():
        if isinstance(value, _Some):
            for inner, part in value.items():
                same_json(f"{place}, {name}, {inner}", part, found[name].get(inner) if found[name] else None)
        else:
            same_json(f"{place}, {name}", value, found[name])
    return sorted(set(found) - set(expected) - _UNCONFIRMED[file] - _MEASURED)


class _Some(dict[str, Any]):
    """Members of an object that can be recomputed, beside others that cannot."""


def _metrics(task: ChainTask, timeline: list[tuple[int, ...]], checked: Checked) -> dict[str, Any]:
    round_, entries = checked.round, checked.evaluation["customers"]
    assert round_.finalisation is not None
    assert round_.seal is not None
    return {
        "round": round_.number,
        "leader": round_.finalisation.verdict["leader"],
        "model": checked.model.to_json(),
        "manifest": round_.seal.manifest.to_json(),
        "record": round_.finalisation.record.to_json(),
        "void": checked.evaluation["void"],
        "participants": [entry["customer"] for entry in entries],
        "aggregated": [entry["customer"] for entry in entries if entry["weight"] > 0],
        "rejected": {entry["customer"]: entry["reason"] for entry in entries if entry["mark"] == "L"},
        "isolated": [entry["customer"] for entry in entries if entry["isolated"]],
        "saturated": {entry["customer"]: entry["saturated"] for entry in entries if entry["saturated"]},
        "reputation": dict(zip(task.customers, timeline[round_.number], strict=True)),
        "gas_seal": round_.seal.gas,
        "gas_finalise": round_.finalisation.gas,
        "tx_seal": hex32(round_.seal.tx),
        "tx_finalise": hex32(round_.finalisation.tx),
    }


def _check_dissent(place: str, task: ChainTask, checked: Checked, dissent: dict[str, Any]) -> None:
    strangers = set(dissent) - {seat.miner for seat in task.miners} | set(dissent) & set(checked.signers)
    same(f"{place}, dissent of miners who signed, or of others", [], sorted(strangers))


def _result(
    policy: Policy, config: dict[str, Any], task: ChainTask, timeline: list[tuple[int, ...]], rounds: list[Checked]
) -> dict[str, Any]:
    lines = [(_metrics(task, timeline, checked), checked) for checked in rounds if checked.round.finalisation]
    model = rounds[-1].model if rounds else policy.model
    reputation = {c: [m["reputation"][c] for m, _ in lines] for c in task.customers}

    def by_round(name: str) -> dict[str, Any]:
        return {str(m["round"]): m[name] for m, _ in lines if m[name]}

    return {
        "engine": config["engine"].get("name"),
        "seed": config["seed"],
        "experiment": config["experiment"],
        "rounds": len(lines),
        "customers": len(task.customers),
        "data": _Some(name=config["data"]["name"]),
        "model": _Some(
            name=config["model"]["name"],
            split=config["model"]["split"],
            head=config["model"]["head"],
            parameters=parameter_count(policy.layout),
        ),
        "model_digest": hex32(model.sha256),
        "policy_digest": hex32(policy.digest),
        "contract": task.domain.contract,
        "chain_id": task.domain.chain_id,
        "privacy": _privacy(policy, rounds),
        "gas": _gas(task, [m for m, _ in lines]),
        "reputation": {c: history[-1] for c, history in reputation.items()},
        "reputation_by_round": reputation,
        "aggregated": {c: sum(c in m["aggregated"] for m, _ in lines) for c in task.customers},
        "rewards": rewards(task, points_of(task)),
        "adversaries": _adversaries(config, task.customers),
        "rejected": {number: list(reasons) for number, reasons in by_round("rejected").items()},
        "reasons": by_round("rejected"),
        "isolated": by_round("isolated"),
        "void": [m["round"] for m, _ in lines if m["void"]],
        "saturated": by_round("saturated"),
    }


def _privacy(policy: Policy, rounds: list[Checked]) -> _Some:
    """Return what a run promises; without a record's epsilon in the paper's mode, which the phones' books tell."""
    privacy, receipts, units = policy.config["privacy"], latest_receipts(rounds), promised(policy)
    agreeing = [r for r in receipts.values() if (r.epsilonMicros, r.deltaPicos) == units]
    mechanism, flips = privacy["mechanism"], privacy["labels"] == "randomized_response"
    stated = {
        "mechanism": mechanism,
        "normalisation": privacy["normalisation"],
        "neighbouring": "replace one record",
        "randomness": "none" if mechanism == "none" else privacy["randomness"],
        "labels": privacy["labels"],
        "label_epsilon": privacy["epsilon_label"] if flips else None,
        "budget": None if mechanism == "none" else privacy["budget"],
    }
    known = (
        {}
        if units is None
        else {
            "releases": max((receipt.releases for receipt in agreeing), default=0),
            "contradicting": contradicting(policy, receipts),
        }
    )
    uncovered = ["labels"] * (not flips) + ["how many records a customer has"]
    several = "several records of one household together"
    if exposure.by_rounds(policy):
        return _Some(stated | {"unit": _unit(mechanism)})  # the phones' books tell the rest
    if mechanism == "none":
        nothing = {"unit": "none", "epsilon": None, "delta": None, "coordinate_epsilon": None, "record_epsilon": None}
        return _Some(stated | known | nothing | {"not_covered": ["features", *uncovered]})
    if mechanism == "paper":
        coupled = privacy["normalisation"] in ("batch", "map")
        whole = ["a record as a whole"] + ["the other records of a batch, which a record moves"] * coupled
        unit = {"unit": "coordinate", "epsilon": privacy["epsilon"], "delta": 0.0}
        unit |= {"coordinate_epsilon": privacy["epsilon"], "not_covered": [*whole, *uncovered, several]}
        return _Some(stated | unit)
    return _Some(
        stated
        | known
        | {
            "unit": "record",
            "epsilon": privacy["epsilon"],
            "delta": 0.0 if mechanism == "laplace" else privacy["delta"],
            "coordinate_epsilon": features_share(privacy),
            "record_epsilon_public_statistics": privacy["epsilon"],
            "record_epsilon": privacy["epsilon"],
            "not_covered": [*uncovered, several],
        }
    )


def _unit(mechanism: str) -> str:
    return {"none": "none", "paper": "coordinate"}.get(mechanism, "record")


def _gas(task: ChainTask, lines: list[dict[str, Any]]) -> dict[str, Any]:
    seal, finalise = (sum(line[name] for line in lines) for name in ("gas_seal", "gas_finalise"))
    count, once = max(1, len(lines)), sum(task.gas.values())
    return {
        "seal": round(seal / count),
        "finalise": round(finalise / count),
        "per_customer": round((seal / count + finalise / count) / len(task.customers)),
        **{kind: task.gas[kind] for kind in ("deploy", "admit", "open")},
        "total": once + seal + finalise,
    }


def _adversaries(config: dict[str, Any], customers: Sequence[str]) -> list[str]:
    attack = config["attack"]
    hostile = 0 if attack["name"] == "none" else attack["count"]
    return list(customers[len(customers) - hostile :])


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST:
            raise AuditError(path.name, f"at most {_MOST} bytes", path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise AuditError(path.name, "a file", error.strerror) from error


def _json(data: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AuditError(place, "JSON", error) from error
    holds(isinstance(value, dict), place, "a JSON object", type(value).__name__)
    return dict(value)
