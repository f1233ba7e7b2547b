"""One good run for all audit tests, made once a session, and a fast way to audit it again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from app.audit import run as run_module
from app.audit.report import AuditError, Report, Section
from app.protocol.digest import sha256

ROOT = Path(__file__).resolve().parent.parent.parent
TASK = ["data=plaid", "customers=6", "rounds=3", "strategy.f=1", "attack=sign_flip", "attack.count=1"]


def make_run(parent: Path, name: str, *overrides: str) -> Path:
    """Run a small task as a user would; return its directory."""
    command = [sys.executable, "-m", "app", *TASK, f"name={name}", *overrides]
    env = os.environ | {"HEARTH_RUNS": str(parent)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return parent / name


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody has touched. Tests that change it must put back what they found."""
    return make_run(tmp_path_factory.mktemp("audited"), "good")


@pytest.fixture(scope="session")
def verdict_on() -> Iterator[Callable[[Path], str]]:
    """Audit a directory: ``ok``, or the failure's message.

    A chain's file is re-executed once for the same bytes: what is audited is as untouched as the file.
    """
    reexecute, known = run_module.reexecute, {}

    def once(path: Path, section: Section) -> Any:
        key = sha256(path.read_bytes()) if path.is_file() else None
        if key not in known:
            known[key] = reexecute(path, section)
        return known[key]

    def audit(directory: Path) -> str:
        try:
            run_module.audit_run(directory, Report(str(directory)))
        except AuditError as error:
            return str(error)
        return "ok"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "reexecute", once)
        yield audit
