"""A prepared task run on a grid of the test's own, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app import server_app
from app.local_grid import LocalGrid
from app.protocol.keys import simulation_account
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory
from app.task import Prepared


def play(prepared: Prepared, grid: LocalGrid, folder: Path) -> dict[str, Any]:
    """Run the task to its end, close the grid, and return the result."""
    try:
        return server_app.run(grid, prepared, RunDirectory.create(prepared.config, folder), SilentProgress())
    finally:
        grid.close()


def address(index: int) -> str:
    """Return the address of a customer of seed 0."""
    return str(simulation_account(0, "customer", index).address)
