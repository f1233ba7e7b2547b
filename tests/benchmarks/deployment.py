"""A deployment on this machine beside the in-process engine: seconds by part, bytes a customer and round, memory.

    python tests/benchmarks/deployment.py [OVERRIDE...]

Every party is a process of its own on loopback (tests/deployment/harness.py), so they share the cores: on machines of
their own the training part is shorter. Bytes are Flower's own count, of messages and of the app's bundle.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.deployment.harness import Deployment, wait_until  # noqa: E402
from tests.store.kubo_server import KuboServer  # noqa: E402

TASK = ["rounds=3", "strategy.f=1"]


def main(overrides: list[str]) -> None:
    task = [*TASK, *overrides]
    with tempfile.TemporaryDirectory() as folder, KuboServer() as kubo:
        store = ["store.name=ipfs", f"store.url={kubo.url}"]
        with Deployment(Path(folder), store) as parties:
            start(parties)
            run = parties.run_task(*task)
            result = parties.finish(run)
            traffic = parties.status(run)["network-traffic"]
            memory = {name: peak(process.pid) for name, process in parties.processes.items()}
            for pid, command in parties.ours():
                if b"superexec" in command:
                    memory[f"superexec {pid}"] = peak(pid)
        same = parties.in_process(*task)
    assert result["model_digest"] == same["model_digest"]
    rounds = result["rounds"]
    print(f"{'seconds a round':24}{'deployment':>12}{'in process':>12}")
    for part in ("train", "mine", "chain", "store", "total"):
        print(f"{part:24}{result['seconds'][part] / rounds:12.2f}{same['seconds'][part] / rounds:12.2f}")
    shares = rounds * parties.customers
    down, up = (traffic[way] / shares for way in ("outbound-bytes", "inbound-bytes"))
    print(f"bytes a customer and round: {down:.0f} down, {up:.0f} up")
    print("peak memory, MiB: " + ", ".join(f"{name} {mib:.0f}" for name, mib in memory.items()))


def start(parties: Deployment) -> None:
    parties.start_services()
    for index in range(parties.customers):
        parties.start_node(index)
    wait_until(lambda: parties.log("superlink").count("Activated") >= parties.customers, "all nodes are there")


def peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
