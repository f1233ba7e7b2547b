"""The documentation: the tutorial does what it says, the site builds without a warning, every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_block_of_the_tutorial_runs(tmp_path: Path) -> None:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HEARTH_RUNS": str(tmp_path / "runs"),
        "COLUMNS": "160",
    }
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text("utf-8"))
    assert len(blocks) == 6
    printed = ""
    for kind, text in blocks:
        command = [sys.executable, "-c", text] if kind == "python" else ["bash", "-e", "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    assert printed.count("OK  ") == 2
    assert "<html" in (tmp_path / "wine.html").read_text()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page, words in (
        ("configuration", "strategy.examples_cap"),
        ("configuration", "hearth miner"),
        ("commands", "usage: hearth audit"),
        ("api", "class="),
        ("protocol", "ECVRF-EDWARDS25519-SHA512-TAI"),
    ):
        text = (tmp_path / "site" / page / "index.html").read_text("utf-8")
        assert words in text or words.rpartition(".")[2] in text, (page, words)
    assert "error:" not in (tmp_path / "site" / "commands" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_local_links_lead_somewhere(name: str) -> None:
    generated = {"configuration.md", "commands.md", "api.md"}
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text("utf-8")):
        if not target.startswith(("http://", "https://")) and target not in generated:
            assert ((ROOT / name).parent / target).exists(), target
