"""A task's contract, as its parties use it: publish, read, seal, submit, finalise, end.

Rewards and deposits have classes of their own: `app.ledger.rewards`, `app.ledger.deposits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Chain, Sent
from app.ledger.deposits import Deposits
from app.ledger.packed import unpack
from app.ledger.rewards import Rewards
from app.ledger.task_contract import TaskContract, compiled
from app.ledger.task_records import Expiry, Finalisation, FinaliseCall, Phase, Seal, TaskState, TaskTerms
from app.protocol.bitmap import bitmap, indices
from app.protocol.cid import cid_to_bytes, cid_to_text
from app.protocol.digest import BlobRef
from app.protocol.errors import LedgerError
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.seat import Seat
from app.protocol.signing import Domain

__all__ = ["Expiry", "Finalisation", "FinaliseCall", "Phase", "Seal", "TaskLedger", "TaskState", "TaskTerms"]

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
    rewards : Rewards
        What its customers earned.
    deposits : Deposits
        What its members risk.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        self._contract = TaskContract(chain, address)
        self.chain, self.address = chain, self._contract.address
        self.rewards, self.deposits = Rewards(self._contract), Deposits(self._contract)
        self._call, self._send = self._contract.call, self._contract.send
        self._terms: TaskTerms | None = None
        self._customers: tuple[str, ...] | None = None
        self._miners: tuple[Seat, ...] | None = None
        self._closed_at: dict[int, int] = {}  # block in which a round ended

    @classmethod
    def publish(
        cls,
        chain: Chain,
        manufacturer: LocalAccount,
        terms: TaskTerms,
        customers: Sequence[str],
        miners: Sequence[Seat],
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
        miners : sequence of Seat
            Each with its address, VRF public key and stake.
        batch : int
            Members a transaction; 200 stay below the 2**24 gas that Ethereum allows one.
        """
        task = cls.deploy(chain, manufacturer, terms)
        for first in range(0, len(customers), batch):
            page = [Web3.to_checksum_address(address) for address in customers[first : first + batch]]
            task._send(manufacturer, "admit", f"admit customers from {first}", "admitCustomers", page)
        for first in range(0, len(miners), batch):
            seats = [
                (Web3.to_checksum_address(seat.miner), seat.stake, seat.vrf_key)
                for seat in miners[first : first + batch]
            ]
            task._send(manufacturer, "admit", f"admit miners from {first}", "admitMiners", seats)
        task.open(manufacturer, terms.reward)
        return task

    @classmethod
    def deploy(cls, chain: Chain, manufacturer: LocalAccount, terms: TaskTerms) -> TaskLedger:
        """Deploy a task's contract and no more: no members yet, and no round."""
        code = compiled()
        factory = chain.w3.eth.contract(abi=code.abi, bytecode=code.bytecode)
        deployed = chain.send(manufacturer, factory.constructor(astuple(terms)), "publish the task")
        if deployed.contract is None:
            raise LedgerError(f"{chain.where}: the node names no contract for the task's deployment")
        task = cls(chain, deployed.contract)
        task.gas_spent["deploy"] += deployed.gas
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
        if not compiled().is_deployed_as(code):
            raise LedgerError(f"{chain.where}: the contract at {address} is not this version's HearthTask")
        return cls(chain, address)

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id, which is in every signature's domain."""
        return self.chain.chain_id

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of all that is signed for this task."""
        return Domain(self.chain_id, self.address)

    @property
    def gas_spent(self) -> Counter[str]:
        """Gas that this object's transactions used, by kind: ``deploy``, ``admit``, ``open``, ``seal`` and so on."""
        return self._contract.gas_spent

    # Reading

    def state(self) -> TaskState:
        """Return where the task stands, all of it read in one block."""
        number, block_hash = self.chain.head()
        phase, *rest = self._call("status", block=number)
        return TaskState(*(Phase(phase), *rest, number, block_hash))

    def terms(self) -> TaskTerms:
        """Return what the manufacturer fixed."""
        if self._terms is None:
            self._terms = TaskTerms(*self._call("terms"))
        return self._terms

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

    def miners(self) -> tuple[Seat, ...]:
        """Return the miners by index."""
        if self._miners is None:
            found = tuple(Seat(miner, bytes(key), stake) for miner, stake, key in self._call("miners"))
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

    def await_submissions(self) -> None:
        """Wait until the submission window is over: until then a seal counts only if it holds every customer."""
        window = self.terms().submission_window
        if window:
            self.chain.wait_until(self.state().since + window)

    def submissions(self, round: int) -> tuple[SignedReceipt, ...]:
        """Return the receipts that were handed in for ``round`` past the manufacturer, in their order.

        A seal without one of these customers is refused.
        """
        state = self.state()
        if 1 <= round <= state.over:
            opened, _, ended = self._closing(round, state)
            last = ended["blockNumber"]
        elif round == state.round and not state.phase.ended:
            opened, last = state.opened_at, state.block
        else:
            raise LedgerError(f"round {round} has not begun (the current one is {state.round})")
        found = self._contract.events("UpdateSubmitted", opened, last, round=round)
        return tuple(
            SignedReceipt(Receipt(**event["args"]["receipt"]), bytes(event["args"]["signature"])) for event in found
        )

    def sealed(self, round: int) -> Seal | None:
        """Return the seal of ``round``, or None where there is none."""
        state = self.state()
        if round == state.round and state.phase is Phase.SEALED:
            block = state.sealed_at
        elif 1 <= round <= state.over:
            block = self._closing(round, state)[1]
        else:
            return None
        if block == 0:
            return None  # it expired before
        event = self._event("RoundSealed", round, block)
        args = event["args"]
        return Seal(
            round=round,
            root=args["root"],
            manifest=BlobRef(args["manifest"], args["size"], cid_to_text(args["cid"])),
            participants=indices(args["participants"]),
            block=block,
            gas=self._contract.gas_of(event),
            tx=bytes(event["transactionHash"]),
        )

    def finalised(self, round: int) -> Finalisation | None:
        """Return the finalisation of ``round``, or None where there is none."""
        state = self.state()
        event = self._closing(round, state)[2] if 1 <= round <= state.over else None
        if event is None or event["event"] != "RoundFinalised":
            return None
        verdict, outcome = event["args"]["verdict"], event["args"]["outcome"]
        return Finalisation(
            round=round,
            leader=verdict["leader"],
            rank=verdict["rank"],
            root=verdict["root"],
            model=verdict["model"],
            record=BlobRef(verdict["record"], verdict["recordSize"], cid_to_text(verdict["recordCid"])),
            participants=indices(verdict["participants"]),
            honest=indices(verdict["honest"]),
            seed=verdict["seed"],
            threshold=outcome["threshold"],
            credited=outcome["credited"],
            signers=indices([outcome["signers"]]),
            block=event["blockNumber"],
            gas=self._contract.gas_of(event),
            tx=bytes(event["transactionHash"]),
        )

    def expired(self, round: int) -> Expiry | None:
        """Return how ``round`` ended without a verdict, or None where it did not."""
        state = self.state()
        event = self._closing(round, state)[2] if 1 <= round <= state.over else None
        if event is None or event["event"] != "RoundExpired":
            return None
        return Expiry(round, Phase(event["args"]["phase"]), event["blockNumber"], bytes(event["transactionHash"]))

    # Writing

    def open(self, account: LocalAccount, reward: int = 0) -> Sent:
        """Escrow the ``reward`` of the terms, end the admission and begin the first round; by the manufacturer."""
        return self._send(account, "open", "open the task", "open", value=reward)

    def seal(
        self, account: LocalAccount, round: int, root: bytes, manifest: BlobRef, participants: Sequence[int]
    ) -> Sent:
        """Fix the set of updates of ``round``; by the manufacturer."""
        present = bitmap(participants, len(self.customers()))
        arguments = (round, root, manifest.sha256, manifest.size, cid_to_bytes(manifest.cid), present)
        return self._send(account, "seal", f"seal {round}", "seal", *arguments)

    def submit(self, account: LocalAccount, signed: SignedReceipt) -> Sent:
        """Hand in a customer's receipt past whoever seals; the customer itself may, or anyone who has it."""
        receipt = signed.receipt
        intent = f"submit {receipt.round} of {receipt.customer}"
        return self._send(account, "submit", intent, "submit", astuple(receipt), signed.signature)

    def finalise(self, account: LocalAccount, call: FinaliseCall) -> Sent:
        """Record the miners' verdict; by the leader that it names, once the turn of its rank has come."""
        if call.rank:
            self.chain.wait_until(self.state().since + call.rank * self.terms().leader_window)
        arguments = (call.verdict(len(self.customers())), call.manifest, list(call.signatures))
        return self._send(account, "finalise", f"finalise {call.round}", "finalise", *arguments)

    def expire(self, account: LocalAccount) -> Sent:
        """End a round whose deadline has passed; by anyone."""
        return self._send(account, "expire", f"expire {self.state().round}", "expire")

    def cancel(self, account: LocalAccount) -> Sent:
        """End the task before a round is sealed; by the manufacturer."""
        return self._send(account, "cancel", "cancel the task", "cancel")

    # The contract

    def _is_open(self) -> bool:
        return self.state().phase is not Phase.ADMISSION

    def _closing(self, round: int, state: TaskState) -> tuple[int, int, Any]:
        """Return the blocks in which a round that is over began and was sealed (0: never), and the event that ended it.

        Found by walking back from the newest: each such event names the block of the one before it.
        """
        known = self._closed_at
        known[state.over] = state.opened_at
        at = min(r for r in known if r >= round)
        while True:
            events = [*self._at("RoundFinalised", at, known[at]), *self._at("RoundExpired", at, known[at])]
            event = self._one(events, f"the end of round {at}", known[at])
            blocks = event["args"]["outcome"] if event["event"] == "RoundFinalised" else event["args"]
            if at == round:
                return blocks["openedAt"], blocks["sealedAt"], event
            at -= 1
            known[at] = blocks["openedAt"]

    def _event(self, name: str, round: int, block: int) -> Any:
        return self._one(self._at(name, round, block), f"{name} {round}", block)

    def _at(self, name: str, round: int, block: int) -> list[Any]:
        return self._contract.events(name, block, block, round=round)

    def _one(self, found: list[Any], what: str, block: int) -> Any:
        if len(found) != 1:
            self._closed_at.clear()
            raise LedgerError(f"{self.chain.where}: {what} is not in block {block}; was the chain reorganised?")
        return found[0]
