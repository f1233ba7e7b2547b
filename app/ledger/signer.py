"""Where one key's transactions are signed: nonce, gas and fees, and the journal before anybody sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import Nonce, TxParams

from app.ledger.finality import stands
from app.ledger.journal import Attempt, Journal, State
from app.ledger.mempool import fields_of
from app.ledger.transaction import Payload, Pending, Waiting
from app.protocol.errors import LedgerError


class Signer:
    """Signs one key's transactions on one chain, one at a time; every signature is in the journal when it returns.

    Parameters
    ----------
    w3, where, account, journal, waiting
        As in `app.ledger.sender.Sender`.
    approve : callable
        Is shown each new transaction before it is signed; what it raises stops it.
    """

    def __init__(
        self,
        w3: Web3,
        where: str,
        account: LocalAccount,
        journal: Journal,
        waiting: Waiting,
        approve: Callable[[Pending], None],
    ) -> None:
        self._w3, self._where, self._account = w3, where, account
        self._journal, self._waiting, self._approve = journal, waiting, approve

    def sign(self, intent: str, payload: Payload, gas: int | None) -> Attempt:
        """Dry-run, ask for approval, sign and journal, in this order.

        Raises
        ------
        web3.exceptions.Web3Exception
            If the dry run fails.
        LedgerError
            If the node asks for too high a fee.
        """
        sender: TxParams = {"from": self._account.address}
        needed = int(self._w3.eth.estimate_gas({**payload.fields(), **sender}))
        since = int(self._w3.eth.block_number)
        fee, tip = self._fees()
        if fee > self._waiting.max_fee:
            raise LedgerError(f"{self._where}: {fee} wei per gas are asked for (allowed: {self._waiting.max_fee})")
        limit = needed * 5 // 4 + 10_000 if gas is None else gas
        self._approve(Pending(intent, self._account.address, payload.to, payload.value, limit, fee))
        fields: TxParams = {
            **payload.fields(),
            "type": 2,
            "chainId": self._w3.eth.chain_id,
            "nonce": Nonce(self._free_nonce()),
            "gas": limit,
            "maxFeePerGas": Web3.to_wei(fee, "wei"),
            "maxPriorityFeePerGas": Web3.to_wei(tip, "wei"),
        }
        signed = self._account.sign_transaction(fields)  # type: ignore[arg-type]
        raw, hash = bytes(signed.raw_transaction), bytes(signed.hash)
        attempt = Attempt(intent, payload.digest(), int(fields["nonce"]), raw, hash, since)
        self._journal.add(attempt)
        return attempt

    def raised(self, attempt: Attempt) -> Attempt | None:
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
        return dearer

    def _free_nonce(self) -> int:
        """Return the least nonce that neither the chain nor the journal has given away."""
        nonce = int(self._w3.eth.get_transaction_count(self._account.address, "pending"))
        while (holder := self._journal.holder(nonce)) is not None:
            if holder.outcome is not None and not stands(self._w3, holder.outcome):
                self._journal.reopen(holder)  # a reorganisation undid it: it is on its way again, and keeps its nonce
            nonce += 1
        return nonce

    def _fees(self) -> tuple[int, int]:
        """Return highest fee and tip to offer (wei per gas): twice the base fee lasts for six full blocks."""
        base = self._w3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            raise LedgerError(f"{self._where}: the chain has no base fee (allowed: chains with EIP-1559)")
        tip = int(self._w3.eth.max_priority_fee)
        return 2 * int(base) + tip, tip
