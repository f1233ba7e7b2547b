"""A small run, made as a user would make it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TASK = ["data=plaid", "customers=6", "rounds=3", "strategy.f=1", "attack=sign_flip", "attack.count=1"]


def make_run(parent: Path, name: str, *overrides: str) -> Path:
    """Run a small task as a user would; return its directory. Keys that are given replace those of `TASK`."""
    given = {override.partition("=")[0] for override in overrides}
    rest = [key for key in TASK if key.partition("=")[0] not in given]
    command = [sys.executable, "-m", "app", *rest, f"name={name}", *overrides]
    env = os.environ | {"HEARTH_RUNS": str(parent)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return parent / name
