"""The reward of a task: what its customers earned, and how they get it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from eth_account.signers.local import LocalAccount
from web3 import Web3

from app.ledger.chain import Sent
from app.ledger.task_contract import TaskContract
from app.protocol.signing import Domain, Fields, recover, sign

_FIELDS: Fields = (("customer", "address"), ("recipient", "address"), ("nonce", "uint256"), ("deadline", "uint256"))


@dataclass(frozen=True, slots=True)
class Claim:
    """A customer's order to pay out its rewards, for anyone to relay.

    Attributes
    ----------
    customer, recipient : str
        Whose rewards, and where they go (checksum addresses).
    nonce : int
        The customer's next one; see `Rewards.nonce`. A claim is good once.
    deadline : int
        Seconds since 1970 until which it is good.
    """

    customer: str
    recipient: str
    nonce: int
    deadline: int

    def sign(self, account: LocalAccount, domain: Domain) -> bytes:
        """Return the customer's signature (65 bytes)."""
        return sign(account, domain, "Claim", _FIELDS, asdict(self))

    def signer(self, domain: Domain, signature: bytes) -> str:
        """Return the checksum address that signed it; raise `ProtocolError` if the signature is malformed."""
        return recover(domain, "Claim", _FIELDS, asdict(self), signature)


class Rewards:
    """The escrow of one task. A customer's reward is `price` times its points; see ``contracts/Escrow.sol``."""

    def __init__(self, contract: TaskContract) -> None:
        self._contract = contract

    def price(self) -> int:
        """Return the wei for one point; 0 before the task opens, and in a task that pays nothing."""
        return int(self._contract.call("price"))

    def owed(self, customer: str) -> int:
        """Return the wei that a customer can claim now."""
        return int(self._contract.call("owed", Web3.to_checksum_address(customer)))

    def nonce(self, customer: str) -> int:
        """Return the nonce that the customer's next signed claim must have."""
        return int(self._contract.call("nonces", Web3.to_checksum_address(customer)))

    def claim(self, account: LocalAccount) -> Sent:
        """Fetch a customer's rewards with its own account."""
        earned = self._contract.call("status")[8]  # so that a claim after the next round is another intent
        return self._contract.send(account, "claim", f"claim of {account.address} at {earned} points", "claim")

    def relay(self, account: LocalAccount, claim: Claim, signature: bytes) -> Sent:
        """Fetch a customer's rewards for it, to where it signed to have them; by anyone."""
        arguments = (claim.customer, claim.recipient, claim.nonce, claim.deadline, signature)
        intent = f"claim {claim.nonce} for {claim.customer}"
        return self._contract.send(account, "claim", intent, "claimFor", *arguments)

    def reclaim(self, account: LocalAccount) -> Sent:
        """Pay what nobody earned back to the manufacturer, once the task has ended; by anyone."""
        held = self._contract.chain.balance(self._contract.address)  # what is reclaimed later is another intent
        return self._contract.send(account, "reclaim", f"reclaim what is left of {held} wei", "reclaim")
