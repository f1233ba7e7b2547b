"""What travels between the ServerApp and a ClientApp, as Flower records, and how it is read without trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import numpy as np
import numpy.lib.format as npy
from flwr.app import Array, ArrayRecord, ConfigRecord, ConfigRecordValues, RecordDict

from app.protocol.announcement import Announcement
from app.protocol.digest import canonical_json, parse_json
from app.protocol.errors import ProtocolError
from app.protocol.manifest import MAX_RECEIPT_BYTES
from app.protocol.receipt import SignedReceipt
from app.protocol.signing import Domain

MODEL, UPDATE = "model", "update"
NOBODY = -1

_HEADER_BYTES = 128  # of an array of bytes in NumPy's file format, whatever its length
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a node is asked to do in one round.

    Attributes
    ----------
    announcement : Announcement
        The round, and what the model must hash to.
    customer : int
        Which customer the node is to play in a simulation; `NOBODY` to a deployed phone, which knows who it is.
    home : str
        Directory for the simulated phones and MECs.
    data_path : str
        Where the simulated customers' data is on this machine; empty where the data set knows.
    policy, frozen, model : bytes
        The three blobs that the announcement's digests bind.
    """

    announcement: Announcement
    customer: int
    home: str
    data_path: str
    policy: bytes
    frozen: bytes
    model: bytes

    def to_records(self) -> RecordDict:
        """Return the message's content."""
        told = self.announcement
        config: dict[str, ConfigRecordValues] = {
            "chain-id": told.domain.chain_id,
            "contract": told.domain.contract,
            "task": told.task,
            "round": told.round,
            "model": told.model,
            "customer": self.customer,
            "home": self.home,
            "data-path": self.data_path,
            "policy": self.policy,
        }
        return RecordDict(
            {"arrays": blobs_to_arrays({MODEL: self.model, "frozen": self.frozen}), "task": ConfigRecord(config)}
        )

    @classmethod
    def from_records(cls, content: RecordDict) -> Assignment:
        """Read what `to_records` wrote; raise `ProtocolError` on anything else."""
        try:
            config, arrays = content.config_records["task"], content.array_records["arrays"]
            domain = Domain(_typed(config, "chain-id", int), _typed(config, "contract", str))
            announcement = Announcement(
                domain, _typed(config, "task", bytes), _typed(config, "round", int), _typed(config, "model", bytes)
            )
            customer, home = _typed(config, "customer", int), _typed(config, "home", str)
            data_path = _typed(config, "data-path", str)
            policy = _typed(config, "policy", bytes)
            model, frozen = array_to_blob(arrays[MODEL]), array_to_blob(arrays["frozen"])
        except KeyError as error:
            raise ProtocolError(f"the message lacks {error}") from error
        return cls(announcement, customer, home, data_path, policy, frozen, model)


@dataclass(frozen=True, slots=True)
class Reply:
    """A customer's answer.

    Attributes
    ----------
    update : bytes
        The update's blob.
    receipt : SignedReceipt
        Its signed receipt.
    presence : bytes
        The signature of its word on which node it answers through (`app.protocol.presence`); empty in a simulation,
        where nodes play any customer.
    """

    update: bytes
    receipt: SignedReceipt
    presence: bytes = b""

    def to_records(self) -> RecordDict:
        """Return the message's content."""
        receipt = ConfigRecord({"receipt": canonical_json(self.receipt.to_json()), "presence": self.presence})
        return RecordDict({"arrays": blobs_to_arrays({UPDATE: self.update}), "receipt": receipt})

    @classmethod
    def from_records(cls, content: RecordDict, max_bytes: int) -> Reply:
        """Read a reply that anyone may have written.

        Parameters
        ----------
        content : RecordDict
            The message's content.
        max_bytes : int
            Larger updates are refused before they are parsed.

        Raises
        ------
        ProtocolError
            If anything in it is not as `to_records` writes it.
        """
        try:
            said = content.config_records["receipt"]
            receipt, presence = _typed(said, "receipt", bytes), _typed(said, "presence", bytes)
            update = array_to_blob(content.array_records["arrays"][UPDATE], max_bytes)
        except KeyError as error:
            raise ProtocolError(f"the reply lacks {error}") from error
        if len(receipt) > MAX_RECEIPT_BYTES:
            raise ProtocolError(f"a receipt of {len(receipt)} bytes is too long")
        return cls(update, SignedReceipt.from_json(parse_json(receipt, "a receipt")), presence)


def blobs_to_arrays(blobs: Mapping[str, bytes]) -> ArrayRecord:
    """Wrap blobs as arrays of bytes: Flower sends large arrays in pieces."""
    return ArrayRecord({name: Array(np.frombuffer(blob, dtype=np.uint8)) for name, blob in blobs.items()})


def array_to_blob(array: Array, max_bytes: int | None = None) -> bytes:
    """Unwrap a blob; raise `ProtocolError` if it is not a flat array of bytes or is too long."""
    size = len(array.data) - _HEADER_BYTES
    if max_bytes is not None and size > max_bytes:
        raise ProtocolError(f"an array of {size} bytes exceeds the {max_bytes} allowed")
    # NumPy's own reader is not asked: a hostile header can make it allocate gigabytes or fail in a dozen ways.
    if size < 0 or array.stype != "numpy.ndarray" or array.data[:_HEADER_BYTES] != _header(size):
        raise ProtocolError("expected a flat array of bytes")
    return array.data[_HEADER_BYTES:]


def _header(size: int) -> bytes:
    """Return how NumPy's file format begins for ``size`` bytes in one dimension."""
    header = BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    return header.getvalue()


def _typed(config: ConfigRecord, key: str, kind: type[_T]) -> _T:
    value = config[key]
    if type(value) is not kind:
        raise ProtocolError(f"{key} must be {kind.__name__}, not {type(value).__name__}")
    return value
