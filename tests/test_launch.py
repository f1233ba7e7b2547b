"""What a run says when the disk, or the system, refuses: one line, and where the evidence is."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from app import engines
from app.launch import _log_file, _run
from app.protocol.errors import HearthError, LedgerError, StoreError
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_log_that_cannot_be_written_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^first$"), _log_file(Path("/dev/full")):  # noqa: PT012
        logging.getLogger("hearth").error("x" * 100_000)
        raise ZeroDivisionError("first")
    with _log_file(tmp_path / "no" / "such" / "folder.log"):
        logging.getLogger("hearth").error("nobody hears this")
    assert "Logging error" not in capfd.readouterr().err
    assert not [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.FileHandler) and "full" in handler.baseFilename
    ]


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs/x"),
            StoreError,
            "/runs/x cannot be written: No space",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreError, "cannot be written: Disk quota exceeded"),
        (sqlite3.OperationalError("database or disk is full"), LedgerError, "chain.sqlite cannot be written: database"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone"), FileNotFoundError, "gone"),
        (LedgerError("as it was"), LedgerError, "as it was"),
    ],
)
def test_what_the_system_refused_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[Exception], words: str
) -> None:
    def fail(*arguments: Any) -> dict[str, Any]:
        raise failure

    monkeypatch.setattr(engines, "run", fail)
    with pytest.raises(kind, match=words) as told:
        _run(None, RunDirectory(tmp_path), SilentProgress(), None)  # type: ignore[arg-type]  # a task that fails at once
    assert told.value.__notes__ == [
        f"what the run wrote until then: {tmp_path}",
        f"to go on with it: hearth resume {tmp_path}",
    ]
    assert isinstance(told.value, HearthError) is (kind is not FileNotFoundError)
    assert "Traceback" in (tmp_path / "run.log").read_text()
