"""What web3 and the network raise, as one line for a person: `LedgerError` and `ContractRevertedError`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from eth_abi.exceptions import DecodingError
from web3 import Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception

from app.protocol.errors import ContractRevertedError, LedgerError

_STANDARD_ERRORS: list[dict[str, Any]] = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


@contextlib.contextmanager
def translated(call: str, *, where: str, abi: Sequence[Any] = ()) -> Iterator[None]:
    """Turn every failure of a request to a node into an error of ours.

    Parameters
    ----------
    call : str
        What was asked for, for the message.
    where : str
        URL or file of the chain, for the message.
    abi : sequence of dict, optional
        The contract's ABI; custom errors are named by it.

    Raises
    ------
    ContractRevertedError
        If the contract reverted.
    LedgerError
        If the node refused or cannot be reached.
    """
    try:
        yield
    except ContractLogicError as error:
        name, arguments = decode_revert(error.data, abi)
        raise ContractRevertedError(call, name, arguments) from error
    except TimeExhausted as error:
        raise LedgerError(f"{where}: {call} is not in a block yet: {error}") from error
    except Web3Exception as error:
        raise LedgerError(f"{where}: {call} was refused: {words_of(error)}") from error
    except json.JSONDecodeError as error:
        raise LedgerError(f"{where}: answers, but not as an Ethereum node does") from error
    except OSError as error:  # requests' errors are among them
        raise LedgerError(f"{where}: the node cannot be reached ({type(error).__name__})") from error


def decode_revert(data: object, abi: Sequence[Any]) -> tuple[str, tuple[object, ...]]:
    """Return name and arguments of the error that a revert's data encode.

    Without data the name is ``no reason given``; data that no known error explains are given as they are.
    """
    if isinstance(data, dict):  # some nodes wrap it
        data = data.get("data")
    if not isinstance(data, str) or not data.startswith("0x") or len(data) < 10:
        return "no reason given", ()
    for entry in [*(item for item in abi if item.get("type") == "error"), *_STANDARD_ERRORS]:
        types = [argument["type"] for argument in entry["inputs"]]
        if data[:10] == "0x" + Web3.keccak(text=f"{entry['name']}({','.join(types)})")[:4].hex():
            try:
                values = Web3().codec.decode(types, bytes.fromhex(data[10:]))
            except DecodingError:
                break
            return entry["name"], tuple(_readable(kind, value) for kind, value in zip(types, values, strict=True))
    return "unknown error", (data,)


def _readable(kind: str, value: Any) -> object:
    if kind == "address":
        return Web3.to_checksum_address(value)
    return "0x" + value.hex() if isinstance(value, bytes) else value


def words_of(error: Exception) -> str:
    """Return the node's own words, on one line."""
    response = getattr(error, "rpc_response", None)
    detail = response.get("error") if isinstance(response, dict) else None
    text = detail.get("message") if isinstance(detail, dict) else None
    return " ".join(str(text or error).split())
