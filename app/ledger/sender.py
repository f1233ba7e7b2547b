"""One key's transactions on one chain: each intent takes effect once, whatever dies, drops, repeats or reorganises.

The rules, in the order in which they matter:

1. What is signed is in the journal before a node sees it.
2. An intent keeps its nonce. While it does, sending it again, or with higher fees, cannot have a second effect.
3. An intent gets another nonce only on proof that the first is lost: a transaction that is none of ours and has this
   nonce, in a block with as many blocks upon it as we wait for. A missing receipt is no proof, nor is the count of
   nonces: nodes are seen to change it before they show the block.
4. What a node says about a transaction is believed only after it was asked for it by hash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound

from app.ledger.finality import is_deep, stands, user_of_nonce
from app.ledger.journal import Attempt, Journal, Outcome, State
from app.ledger.mempool import TRANSIENT, Answer, broadcast, fields_of, is_known, trouble
from app.ledger.signer import Signer
from app.ledger.transaction import Payload, Pending, Waiting
from app.protocol.errors import LedgerError

_log = logging.getLogger(__name__)
_NONCES = 5  # that an intent may lose to other programs in one call before it is given up


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
    approve : callable, optional
        Is shown each new transaction before it is signed; what it raises stops it.
    """

    def __init__(
        self,
        w3: Web3,
        where: str,
        account: LocalAccount,
        journal: Journal,
        waiting: Waiting,
        approve: Callable[[Pending], None] = lambda _: None,
    ) -> None:
        self._w3, self._where, self._account = w3, where, account
        self._journal, self._waiting = journal, waiting
        self._signer = Signer(w3, where, account, journal, waiting, approve)
        self._signing = threading.RLock()
        self._recovered = False
        # By nonce: when it was last broadcast, when it was first waited for with its present fees, what the node said.
        self._sent: dict[int, float] = {}
        self._waits: dict[int, float] = {}
        self._said: dict[int, str] = {}

    def send(
        self, intent: str, payload: Payload, gas: int | None = None, *, once: bool = True
    ) -> tuple[bytes, Outcome]:
        """Bring an intent into a block, or find it in one; return the transaction's hash, and where it is.

        With ``once`` unset it is brought into another block where it is in one already.

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
                known = self._recorded(intent, payload.digest()) if once else None
                attempt = known or self._sign(intent, payload, gas)
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

        What failed on chain meanwhile is logged and no error: who asks for it now wants it done, and has it sent anew.

        Raises
        ------
        LedgerError
            If one of them is not in a block in time.
        """
        with self._signing:
            if not self._recovered:
                for attempt in self._journal.unsettled():
                    settled = self._settle(attempt)
                    if settled is not None and settled.outcome is not None and not settled.outcome.succeeded:
                        told = (
                            "%s: %s failed in block %d before this process began; it is sent anew when it is asked for"
                        )
                        _log.warning(told, self._where, attempt.intent, settled.outcome.block)
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
            if attempt.outcome is not None and not stands(self._w3, attempt.outcome):
                self._journal.reopen(attempt)
                return replace(attempt, state=State.BROADCAST, outcome=None)
            if attempt.outcome is not None and attempt.outcome.succeeded:
                return attempt
            if attempt.state is State.DROPPED and is_known(self._w3, attempt.hash):
                return attempt  # given up too early: a node that refused it has it after all
        return None

    def _sign(self, intent: str, payload: Payload, gas: int | None) -> Attempt:
        """Sign a new transaction and broadcast it."""
        attempt = self._signer.sign(intent, payload, gas)
        self._waits.pop(attempt.nonce, None)
        self._introduce(attempt)
        return attempt

    def _raised(self, attempt: Attempt) -> Attempt | None:
        dearer = self._signer.raised(attempt)
        if dearer is not None:
            self._waits.pop(attempt.nonce, None)
        return dearer

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
            if is_deep(self._w3, outcome.block, self._waiting.confirmations) and stands(self._w3, outcome):
                self._journal.confirm(member, outcome)
                return replace(member, state=State.CONFIRMED, outcome=outcome)
        return None

    def _is_lost(self, attempt: Attempt) -> bool:
        """Return whether an attempt's nonce is used up, for good, by a transaction that is not in the journal.

        A receipt that is missing proves nothing: the node that we ask may lag behind the one that took it. So the
        transaction that used the nonce up is looked for.
        """
        who, depth = self._account.address, self._waiting.confirmations
        user = user_of_nonce(self._w3, who, attempt.nonce, attempt.since, depth)
        return user is not None and all(member.hash != user for member in self._journal.family(attempt))

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
