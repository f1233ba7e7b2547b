"""What a phone signs when it asks its MEC server for something, so that the server serves its own customers alone.

The signature binds the server's name, the method, the whole body and the time. Within the time that a request is good
for, a server takes each signature once; after it, none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from app.protocol.digest import sha256
from app.protocol.signing import ANYWHERE, Fields, recover, sign

GOOD_FOR = 120
"""Seconds, before and after: clocks may differ, and a connection may be slow."""
_TYPE = "MecRequest"
_FIELDS: Fields = (("server", "string"), ("method", "string"), ("body", "bytes32"), ("time", "uint64"))


@dataclass(frozen=True, slots=True)
class MecRequest:
    """One request.

    Attributes
    ----------
    server : str
        Name of the MEC server, as its customers were told it.
    method : str
        What is asked for.
    body : bytes
        The message.
    time : int
        When it was signed, in microseconds since 1970: no two requests of one phone have the same.
    """

    server: str
    method: str
    body: bytes
    time: int

    def sign(self, account: LocalAccount) -> bytes:
        """Return the customer's signature (65 bytes)."""
        return sign(account, ANYWHERE, _TYPE, _FIELDS, self._values())

    def signer(self, signature: bytes) -> str:
        """Return the address that made ``signature``; raise `ProtocolError` if it is malformed."""
        return recover(ANYWHERE, _TYPE, _FIELDS, self._values(), signature)

    def _values(self) -> dict[str, Any]:
        return {"server": self.server, "method": self.method, "body": sha256(self.body), "time": self.time}
