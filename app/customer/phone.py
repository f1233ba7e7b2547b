"""The phone of one customer: it holds the raw data, and decides what leaves."""

from __future__ import annotations

import hmac
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from eth_account.signers.local import LocalAccount

from app.customer.kept import KeptUpdates
from app.customer.shelf import Shelf
from app.customer.wire import FeatureRelease
from app.durable import append_privately
from app.privacy.accountant import Accountant
from app.privacy.cost import PrivacySpent
from app.privacy.labels import LabelTreatment
from app.privacy.mechanism import Mechanism
from app.privacy.randomness import InsecureSeededRandom, SystemRandom
from app.privacy.rounds import RoundProtection
from app.protocol.digest import canonical_json, hex32, sha256
from app.protocol.errors import BudgetError, PrivacyError, StoreError
from app.protocol.receipt import Receipt, SignedReceipt
from app.protocol.signing import Domain

if TYPE_CHECKING:
    from app.customer.joint import Step
    from app.learning.config import TrainConfig
    from app.learning.data import Dataset
    from app.learning.models import Phone as Extractor

_log = logging.getLogger(__name__)
LEDGER = "privacy.jsonl"
RECEIPTS = "receipts.jsonl"
UPDATES = "updates"
_NOTHING_DRAWN = "none"


class Phone:
    """The half of a customer that is trusted with its data.

    A release happens once for each record set, mechanism and frozen part, in however many tasks it serves. The phone
    draws the noise, keeps the released batch, lets the accountant count it, and only then hands it out. When the MEC
    server has lost its cache the phone sends *the same bytes* again, which tells nobody anything new and is no release.
    When the phone has lost its copy too, or its records have changed, it would have to draw new noise: that is a second
    release, and the accountant decides. Where it refuses, the phone goes on with what it released of its records
    before, if the mechanism and the frozen part are the same: that is public already.

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
    protection : RoundProtection, optional
        For a task in which every round lets something new out.

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
        protection: RoundProtection | None = None,
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
        self._protection, self._updates = protection, KeptUpdates(home / UPDATES)
        self._earlier: FeatureRelease | None = None

    @property
    def address(self) -> str:
        """The customer's checksum address."""
        return str(self._account.address)

    @property
    def examples(self) -> int:
        """How many records take part: all that it holds, or those of the earlier release that it had to go back to."""
        return len(self._data.labels if self._earlier is None else self._earlier.labels)

    def spent(self) -> PrivacySpent:
        """Return what all releases so far cost."""
        return self._accountant.spent()

    def key(self, frozen: bytes) -> str:
        """Return the name of the release of its present records for a frozen part (digest)."""
        return self._key(frozen, self._record_set)

    def release(self, frozen: bytes, extractor: Extractor) -> FeatureRelease:
        """Return released features: drawn and counted once, the same bytes ever after.

        Of its present records; or, where that would exceed the budget, of the records that it released last under the
        same mechanism for the same frozen part.

        Parameters
        ----------
        frozen : bytes
            Digest of the frozen part (32 bytes).
        extractor : app.learning.models.Phone
            The phone part of the model, with the frozen part loaded.

        Raises
        ------
        BudgetError
            If a release is due and would exceed the budget, and there is no earlier one.
        PrivacyError
            If a feature is NaN or infinite, or the ledger cannot be trusted.
        """
        try:
            return self._present(self.key(frozen), extractor)
        except BudgetError as refusal:
            self._earlier = self._last(frozen)
            if self._earlier is None:
                raise
            _log.warning("%s; going on with the %d records released before", refusal, self.examples)
            return self._earlier

    def count_round(self, round_number: int, asked: bytes, frozen: bytes, extractor: Extractor) -> None:
        """Count what a round will let out, before any of it leaves.

        Noise from a seed is the same each time, so a round that is played again tells nobody anything new; with the
        operating system's it is another release.

        Parameters
        ----------
        round_number : int
            Which round.
        asked : bytes
            Digest of what is asked for: task, round and global model.
        frozen : bytes
            Digest of the frozen part.
        extractor : app.learning.models.Phone
            The phone part of the model.

        Raises
        ------
        BudgetError
            If it would exceed the budget: the customer sits the round out.
        """
        protection = self._protecting
        mechanism = protection.mechanism(round_number)
        again = mechanism.randomness == InsecureSeededRandom.name or not protection.noised_gradients
        parts = {"key": self.key(frozen), "asked": asked.hex(), "drawn": "" if again else secrets.token_hex(16)}
        release = sha256(canonical_json(parts)).hex()
        if not self._accountant.counted(release):
            about = {"records": len(self._data), "shape": list(extractor.space.shape)}
            stated = protection.parameters(mechanism, round_number) | self._labels.parameters | about
            costs = protection.costs(mechanism, len(self._data), extractor.space)
            self._accountant.charge(release, self._record_set, stated, *costs)

    def learn(
        self, round_number: int, frozen: bytes, extractor: Extractor, train: TrainConfig, step: Step, seed: int
    ) -> float:
        """Teach the phone's layers, in place, by joint training with an MEC server; see `app.customer.joint`.

        The round must have been counted. Returns the last epoch's mean loss.
        """
        from app.customer.joint import PhoneSteps

        steps = PhoneSteps(extractor, train, self._protecting, round_number)
        return steps.learn(self._data, self.key(frozen), step, seed)

    @property
    def _protecting(self) -> RoundProtection:
        if self._protection is None:
            raise PrivacyError("this phone was made for tasks that release a record once")
        return self._protection

    @property
    def updates(self) -> KeptUpdates:
        """What it learnt in rounds that it has finished."""
        return self._updates

    def _present(self, key: str, extractor: Extractor) -> FeatureRelease:
        cost = self._mechanism.cost(len(self._data), extractor.space), *self._labels.costs
        release = self._released.get(key)
        if release is None:
            if not self._mechanism.stays:
                self._accountant.check(*cost)  # so that no batch is drawn in vain
            release = self._draw(key, extractor)
            if self._mechanism.randomness != _NOTHING_DRAWN:  # else drawing again gives the same bytes
                # Before it is counted, not after: a crash in between leaves a batch that has never left the phone.
                self._released.put(release)
        digest = release.digest
        if not self._mechanism.stays and not self._accountant.counted(digest):
            about = {"records": len(self._data), "shape": list(extractor.space.shape)}
            self._accountant.charge(digest, self._record_set, self._parameters | about, *cost)
        return release

    def _last(self, frozen: bytes) -> FeatureRelease | None:
        """Return the newest counted release that the same head can be trained on; None if there is none, whole."""
        for record_set in self._accountant.record_sets():
            found = self._released.get(self._key(frozen, record_set))
            if found is not None and self._accountant.counted(found.digest):
                return found
        return None

    def _key(self, frozen: bytes, record_set: str) -> str:
        parts = {
            "customer": self.address,
            "record_set": record_set,
            "mechanism": self._parameters,
            "frozen": hex32(frozen),
        }
        return sha256(canonical_json(parts)).hex()

    def sign(self, receipt: Receipt, domain: Domain) -> SignedReceipt:
        """Sign a receipt, and keep it before it leaves: it is the customer's own proof of what the chain must hold.

        The same receipt again, for a coordinator that died and asks once more, is kept once.
        """
        signed = receipt.sign(self._account, domain)
        record = {"chain_id": domain.chain_id, "contract": domain.contract, "receipt": signed.to_json()}
        line = canonical_json(record) + b"\n"
        if not self._keeps(line):
            append_privately(self._receipts, line)
        return signed

    def _keeps(self, line: bytes) -> bool:
        try:
            return line in self._receipts.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"cannot read {self._receipts}: {error.strerror}") from error

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
