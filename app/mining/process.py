"""A miner's process from its configuration to its last task: what it connects, and whom it answers."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from eth_account.signers.local import LocalAccount

from app.ledger.chain import Chain, rpc_chain
from app.ledger.docket import TaskDocket
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Phase
from app.ledger.tasks import find_tasks
from app.ledger.transaction import Waiting
from app.members import Members, read_members
from app.mining.config import MinerConfig
from app.mining.daemon import MinerDaemon
from app.mining.follower import Follower, policy_of
from app.mining.messages import SERVICE
from app.mining.miner import Miner
from app.mining.peer import Peer
from app.mining.promises import Promises
from app.parties import vrf_secret
from app.protocol.errors import ConfigError, HearthError, ServiceUnavailableError
from app.protocol.vrf import public_key
from app.service.client import Client
from app.service.metrics import Metrics
from app.service.process import state_folder
from app.service.server import Caller, Method, Server
from app.store.base import BlobStore
from app.store.factory import configured_store

_LOG = logging.getLogger(__name__)
_PATIENCE = 5.0  # seconds between two searches for a task


def run_miner(config: MinerConfig, account: LocalAccount, stopped: threading.Event) -> None:
    """Mine the configured task until it has ended, or one task after the other, until ``stopped`` is set.

    Raises
    ------
    ConfigError
        If the configuration does not fit the task.
    LedgerError, StoreError
        If chain or store cannot be reached at the start. What fails later is logged and tried again.
    """
    members = read_members(config.members, "members") if config.members else Members((), ())
    desk, metrics = Desk(), Metrics("miner")
    node, state = config.chain.chain, state_folder(config.state, "miner", account.address)
    waiting = Waiting(confirmations=node.depth)
    journal = state / "journal"
    chain = rpc_chain(node.address, node.chain_id, where=node.url, journal=journal, waiting=waiting, patient=True)
    try:
        store = configured_store(config.store, patient=True)
        try:
            chain.recover(account)
            server = Server(SERVICE, desk.methods, config.listen, metrics)
            metrics.open(config.listen.monitor)
            server.start()
            _LOG.info("miner %s answers on %s", account.address, server.address)

            def mine(ledger: TaskLedger) -> None:
                desk.daemon = _daemon(config, members, account, ledger, store, state, metrics)
                desk.daemon.run(stopped, config.poll, server.serving)
                desk.daemon = None

            try:
                if config.contract:
                    mine(TaskLedger.attach(chain, config.contract))
                    return
                while (ledger := _next_task(chain, account.address, stopped)) is not None:
                    mine(ledger)
            finally:
                server.stop()
                metrics.close()
        finally:
            store.close()
    finally:
        chain.close()


class Desk:
    """What the process answers other miners: for the task that it is at, if it is at one."""

    def __init__(self) -> None:
        self.daemon: MinerDaemon | None = None

    @property
    def methods(self) -> dict[str, Method]:
        """By name."""
        return {"Ticket": self._answering("Ticket"), "Vote": self._answering("Vote")}

    def _answering(self, name: str) -> Method:
        def answer(request: bytes, caller: Caller) -> bytes:
            if self.daemon is None:
                raise ServiceUnavailableError("this miner is at no task")
            return self.daemon.methods[name](request, caller)

        return answer


def _daemon(
    config: MinerConfig,
    members: Members,
    account: LocalAccount,
    ledger: TaskLedger,
    store: BlobStore,
    state: Path,
    metrics: Metrics,
) -> MinerDaemon:
    secret = vrf_secret(account)
    _check_seat(ledger, account.address, public_key(secret))
    promises = Promises(state / f"promises-{ledger.chain_id}-{ledger.address}.jsonl")
    miner = Miner(account, secret, store, TaskDocket(ledger, account), promises)
    peers = _peers(config, members, ledger, account.address)
    _LOG.info("task %s on chain %d, %d other miners", ledger.address, ledger.chain_id, len(peers))
    follower = Follower(ledger, store, policy_of(ledger, store))
    return MinerDaemon(miner, peers, ledger, follower, metrics, depth=config.chain.chain.depth)


def _next_task(chain: Chain, miner: str, stopped: threading.Event) -> TaskLedger | None:
    """Wait for a task with a seat for this miner that has not ended, and return the newest; None once stopped."""
    told = ""
    while not stopped.is_set():
        try:
            for found in reversed(find_tasks(chain)):
                ledger = TaskLedger(chain, found.address)
                phase = ledger.state().phase
                if phase in (Phase.COLLECTION, Phase.SEALED) and miner in {seat.miner for seat in ledger.miners()}:
                    return ledger
            words = f"no task on {chain.where} has a seat for {miner} yet"
        except HearthError as error:
            words = str(error)
        if words != told:
            _LOG.info("%s", words)
        told = words
        stopped.wait(_PATIENCE)
    return None


def _check_seat(ledger: TaskLedger, miner: str, vrf_key: bytes) -> None:
    seats = {seat.miner: seat for seat in ledger.miners()}
    if miner not in seats:
        raise ConfigError("contract", f"{miner} has no seat in the task at {ledger.address}", "a task that admitted it")
    if seats[miner].vrf_key != vrf_key:
        problem = f"the task at {ledger.address} admitted {miner} with another VRF key than its own"
        raise ConfigError("key.name", problem, "the key that made the card")


def _peers(config: MinerConfig, members: Members, ledger: TaskLedger, miner: str) -> list[Peer]:
    """Return the other miners of the task, as the cards say where they are."""
    cards = {card.member: card for card in members.miners}
    others = [seat.miner for seat in ledger.miners() if seat.miner != miner]
    missing = [other for other in others if other not in cards]
    if missing:
        problem = f"the file has no card for {', '.join(missing)}, who have seats in the task at {ledger.address}"
        raise ConfigError("members", problem, "the file that the manufacturer published the task with")
    return [
        Peer(
            other,
            Client(SERVICE, cards[other].service, config.authority, key="authority", patience=config.patience),
            config.vote_seconds,
        )
        for other in others
    ]
