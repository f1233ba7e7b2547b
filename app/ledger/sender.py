"""One key's transactions on one chain: each intent takes effect once, whatever dies, drops, repeats or reorganises.

The rules, in the order in which they matter:

1. What is signed is in the journal before a node sees it.
2. An intent keeps its nonce. While it does, sending it again, or with higher fees, cannot have a second effect.
3. An intent gets another nonce only on proof that the first is lost: the block in which the chain used the nonce up
   holds none of our transactions, and has as many blocks upon it as we wait for. A missing receipt is no proof.
4. What a node says about a transaction is believed only after it was asked for it by hash.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound
from web3.types import Nonce, TxParams

from app.ledger.journal import Attempt, Journal, Outcome, State
from app.ledger.mempool import TRANSIENT, Answer, broadcast, fields_of, is_known, trouble
from app.protocol.digest import sha256
from app.protocol.errors import LedgerError

_NONCES = 5  # that an intent may lose to other programs in one call before it is given up
_REORGANISED = 64  # blocks: Ethereum finalises after two epochs of 32


@dataclass(frozen=True, slots=True)
class Waiting:
    """How patient a sender is. All times are in seconds.

    Attributes
    ----------
    confirmations : int
        Blocks upon a transaction's own before it counts; a reorganisation of that depth is then harmless.
    timeout : float
        Until sending ends in an error; the transaction stays in the journal.
    resend_after : float
        Until a transaction that the node does not know (any more) is broadcast again.
    bump_after : float
        Until a transaction that waits in the pool is replaced by one with higher fees.
    bumps : int
        How often that may happen: each costs an eighth more.
    max_fee : int
        Wei per gas that are never exceeded, whatever a node suggests.
    poll : float
        Between two looks.
    """

    confirmations: int = 0
    timeout: float = 180
    resend_after: float = 5
    bump_after: float = 60
    bumps: int = 8
    max_fee: int = 10**12
    poll: float = 0.05


@dataclass(frozen=True, slots=True)
class Payload:
    """What a transaction does.

    Attributes
    ----------
    to : str or None
        Checksum address of the recipient; None creates a contract.
    value : int
        Wei.
    data : bytes
        Call data, or the code that creates the contract.
    """

    to: str | None
    value: int
    data: bytes

    def digest(self) -> bytes:
        """Return the SHA-256 of all that it says."""
        to = bytes.fromhex(self.to[2:]) if self.to else b""
        return sha256(len(to).to_bytes(1, "big") + to + self.value.to_bytes(32, "big") + self.data)

    def fields(self) -> TxParams:
        """Return the part of a transaction that it fills."""
        fields: TxParams = {"value": Web3.to_wei(self.value, "wei"), "data": HexBytes(self.data)}
        return {**fields, "to": Web3.to_checksum_address(self.to)} if self.to else fields


class Sender:
    """The one way in which one key's transactions leave this process; safe to use from any thread.

    Parameters
    ----------
    w3 : web3.Web3
        The connection.
    where : str
        File or URL of the chain, for messages.
    account : LocalAccount
        Who signs.
    journal : Journal
        Of this key and chain. With one in memory every call is an intent of its own.
    waiting : Waiting
        How patient to be.
    """

    def __init__(self, w3: Web3, where: str, account: LocalAccount, journal: Journal, waiting: Waiting) -> None:
        self._w3, self._where, self._account = w3, where, account
        self._journal, self._waiting = journal, waiting
        self._signing = threading.RLock()
        self._recovered = False
        # By nonce: when it was last broadcast, when it was first waited for with its present fees, what the node said.
        self._sent: dict[int, float] = {}
        self._waits: dict[int, float] = {}
        self._said: dict[int, str] = {}

    def send(self, intent: str, payload: Payload, gas: int | None = None) -> tuple[bytes, Outcome]:
        """Bring an intent into a block, or find it in one; return the transaction's hash, and where it is.

        Raises
        ------
        LedgerError
            If it ran out of gas, the node refuses it, or it is not in a block in time.
        web3.exceptions.Web3Exception
            If the dry run fails, before anything is signed, or an attempt reverted on chain; the next call with the
            same intent then makes another.
        """
        self.recover()
        for _ in range(_NONCES):
            with self._signing:
                attempt = self._recorded(intent, payload.digest()) or self._sign(intent, payload, gas)
            settled = attempt if attempt.outcome else self._settle(attempt)
            if settled is not None and settled.outcome is not None:
                if not settled.outcome.succeeded:
                    raise self._failure(settled, settled.outcome, payload)
                return settled.hash, settled.outcome
        raise LedgerError(
            f"{self._where}: {intent} lost {_NONCES} nonces to other programs that use the key of "
            f"{self._account.address}; nothing was done (allowed: one program a key)"
        )

    def recover(self) -> None:
        """Settle what an earlier process signed and did not see confirmed; does nothing from the second call on.

        Raises
        ------
        LedgerError
            If one of them is not in a block in time.
        """
        with self._signing:
            if not self._recovered:
                for attempt in self._journal.unsettled():
                    self._settle(attempt)
                self._recovered = True

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    # Signing

    def _recorded(self, intent: str, content: bytes) -> Attempt | None:
        """Return the attempt that stands for an intent: in a block, or on its way; None where a new one may be made."""
        if self._journal.path is None:
            return None
        for attempt in reversed(self._journal.of_intent(intent, content)):
            if attempt.state in (State.SIGNED, State.BROADCAST):
                return attempt
            if attempt.outcome is not None and not self._stands(attempt.outcome):
                self._journal.reopen(attempt)
                return replace(attempt, state=State.BROADCAST, outcome=None)
            if attempt.outcome is not None and attempt.outcome.succeeded:
                return attempt
            if attempt.state is State.DROPPED and is_known(self._w3, attempt.hash):
                return attempt  # given up too early: a node that refused it has it after all
        return None

    def _sign(self, intent: str, payload: Payload, gas: int | None) -> Attempt:
        """Dry-run, sign, journal and broadcast, in this order."""
        sender: TxParams = {"from": self._account.address}
        needed = int(self._w3.eth.estimate_gas({**payload.fields(), **sender}))
        since = int(self._w3.eth.block_number)
        fee, tip = self._fees()
        if fee > self._waiting.max_fee:
            raise LedgerError(f"{self._where}: {fee} wei per gas are asked for (allowed: {self._waiting.max_fee})")
        fields: TxParams = {
            **payload.fields(),
            "type": 2,
            "chainId": self._w3.eth.chain_id,
            "nonce": Nonce(self._free_nonce()),
            "gas": needed * 5 // 4 + 10_000 if gas is None else gas,
            "maxFeePerGas": Web3.to_wei(fee, "wei"),
            "maxPriorityFeePerGas": Web3.to_wei(tip, "wei"),
        }
        signed = self._account.sign_transaction(fields)  # type: ignore[arg-type]
        raw, hash = bytes(signed.raw_transaction), bytes(signed.hash)
        attempt = Attempt(intent, payload.digest(), int(fields["nonce"]), raw, hash, since)
        self._waits.pop(attempt.nonce, None)
        self._journal.add(attempt)
        self._introduce(attempt)
        return attempt

    def _free_nonce(self) -> int:
        """Return the least nonce that neither the chain nor the journal has given away."""
        nonce = int(self._w3.eth.get_transaction_count(self._account.address, "pending"))
        while (holder := self._journal.holder(nonce)) is not None:
            if holder.outcome is not None and not self._stands(holder.outcome):
                self._journal.reopen(holder)  # a reorganisation undid it: it is on its way again, and keeps its nonce
            nonce += 1
        return nonce

    def _introduce(self, attempt: Attempt) -> None:
        """Broadcast a fresh attempt; give it up if the node is known not to have it and never to take it."""
        while True:
            answer, error = self._broadcast(attempt)
            dearer = self._raised(attempt) if answer is Answer.TOO_CHEAP else None
            if dearer is not None:
                attempt = dearer
            elif error is not None and answer in (Answer.TOO_CHEAP, Answer.REFUSED):
                self._journal.drop(attempt)
                raise error
            else:
                return

    def _fees(self) -> tuple[int, int]:
        """Return highest fee and tip to offer (wei per gas): twice the base fee lasts for six full blocks."""
        base = self._w3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            raise LedgerError(f"{self._where}: the chain has no base fee (allowed: chains with EIP-1559)")
        tip = int(self._w3.eth.max_priority_fee)
        return 2 * int(base) + tip, tip

    def _raised(self, attempt: Attempt) -> Attempt | None:
        """Sign and journal ``attempt`` with higher fees and the same nonce; None where it has been raised enough."""
        if len(self._journal.family(attempt)) > self._waiting.bumps:
            return None
        fields, (fee, tip) = fields_of(attempt.raw), self._fees()
        # An eighth more: pools ask for a tenth before they replace one transaction by another.
        fields["maxFeePerGas"] = max(-(-fields["maxFeePerGas"] * 9 // 8), fee)
        fields["maxPriorityFeePerGas"] = max(-(-fields["maxPriorityFeePerGas"] * 9 // 8), tip)
        if fields["maxFeePerGas"] > self._waiting.max_fee:
            return None
        signed = self._account.sign_transaction(fields)
        dearer = replace(attempt, raw=bytes(signed.raw_transaction), hash=bytes(signed.hash), state=State.SIGNED)
        self._journal.add(dearer)
        self._waits.pop(attempt.nonce, None)
        return dearer

    # Waiting

    def _settle(self, attempt: Attempt) -> Attempt | None:
        """Wait for the one of an attempt's family that is mined; None if its nonce went to another transaction."""
        deadline = time.monotonic() + self._waiting.timeout
        while True:
            try:
                mined = self._mined(attempt)
                if mined is not None:
                    return mined
                if self._is_lost(attempt):
                    self._journal.drop(attempt)
                    return None
                self._push(attempt.nonce)
            except TRANSIENT as error:
                self._said[attempt.nonce] = trouble(error)
            if time.monotonic() >= deadline:
                raise self._late(attempt)
            time.sleep(self._waiting.poll)

    def _mined(self, attempt: Attempt) -> Attempt | None:
        """Return the one of a family that is in a block with enough blocks upon it, and note it."""
        for member in reversed(self._journal.family(attempt)):
            try:
                receipt = self._w3.eth.get_transaction_receipt(HexBytes(member.hash))
            except TransactionNotFound:
                continue
            outcome = Outcome(
                block=int(receipt["blockNumber"]),
                block_hash=bytes(receipt["blockHash"]),
                succeeded=receipt["status"] == 1,
                gas=int(receipt["gasUsed"]),
                contract=receipt["contractAddress"],
            )
            if self._depth() - outcome.block >= self._waiting.confirmations and self._stands(outcome):
                self._journal.confirm(member, outcome)
                return replace(member, state=State.CONFIRMED, outcome=outcome)
        return None

    def _depth(self) -> int:
        """Return the number of the newest block, or any where the chain is not asked to grow upon a transaction."""
        return int(self._w3.eth.block_number) if self._waiting.confirmations else 2**63

    def _stands(self, outcome: Outcome) -> bool:
        """Return whether a transaction's block is still part of the chain."""
        try:
            return bytes(self._w3.eth.get_block(outcome.block)["hash"]) == outcome.block_hash
        except BlockNotFound:
            return False

    def _is_lost(self, attempt: Attempt) -> bool:
        """Return whether an attempt's nonce is used up, for good, by a transaction that is not in the journal.

        A receipt that is missing proves nothing: the node that we ask may lag behind the one that took it. So the
        block that used the nonce up is looked for, and looked into.
        """
        newest = int(self._w3.eth.block_number) - self._waiting.confirmations
        if newest < 0 or not self._is_used(attempt.nonce, newest):
            return False
        oldest = min(max(0, attempt.since - _REORGANISED), newest)
        low, step = newest, 1
        while low > oldest and self._is_used(attempt.nonce, low):  # nodes keep recent states only: look there first
            newest, low, step = low, max(oldest, low - step), 2 * step
        while newest - low > 1:
            middle = (low + newest) // 2
            low, newest = (low, middle) if self._is_used(attempt.nonce, middle) else (middle, newest)
        within = {bytes(HexBytes(hash)) for hash in self._w3.eth.get_block(newest)["transactions"]}  # type: ignore[arg-type]
        return all(member.hash not in within for member in self._journal.family(attempt))

    def _is_used(self, nonce: int, block: int) -> bool:
        return int(self._w3.eth.get_transaction_count(self._account.address, block)) > nonce

    def _push(self, nonce: int) -> None:
        """Do for every transaction up to a nonce what it needs to get into a block; those below hold up the rest."""
        with self._signing:
            for attempt in self._journal.unsettled():
                due = self._sent.get(attempt.nonce, float("-inf")) + self._waiting.resend_after <= time.monotonic()
                if attempt.nonce > nonce or not due:
                    continue
                if attempt.nonce < nonce and self._mined(attempt) is not None:
                    continue
                self._push_one(attempt)

    def _push_one(self, attempt: Attempt) -> None:
        now = time.monotonic()
        self._sent[attempt.nonce] = now
        family = self._journal.family(attempt)
        if any(is_known(self._w3, member.hash) for member in family):
            if now - self._waits.setdefault(attempt.nonce, now) >= self._waiting.bump_after:
                dearer = self._raised(attempt)
                if dearer is not None:
                    self._broadcast(dearer)
            return
        for member in reversed(family):
            answer, _ = self._broadcast(member)
            if answer is Answer.TOO_CHEAP and member == family[-1]:
                dearer = self._raised(attempt)
                answer = self._broadcast(dearer)[0] if dearer is not None else answer
            if answer is Answer.TAKEN:
                return

    def _broadcast(self, attempt: Attempt) -> tuple[Answer, Exception | None]:
        answer, error = broadcast(self._w3, attempt.raw, attempt.hash)
        now = time.monotonic()
        self._sent[attempt.nonce] = now
        self._waits.setdefault(attempt.nonce, now)
        self._said.pop(attempt.nonce, None)
        if answer is Answer.TAKEN:
            self._journal.broadcast(attempt)
        elif error is not None:
            self._said[attempt.nonce] = trouble(error)
        return answer, error

    # Failing

    def _late(self, attempt: Attempt) -> LedgerError:
        said = self._said.get(attempt.nonce)
        reason = f"; last trouble: {said}" if said else ""
        advice = (
            "ask the node for it before you do the same again"
            if self._journal.path is None
            else "do the same again to go on waiting: it is sent once"
        )
        newest = self._journal.family(attempt)[-1]
        return LedgerError(
            f"{self._where}: {attempt.intent} is not confirmed after {self._waiting.timeout:g} s "
            f"(transaction 0x{newest.hash.hex()}, nonce {attempt.nonce}{reason}); {advice}"
        )

    def _failure(self, attempt: Attempt, outcome: Outcome, payload: Payload) -> LedgerError:
        """Say why a transaction failed on chain after its dry run had succeeded."""
        gas = fields_of(attempt.raw)["gas"]
        if outcome.gas >= gas:
            return LedgerError(f"{self._where}: {attempt.intent} ran out of gas ({gas} given)")
        # What changed in between reverts here too, and is named.
        self._w3.eth.estimate_gas({**payload.fields(), "from": self._account.address})
        return LedgerError(f"{self._where}: {attempt.intent} failed in block {outcome.block} without a reason")
