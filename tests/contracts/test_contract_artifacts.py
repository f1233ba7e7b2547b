"""The committed artifacts are those of the committed sources."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.ledger import contract
from app.ledger.contract import artifact
from app.protocol.errors import LedgerError

CONTRACTS = Path(__file__).parents[2] / "contracts"
SOURCES = sorted(CONTRACTS.glob("*.sol"))
ARTIFACTS = sorted((CONTRACTS / "artifacts").glob("*.json"))
ATTACKERS = sorted(Path(__file__).parent.glob("*.sol"))  # compiled for tests alone, beside their sources


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.stem)
def test_sources_are_those_that_were_compiled(path: Path) -> None:
    noted = json.loads(path.read_text())["sources"]
    assert noted == {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in SOURCES}


def test_only_the_task_is_shipped() -> None:
    assert [path.stem for path in ARTIFACTS] == ["HearthTask"]


@pytest.mark.parametrize("path", ATTACKERS, ids=lambda path: path.stem)
def test_attackers_are_those_that_were_compiled(path: Path) -> None:
    noted = json.loads(path.with_suffix(".json").read_text())["sources"]
    assert noted == {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in ATTACKERS}


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.stem)
def test_compiler_and_libraries_are_the_locked_ones(path: Path) -> None:
    locked = json.loads((CONTRACTS / "package-lock.json").read_text())["packages"]
    noted = json.loads(path.read_text())
    assert noted["compiler"].startswith(locked["node_modules/solc"]["version"] + "+commit.")
    assert noted["libraries"] == {
        name: locked[f"node_modules/{name}"]["version"] for name in ("@openzeppelin/contracts",)
    }


def test_the_lock_file_names_no_host() -> None:
    assert "resolved" not in (CONTRACTS / "package-lock.json").read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_are_short_and_documented(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < 300
    for match in re.finditer(
        r"^( *)(?:function \w+\([^{;]*?(?:external|public)|event |error |struct |enum )", text, re.M
    ):
        before = text[: match.start()].rstrip().splitlines()[-1].strip()
        assert before.startswith(("/// @", "///", "*/")), f"no NatSpec: {match.group(0).strip()}"


def test_recompiling_gives_the_same_bytes(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (CONTRACTS / "node_modules" / "solc").is_dir():
        pytest.skip("the compiler is not installed: needs node, and `npm ci --ignore-scripts` in contracts/")
    folders = [tmp_path / "shipped", tmp_path / "tests"]
    subprocess.run([node, "compile.js", *folders], cwd=CONTRACTS, check=True, capture_output=True, timeout=120)
    for folder, committed in zip(folders, (ARTIFACTS, [path.with_suffix(".json") for path in ATTACKERS]), strict=True):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in committed
        }


def test_code_is_compared_modulo_immutables() -> None:
    ours = artifact("HearthTask")
    assert ours.is_deployed_as(ours.deployed)
    start, length = ours.immutables[0]
    constructed = bytearray(ours.deployed)
    constructed[start : start + length] = b"\x5a" * length
    assert ours.is_deployed_as(bytes(constructed))
    places = {i for start, length in ours.immutables for i in range(start, start + length)}
    for other in sorted(set(range(0, len(ours.deployed), 97)) - places):
        changed = bytearray(ours.deployed)
        changed[other] ^= 1
        assert not ours.is_deployed_as(bytes(changed))
    assert not ours.is_deployed_as(ours.deployed[:-1])
    assert not ours.is_deployed_as(b"")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("abi"),
        lambda raw: raw.update(bytecode="0xzz"),
        lambda raw: raw.update(deployedBytecode="0x"),
        lambda raw: raw.update(contract="Another"),
        lambda raw: raw.update(immutables=[{}]),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object) -> None:
    raw = json.loads((CONTRACTS / "artifacts" / "HearthTask.json").read_text())
    damage(raw)  # type: ignore[operator]
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "HearthTask.json").write_text(json.dumps(raw))
    monkeypatch.setattr(contract, "files", lambda _: tmp_path)
    with pytest.raises(LedgerError, match=r"artifacts/HearthTask\.json"):
        artifact.__wrapped__("HearthTask")


def test_a_missing_artifact_is_one_line() -> None:
    with pytest.raises(LedgerError, match=r"contracts/artifacts/Nothing\.json: missing or damaged"):
        artifact("Nothing")
