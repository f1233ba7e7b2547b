"""A whole deployment on loopback: every party a process of its own, as docs/deployment.md starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.ledger.keystore import create, new_key
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
PASSWORD = "of this test alone"


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Return what ``holds`` returns once it is true; fail after a generous time that says nothing about speed."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)
    return found


class Deployment:
    """A context manager: what was started in it ends with it.

    Parameters
    ----------
    folder : Path
        Everything of the deployment: keys, certificates, states, logs.
    store : list of str
        Where blobs are, as keys of a miner's configuration: ``store.name=ipfs store.url=...``.
    customers, miners : int
        How many there are.
    """

    def __init__(self, folder: Path, store: Sequence[str], customers: int = 5, miners: int = 4) -> None:
        self.folder, self.store, self.customers, self.miners = folder, list(store), customers, miners
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = iter(free_ports(4 + 2 * customers + miners))
        self.chain_port, self.link_port = next(self.ports), next(self.ports)
        self.mec_ports = [next(self.ports) for _ in range(customers)]
        self.node_ports = [next(self.ports) for _ in range(customers)]
        self.miner_ports = [next(self.ports) for _ in range(miners)]
        self.commands: dict[str, tuple[list[str], dict[str, str]]] = {}

    def __enter__(self) -> Deployment:
        self._make_keys()
        return self

    def __exit__(self, *exception: object) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)
        for pid, _ in self.ours():  # what Flower started in sessions of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ours(self) -> list[tuple[int, bytes]]:
        """Return the processes of this deployment, by what only they have in their environment, and their commands."""
        mark, found = f"HEARTH_RUNS={self.folder / 'runs'}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
        return found

    # Preparing

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "HEARTH_RUNS": str(self.folder / "runs"),
            "HEARTH_KEYS": str(self.folder / "keys"),
            "HEARTH_PASSWORD_FILE": str(self.folder / "password"),
            "OMP_NUM_THREADS": "1",
        }

    def hearth(self, *arguments: str) -> str:
        """Run a command of ours to its end; return what it printed."""
        done = subprocess.run(
            ["hearth", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            executable=BIN / "hearth",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _make_keys(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o600)
        names = ["manufacturer", *(f"customer-{i}" for i in range(self.customers))]
        names += [f"miner-{i}" for i in range(self.miners)]
        for name in names:  # `hearth wallet new` does the same at a hundred times the work
            create(name, new_key(), PASSWORD, self.folder / "keys", work=2)
        cards = []
        for index in range(self.customers):
            key = self.folder / f"node-{index}"
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "", "-f", str(key)], check=True
            )
            cards.append(self.hearth("members", "card", f"customer-{index}", "--customer", "--node-key", f"{key}.pub"))
        for index, port in enumerate(self.miner_ports):
            cards.append(self.hearth("members", "card", f"miner-{index}", "--miner", "--service", f"127.0.0.1:{port}"))
        (self.folder / "members.jsonl").write_text("".join(cards))
        subprocess.run([ROOT / "deploy" / "make-certificates", self.folder / "certs", "127.0.0.1"], check=True)
        addresses = re.findall(r"0x[0-9A-Fa-f]{40}", self.hearth("wallet", "show"))
        funds = [word for address in addresses for word in ("--fund", address)]
        self.hearth("chain", "new", "chain.sqlite", *funds)

    # Starting and stopping

    def start(self, name: str, command: Sequence[str], **env: str) -> None:
        """Start a party; its output goes to a log of its name."""
        self.commands[name] = (list(command), env)
        with open(self.log_path(name), "ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=self.folder,
                env=self.env | env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def again(self, name: str) -> None:
        """Start a party that was stopped or killed, as it was started first."""
        command, env = self.commands[name]
        self.start(name, command, **env)

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Send a party's whole session a signal, and return how the party ended; one that does not obey is killed."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            code = process.wait(20)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return code

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        return self.log_path(name).read_text("utf-8", "replace")

    def says(self, name: str, words: str, seconds: float = 120) -> None:
        """Wait until a party's log has these words."""

        def said() -> bool:
            process = self.processes.get(name)
            assert process is None or process.poll() is None or words in self.log(name), self.log(name)
            return words in self.log(name)

        wait_until(said, f"{name} says {words!r}", seconds)

    # The parties

    @property
    def chain_url(self) -> str:
        return f"http://127.0.0.1:{self.chain_port}"

    def certificate(self) -> list[str]:
        certs = self.folder / "certs"
        return [f"listen.certificate={certs}/127.0.0.1.crt", f"listen.key={certs}/127.0.0.1.key"]

    def start_services(self) -> None:
        """Start everybody but the nodes, and admit these."""
        self.start_chain()
        for index in range(self.miners):
            self.start_miner(index)
        for index in range(self.customers):
            self.start_mec(index)
        self.start_superlink()
        self.register()

    def start_chain(self) -> None:
        self.start("chain", ["hearth", "chain", "serve", "chain.sqlite", "--port", str(self.chain_port)])
        self.says("chain", "serving it")

    def start_mec(self, index: int) -> None:
        port = self.mec_ports[index]
        options = [f"listen.address=127.0.0.1:{port}", f"cache.folder={self.folder}/mec-{index}"]
        command = ["hearth", "mec", "serve", f"customers={self.folder}/members.jsonl", *options, *self.certificate()]
        self.start(f"mec-{index}", command)
        self.says(f"mec-{index}", "answers on")

    def start_miner(self, index: int, *more: str) -> None:
        port = self.miner_ports[index]
        options = [
            f"members={self.folder}/members.jsonl",
            f"key.name=miner-{index}",
            f"chain.url={self.chain_url}",
            f"state={self.folder}/miner-{index}",
            f"authority={self.folder}/certs/ca.crt",
            f"listen.address=127.0.0.1:{port}",
            "poll=0.2",
            *self.certificate(),
            *self.store,
            *more,
        ]
        self.start(f"miner-{index}", ["hearth", "miner", "run", *options])
        self.says(f"miner-{index}", "answers on")

    def start_superlink(self) -> None:
        certs, home = self.folder / "certs", self.folder / "link"
        home.mkdir(exist_ok=True)
        tls = [
            *("--ssl-ca-certfile", f"{certs}/ca.crt"),
            *("--ssl-certfile", f"{certs}/127.0.0.1.crt", "--ssl-keyfile", f"{certs}/127.0.0.1.key"),
        ]
        port = str(self.link_port)
        where = ["--host", "127.0.0.1", "--port", port, "--database", f"{home}/state.db", "--enable-supernode-auth"]
        self.start("superlink", ["flower-superlink", *where, *tls], FLWR_HOME=str(home))
        cli = self.folder / "cli"
        cli.mkdir(exist_ok=True)
        (cli / "config.toml").write_text(
            f'[superlink]\ndefault = "hearth"\n[superlink.hearth]\naddress = "127.0.0.1:{port}"\n'
            f'root-certificates = "{certs}/ca.crt"\n'
        )
        wait_until(self._link_answers, "the SuperLink answers")

    def _link_answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.link_port)) == 0

    def flwr(self, *arguments: str, seconds: float = 300) -> str:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            cwd=ROOT,
            env=self.env | {"FLWR_HOME": str(self.folder / "cli")},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def register(self) -> None:
        """Admit every customer's node, by the keys on the cards."""
        self.hearth("members", "node-keys", "members.jsonl", "node-keys")
        for index in range(self.customers):
            self.flwr("supernode", "register", str(self.folder / "node-keys" / f"customer-{index}.pub"), "hearth")

    def start_node(self, index: int, *node_config: str) -> None:
        config = [
            f'key="{self.folder}/keys/customer-{index}.json"',
            f'home="{self.folder}/customer-{index}"',
            f'mec="127.0.0.1:{self.mec_ports[index]}"',
            f'mec-authority="{self.folder}/certs/ca.crt"',
            *(node_config or (f"rehearse={index}",)),
        ]
        home = self.folder / f"node-home-{index}"
        home.mkdir(exist_ok=True)
        command = [
            *("flower-supernode", "--superlink", f"127.0.0.1:{self.link_port}"),
            *("--root-certificates", f"{self.folder}/certs/ca.crt"),
            *("--auth-supernode-private-key", f"{self.folder}/node-{index}"),
            *("--port", str(self.node_ports[index]), "--node-config", " ".join(config)),
        ]
        self.start(f"node-{index}", command, FLWR_HOME=str(home))

    def run_task(self, *overrides: str) -> str:
        """Submit a task to the SuperLink, and return the run's id."""
        store = [text.replace("store.name=", "store=") for text in self.store]
        fixed = [
            *("members=file", f"members.path={self.folder}/members.jsonl", "wallet=keystore"),
            *("chain=rpc", f"chain.url={self.chain_url}", *store),
            *(f"customers={self.customers}", f"miners.count={self.miners}", "name=deployed"),
        ]
        text = " ".join([*fixed, *overrides])
        printed = self.flwr("run", ".", "hearth", "-c", f'overrides="{text}"', "--format", "json")
        return str(json.loads(printed[printed.index("{") :])["run-id"])

    def status(self, run: str) -> dict[str, Any]:
        printed = self.flwr("ls", "hearth", "--run-id", run, "--format", "json")
        return dict(json.loads(printed[printed.index("{") :])["runs"][0])

    def finish(self, run: str, seconds: float = 400) -> dict[str, Any]:
        """Wait until a run has ended, and return its result."""
        ended = wait_until(
            lambda: (found := self.status(run))["status"].startswith("finished") and found, "the run has ended", seconds
        )
        path = self.folder / "runs" / "deployed" / "result.json"
        assert ended["status"] == "finished:completed", ended
        assert path.exists(), self.log("superlink")[-4000:]
        return dict(json.loads(path.read_text()))

    def in_process(self, *overrides: str) -> dict[str, Any]:
        """Return the result of the same task in one process."""
        env = self.env | {"HEARTH_RUNS": str(self.folder / "in-process")}
        command = [sys.executable, "-m", "app", "name=same", f"customers={self.customers}", *overrides]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads((self.folder / "in-process" / "same" / "result.json").read_text()))
