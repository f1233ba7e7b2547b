"""The phone of one customer: it holds the raw data, and decides what leaves."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from eth_account.signers.local import LocalAccount

from app.customer.shelf import Shelf
from app.customer.wire import FeatureRelease
from app.durable import append_privately
from app.privacy.accountant import Accountant
from app.privacy.cost import PrivacySpent
from app.privacy.labels import LabelTreatment
from app.privacy.mechanism import Mechanism
from app.privacy.randomness import SystemRandom
from app.protocol.digest import canonical_json, hex32, sha256
from app.protocol.errors import PrivacyError
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.signing import Domain

if TYPE_CHECKING:
    from app.learning.data import Dataset
    from app.learning.models import Phone as Extractor

LEDGER = "privacy.jsonl"
RECEIPTS = "receipts.jsonl"
_NOTHING_DRAWN = "none"


class Phone:
    """The half of a customer that is trusted with its data.

    A release happens once for each record set, mechanism, frozen part and task. The phone draws the noise, keeps the
    released batch, lets the accountant count it, and only then hands it out. When the MEC server has lost its cache
    the phone sends *the same bytes* again, which tells nobody anything new and is no release. When the phone has lost
    its copy too, it would have to draw new noise: that is a second release, and the accountant decides.

    Parameters
    ----------
    data : Dataset
        The customer's raw records.
    mechanism : Mechanism
        How features are released.
    labels : LabelTreatment
        How labels are released.
    accountant : Accountant
        Counts releases against the customer's budget.
    account : LocalAccount
        The wallet.
    salt : bytes
        32 secret bytes of this phone, without which nobody can test a guess of the records against their digest.
    home : Path
        Folder of its own: the released batches and the signed receipts.
    deployment : bool
        Whether real people's data is at stake.

    Raises
    ------
    PrivacyError
        If noise that is not the operating system's is to be used in a deployment, or if the phone has signed
        receipts but the accountant counts no release: its ledger was lost, and with it the knowledge of what was
        spent.
    """

    def __init__(
        self,
        data: Dataset,
        mechanism: Mechanism,
        labels: LabelTreatment,
        accountant: Accountant,
        account: LocalAccount,
        salt: bytes,
        home: Path,
        *,
        deployment: bool,
    ) -> None:
        if deployment and mechanism.randomness not in (SystemRandom.name, _NOTHING_DRAWN):
            raise PrivacyError(
                f"{mechanism.randomness} randomness is refused in deployment (privacy.randomness=system)"
            )
        if (home / RECEIPTS).exists() and accountant.spent().releases == 0:
            raise PrivacyError(
                f"the phone in {home} has signed receipts, but its ledger counts no release: it was lost"
            )
        self._data, self._mechanism, self._labels = data, mechanism, labels
        self._accountant, self._account = accountant, account
        self._released = Shelf(home / "released")
        self._receipts = home / RECEIPTS
        self._record_set = _record_set(data, salt)

    @property
    def address(self) -> str:
        """The customer's checksum address."""
        return str(self._account.address)

    @property
    def examples(self) -> int:
        """How many records it holds."""
        return len(self._data.labels)

    def spent(self) -> PrivacySpent:
        """Return what all releases so far cost."""
        return self._accountant.spent()

    def key(self, task: bytes, frozen: bytes) -> str:
        """Return the name of the release for a task (digest of its policy) and a frozen part (digest)."""
        parts = {
            "task": hex32(task),
            "customer": self.address,
            "record_set": self._record_set,
            "mechanism": self._parameters,
            "frozen": hex32(frozen),
        }
        return sha256(canonical_json(parts)).hex()

    def release(self, task: bytes, frozen: bytes, extractor: Extractor) -> FeatureRelease:
        """Return the released features for a task: drawn and counted once, the same bytes ever after.

        Parameters
        ----------
        task, frozen : bytes
            Digests (32 bytes) of the task's policy and of the frozen part.
        extractor : app.learning.models.Phone
            The phone part of the model, with the frozen part loaded.

        Raises
        ------
        PrivacyError
            If a release is due and would exceed the budget, or a feature is NaN or infinite.
        """
        key = self.key(task, frozen)
        release = self._released.get(key)
        if release is None:
            release = self._draw(key, extractor)
            if self._mechanism.randomness != _NOTHING_DRAWN:  # else drawing again gives the same bytes
                # Before it is counted, not after: a crash in between leaves a batch that has never left the phone.
                self._released.put(release)
        digest = release.digest
        if not self._accountant.counted(digest):
            cost = self._mechanism.cost(len(self._data), extractor.space)
            about = {"records": len(self._data), "shape": list(extractor.space.shape)}
            self._accountant.charge(digest, self._record_set, self._parameters | about, cost, *self._labels.costs)
        return release

    def sign(self, receipt: Receipt, domain: Domain) -> SignedReceipt:
        """Sign a receipt, and keep it before it leaves: it is the customer's own proof of what the chain must hold."""
        signed = receipt.sign(self._account, domain)
        record = {"chain_id": domain.chain_id, "contract": domain.contract, "receipt": signed.to_json()}
        append_privately(self._receipts, canonical_json(record) + b"\n")
        return signed

    def _draw(self, key: str, extractor: Extractor) -> FeatureRelease:
        from app.learning.training import features

        released = self._mechanism.release(features(extractor, self._data), extractor.space)
        return FeatureRelease(released.values, released.step, self._labels.release(self._data.labels), key)

    @property
    def _parameters(self) -> dict[str, Any]:
        return self._mechanism.parameters | self._labels.parameters


def _record_set(data: Dataset, salt: bytes) -> str:
    """Return the salted digest of the records: HMAC-SHA-256 over each one's type, shape, bytes and class."""
    code = hmac.new(salt, digestmod="sha256")
    for record, label in zip(data.inputs, data.labels, strict=True):
        code.update(f"{record.dtype.str} {record.shape} {label} ".encode())
        code.update(np.ascontiguousarray(record).data)
    return code.hexdigest()
