"""The Flower strategy: every round is sealed, judged by the miners and finalised on chain before the next one starts.

Zhao et al. 2020, "Privacy-Preserving Blockchain-Based Federated Learning for IoT Devices" (IEEE IoT-J), with the
decisions of this project: the strategy relays, the miners aggregate, and the chain says what the next model is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from logging import INFO
from typing import Any

from eth_account.signers.local import LocalAccount
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from app.ledger.chain import Sent
from app.ledger.deposits import Role
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Phase
from app.members import MembersConfig
from app.mining.committee import Decision
from app.mining.history import History
from app.mining.recovery import UNKNOWN, Recovered, manifest_of, model_after, recovered
from app.mining.roles import Judges
from app.mining.round import SealedRound
from app.mining.sealed import current_round
from app.protocol.announcement import Announcement
from app.protocol.digest import BlobRef, hex32, sha256
from app.protocol.errors import RoundError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.manifest import Manifest
from app.protocol.policy import Policy
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.signing import Domain
from app.protocol.tensors import blob_limit
from app.store.base import BlobStore, pin_name
from strategies.aggregation import least_valid
from strategies.outcome import RoundOutcome, of_entries
from strategies.replies import Collected, ReplyDesk
from strategies.stopwatch import Stopwatch
from strategies.wire import MODEL, NOBODY, Assignment, blobs_to_arrays

_JOINING = 3.0
"""Seconds between two looks at who is connected."""


class Hearth(Strategy):
    """Reputation-weighted federated averaging by a committee of miners, committed on chain.

    Attributes
    ----------
    history : list of RoundOutcome
        One entry a finalised round.
    receipts : dict of str to Receipt
        Every customer's latest sealed receipt.

    Parameters
    ----------
    ledger : TaskLedger
        The open task. Its finalised state decides which model a round starts from.
    store : BlobStore
        Where models, updates, manifests and records are.
    committee : Judges
        The miners that verify and vote.
    policy : Policy
        The task's rules, as their digest on chain binds them.
    manufacturer : LocalAccount
        Seals the rounds.
    home, data_path : str
        Directory for simulated customers, and where their data is (empty where the data set knows).
    members : MembersConfig
        Whether nodes play the customers that they are told to, or each is one of its own.
    stopwatch : Stopwatch
        Receives the seconds spent in the parts ``train``, ``mine``, ``chain`` and ``store``.
    """

    def __init__(
        self,
        *,
        ledger: TaskLedger,
        store: BlobStore,
        committee: Judges,
        policy: Policy,
        manufacturer: LocalAccount,
        home: str,
        data_path: str,
        members: MembersConfig,
        stopwatch: Stopwatch,
    ) -> None:
        self._ledger, self._store, self._committee, self._policy = ledger, store, committee, policy
        self._manufacturer, self._home, self._data_path, self._clock = manufacturer, home, data_path, stopwatch
        self._members = members
        self._domain = Domain(ledger.chain_id, ledger.address)
        self._customers = ledger.customers()
        self._policy_bytes = policy.to_bytes()
        self._task = sha256(self._policy_bytes)
        self._desk = ReplyDesk(policy, self._domain, self._customers, own_nodes=members.elsewhere)
        self._frozen = store.get(policy.frozen, policy.frozen.size)
        self._model = policy.model
        self._history = History(ledger)
        self._started = 0.0
        self._done = 0
        self.history: list[RoundOutcome] = []
        self.receipts: dict[str, Receipt] = {}

    def summary(self) -> None:
        """Log the settings."""
        policy = self._policy
        log(INFO, "\t├──> Task %s on chain %s", self._ledger.address, self._ledger.chain_id)
        log(INFO, "\t├──> Customers: %s, hostile at most f = %s", len(self._customers), policy.f)
        log(
            INFO,
            "\t├──> Aggregation: %s of %s updates, evaluation: %s",
            policy.aggregator,
            policy.precision,
            policy.evaluation,
        )
        log(INFO, "\t└──> Reputation: %s at first, %s at most", policy.gamma_initial, policy.gamma_max)

    @property
    def done(self) -> int:
        """How many rounds were over when this process took the task up."""
        return self._done

    def catch_up(self, told: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        """Take up a task where the chain says it stands: read its finalised rounds, and have a sealed one decided.

        Of a task that begins there is nothing to read. Call it before `start`, which then counts from the round that
        is current; see `done`.

        Parameters
        ----------
        told : mapping of int to mapping, optional
            By round what the process that ran it wrote down and the chain does not know: ``absent``, ``dissent`` and
            ``seconds``.

        Raises
        ------
        RoundError
            If the task has failed, or chain and store contradict one another.
        LedgerError, StoreError
            If the chain or the store failed.
        """
        with self._clock.part("chain"):
            rounds = list(recovered(self._ledger, self._store, self._policy))
            if rounds:
                self._model = model_after(rounds[-1], self._ledger, self._store, self._policy, self._history)
        models = [*(later.start for later in rounds[1:]), *([self._model] if rounds else [])]
        for past, model in zip(rounds, models, strict=True):
            self.history.append(self._recovered_outcome(past, model, (told or {}).get(past.seal.round, {})))
            self.receipts |= {signed.customer: signed.receipt for signed in past.manifest.receipts}
            self._ledger.gas_spent["seal"] += past.seal.gas
            self._ledger.gas_spent["finalise"] += past.finalisation.gas
        state = self._ledger.state()
        if rounds and rounds[-1].after != self._ledger.reputation():
            raise RoundError("the chain's reputation does not follow from its rounds")
        if state.phase is Phase.SEALED:
            self._finish(state.round)
        elif state.phase.ended and state.phase is not Phase.COMPLETED:
            raise RoundError(f"the task has ended: {state.phase.name.lower()}")
        self._done = self._ledger.state().over

    def _finish(self, round_number: int) -> None:
        """Have a round decided that was sealed before this process began."""
        self._started = time.perf_counter()
        sealed = self._sealed(round_number)
        seal = self._ledger.sealed(round_number)
        assert seal is not None  # `_sealed` has read it
        self._ledger.gas_spent["seal"] += seal.gas
        with self._clock.part("store"):
            manifest = manifest_of(self._store, seal)
        self.receipts |= {signed.customer: signed.receipt for signed in manifest.receipts}
        absent = [who for index, who in enumerate(self._customers) if index not in sealed.participants]
        self._decide(sealed, dict.fromkeys(absent, UNKNOWN), seal.gas, seal.tx)

    def _recovered_outcome(self, past: Recovered, model: BlobRef, told: Mapping[str, Any]) -> RoundOutcome:
        final, members = past.finalisation, set(past.finalisation.participants)
        absent = {who: UNKNOWN for index, who in enumerate(self._customers) if index not in members}
        silent = {seat.miner: UNKNOWN for index, seat in enumerate(self._ledger.miners()) if index not in final.signers}
        return RoundOutcome(
            round=final.round,
            leader=final.leader,
            model=model,
            manifest=past.seal.manifest,
            record=final.record,
            void=past.void,
            **of_entries(past.entries),
            absent=dict(told.get("absent", absent)),
            dissent=dict(told.get("dissent", silent)),
            reputation=dict(zip(self._customers, past.after, strict=True)),
            gas_seal=past.seal.gas,
            gas_finalise=final.gas,
            tx_seal=hex32(past.seal.tx),
            tx_finalise=hex32(final.tx),
            seconds=float(told.get("seconds", 0.0)),
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Announce the round to every customer, with the model that the chain finalised last.

        ``arrays`` is not used: what the chain says counts, not what this process remembers.

        Raises
        ------
        RoundError
            If the chain is at another round, or holds another model than the store.
        """
        server_round += self._done
        self._started = time.perf_counter()
        with self._clock.part("chain"):
            state = self._ledger.state()
        if state.round != server_round or state.policy != self._task:
            raise RoundError(f"the chain is at round {state.round} of its task, not at {server_round} of this one")
        if state.model != self._model.sha256:
            raise RoundError(f"the chain finalised model 0x{state.model.hex()}, not 0x{self._model.sha256.hex()}")
        with self._clock.part("store"):
            model = self._store.get(self._model, blob_limit(self._policy.layout, MODEL_DTYPE))
        announcement = Announcement(self._domain, self._task, server_round, state.model)
        if self._members.elsewhere:
            asked = [(NOBODY, node) for node in self._joined(grid)]
        else:
            nodes = sorted(grid.get_node_ids())
            if not nodes:
                raise RoundError("no Flower node is connected")
            # A simulation with fewer nodes than customers lets a node play several of them.
            asked = [(index, nodes[index % len(nodes)]) for index in range(len(self._customers))]
        self._train_started = time.perf_counter()
        return [
            Message(
                self._assignment(announcement, index, model).to_records(),
                node,
                MessageType.TRAIN,
                group_id=f"{server_round}/{index}/{node}",
            )
            for index, node in asked
        ]

    def _joined(self, grid: Grid) -> list[int]:
        """Return the connected nodes: in the first round wait for all customers, later for as many as a round needs.

        Raises
        ------
        RoundError
            If there are too few for a round in time.
        """
        least = least_valid(self._policy.f)
        wanted = least if self._desk.customer_of else len(self._customers)
        deadline = time.monotonic() + self._members.join_seconds
        while len(nodes := sorted(grid.get_node_ids())) < wanted and time.monotonic() < deadline:
            log(INFO, "%s of %s customers are connected", len(nodes), len(self._customers))
            time.sleep(min(_JOINING, max(0.0, deadline - time.monotonic())))
        if len(nodes) < least:
            problem = f"{len(nodes)} Flower nodes are connected, and a round needs updates of {least} customers"
            raise RoundError(f"{problem} (members.join_seconds={self._members.join_seconds})")
        return nodes

    def _assignment(self, announcement: Announcement, customer: int, model: bytes) -> Assignment:
        # Where things are on this machine is nobody's business but a simulation's.
        home, data_path = ("", "") if customer == NOBODY else (self._home, self._data_path)
        return Assignment(announcement, customer, home, data_path, self._policy_bytes, self._frozen, model)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Seal the round's receipts, let the miners decide, finalise, and return the model that the chain now holds.

        Raises
        ------
        RoundError
            If nobody sent a receipt that could be sealed, or the miners found no quorum.
        LedgerError, StoreError
            If the chain or the store failed.
        """
        server_round += self._done
        collected = self._desk.collect(server_round, self._model.sha256, replies)
        with self._clock.part("chain"):
            self._refuse_without_deposit(collected)
            if len(collected.replies) < len(self._customers):
                self._ledger.await_submissions()
            receipts = self._with_submissions(server_round, collected)
        self._clock.seconds["train"] = self._clock.seconds.get("train", 0.0) + time.perf_counter() - self._train_started
        if not receipts:
            reasons = "; ".join(sorted(set(collected.refused.values()))) or "no reply"
            raise RoundError(f"round {server_round}: no customer sent an update that can be sealed ({reasons})")
        with self._clock.part("store"):
            for customer, reply in collected.replies.items():
                self._store.put(reply.update, pin_name(self._task, f"update/{customer}", server_round))
        manifest = Manifest.of(server_round, list(receipts.values()))
        sealed, sent = self._seal(server_round, manifest)
        self._decide(sealed, collected.refused, sent.gas, sent.hash)
        with self._clock.part("store"):
            model = self._store.get(self._model, blob_limit(self._policy.layout, MODEL_DTYPE))
        return blobs_to_arrays({MODEL: model}), None

    def _decide(self, sealed: SealedRound, refused: dict[str, str], gas_seal: int, tx_seal: bytes) -> None:
        """Let the miners decide a sealed round, and go on from what they finalised."""
        with self._clock.part("mine"):
            decision = self._committee.decide(sealed)
        self._clock.move(decision.chain_seconds, "mine", "chain")
        self._model = decision.model
        self.history.append(self._outcome(sealed, decision, refused, (gas_seal, tx_seal)))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send nothing: the manufacturer evaluates on its own test data."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return nothing: there are no replies."""
        return None

    def _refuse_without_deposit(self, collected: Collected) -> None:
        """Leave out who has no deposit: a seal with one of them would be refused as a whole."""
        for customer in self._ledger.deposits.missing(Role.CUSTOMER, collected.replies):
            del collected.replies[customer]
            collected.refused[customer] = "has no deposit"

    def _with_submissions(self, round_number: int, collected: Collected) -> dict[str, SignedReceipt]:
        """Return the receipts to seal: of the replies, and of who went past this relayer to the chain.

        The contract refuses a seal that omits one of the latter, and has checked who signed.
        """
        submitted = {signed.customer: signed for signed in self._ledger.submissions(round_number)}
        for customer in submitted:
            collected.refused.pop(customer, None)
        return submitted | {customer: reply.receipt for customer, reply in collected.replies.items()}

    def _seal(self, round_number: int, manifest: Manifest) -> tuple[SealedRound, Sent]:
        """Commit the manifest on chain; return the round as the chain now states it, and the transaction."""
        with self._clock.part("store"):
            blob = self._store.put(manifest.to_bytes(), pin_name(self._task, "manifest", round_number))
        root = manifest.tree(self._domain).root
        present = {signed.customer for signed in manifest.receipts}
        participants = tuple(i for i, address in enumerate(self._customers) if address in present)
        with self._clock.part("chain"):
            sent = self._ledger.seal(self._manufacturer, round_number, root, blob, participants)
            self.receipts |= {signed.customer: signed.receipt for signed in manifest.receipts}
            return self._sealed(round_number), sent

    def _sealed(self, round_number: int) -> SealedRound:
        return current_round(self._ledger, self._policy, self._history, round_number, self._model)

    def _outcome(
        self, sealed: SealedRound, decision: Decision, refused: dict[str, str], seal: tuple[int, bytes]
    ) -> RoundOutcome:
        with self._clock.part("chain"):
            reputation = self._ledger.reputation()
        return RoundOutcome(
            round=sealed.round,
            leader=decision.verdict.leader,
            model=decision.model,
            manifest=sealed.manifest,
            record=decision.record,
            void=decision.void,
            **of_entries(decision.entries),
            absent=refused,
            dissent=decision.dissent,
            reputation=dict(zip(self._customers, reputation, strict=True)),
            gas_seal=seal[0],
            gas_finalise=decision.gas,
            tx_seal=hex32(seal[1]),
            tx_finalise=hex32(decision.tx),
            seconds=time.perf_counter() - self._started,
        )
