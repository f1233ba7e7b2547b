"""What the audit does not know, it refuses by name; and it knows nothing from the code that it audits."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.audit import abi, policy
from app.audit.blobs import Blobs, BlockDirectory
from app.audit.chain_file import reexecute
from app.audit.report import AuditError, Section
from app.audit.task import find_contract, read_task
from app.protocol.digest import canonical_json

AUDIT = Path(__file__).resolve().parents[2] / "app" / "audit"
JUDGED = ("strategies", "app.mining", "app.customer", "app.task", "app.server_app", "app.privacy", "app.learning")


@pytest.mark.parametrize("path", sorted(AUDIT.glob("*.py")), ids=lambda path: path.stem)
def test_the_auditor_imports_nothing_of_what_it_judges(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert [name for name in names if name.startswith(JUDGED)] == []


@pytest.fixture(scope="module")
def policy_bytes(good: Path) -> bytes:
    history = reexecute(good / "chain.sqlite", Section(""))
    terms = read_task(history, find_contract(history)).terms
    return Blobs("", BlockDirectory(good / "blobs")).small("", terms["policy"])


def strategy(**changes: object) -> Callable[[Any], None]:
    return lambda value: value["config"]["strategy"].update(changes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (strategy(aggregator="magic"), "this audit does not know strategy.aggregator=magic"),
        (strategy(contribution="shapley"), "this audit does not know strategy.contribution=shapley"),
        (lambda value: value.update(lottery=7), "this audit does not know policy.lottery=7"),
        (lambda value: value["config"]["privacy"].update(mechanism="trust"), "privacy.mechanism=trust"),
        (lambda value: value["config"]["miners"].pop("tau"), "policy, config.miners"),
        (lambda value: value["config"].pop("terms"), "policy, config.terms"),
    ],
)
def test_a_rule_that_the_audit_does_not_know_is_refused_by_name(
    policy_bytes: bytes, change: Callable[[Any], None], told: str
) -> None:
    policy.read_policy(policy_bytes)
    value = json.loads(policy_bytes)
    change(value)
    with pytest.raises(AuditError, match=told):
        policy.read_policy(canonical_json(value))


def test_calls_and_events_of_strangers_have_no_name() -> None:
    assert abi.decode_call(b"\x01\x02\x03\x04") == ("", {})
    assert abi.decode_event((b"\x01" * 32,), b"") == ("", {})
    assert abi.decode_event((), b"") == ("", {})
