"""The same task with plain Flower FedAvg, and what Hearth costs on top.

    python tests/benchmarks/plain_fedavg.py [data=mnist privacy=none ...]

Plain means: the same data, model, local training, customers and engine, but float32 weights in Flower's own FedAvg, and
no privacy mechanism, signatures, store, chain, miners or attacker. The two are run in turns in one process, after one
warm-up of each that is not counted.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from app import client_app, server_app
from app.config import compose
from app.customer.customer import training_seed
from app.launch import limit_threads, quiet_libraries
from app.learning.config import TrainConfig
from app.learning.training import accuracy_and_loss, features, train_head
from app.learning.views import customer_view
from app.learning.weights import get_vector, set_vector
from app.local_grid import LocalGrid
from app.reporting.progress import SilentProgress
from app.run_directory import RunDirectory
from app.task import Prepared, prepare

REPEATS = 3


def plain_client(prepared: Prepared) -> ClientApp:
    """Return a ClientApp that does the local training of the task and nothing else."""
    config, app = prepared.config, ClientApp()
    cached: dict[int, tuple[object, object]] = {}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        index = int(context.node_config["partition-id"])
        if index not in cached:
            data = customer_view(config.data, config.customers, index, config.seed)
            cached[index] = features(prepared.model.phone, data), data.labels
        head = deepcopy(prepared.model.mec)
        set_vector(head, message.content["arrays"]["w"].numpy())
        seed = training_seed(config.seed, int(message.content["config"]["server-round"]), index)
        x, y = cached[index]
        train_head(head, x, y, TrainConfig(**asdict(config.train)), seed)
        arrays = ArrayRecord({"w": Array(get_vector(head))})
        return Message(RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": len(y)})}), reply_to=message)

    return app


def run_plain(prepared: Prepared) -> tuple[float, float]:
    """Return seconds and final accuracy of plain FedAvg."""
    start = time.perf_counter()
    config = prepared.config
    test_x, test_y = features(prepared.model.phone, prepared.data.test), prepared.data.test.labels
    accuracy = 0.0

    def evaluate(round_number: int, arrays: ArrayRecord) -> MetricRecord:
        nonlocal accuracy
        set_vector(prepared.model.mec, arrays["w"].numpy())
        accuracy, loss = accuracy_and_loss(prepared.model.mec, test_x, test_y)
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    grid = LocalGrid(plain_client(prepared), config.customers, os.cpu_count() or 1)
    initial = ArrayRecord({"w": Array(get_vector(prepared.model.mec))})
    FedAvg(fraction_evaluate=0.0).start(grid, initial, num_rounds=config.rounds, evaluate_fn=evaluate)
    grid.close()
    return time.perf_counter() - start, accuracy


def run_hearth(prepared: Prepared) -> tuple[float, float]:
    """Return seconds and final accuracy of the whole task, without its preparation."""
    with tempfile.TemporaryDirectory() as parent:
        grid = LocalGrid(client_app.app, prepared.config.customers, os.cpu_count() or 1)
        start = time.perf_counter()
        result = server_app.run(grid, prepared, RunDirectory.create(prepared.config, Path(parent)), SilentProgress())
        grid.close()
        return time.perf_counter() - start, result["accuracy"]


def main() -> None:
    limit_threads()
    with quiet_libraries():
        config = compose(sys.argv[1:])
        kept = [text for text in sys.argv[1:] if text.partition("=")[0] not in ("privacy", "attack")]
        open_config = compose([*kept, "privacy=none", "attack=none"])
        seconds: dict[str, list[float]] = {"plain FedAvg": [], "Hearth": []}
        accuracy = {"plain FedAvg": 0.0, "Hearth": 0.0}
        for repeat in range(REPEATS + 1):
            for name, run, chosen in (("plain FedAvg", run_plain, open_config), ("Hearth", run_hearth, config)):
                spent, accuracy[name] = run(prepare(chosen))
                if repeat:
                    seconds[name].append(spent)
    for name, spent in seconds.items():
        print(f"{name:14} {statistics.median(spent):7.2f} s (median of {REPEATS})  accuracy {accuracy[name]:.4f}")
    ratio = statistics.median(seconds["Hearth"]) / statistics.median(seconds["plain FedAvg"])
    print(f"ratio          {ratio:7.2f}")


if __name__ == "__main__":
    main()
