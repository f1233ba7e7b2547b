"""A signed claim in a file: a customer without ether writes it, whoever has some sends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from app.ledger.rewards import Claim
from app.protocol.digest import parse_json
from app.protocol.errors import ConfigError, ProtocolError, StoreError
from app.protocol.signing import Domain
from app.typed import build

_LARGEST = 4096  # bytes; a claim has about 500
_KIND = "hearth claim 1"


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A claim, the task it is for, and the customer's signature (0x and 130 digits)."""

    kind: str
    chain_id: int
    contract: str
    claim: Claim
    signature: str

    @classmethod
    def of(cls, claim: Claim, domain: Domain, signature: bytes) -> SignedClaim:
        """Join the parts."""
        return cls(_KIND, domain.chain_id, domain.contract, claim, "0x" + signature.hex())

    def check(self, domain: Domain) -> bytes:
        """Return the signature, if the claim is for this task and its customer signed it.

        Raises
        ------
        ProtocolError
            If it is for another task or chain (both are named), or somebody else signed it.
        """
        if (self.chain_id, self.contract.lower()) != (domain.chain_id, domain.contract.lower()):
            here = f"not for {domain.contract} on chain {domain.chain_id}"
            raise ProtocolError(f"the claim is for {self.contract} on chain {self.chain_id}, {here}")
        try:
            signature = bytes.fromhex(self.signature.removeprefix("0x"))
        except ValueError as error:
            raise ProtocolError("the claim's signature is not hexadecimal") from error
        signer = self.claim.signer(domain, signature)
        if signer != self.claim.customer:
            raise ProtocolError(f"the claim of {self.claim.customer} is signed by {signer}")
        return signature

    def write(self, path: Path) -> None:
        """Write a new file; raise `ConfigError` if there is one, `StoreError` if the disk refuses."""
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self), indent=2) + "\n")
        except FileExistsError:
            raise ConfigError("--sign-only", f"{path} exists", "a file that does not exist") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> SignedClaim:
        """Read a file; raise `ConfigError` if it holds no signed claim."""
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ProtocolError(f"it has more than {_LARGEST} bytes")
            found = build(cls, parse_json(data, "a claim"), "claim")
            if found.kind != _KIND:
                raise ProtocolError(f"its kind is '{found.kind:.40}', not '{_KIND}'")
        except OSError as error:
            raise ConfigError("--relay", f"{path} cannot be read: {error.strerror}") from error
        except (ProtocolError, ConfigError) as error:
            raise ConfigError("--relay", f"{path} is not a signed claim: {error}") from None
        return found
