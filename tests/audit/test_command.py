"""``hearth audit`` as it is typed, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence import Mutation, flip, mutated

from app.cli import main


def head_of(directory: Path) -> str:
    return str(json.loads((directory / "result.json").read_text())["head"]["hash"])


def test_it_tells_what_was_checked_and_what_is_not_proven(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(good)]) == 0
    said = capsys.readouterr().out

    for told in ("11 blocks", "round 3", "6 receipts", "4 VRF proofs", "OK", "not proven", "only history", "run.log"):
        assert told in said


def test_the_head_that_a_run_prints_closes_the_gap(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(good), "--head", head_of(good)]) == 0
    assert "only history" not in capsys.readouterr().out

    assert main(["audit", str(good), "--head", "0x" + "5a" * 32]) == 1
    assert "no such block" in capsys.readouterr().out


def test_a_failure_names_the_record_what_was_expected_and_what_was_found(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mutated(good, Mutation("", "rounds/0002/record.json", flip(40, 1))):
        assert main(["audit", str(good)]) == 1
        text = capsys.readouterr().out
        assert main(["audit", str(good), "--json"]) == 1
        report = json.loads(capsys.readouterr().out)

    assert "BROKEN rounds/0002/record.json" in text
    assert "expected  0x7b" in text
    assert report["ok"] is False
    assert report["failure"]["place"].startswith("rounds/0002/record.json")
    assert [section["name"] for section in report["checked"]][:2] == ["chain", "configuration"]


def test_json_for_machines(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(good), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)

    assert (report["ok"], report["failure"]) == (True, None)
    (rounds,) = [section for section in report["checked"] if section["name"] == "rounds"]
    assert [part["counts"]["aggregated"] for part in rounds["parts"]] == [5, 5, 5]
    assert report["not_proven"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "what is to be audited?"),
        (["/no/such/place"], "is not a folder"),
        (["--chain", "http://127.0.0.1:1"], "--contract and --store"),
        ([".", "--head", "0x12"], "64 hexadecimal digits"),
        ([".", "--loud"], "--loud"),
        (["--chain", "ftp://x", "--contract", "0x" + "1" * 40, "--store", "http://x"], "is not the URL of a node"),
        (["--chain", "http://x", "--contract", "0x1", "--store", "http://x"], "is not an address"),
        (["--chain", "http://x", "--contract", "0x" + "1" * 40, "--store", "/no/such/place"], "is no store"),
        (["prove", "."], "--customer"),
        (["prove", ".", "--customer", "0x1", "--round", "1"], "is not an address"),
        (["check", "x", "--run", ".", "--chain", "http://x"], "which chain?"),
        (["check", "/no/such/file", "--run", "."], "cannot be read"),
    ],
)
def test_bad_usage_gets_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_folder_without_a_run_is_broken_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path)]) == 1
    assert "chain.sqlite" in capsys.readouterr().out


def test_a_node_that_is_not_there_is_no_broken_evidence(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--chain", "http://127.0.0.1:1", "--contract", "0x" + "1" * 40, "--store", str(good / "blobs")]
    assert main(["audit", *arguments]) == 1
    assert "was not answered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "file", "told"),
    [
        ("chain:\n  name: rpc\n", "chain.sqlite", "lies behind a node"),
        ("store:\n  name: ipfs\n", "blobs", "lie behind IPFS"),
    ],
)
def test_a_run_whose_evidence_lies_elsewhere_says_where_to_ask(
    tmp_path: Path, section: str, file: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(section)
    assert main(["audit", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "--chain URL --contract ADDR --store" in error
    (tmp_path / file).mkdir()
    assert main(["audit", str(tmp_path)]) == 1  # it claims to be here: then it has to hold
