"""The audits: of a run's directory, and of a task on a chain that others run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.audit import files, privacy
from app.audit.blobs import Blobs, BlockDirectory
from app.audit.chain_file import reexecute
from app.audit.history import History
from app.audit.policy import check_config, check_initial_blobs, check_policy, read_policy
from app.audit.report import Report, holds, same
from app.audit.reputation import check_book
from app.audit.rounds import Auditor, Checked
from app.audit.task import ChainTask, find_contract, read_task
from app.protocol.digest import hex32, sha256
from app.protocol.policy import Policy
from app.protocol.tensors import parameter_count

NOT_EVIDENCE = {
    "run.log": "what the run's loggers said; nobody signed it, and nothing rests on it",
    "reconstructions.png": "what a probe drew from releases; nobody signed it, and nothing rests on it",
    "report.html": "what `hearth report` drew; it shows and proves nothing",
    "journal": "what each sender remembers so as not to send twice; what was sent is on the chain",
    "blobs": "of the store pins, lock and blocks/SHARDING: names for people; a blob hashes to its name",
    "customers": "ledgers' locks, MECs' caches, phones' copies of updates, adversaries' notes; the books are checked",
}
EVIDENCE = {"config.yaml", "result.json", "metrics.jsonl", "chain.sqlite", "blobs", "rounds", "customers"}


@dataclass(slots=True)
class Audited:
    """What an audit of a task established."""

    history: History
    task: ChainTask
    policy: Policy
    timeline: list[tuple[int, ...]]
    rounds: list[Checked]


def audit_run(directory: Path, report: Report, head: bytes | None = None) -> Audited:
    """Audit a run directory with an embedded chain and store.

    Parameters
    ----------
    directory : Path
        The run's folder.
    report : Report
        Receives what was checked.
    head : bytes, optional
        Hash of a block that the chain must have (32 bytes), known from elsewhere.

    Raises
    ------
    AuditError
        At the first record that is broken.
    """
    with report.section("chain") as section:
        history = reexecute(directory / "chain.sqlite", section)
    check_head(history, head, report)
    folder = BlockDirectory(directory / "blobs")
    blobs = Blobs("blobs", folder)
    with report.section("configuration") as section:
        config = files.read_config(directory / "config.yaml")
        section.counts["sections"] = len(config)
    audited = audit_task(history, find_contract(history), blobs, report)
    with report.section("phones") as section:
        home = directory / "customers"
        report.unproven += privacy.check_phones(home, audited.policy, audited.task, audited.rounds, section)
    with report.section("the run's own account") as section:
        check_config(audited.policy, config, history.chain_id)
        files.check_rounds(directory / "rounds", audited.rounds, section)
        metrics = files.check_metrics(directory / "metrics.jsonl", audited.task, audited.timeline, audited.rounds)
        section.counts["metrics"] = len(metrics)
        _check_result(directory / "result.json", config, audited, metrics, report)
    with report.section("store") as section:
        blocks, unread = blobs.check_directory(folder)
        section.counts.update({"blocks": blocks, "unread": unread})
    if unread:
        report.unproven.append(f"blobs: no record leads to {unread} blocks; they hash to their names")
    report.unproven.append(f"the run's own word: {files.OWN_WORD}")
    present = {path.name for path in directory.iterdir()}
    report.ignored += [f"{name}: {why}" for name, why in NOT_EVIDENCE.items() if name in present]
    others = present - EVIDENCE - set(NOT_EVIDENCE)
    report.ignored += [f"{name}: not a file of a run" for name in sorted(others)]
    return audited


def audit_task(history: History, contract: str, blobs: Blobs, report: Report) -> Audited:
    """Audit one task, given a chain's history and the task's blobs; see `audit_run`."""
    with report.section("contract") as section:
        task = read_task(history, contract)
        members = {"customers": len(task.customers), "miners": len(task.miners)}
        section.counts.update({"transactions": task.transactions} | members)
    with report.section("policy") as section:
        policy = read_policy(blobs.small("task's policy", task.terms["policy"]))
        check_policy(policy, task)
        model = check_initial_blobs(policy, blobs)
        section.counts["parameters"] = parameter_count(policy.layout)
    with report.section("reputation and rewards") as section:
        timeline = check_book(task, history, section)
    auditor = Auditor(policy, task, blobs, model, task.terms["seed"], report.unproven)
    with report.section("rounds") as section:
        rounds = []
        for round_ in task.rounds:
            with section.part(f"round {round_.number}") as part:
                rounds.append(auditor.check(round_, timeline[round_.number - 1], part))
        _check_end(history, task, auditor)
    with report.section("privacy") as section:
        privacy.check_receipts(policy, rounds, section)
        for customer in privacy.contradicting(policy, privacy.latest_receipts(rounds)):
            report.unproven.append(f"{customer} states another privacy cost than the task's one release")
    report.unproven += [
        "that customers' updates come from training on their data, and that a release's noise was random",
        "that each address is one home: the manufacturer admits the members",
    ]
    if not task.ended:
        over = sum(round_.over for round_ in task.rounds)
        report.unproven.append(f"the task has not ended: {over} of {policy.rounds} rounds are over")
    return Audited(history, task, policy, timeline, rounds)


def check_head(history: History, head: bytes | None, report: Report) -> None:
    """Check that a chain has the block that somebody kept the hash of; without one, say what that leaves open."""
    number, newest = history.head
    if head is None:
        report.unproven.append(
            f"that this is the only history: --head HASH, kept from the run, makes a cut or rewritten one fail "
            f"(this one's head, block {number}: {hex32(newest)})"
        )
        return
    with report.section("head") as section:
        known = {hash_: n for n, hash_ in history.blocks.items()}
        holds(head in known, f"{history.where}, head", f"block {hex32(head)} in the chain", "no such block")
        section.counts["later blocks"] = number - known[head]


def _check_end(history: History, task: ChainTask, auditor: Auditor) -> None:
    """Check that provenance reaches the contract's last word: model and seed."""
    status = history.view(task.domain.contract, "status")
    same(f"{history.where}, model at the end", sha256(auditor.model), status["model"])
    same(f"{history.where}, seed at the end", auditor.seed, status["seed"])
    same(f"{history.where}, policy", task.terms["policy"], status["policy"])


def _check_result(path: Path, config: dict[str, Any], audited: Audited, metrics: list[Any], report: Report) -> None:
    if not path.exists() and not audited.task.ended:
        report.unproven.append("there is no result.json: the run stopped early")
        return
    unknown = files.check_result(
        path,
        audited.policy,
        config,
        audited.task,
        dict(audited.history.blocks),
        audited.timeline,
        audited.rounds,
        metrics,
    )
    if unknown:
        report.unproven.append(f"members of result.json that this audit does not know: {', '.join(unknown)}")
