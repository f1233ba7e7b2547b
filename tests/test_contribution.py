"""What an update was worth: by the definitions, against brute force, and as a run tells it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.report import Report
from app.audit.run import audit_run
from app.cli import main
from app.config import compose
from app.contribution import contributions, shares
from app.contribution_config import ContributionConfig
from app.launch import launch
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import ConfigError
from app.protocol.policy import Policy
from app.reporting.progress import SilentProgress
from app.store.embedded import EmbeddedStore

LEAVE, SHAPLEY = ContributionConfig("leave_one_out", 8), ContributionConfig("shapley", 3000)


@dataclass
class Game:
    """A game in place of a round: its "model" names the players."""

    customers: tuple[str, ...]

    def model(self, chosen) -> bytes:
        return bytes(sorted(chosen))


def exact(worth, players: int) -> list[float]:
    """The Shapley value over all orders."""
    gained, orders = [0.0] * players, list(itertools.permutations(range(players)))
    for order in orders:
        for place, i in enumerate(order):
            gained[i] += worth(bytes(sorted(order[:place]))) - worth(bytes(sorted(order[: place + 1])))
    return [value / len(orders) for value in gained]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-5, 5), min_size=16, max_size=16))
def test_against_brute_force(values: list[float]) -> None:
    losses = {
        bytes(chosen): values[sum(1 << i for i in chosen)]
        for n in range(5)
        for chosen in itertools.combinations(range(4), n)
    }
    game = Game(("a", "b", "c", "d"))
    found = contributions(game, losses.__getitem__, SHAPLEY, seed=1)  # type: ignore[arg-type]
    whole = losses[b""] - losses[bytes(range(4))]
    assert sum(found.values()) == pytest.approx(whole, abs=1e-9)  # whatever orders were drawn
    spread = max(values) - min(values) + 1e-9
    np.testing.assert_allclose(list(found.values()), exact(losses.__getitem__, 4), atol=0.12 * spread)
    left = contributions(game, losses.__getitem__, LEAVE, seed=1)  # type: ignore[arg-type]
    everybody = bytes(range(4))
    assert list(left.values()) == [losses[everybody.replace(bytes([i]), b"")] - losses[everybody] for i in range(4)]


def test_equals_get_equal_shares_and_each_model_is_evaluated_once() -> None:
    asked: list[bytes] = []

    def worth(model: bytes) -> float:
        asked.append(model)
        return 1.0 / (1 + len(model))

    found = contributions(Game(tuple("abcdef")), worth, ContributionConfig("shapley", 50), seed=3)  # type: ignore[arg-type]
    assert len(asked) == len(set(asked))
    assert max(found.values()) - min(found.values()) < 0.1


def test_a_run_measures_shows_and_audits_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = compose(["data=digits", "customers=6", "rounds=2", "contribution=shapley", "contribution.permutations=3"])
    result = launch(task, SilentProgress(), parent=tmp_path, name="run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = result["loss_by_round"]
    for line, before, after in zip(lines, losses, losses[1:], strict=False):
        assert set(line["contribution"]) == set(line["aggregated"])
        assert sum(line["contribution"].values()) == pytest.approx(before - after, abs=1e-6)
    assert sum(result["contribution"].values()) == pytest.approx(losses[0] - losses[-1], abs=1e-6)
    report = Report("run")
    audit_run(tmp_path / "run", report)
    assert not any("does not know" in text for text in report.unproven)
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "lowered the loss on the test records by" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "r.html")]) == 0
    assert "<h2>Contribution</h2>" in (tmp_path / "r.html").read_text()

    store = EmbeddedStore(tmp_path / "run" / "blobs")
    policy = Policy.from_bytes(store.get_block(bytes.fromhex(result["policy_digest"][2:])))
    refs = [BlobRef.from_json(lines[0][name]) for name in ("manifest", "record")]
    made_of = shares(policy, store, *refs)
    assert sha256(made_of.model(range(len(made_of.customers)))) == BlobRef.from_json(lines[0]["model"]).sha256


def test_nothing_is_written_where_nobody_asked(tmp_path: Path) -> None:
    result = launch(compose(["data=digits", "customers=5", "rounds=1"]), SilentProgress(), parent=tmp_path, name="run")
    assert "contribution" not in result
    with pytest.raises(ConfigError, match=r"contribution\.permutations: is not used by contribution=leave_one_out"):
        compose(["contribution=leave_one_out", "contribution.permutations=3"])
