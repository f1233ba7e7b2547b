"""Inclusion proofs: made from a run, checked against a chain alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.audit.chain_file import reexecute
from app.audit.proof import Proof, check
from app.audit.report import AuditError, Section
from app.cli import main

Words = pytest.CaptureFixture[str]


@pytest.fixture
def customer(good: Path) -> str:
    return str(json.loads((good / "metrics.jsonl").read_text().splitlines()[1])["participants"][2])


@pytest.fixture
def proof(good: Path, customer: str, tmp_path: Path) -> Path:
    path = tmp_path / "proof.json"
    assert main(["audit", "prove", str(good), "--customer", customer, "--round", "2", "-o", str(path)]) == 0
    return path


def test_a_proof_holds_against_the_chain_alone(good: Path, proof: Path, tmp_path: Path, capsys: Words) -> None:
    chain_alone = tmp_path / "elsewhere"
    chain_alone.mkdir()
    shutil.copy(good / "chain.sqlite", chain_alone)

    assert main(["audit", "check", str(proof), "--run", str(chain_alone)]) == 0
    assert "the round was sealed with it" in capsys.readouterr().out


def test_without_a_file_it_goes_to_the_standard_output(good: Path, customer: str, proof: Path, capsys: Words) -> None:
    capsys.readouterr()
    assert main(["audit", "prove", str(good), "--customer", customer, "--round", "2"]) == 0
    assert capsys.readouterr().out.encode() == proof.read_bytes()


def test_every_member_is_bound(good: Path, proof: Path) -> None:
    history, value = reexecute(good / "chain.sqlite", Section("")), json.loads(proof.read_text())
    changes: dict[str, Any] = {
        "chain_id": 2021,
        "contract": "0x" + "11" * 20,
        "round": 3,
        "siblings": value["siblings"][::-1],
        "format": "hearth inclusion proof 2",
        "more": 1,
    }
    changed = [value | {name: change} for name, change in changes.items()]
    for name, old in value["receipt"].items():
        change = old + 1 if isinstance(old, int) else old[:-1] + ("b" if old[-1] == "a" else "a")
        changed.append(value | {"receipt": value["receipt"] | {name: change}})

    check(Proof.from_bytes(proof.read_bytes(), "proof"), history, "proof")
    for other in changed:
        with pytest.raises(AuditError):
            check(Proof.from_bytes((json.dumps(other, indent=2) + "\n").encode(), "proof"), history, "proof")


def test_a_changed_proof_is_told_in_three_lines(good: Path, proof: Path, capsys: Words) -> None:
    value = json.loads(proof.read_text())
    proof.write_text(json.dumps(value | {"siblings": value["siblings"][1:]}, indent=2) + "\n")
    assert main(["audit", "check", str(proof), "--run", str(good)]) == 1
    assert "BROKEN proof.json, Merkle root" in capsys.readouterr().out


def test_what_cannot_be_proven_is_refused(good: Path, customer: str, capsys: Words) -> None:
    assert main(["audit", "prove", str(good), "--customer", customer, "--round", "9"]) == 2
    assert "round 9 is not sealed (allowed: 1..3)" in capsys.readouterr().err
    assert main(["audit", "prove", str(good), "--customer", "0x" + "11" * 20, "--round", "1"]) == 2
    assert "has no receipt in round 1" in capsys.readouterr().err
