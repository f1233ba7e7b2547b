"""The run directory: where it is, that nothing is ever overwritten, that files are whole or absent."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import app.run_directory
from app.config import compose, from_plain
from app.protocol.errors import ConfigError, HearthError
from app.run_directory import RunDirectory, check_name, runs_home
from app.settings import Config


@pytest.fixture(scope="module")
def config() -> Config:
    return compose()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


class TestHome:
    """Where runs go."""

    def test_the_environment_decides(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HEARTH_RUNS", "here")
        assert runs_home() == tmp_path / "here"

    @pytest.mark.parametrize(
        ("files", "inside"), [(["pyproject.toml", ".git"], True), (["pyproject.toml"], False), ([".git"], False)]
    )
    def test_only_a_checkout_holds_its_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], inside: bool
    ) -> None:
        for name in files:
            (tmp_path / name).touch()
        monkeypatch.delenv("HEARTH_RUNS", raising=False)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setattr(app.run_directory, "_HERE", tmp_path)
        assert (runs_home() == tmp_path / "runs") is inside
        assert runs_home().name == "runs"


class TestCreate:
    """A new folder for each run."""

    def test_names_say_what_was_run_and_never_meet(self, config: Config, home: Path) -> None:
        paths = [RunDirectory.create(replace(config, seed=5)).path for _ in range(4)]
        assert len(set(paths)) == 4
        assert all(path.is_dir() and path.parent == home for path in paths)
        assert all(path.name.startswith("plaid-record-s5-") for path in paths)

    def test_a_given_name_is_taken_once(self, config: Config, home: Path) -> None:
        directory = RunDirectory.create(replace(config, name="first"))
        (directory.path / "evidence").write_text("precious")
        with pytest.raises(ConfigError, match="never overwritten") as refusal:
            RunDirectory.create(replace(config, name="first"))
        assert refusal.value.key == "name"
        assert str(home / "first") in str(refusal.value)
        assert (home / "first" / "evidence").read_text() == "precious"

    def test_a_file_of_that_name_counts_as_taken(self, config: Config, home: Path) -> None:
        home.mkdir()
        (home / "first").write_text("a file")
        with pytest.raises(ConfigError, match="never overwritten"):
            RunDirectory.create(replace(config, name="first"))

    def test_a_sweep_names_its_jobs(self, config: Config, tmp_path: Path) -> None:
        named = replace(config, name="whole")
        assert RunDirectory.create(named, tmp_path, "1-seed=0").path == tmp_path / "1-seed=0"

    def test_two_processes_cannot_both_have_a_name(self, config: Config, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        barrier, answers = context.Barrier(2), context.Queue()
        racers = [context.Process(target=_race, args=(tmp_path, barrier, answers)) for _ in range(2)]
        for racer in racers:
            racer.start()
        outcomes = [answers.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join()
        for number in range(_RACES):
            assert sorted(outcome[number] for outcome in outcomes) == ["made", "refused"]
        fresh = [name for outcome in outcomes for name in outcome[_RACES:]]
        assert len(set(fresh)) == 2 * _RACES

    def test_a_place_that_cannot_be_written_is_one_line(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HEARTH_RUNS", str(tmp_path / "file" / "runs"))
        with pytest.raises(ConfigError, match="cannot be made") as refusal:
            RunDirectory.create(config)
        assert refusal.value.key == "HEARTH_RUNS"
        assert "\n" not in str(refusal.value)


_RACES = 20


def _race(folder: Path, barrier: Barrier, answers: multiprocessing.Queue[list[str]]) -> None:
    config, outcome = compose(), []
    for number in range(_RACES):
        barrier.wait(60)
        try:
            RunDirectory.create(replace(config, name=f"run-{number}"), folder)
            outcome.append("made")
        except ConfigError:
            outcome.append("refused")
    outcome += [RunDirectory.create(config, folder).path.name for _ in range(_RACES)]
    answers.put(outcome)


@given(st.text(max_size=120))
def test_a_name_never_leaves_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ConfigError:
        return
    assert (Path("/runs") / name).resolve().parent == Path("/runs")
    assert Path(name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/etc", "a\0", "-v", ".hidden", "x" * 101, "a\n", "a."])
def test_unfit_names(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


class TestFiles:
    """What is written can be read back."""

    @pytest.fixture
    def directory(self, config: Config, tmp_path: Path) -> RunDirectory:
        return RunDirectory.create(config, tmp_path)

    def test_the_configuration_comes_back(self, config: Config, directory: RunDirectory) -> None:
        directory.write_config(config)
        written = OmegaConf.to_container(OmegaConf.load(directory.config_path))
        assert isinstance(written, dict)
        assert from_plain({str(key): value for key, value in written.items()}) == config

    def test_metrics_are_a_line_a_round(self, directory: RunDirectory) -> None:
        for number in (1, 2):
            directory.append_metrics({"round": number, "why": "a\nb"})
        lines = directory.metrics_path.read_text().splitlines()
        assert [json.loads(line)["round"] for line in lines] == [1, 2]

    def test_round_files(self, directory: RunDirectory) -> None:
        directory.write_round(3, "manifest.json", b"{}")
        directory.write_round(3, "record.json", b"[]")
        assert (directory.path / "rounds" / "0003" / "manifest.json").read_bytes() == b"{}"
        assert sorted(path.name for path in directory.round_path(3).iterdir()) == ["manifest.json", "record.json"]

    def test_the_result_comes_back(self, directory: RunDirectory) -> None:
        directory.write_result({"accuracy": 0.5})
        directory.write_result({"accuracy": 0.75})
        assert RunDirectory.at(str(directory.path)).read_result() == {"accuracy": 0.75}

    def test_a_result_that_cannot_be_written_leaves_the_old_one(self, directory: RunDirectory) -> None:
        directory.write_result({"accuracy": 0.5})
        with pytest.raises(ValueError, match="JSON"):
            directory.write_result({"accuracy": float("nan")})
        assert directory.read_result() == {"accuracy": 0.5}
        assert [path.name for path in directory.path.iterdir()] == ["result.json"]

    def test_a_full_disk_is_one_line(self, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for write in (
            lambda: directory.write_result({}),
            lambda: directory.append_metrics({}),
            lambda: directory.write_round(1, "manifest.json", b""),
        ):
            with pytest.raises(HearthError, match="No space left on device"):
                write()
        assert not directory.result_path.exists()

    @pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff"])
    def test_no_result_is_one_line(self, directory: RunDirectory, content: bytes | None) -> None:
        if content is not None:
            directory.result_path.write_bytes(content)
        with pytest.raises(ConfigError) as refusal:
            directory.read_result()
        assert "\n" not in str(refusal.value)

    def test_there_must_be_a_folder_to_open(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is not a folder"):
            RunDirectory.at(tmp_path / "nowhere")
