"""A customer's word on which Flower node it answers through in a round.

Flower's SuperLink knows a node by its key, the contract a customer by its wallet. This statement ties the one to the
other: an update counts only if it came from the node that its customer names, so a node cannot pass on what it got from
another one, and a customer cannot be played by a node that has not its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from app.protocol.signing import Domain, Fields, recover, sign

_TYPE = "Presence"
_FIELDS: Fields = (("task", "bytes32"), ("round", "uint256"), ("node", "uint256"))


@dataclass(frozen=True, slots=True)
class Presence:
    """The statement.

    Attributes
    ----------
    task : bytes
        Digest of the policy (32 bytes).
    round : int
        The round, from 1.
    node : int
        Flower's id of the node.
    """

    task: bytes
    round: int
    node: int

    def sign(self, account: LocalAccount, domain: Domain) -> bytes:
        """Return the customer's signature (65 bytes)."""
        return sign(account, domain, _TYPE, _FIELDS, self._values())

    def signer(self, signature: bytes, domain: Domain) -> str:
        """Return the address that made ``signature``; raise `ProtocolError` if it is malformed."""
        return recover(domain, _TYPE, _FIELDS, self._values(), signature)

    def _values(self) -> dict[str, Any]:
        return {"task": self.task, "round": self.round, "node": self.node}
