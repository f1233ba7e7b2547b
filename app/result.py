"""What a run came to, as ``result.json`` and ``metrics.jsonl`` state it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from app.privacy.exposure import steps_of_a_round
from app.privacy.report import costs_of, privacy_report, record_guarantee
from app.protocol.digest import hex32
from app.protocol.receipt import Receipt, privacy_units
from app.protocol.tensors import parameter_count
from app.reporting.progress import RoundReport
from app.run_directory import RunDirectory
from app.task import Task, exposure_of
from strategies.hearth import Hearth
from strategies.outcome import RoundOutcome
from strategies.stopwatch import Stopwatch

_PARTS = ("train", "mine", "chain", "store", "total")


def build_result(
    task: Task,
    strategy: Hearth,
    accuracies: list[float],
    losses: list[float],
    stopwatch: Stopwatch,
    directory: RunDirectory,
) -> dict[str, Any]:
    """Collect the contents of ``result.json``.

    Parameters
    ----------
    task, strategy : Task, Hearth
        After the last round.
    accuracies, losses : list of float
        On the test records; index 0 is the initial model, which knows the public records alone.
    stopwatch : Stopwatch
        Seconds by part, ``total`` among them.
    directory : RunDirectory
        Where the evidence lies.
    """
    config, history, summary = task.prepared.config, strategy.history, task.prepared.data.summary
    block, block_hash = task.chain.head()
    return {
        "name": directory.path.name,
        "place": str(directory.path),
        "engine": config.engine.name,
        "seed": config.seed,
        "experiment": config.experiment,
        "accuracy": accuracies[-1],
        "accuracy_by_round": accuracies,
        "loss_by_round": losses,
        "rounds": len(history),
        "customers": config.customers,
        "data": {
            "name": config.data.name,
            "kind": summary.kind,
            "classes": len(summary.classes),
            "train": summary.train,
            "public": summary.public,
            "test": summary.test,
        },
        "model": {
            "name": config.model.name,
            "split": config.model.split,
            "head": config.model.head,
            "features": task.prepared.model.feature_size,
            "parameters": parameter_count(task.policy.layout),
        },
        "model_digest": hex32(task.ledger.state().model),
        "policy_digest": hex32(task.policy.digest),
        "contract": task.ledger.address,
        "chain_id": task.ledger.chain_id,
        "head": {"number": block, "hash": hex32(block_hash)},
        "privacy": _privacy(task, strategy.receipts),
        "gas": _gas(task, history, config.customers),
        "reputation": history[-1].reputation,
        "reputation_by_round": {
            customer: [outcome.reputation[customer] for outcome in history] for customer in history[-1].reputation
        },
        "aggregated": {
            customer: sum(customer in outcome.aggregated for outcome in history) for customer in history[-1].reputation
        },
        "rewards": {customer: task.ledger.rewards.owed(customer) for customer in history[-1].reputation},
        "adversaries": [
            task.ledger.customers()[index]
            for index in range(config.customers)
            if config.attack.hostile(index, config.customers)
        ],
        "rejected": {str(outcome.round): list(outcome.rejected) for outcome in history if outcome.rejected},
        "reasons": {str(outcome.round): outcome.rejected for outcome in history if outcome.rejected},
        "isolated": {str(outcome.round): list(outcome.isolated) for outcome in history if outcome.isolated},
        "absent": {str(outcome.round): outcome.absent for outcome in history if outcome.absent},
        "void": [outcome.round for outcome in history if outcome.void],
        "saturated": {str(outcome.round): outcome.saturated for outcome in history if outcome.saturated},
        "dissent": {str(outcome.round): outcome.dissent for outcome in history if outcome.dissent},
        "seconds": {"prepare": task.prepared.seconds} | {part: stopwatch.seconds.get(part, 0.0) for part in _PARTS},
    }


def round_metrics(outcome: RoundOutcome, accuracy: float, loss: float) -> dict[str, Any]:
    """Return one line of ``metrics.jsonl``."""
    line = asdict(outcome)
    blobs = {name: getattr(outcome, name).to_json() for name in ("model", "manifest", "record")}
    return line | blobs | {"accuracy": accuracy, "loss": loss}


def total_contributions(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return by how much each customer's updates lowered the loss over all rounds, by what was measured of each."""
    total: Counter[str] = Counter()
    for line in lines:
        for customer, gained in (line.get("contribution") or {}).items():
            total[customer] += gained
    return dict(total)


def round_numbers(outcome: RoundOutcome, accuracy: float, loss: float) -> dict[str, float]:
    """Return what a tool that draws curves is told about a round."""
    reputation = list(outcome.reputation.values())
    return {
        "accuracy": accuracy,
        "loss": loss,
        "participants": len(outcome.participants),
        "aggregated": len(outcome.aggregated),
        "rejected": len(outcome.rejected),
        "absent": len(outcome.absent),
        "reputation/lowest": min(reputation),
        "reputation/mean": sum(reputation) / len(reputation),
        "gas": outcome.gas_seal + outcome.gas_finalise,
        "seconds": outcome.seconds,
    }


def round_report(outcome: RoundOutcome, rounds: int, accuracy: float, loss: float) -> RoundReport:
    """Return what the progress display is told about a round."""
    return RoundReport(
        round=outcome.round,
        rounds=rounds,
        accuracy=accuracy,
        loss=loss,
        participants=len(outcome.participants),
        aggregated=len(outcome.aggregated),
        void=outcome.void,
        saturated=len(outcome.saturated),
        dissent=len(outcome.dissent),
        rejected=outcome.rejected,
        isolated=outcome.isolated,
        absent=tuple(outcome.absent),
        leader=outcome.leader,
        gas_seal=outcome.gas_seal,
        gas_finalise=outcome.gas_finalise,
        seconds=outcome.seconds,
    )


def _privacy(task: Task, receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    """Return what is promised to whom, and how often the most exposed customer's features were released.

    The promise is the task's, not what customers say: a receipt that claims another cost is listed as contradicting.
    """
    config, summary = task.prepared.config, task.prepared.data.summary
    classes, space = len(summary.classes), task.prepared.model.phone.space
    exposure = exposure_of(config)
    steps = steps_of_a_round(config.privacy, exposure)
    agreeing = []
    for address, records in zip(task.ledger.customers(), summary.per_customer, strict=True):
        receipt = receipts.get(address)
        if receipt is None:
            continue
        rounds = min(receipt.releases // steps, exposure.rounds)
        costs = costs_of(config.privacy, exposure, records, classes, space, rounds)
        guarantee = record_guarantee(config.privacy, costs)
        if (receipt.epsilonMicros, receipt.deltaPicos) == privacy_units(*guarantee):
            agreeing.append(receipt)
    return privacy_report(config.privacy, summary.per_customer, classes, space, exposure) | {
        "releases": max((receipt.releases for receipt in agreeing), default=0),
        "contradicting": sorted(set(receipts) - {receipt.customer for receipt in agreeing}),
    }


def _gas(task: Task, history: list[RoundOutcome], customers: int) -> dict[str, Any]:
    """Return gas: of a round in the mean, of a round for each customer, and once for the task."""
    seal = sum(outcome.gas_seal for outcome in history) / len(history)
    finalise = sum(outcome.gas_finalise for outcome in history) / len(history)
    spent = task.ledger.gas_spent
    return {
        "seal": round(seal),
        "finalise": round(finalise),
        "per_customer": round((seal + finalise) / customers),
        "deploy": spent["deploy"],
        "admit": spent["admit"],
        "open": spent["open"],
        "total": spent.total(),
    }
