"""Run a task and be killed at its n-th step that lasts: ``python tests/stopping.py N FOLDER NAME OVERRIDE...``.

A step is a call that leaves something behind: a transaction, a blob, a release, a receipt, a line or file of the run
directory. The process ends by SIGKILL before the step (N even) or after it (N odd); with fewer steps it ends well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

STEPS = (
    ("app.ledger.chain", "Chain", "send"),
    ("app.store.embedded", "EmbeddedStore", "put"),
    ("app.privacy.accountant", "Accountant", "charge"),
    ("app.customer.phone", "Phone", "sign"),
    ("app.run_directory", "RunDirectory", "write_config"),
    ("app.run_directory", "RunDirectory", "write_round"),
    ("app.run_directory", "RunDirectory", "append_metrics"),
    ("app.run_directory", "RunDirectory", "write_result"),
)


def main() -> None:
    """Run, and die in time."""
    from importlib import import_module

    from app.launch import limit_threads

    limit_threads()
    last, folder, name, overrides = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    lock, count = threading.Lock(), 0

    def step() -> None:
        nonlocal count
        with lock:
            count += 1
            if count > last:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()

    def stepping(call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            step()
            result = call(*arguments, **options)
            step()
            return result

        return wrapped

    for module, owner, method in STEPS:
        kind = getattr(import_module(module), owner)
        setattr(kind, method, stepping(getattr(kind, method)))

    from app.config import compose
    from app.launch import launch
    from app.reporting.progress import SilentProgress

    launch(compose(overrides), SilentProgress(), parent=folder, name=name)


if __name__ == "__main__":
    main()
