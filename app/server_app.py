"""hearth: the Flower ServerApp. It runs the manufacturer's side of one task, from the initial model to the result."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from logging import ERROR, WARNING
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from app.config import from_run_config
from app.consistency import warnings
from app.protocol.errors import HearthError
from app.reporting.progress import Progress, choose_progress
from app.result import build_result, round_metrics, round_report
from app.run_directory import RunDirectory, write_atomically
from app.settings import EngineConfig
from app.task import Evaluator, Prepared, Task, publish
from strategies.hearth import Hearth
from strategies.stopwatch import Stopwatch
from strategies.wire import MODEL, array_to_blob, blobs_to_arrays

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the task that ``flwr run`` configures, on whatever nodes Flower connects."""
    from app.launch import launch

    progress = choose_progress()
    try:
        config = replace(from_run_config(context.run_config), engine=EngineConfig(name="flower", workers=0))
        for line in warnings(config):
            log(WARNING, line)
        engine = partial(run, grid)
        progress.result(launch(config, progress, verbose=True, engine=engine))
    except HearthError as error:
        log(ERROR, " ".join(["error:", str(error), *getattr(error, "__notes__", ())]))
        raise


def run(grid: Grid, prepared: Prepared, directory: RunDirectory, progress: Progress) -> dict[str, Any]:
    """Run a prepared task on a grid of customers, and leave its evidence in the run directory.

    Parameters
    ----------
    grid : Grid
        Flower's way to the customers: in process, simulated or deployed.
    prepared : Prepared
        What `prepare` returned.
    directory : RunDirectory
        An empty run directory; what was written until a failure stays there.
    progress : Progress
        Is told about every round.

    Returns
    -------
    dict
        The contents of ``result.json``.

    Raises
    ------
    HearthError
        If the task cannot go on.
    """
    start, clock = time.perf_counter(), Stopwatch()
    directory.write_config(prepared.config)
    task = publish(prepared, directory, clock)
    try:
        strategy = Hearth(
            ledger=task.ledger,
            store=task.store,
            committee=task.committee,
            policy=task.policy,
            manufacturer=task.manufacturer,
            home=str(directory.customers_path),
            data_path=prepared.config.data.path or "",
            stopwatch=clock,
        )
        watch = _Watch(task, strategy, directory, progress)
        strategy.start(
            grid,
            blobs_to_arrays({MODEL: task.store.get(task.policy.model, task.policy.model.size)}),
            num_rounds=prepared.config.rounds,
            evaluate_fn=watch.evaluate,
        )
        clock.seconds["total"] = prepared.seconds + time.perf_counter() - start
        result = build_result(task, strategy, watch.accuracies, watch.losses, clock, directory)
        if prepared.config.probe.name != "none":
            result["probe"] = _probe(prepared, directory)
    finally:
        progress.end()
        task.close()
    directory.write_result(result)
    return result


def _probe(prepared: Prepared, directory: RunDirectory) -> dict[str, Any]:
    """Attack one customer's releases; leave the picture in the run directory and return the measurements."""
    from app.probe.privacy import probe

    measured, picture = probe(prepared.config, prepared.model.phone, prepared.data.test)
    write_atomically(directory.reconstructions_path, picture)
    return measured | {"picture": str(directory.reconstructions_path)}


class _Watch:
    """Evaluates the model after each round, and writes down what the round came to."""

    def __init__(self, task: Task, strategy: Hearth, directory: RunDirectory, progress: Progress) -> None:
        self._task, self._strategy, self._directory, self._progress = task, strategy, directory, progress
        self._evaluator = Evaluator(task.prepared, task.policy)
        self.accuracies: list[float] = []
        self.losses: list[float] = []

    def evaluate(self, round_number: int, arrays: ArrayRecord) -> MetricRecord:
        """Flower's hook: called with the initial model as round 0, then after every round."""
        accuracy, loss = self._evaluator(array_to_blob(arrays[MODEL]))
        self.accuracies.append(accuracy)
        self.losses.append(loss)
        if round_number == 0:
            config = self._task.prepared.config
            title = f"{config.data.name}, {config.customers} customers, {config.miners.count} miners"
            self._progress.begin(title, config.rounds, accuracy, str(self._directory.path))
        else:
            self._write(round_number, accuracy, loss)
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    def _write(self, round_number: int, accuracy: float, loss: float) -> None:
        outcome, store = self._strategy.history[-1], self._task.store
        for name, blob in (("manifest.json", outcome.manifest), ("record.json", outcome.record)):
            self._directory.write_round(round_number, name, store.get(blob, blob.size))
        self._directory.append_metrics(round_metrics(outcome, accuracy, loss))
        self._progress.round_done(round_report(outcome, self._task.prepared.config.rounds, accuracy, loss))
