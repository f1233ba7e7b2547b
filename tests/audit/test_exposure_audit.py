"""The audit of tasks in which every round lets something out: phones' books that add up, and books that are cooked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from good_run import make_run

from app.audit.exposure import check_spent
from app.audit.noise import gaussian_delta, sampled_epsilon
from app.audit.report import AuditError
from app.privacy.calibration import gaussian_delta as of_the_parties
from app.protocol.digest import canonical_json, sha256
from app.protocol.policy import Policy

Verdict = Callable[[Path], str]
Cook = Callable[[dict[str, Any]], Any]
MEMBERS = ("mechanism", "unit", "epsilon", "delta", "record_epsilon", "noise_multiplier", "sampling_rate", "steps")
KINDS = {
    "joint": ["model.extractor=joint", "privacy.epsilon_phone=3"],
    "paper": ["data=digits", "data.records=300", "model.extractor=joint", "privacy=paper", "privacy.budget=99"],
    "dp_sgd": ["privacy=dp_sgd", "privacy.sampling_rate=0.5", "privacy.epsilon=2"],
    "none": ["model.extractor=joint", "model.split=bottleneck", "privacy=none"],
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs by kind, each made once."""
    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_run(tmp_path_factory.mktemp(kind), kind, "rounds=2", "train.epochs=2", *KINDS[kind])
        return made[kind]

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_run_is_in_order(runs: Callable[[str], Path], verdict_on: Verdict, kind: str) -> None:
    assert verdict_on(runs(kind)) == "ok"
    result = json.loads((runs(kind) / "result.json").read_text())
    privacy = result["privacy"]
    assert privacy["contradicting"] == []
    assert privacy["releases"] == {"joint": 4, "paper": 4, "dp_sgd": 8, "none": 2}[kind]
    if kind in ("joint", "dp_sgd"):
        promised = {"joint": 8.0, "dp_sgd": 2.0}[kind]
        assert 0.97 * promised < privacy["epsilon"] <= promised


def cooked(run: Path, to: Path, cook: Cook) -> Path:
    """A copy of a run whose first phone has rewritten its ledger, with a chain of digests that fits."""
    shutil.copytree(run, to)
    path = to / "customers" / "00000" / "phone" / "privacy.jsonl"
    head, *entries = path.read_bytes().splitlines(keepends=True)
    lines = [head]
    for line in entries:
        entry = json.loads(line)
        if cook(entry) is not False:
            lines.append(canonical_json(entry | {"previous": sha256(lines[-1]).hex()}) + b"\n")
    path.write_bytes(b"".join(lines))
    return to


def parameter(name: str, value: Any) -> Cook:
    return lambda entry: entry["parameters"].update({name: value})


def cost(index: int, name: str, value: Any) -> Cook:
    return lambda entry: entry["costs"][index].update({name: value})


def multiplier(index: int, factor: float) -> Cook:
    def cook(entry: dict[str, Any]) -> None:
        value = entry["costs"][index]["noise_multiplier"] * factor
        entry["costs"][index]["noise_multiplier"] = value
        if index == len(entry["costs"]) - 1:
            entry["parameters"]["noise_multiplier"] = value

    return cook


COOKED: dict[str, tuple[str, Cook, str]] = {
    "less noise on gradients": ("joint", multiplier(1, 0.9), "noise"),
    "less noise on features": ("joint", multiplier(0, 0.9), "epsilon of features"),
    "more noise than it takes": ("joint", multiplier(1, 3.0), "no more than it takes|to nine digits"),
    "less noise on the grid": ("joint", parameter("sigma", 3000.0), "noise of features|sigma"),
    "gradients that cost less": ("joint", cost(1, "epsilon", 0.1), "epsilon of gradients"),
    "features that cost less": ("joint", cost(0, "epsilon", 0.1), "epsilon of features"),
    "another delta": ("joint", cost(0, "delta", 1e-9), "cost of features"),
    "fewer steps": ("joint", cost(1, "steps", 1), "cost of gradients"),
    "another clip": ("joint", parameter("clip_gradient", 5.0), "parameters"),
    "a round that is none": ("joint", parameter("round", 9), "round"),
    "a round left out": ("joint", lambda entry: entry["parameters"]["round"] != 2, "releases in the last receipt"),
    "no gradients": ("joint", lambda entry: entry["costs"].pop() and None, "costs"),
    "coordinates that cost less": ("paper", cost(0, "epsilon", 0.1), "cost of features"),
    "records that cost less": ("paper", cost(0, "record_epsilon", 1.0), "cost of features"),
    "the phone's part for less": ("paper", multiplier(1, 0.5), "noise_multiplier|epsilon of gradients"),
    "sampled less": ("dp_sgd", cost(0, "sampling_rate", 0.01), "cost of gradients"),
    "a little less noise": ("dp_sgd", multiplier(0, 0.97), "epsilon"),
    "hardly any noise": ("dp_sgd", multiplier(0, 0.4), "epsilon"),
    "steps that cost less": ("dp_sgd", cost(0, "epsilon", 0.5), "what the noise gives"),
    "a promise where there is none": ("none", cost(0, "epsilon", 1.0), "costs"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cooked_books_are_found_out(
    runs: Callable[[str], Path], verdict_on: Verdict, tmp_path: Path, kind: str
) -> None:
    """All in one test for each kind: making the run takes longer than auditing it."""
    for name, (of, cook, told) in COOKED.items():
        if of != kind:
            continue
        found = verdict_on(cooked(runs(kind), tmp_path / name, cook))
        assert found != "ok", name
        assert "customers/00000/phone/privacy.jsonl" in found, name
        assert any(part in found for part in told.split("|")), (name, found)


@pytest.mark.parametrize("kind", ["joint", "dp_sgd"])
def test_a_receipt_that_states_less_than_the_books_come_to_is_found_out(runs: Callable[[str], Path], kind: str) -> None:
    """Nobody can change a sealed receipt here, so the check itself is asked: for what was stated, and for one round."""
    run = runs(kind)
    digest = json.loads((run / "result.json").read_text())["policy_digest"]
    policy = next(
        Policy.from_bytes(path.read_bytes())
        for path in (run / "blobs" / "blocks").rglob("*")
        if path.is_file() and sha256(path.read_bytes()).hex() == digest.removeprefix("0x")
    )
    path = run / "customers" / "00000" / "phone" / "privacy.jsonl"
    entries = [json.loads(line)["costs"] for line in path.read_text().splitlines()[1:]]
    books = [[tuple(cost[name] for name in MEMBERS) for cost in costs] for costs in entries]
    stated = json.loads((run / "result.json").read_text())["privacy"]["epsilon"]
    check_spent(policy, books, stated, "books")
    check_spent(policy, books[:1], stated, "books")
    with pytest.raises(AuditError, match="books"):
        check_spent(policy, books, 0.6 * stated, "books")


def test_the_audits_law_is_the_parties_law() -> None:
    for scale, epsilon in ((0.5, 4.0), (2.0, 0.3), (10.0, 0.01), (0.3, 30.0)):
        assert gaussian_delta(scale, epsilon) == pytest.approx(of_the_parties(scale, epsilon), rel=1e-6, abs=1e-300)


def test_what_is_never_sampled_out_is_a_gaussian() -> None:
    """With rate 1 the pair is two Gaussians, and 16 steps of multiplier 8 are one of 2."""
    epsilon = sampled_epsilon(8.0, 1.0, 16, 1e-5)
    assert gaussian_delta(1.0, epsilon + 0.003) <= 1e-5 <= gaussian_delta(1.0, epsilon - 0.003)
    assert sampled_epsilon(8.0, 0.5, 16, 1e-5) < epsilon
