"""The engines of ``python -m app``: where the customers run. The task is the same code on each of them."""

from __future__ import annotations

import logging
import os
from typing import Any

from app.protocol.errors import ConfigError, HearthError
from app.reporting.progress import Progress
from app.run_directory import RunDirectory
from app.runtime import PROJECT_ROOT
from app.task import Prepared


def run(prepared: Prepared, directory: RunDirectory, progress: Progress) -> dict[str, Any]:
    """Run a prepared task on the engine that its configuration names; return the contents of ``result.json``.

    Raises
    ------
    ConfigError
        If the engine is not one of ours.
    HearthError
        If the task cannot go on.
    """
    name = prepared.config.engine.name
    if prepared.config.members.elsewhere:
        problem = "members=file has processes of its own, which only Flower's deployment runtime reaches"
        raise ConfigError("members", problem, "flwr run, see docs/deployment.md")
    if name not in ENGINES:
        raise ConfigError("engine", f"{name!r} is not an engine of python -m app", ENGINES)
    return ENGINES[name](prepared, directory, progress)


def _run_local(prepared: Prepared, directory: RunDirectory, progress: Progress) -> dict[str, Any]:
    """Run everything in this process, the customers in threads."""
    from app import client_app, server_app
    from app.customer import wallets
    from app.local_grid import LocalGrid

    workers = prepared.config.engine.workers or os.cpu_count() or 1
    grid = LocalGrid(client_app.app, prepared.config.customers, workers, progress.customer_done)
    try:
        keys = prepared.parties.keys
        with wallets.brought(keys.customers if keys else ()):
            return server_app.run(grid, prepared, directory, progress)
    finally:
        grid.close()


def _run_ray(prepared: Prepared, directory: RunDirectory, progress: Progress) -> dict[str, Any]:
    """Run the customers in Flower's simulation runtime, whose workers are processes of Ray."""
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from app import client_app, server_app

    outcome: dict[str, Any] = {}
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            outcome["result"] = server_app.run(grid, prepared, directory, progress)
        except HearthError as error:
            outcome["error"] = error
            raise

    logging.getLogger("ray").setLevel(logging.ERROR)
    os.chdir(PROJECT_ROOT)  # Ray puts the working directory first on its workers' import path
    try:
        run_simulation(
            app,
            client_app.app,
            prepared.config.customers,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    except RuntimeError as error:  # Flower's wrapper of whatever the ServerApp raised
        raise outcome.get("error", error) from error
    if "error" in outcome:
        raise outcome["error"]
    result: dict[str, Any] = outcome["result"]
    return result


ENGINES = {"local": _run_local, "ray": _run_ray}
