"""What differs between the processes that Flower may run us in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def pin_project_root() -> None:
    """Make Ray's workers import this copy of the app.

    Ray puts the driver's working directory first on every worker's ``sys.path``, and with ``flwr run`` that is the
    folder in which the local SuperLink was first started: another project with a package called ``app`` would be
    imported instead of this one.
    """
    if Path(sys.argv[0]).name == "flwr-simulation":
        os.chdir(PROJECT_ROOT)


def in_deployment() -> bool:
    """Tell whether this process is a ClientApp of a real SuperNode (Flower starts ``flwr-clientapp`` for it)."""
    return Path(sys.argv[0]).name == "flwr-clientapp"


def use_one_thread() -> None:
    """Let torch compute in one thread: sums are then done in one order on every engine.

    Customers run side by side, so the cores are used all the same.
    """
    import torch

    torch.set_num_threads(1)
