"""Other tools are told of a run; one that fails, or is not there, costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main as run
from app.config import compose
from app.launch import launch
from app.protocol.errors import ConfigError
from app.reporting import tracker as module
from app.reporting.progress import SilentProgress
from app.reporting.tracker import TRACKERS, TrackerConfig, flat, open_tracker, require_tracker

TASK = ("data=digits", "customers=5", "rounds=2", "attack=none")


def test_tensorboard_has_a_curve_of_every_metric(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = launch(compose([*TASK, "tracker=tensorboard"]), SilentProgress(), parent=tmp_path, name="run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("accuracy")]
    assert curve == [(number, pytest.approx(value)) for number, value in enumerate(result["accuracy_by_round"])]
    assert {"gas", "seconds", "reputation/lowest", "aggregated"} <= set(events.Tags()["scalars"])


def test_mlflow_has_the_configuration_the_curves_and_the_digest(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    task = compose([*TASK, "tracker=mlflow", f"tracker.place={place}", "tracker.group=mine"])
    result = launch(task, SilentProgress(), parent=tmp_path, name="run")
    client = MlflowClient(tracking_uri=place)
    [found] = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert found.info.run_name == "run"
    assert found.info.status == "FINISHED"
    assert found.data.params["privacy.epsilon"] == "8.0"
    assert found.data.tags["model_digest"] == result["model_digest"]
    steps = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, "accuracy")]
    assert steps == list(enumerate(result["accuracy_by_round"]))


def test_one_that_fails_is_told_no_more_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        calls = 0

        def begin(self, *_: Any) -> None:
            Failing.calls += 1

        def round(self, *_: Any) -> None:
            Failing.calls += 1
            raise RuntimeError("the server is gone")

    monkeypatch.setitem(TRACKERS, "tensorboard", lambda *_: Failing())
    result = launch(compose([*TASK, "tracker=tensorboard"]), SilentProgress(), parent=tmp_path, name="run")
    assert result["rounds"] == 2
    assert Failing.calls == 2
    assert caplog.text.count("is told no more: RuntimeError: the server is gone") == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rounds"] == 2


def test_a_server_that_is_away_costs_nothing_but_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = compose([*TASK, "tracker=mlflow", "tracker.place=http://127.0.0.1:9"])
    assert launch(task, SilentProgress(), parent=tmp_path, name="run")["rounds"] == 2
    assert "tracker=mlflow is told no more" in caplog.text


def test_one_that_is_not_installed_is_named_before_anything_begins(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path))
    assert run([*TASK, "tracker=mlflow"]) == 2
    assert "pip install 'hearth[mlflow]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    require_tracker(TrackerConfig("none", None, None))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"tracker\.place"):
        open_tracker(TrackerConfig("tensorboard", str(tmp_path / "file"), None), tmp_path)
    with pytest.raises(ConfigError, match=r"tracker\.place: holds a user"):
        TrackerConfig("mlflow", "http://me:secret@example.org", None)


def test_leaves_by_their_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": (1, 2)}) == {"a.b": 1, "a.c.d": None, "e": (1, 2)}
