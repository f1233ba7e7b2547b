"""hearth: the Flower ServerApp. It runs the manufacturer's side of one task, from the initial model to the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from logging import ERROR, WARNING
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from app.config import from_run_config, to_plain
from app.consistency import warnings
from app.protocol.errors import HearthError
from app.reporting.progress import Progress, choose_progress
from app.reporting.tracker import Tracker, open_tracker
from app.result import build_result, round_metrics, round_numbers, round_report, total_contributions
from app.run_directory import RunDirectory, runs_home, write_atomically
from app.settings import EngineConfig
from app.task import Evaluator, Prepared, Task, publish
from strategies.hearth import Hearth
from strategies.outcome import RoundOutcome
from strategies.stopwatch import Stopwatch
from strategies.wire import MODEL, array_to_blob, blobs_to_arrays

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the task that ``flwr run`` configures, or go on with one that was stopped, on nodes that Flower connects."""
    from app.launch import launch, resume

    logging.getLogger("httpx").setLevel(logging.WARNING)  # each of Flower's requests would be a line of the run's log
    progress, engine = choose_progress(), partial(run, grid)
    try:
        stopped = str(context.run_config.get("resume", ""))
        if stopped:
            place = Path(stopped).expanduser()
            directory = RunDirectory.at(place if len(place.parts) > 1 else runs_home() / place)
            progress.result(resume(directory, progress, verbose=True, engine=engine))
            return
        config = replace(from_run_config(context.run_config), engine=EngineConfig(name="flower", workers=0))
        for line in warnings(config):
            log(WARNING, line)
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
        An empty run directory, or that of a run that was stopped: then it goes on from where its chain stands. What
        is written until a failure stays there.
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
            members=prepared.config.members,
            stopwatch=clock,
        )
        known = {line.get("round"): line for line in directory.read_metrics()}
        strategy.catch_up({number: line for number, line in known.items() if isinstance(number, int)})
        tracker = open_tracker(prepared.config.tracker, directory.path)
        tracker.begin(directory.path.name, to_plain(prepared.config))
        watch = _Watch(task, strategy, directory, progress, tracker)
        watch.begin(known)
        if strategy.done < prepared.config.rounds:
            strategy.start(
                grid,
                blobs_to_arrays({MODEL: task.store.get(task.policy.model, task.policy.model.size)}),
                num_rounds=prepared.config.rounds - strategy.done,
                timeout=prepared.config.members.reply_seconds,
                evaluate_fn=watch.evaluate,
            )
        clock.seconds["total"] = prepared.seconds + time.perf_counter() - start
        result = build_result(task, strategy, watch.accuracies, watch.losses, clock, directory)
        if prepared.config.contribution.name != "none":
            result["contribution"] = total_contributions(directory.read_metrics())
        if prepared.config.probe.name != "none":
            result["probe"] = _probe(prepared, directory)
    finally:
        progress.end()
        task.close()
    directory.write_result(result)
    tracker.end(result)
    return result


def _probe(prepared: Prepared, directory: RunDirectory) -> dict[str, Any]:
    """Attack one customer's releases; leave the picture in the run directory and return the measurements."""
    from app.probe.privacy import probe

    measured, picture = probe(prepared.config, prepared.model.phone, prepared.data.test)
    write_atomically(directory.reconstructions_path, picture)
    return measured | {"picture": str(directory.reconstructions_path)}


class _Watch:
    """Evaluates the model after each round, and writes down what the round came to."""

    def __init__(
        self, task: Task, strategy: Hearth, directory: RunDirectory, progress: Progress, tracker: Tracker
    ) -> None:
        self._task, self._strategy, self._directory, self._progress = task, strategy, directory, progress
        self._tracker = tracker
        self._evaluator = Evaluator(task.prepared, task.policy)
        self.accuracies: list[float] = []
        self.losses: list[float] = []

    def begin(self, known: Mapping[object, Mapping[str, Any]]) -> None:
        """Evaluate the initial model, and what an earlier process finalised and did not come to evaluate."""
        config, done = self._task.prepared.config, self._strategy.done
        self._judge(self._task.store.get(self._task.policy.model, self._task.policy.model.size))
        title = f"{config.data.name}, {config.customers} customers, {config.miners.count} miners"
        title += f"; going on after round {done}" if done else ""
        self._tracker.round(0, {"accuracy": self.accuracies[0], "loss": self.losses[0]})
        self._progress.begin(title, config.rounds, self.accuracies[0], str(self._directory.path), done)
        for outcome in self._strategy.history:
            line = known.get(outcome.round)
            if line is None:
                self._judge(self._task.store.get(outcome.model, outcome.model.size))
                self._write(outcome)
            else:
                self.accuracies.append(float(line["accuracy"]))
                self.losses.append(float(line["loss"]))
                self._write_files(outcome)

    def evaluate(self, round_number: int, arrays: ArrayRecord) -> MetricRecord:
        """Flower's hook: called before the first round, as round 0, then after every round."""
        if round_number > 0:
            self._judge(array_to_blob(arrays[MODEL]))
            self._write(self._strategy.history[-1])
        return MetricRecord({"accuracy": self.accuracies[-1], "loss": self.losses[-1]})

    def _judge(self, model: bytes) -> None:
        accuracy, loss = self._evaluator(model)
        self.accuracies.append(accuracy)
        self.losses.append(loss)

    def _write(self, outcome: RoundOutcome) -> None:
        """Write a round down: the line of metrics last, so that where it stands the files do too."""
        accuracy, loss = self.accuracies[-1], self.losses[-1]
        self._write_files(outcome)
        line = round_metrics(outcome, accuracy, loss)
        if self._task.prepared.config.contribution.name != "none":
            line["contribution"] = self._contributions(outcome)
        self._directory.append_metrics(line)
        self._tracker.round(outcome.round, round_numbers(outcome, accuracy, loss))
        self._progress.round_done(round_report(outcome, self._task.prepared.config.rounds, accuracy, loss))

    def _contributions(self, outcome: RoundOutcome) -> dict[str, float]:
        """Return by how much each update that counted lowered the loss."""
        from app.contribution import contributions, shares

        config = self._task.prepared.config
        made_of = shares(self._task.policy, self._task.store, outcome.manifest, outcome.record)
        seed = config.seed + outcome.round
        return contributions(made_of, lambda model: self._evaluator(model)[1], config.contribution, seed)

    def _write_files(self, outcome: RoundOutcome) -> None:
        for name, blob in (("manifest.json", outcome.manifest), ("record.json", outcome.record)):
            if not (self._directory.round_path(outcome.round) / name).exists():
                self._directory.write_round(outcome.round, name, self._task.store.get(blob, blob.size))
