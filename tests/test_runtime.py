"""Who may use keys and noise from a seed: simulations, and whoever is not known to be one may not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from app import client_app
from app.protocol.errors import StoreError


def test_a_process_that_nobody_declared_a_simulation_is_a_deployment() -> None:
    """In a process of its own: however Flower starts a ClientApp there, seeded keys are refused."""
    program = (
        "from app.runtime import in_simulation\n"
        "from app import client_app\n"
        "assert not in_simulation()\n"
        "from app.local_grid import LocalGrid\n"
        "LocalGrid(client_app.app, 1)\n"
        "assert in_simulation()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("simulated", [True, False])
def test_what_a_disk_refused_is_told_in_a_simulation_alone(simulated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise StoreError("/home/phone cannot be written: disk full")

    monkeypatch.setattr(client_app, "_contribution", full)
    monkeypatch.setattr(client_app, "in_simulation", lambda: simulated)
    monkeypatch.setattr(client_app, "Message", lambda content, reply_to: content)
    told = "/home/phone cannot be written: disk full" if simulated else "StoreError"
    assert client_app.train(None, None).reason == told
