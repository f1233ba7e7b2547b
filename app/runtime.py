"""What differs between the processes that Flower may run us in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_simulated = False


def pin_project_root() -> None:
    """Make Ray's workers import this copy of the app.

    Ray puts the driver's working directory first on every worker's ``sys.path``, and with ``flwr run`` that is the
    folder in which the local SuperLink was first started: another project with a package called ``app`` would be
    imported instead of this one.
    """
    if Path(sys.argv[0]).name == "flwr-simulation":
        os.chdir(PROJECT_ROOT)


def declare_simulation() -> None:
    """Say that the customers of this process are simulated: only an in-process grid does so."""
    global _simulated
    _simulated = True


def in_simulation() -> bool:
    """Tell whether the customers of this process are simulated, by an in-process grid or by Ray.

    Whatever is not known to be a simulation counts as a deployment, where keys and noise from a seed are refused.
    """
    ray = sys.modules.get("ray")
    return _simulated or (ray is not None and bool(ray.is_initialized()))


def use_one_thread() -> None:
    """Let torch compute in one thread: sums are then done in one order on every engine.

    Customers run side by side, so the cores are used all the same.
    """
    import torch

    torch.set_num_threads(1)
