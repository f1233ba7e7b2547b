"""One good run for all audit tests, made once a session, and a fast way to audit it again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from good_run import make_run

from app.audit import run as run_module
from app.audit.report import AuditError, Report, Section
from app.protocol.digest import sha256


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody has touched. Tests that change it must put back what they found."""
    return make_run(tmp_path_factory.mktemp("audited"), "good")


@pytest.fixture(scope="session")
def verdict_on() -> Callable[[Path], str]:
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
        with pytest.MonkeyPatch.context() as patch:  # for this call alone: other tests audit in earnest
            patch.setattr(run_module, "reexecute", once)
            try:
                run_module.audit_run(directory, Report(str(directory)))
            except AuditError as error:
                return str(error)
        return "ok"

    return audit
