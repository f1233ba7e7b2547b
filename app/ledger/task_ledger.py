"""A task's contract, as its parties use it: publish, read, seal, submit, finalise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractFunction

from app.ledger.chain import Chain, Sent
from app.ledger.cid import cid_to_bytes, cid_to_text
from app.ledger.contract import Artifact, artifact
from app.ledger.packed import unpack
from app.ledger.task_records import Finalisation, FinaliseCall, Phase, Seal, TaskState, TaskTerms
from app.protocol.bitmap import bitmap, indices
from app.protocol.digest import BlobRef
from app.protocol.errors import LedgerError

__all__ = ["Finalisation", "FinaliseCall", "Phase", "Seal", "TaskLedger", "TaskState", "TaskTerms"]

_PAGE = 1000  # customers a call: the answer stays small


class TaskLedger:
    """The contract of one task; made by `publish` or `attach`.

    Every method raises `LedgerError` where the chain cannot be read, and `ContractRevertedError`, a child of it, with
    the name and the arguments of the contract's error where the contract refuses. A refused transaction is not sent.

    Attributes
    ----------
    chain : Chain
        Where the contract is.
    address : str
        Its checksum address.
    gas_spent : collections.Counter
        Gas that this object's transactions used, by kind: ``deploy``, ``admit``, ``open``, ``seal``, ``submit``,
        ``finalise``.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain, self.address = chain, address
        self.gas_spent: Counter[str] = Counter()
        self._abi = _artifact().abi
        self._contract = chain.w3.eth.contract(address=Web3.to_checksum_address(address), abi=self._abi)
        self._customers: tuple[str, ...] | None = None
        self._miners: tuple[tuple[str, bytes], ...] | None = None
        self._finalised_at: dict[int, int] = {}

    @classmethod
    def publish(
        cls,
        chain: Chain,
        manufacturer: LocalAccount,
        terms: TaskTerms,
        customers: Sequence[str],
        miners: Sequence[tuple[str, bytes]],
        batch: int = 200,
    ) -> TaskLedger:
        """Deploy a task's contract, admit its members and open its first round.

        Parameters
        ----------
        chain : Chain
            Where.
        manufacturer : LocalAccount
            Who publishes and pays.
        terms : TaskTerms
            What is fixed for good.
        customers : sequence of str
            Addresses; a customer's index is its place here.
        miners : sequence of (str, bytes)
            Addresses and VRF public keys (32 bytes).
        batch : int
            Members a transaction; 200 stay below the 2**24 gas that Ethereum allows one.
        """
        compiled = _artifact()
        factory = chain.w3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
        values = (terms.policy, terms.model, terms.seed, terms.rounds, terms.f, terms.gamma_initial, terms.gamma_max)
        deployed = chain.send(manufacturer, factory.constructor(values), "publish the task")
        if deployed.contract is None:
            raise LedgerError(f"{chain.where}: the node names no contract for the task's deployment")
        task = cls(chain, deployed.contract)
        task.gas_spent["deploy"] += deployed.gas
        for first in range(0, len(customers), batch):
            page = [Web3.to_checksum_address(address) for address in customers[first : first + batch]]
            task._send(manufacturer, "admit", f"admit customers from {first}", "admitCustomers", page)
        for first in range(0, len(miners), batch):
            accounts = [Web3.to_checksum_address(address) for address, _ in miners[first : first + batch]]
            keys = [key for _, key in miners[first : first + batch]]
            task._send(manufacturer, "admit", f"admit miners from {first}", "admitMiners", accounts, keys)
        task._send(manufacturer, "open", "open the task", "open")
        return task

    @classmethod
    def attach(cls, chain: Chain, address: str) -> TaskLedger:
        """Use the task at ``address``, after comparing its code with ours (all but the constructor's values).

        Raises
        ------
        LedgerError
            If there is no contract, or another one, or one of another version.
        """
        if not Web3.is_address(address):
            raise LedgerError(f"{address}: not an address (allowed: 0x and 40 hexadecimal digits)")
        address = Web3.to_checksum_address(address)
        with chain.guard("eth_getCode"):
            code = bytes(chain.w3.eth.get_code(address))
        if not code:
            raise LedgerError(f"{chain.where}: there is no contract at {address} on chain {chain.chain_id}")
        if not _artifact().is_deployed_as(code):
            raise LedgerError(f"{chain.where}: the contract at {address} is not this version's HearthTask")
        return cls(chain, address)

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id, which is in every signature's domain."""
        return self.chain.chain_id

    # Reading

    def state(self) -> TaskState:
        """Return where the task stands, all of it read in one block."""
        number, block_hash = self.chain.head()
        phase, current, rounds, quorum, opened_at, sealed_at, model, seed, policy = self._call("status", block=number)
        return TaskState(
            round=current,
            rounds=rounds,
            phase=Phase(phase),
            model=model,
            seed=seed,
            policy=policy,
            quorum=quorum,
            opened_at=opened_at,
            sealed_at=sealed_at,
            block=number,
            block_hash=block_hash,
        )

    def terms(self) -> TaskTerms:
        """Return what the manufacturer fixed."""
        return TaskTerms(*self._call("terms"))

    def manufacturer(self) -> str:
        """Return the address of the one who published the task."""
        return str(self._call("manufacturer"))

    def customers(self) -> tuple[str, ...]:
        """Return the customers' checksum addresses by index."""
        if self._customers is None:
            total = self._call("customerCount")
            pages = [self._call("customers", first, _PAGE) for first in range(0, total, _PAGE)]
            found = tuple(address for page in pages for address in page)
            if not self._is_open():
                return found  # there may be more tomorrow
            self._customers = found
        return self._customers

    def miners(self) -> tuple[tuple[str, bytes], ...]:
        """Return the miners' checksum addresses and VRF keys by index."""
        if self._miners is None:
            found = tuple(zip(*self._call("miners"), strict=True))
            if not self._is_open():
                return found
            self._miners = found
        return self._miners

    def reputation(self, block: int | None = None) -> tuple[int, ...]:
        """Return every customer's gamma by index, now or after a block."""
        return unpack(self._call("reputations", block=block), len(self.customers()))

    def submitted(self, round: int) -> tuple[int, ...]:
        """Return the indices of the customers that handed in an update of ``round`` themselves, ascending."""
        return indices(self._call("submitted", round))

    def sealed(self, round: int) -> Seal | None:
        """Return the seal of ``round``, or None where there is none yet."""
        state = self.state()
        if not 1 <= round <= state.round or (round == state.round and state.phase is Phase.COLLECTION):
            return None
        block = state.sealed_at if round == state.round else self._finalise_event(round, state)["args"].outcome.sealedAt
        event = self._event("RoundSealed", round, block)
        args = event["args"]
        return Seal(
            round=round,
            root=args["root"],
            manifest=BlobRef(args["manifest"], args["size"], cid_to_text(args["cid"])),
            participants=indices(args["participants"]),
            block=block,
            gas=self._gas_of(event),
            tx=bytes(event["transactionHash"]),
        )

    def finalised(self, round: int) -> Finalisation | None:
        """Return the finalisation of ``round``, or None where there is none yet."""
        state = self.state()
        if not 1 <= round <= state.finalised:
            return None
        event = self._finalise_event(round, state)
        verdict, record, outcome = (event["args"][key] for key in ("verdict", "record", "outcome"))
        return Finalisation(
            round=round,
            leader=verdict["leader"],
            root=verdict["root"],
            model=verdict["model"],
            record=BlobRef(verdict["record"], record["size"], cid_to_text(record["cid"])),
            participants=indices(verdict["participants"]),
            honest=indices(verdict["honest"]),
            seed=verdict["seed"],
            threshold=outcome["threshold"],
            signers=indices([outcome["signers"]]),
            block=event["blockNumber"],
            gas=self._gas_of(event),
            tx=bytes(event["transactionHash"]),
        )

    # Writing

    def seal(
        self, account: LocalAccount, round: int, root: bytes, manifest: BlobRef, participants: Sequence[int]
    ) -> Sent:
        """Fix the set of updates of ``round``; by the manufacturer."""
        present = bitmap(participants, len(self.customers()))
        arguments = (round, root, manifest.sha256, manifest.size, cid_to_bytes(manifest.cid), present)
        return self._send(account, "seal", f"seal {round}", "seal", *arguments)

    def submit(self, account: LocalAccount, round: int, update: bytes) -> Sent:
        """Hand in the digest of an update as a customer, past whoever seals."""
        return self._send(account, "submit", f"submit {round}", "submit", round, update)

    def finalise(self, account: LocalAccount, call: FinaliseCall) -> Sent:
        """Record the miners' verdict; by the leader that it names."""
        n = len(self.customers())
        verdict = (
            call.task,
            call.round,
            call.root,
            call.model,
            call.record.sha256,
            bitmap(call.participants, n),
            bitmap(call.honest, n),
            Web3.to_checksum_address(call.leader),
            call.seed,
        )
        record = (call.record.size, cid_to_bytes(call.record.cid))
        arguments = (verdict, call.manifest, record, list(call.signatures))
        return self._send(account, "finalise", f"finalise {call.round}", "finalise", *arguments)

    # The contract

    def _is_open(self) -> bool:
        return self.state().phase is not Phase.ADMISSION

    def _function(self, name: str, *arguments: Any) -> ContractFunction:
        function: ContractFunction = self._contract.get_function_by_name(name)(*arguments)
        return function

    def _call(self, name: str, *arguments: Any, block: int | None = None) -> Any:
        with self.chain.guard(name, self._abi):
            return self._function(name, *arguments).call(block_identifier="latest" if block is None else block)

    def _send(self, account: LocalAccount, kind: str, intent: str, name: str, *arguments: Any) -> Sent:
        with self.chain.guard(intent, self._abi):  # arguments that do not fit the types are refused here
            function = self._function(name, *arguments)
        sent = self.chain.send(account, function, intent)
        self.gas_spent[kind] += sent.gas
        return sent

    def _finalise_event(self, round: int, state: TaskState) -> Any:
        """Return the event of a finalised round by walking back from the newest: each names the block before it."""
        known = self._finalised_at
        known[state.finalised] = state.opened_at
        at = min(r for r in known if r >= round)
        while True:
            event = self._event("RoundFinalised", at, known[at])
            if at == round:
                return event
            known[at - 1] = event["args"]["outcome"]["openedAt"]
            at -= 1

    def _event(self, name: str, round: int, block: int) -> Any:
        with self.chain.guard(f"{name} {round}"):
            found = self._contract.events[name]().get_logs(
                argument_filters={"round": round}, from_block=block, to_block=block
            )
        if len(found) != 1:
            self._finalised_at.clear()
            raise LedgerError(f"{self.chain.where}: {name} {round} is not in block {block}; was the chain reorganised?")
        return found[0]

    def _gas_of(self, event: Any) -> int:
        with self.chain.guard("eth_getTransactionReceipt"):
            return int(self.chain.w3.eth.get_transaction_receipt(event["transactionHash"])["gasUsed"])


def _artifact() -> Artifact:
    return artifact("HearthTask")
