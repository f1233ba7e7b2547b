"""What transactions and events of a task's contract say, decoded with the committed artifact's interface."""

from __future__ import annotations

from functools import cache
from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils import keccak, to_checksum_address

from app.ledger.contract import Artifact, artifact
from app.protocol.errors import ProtocolError
from app.protocol.signing import Fields

Description = dict[str, Any]
"""One entry of an ABI."""


@cache
def compiled() -> Artifact:
    """Return the committed artifact of the task's contract."""
    return artifact("HearthTask")


def decode_call(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return a call's function and arguments; an unknown one is ``("", {})``."""
    entry = _by_selector("function").get(data[:4])
    return ("", {}) if entry is None else (entry["name"], _decode(entry["inputs"], data[4:], entry["name"]))


def decode_event(topics: tuple[bytes, ...], data: bytes) -> tuple[str, dict[str, Any]]:
    """Return an event's name and members; an unknown one is ``("", {})``."""
    entry = _by_selector("event").get(topics[0]) if topics else None
    if entry is None:
        return "", {}
    indexed = [item for item in entry["inputs"] if item["indexed"]]
    values = _decode([item for item in entry["inputs"] if not item["indexed"]], data, entry["name"])
    if len(indexed) != len(topics) - 1:
        raise ProtocolError(f"the event {entry['name']} has {len(topics)} topics")
    for item, topic in zip(indexed, topics[1:], strict=True):
        values |= _decode([item], topic, entry["name"])
    return entry["name"], values


def decode_terms(creation: bytes) -> dict[str, Any]:
    """Return the terms that a creation's data ends with."""
    (entry,) = [entry for entry in compiled().abi if entry["type"] == "constructor"]
    terms: dict[str, Any] = _decode(entry["inputs"], creation[len(compiled().bytecode) :], "constructor")["given"]
    return terms


def encode_call(name: str, *arguments: Any) -> bytes:
    """Return the data of a call."""
    entry = _function(name)
    return _selector(entry)[:4] + encode([_type(item) for item in entry["inputs"]], list(arguments))


def decode_answer(name: str, data: bytes) -> Any:
    """Return what a view answered; several values as a list."""
    outputs = _function(name)["outputs"]
    values = list(_decode([item | {"name": str(i)} for i, item in enumerate(outputs)], data, name).values())
    return values[0] if len(values) == 1 else values


def struct_fields(function: str, argument: str) -> Fields:
    """Return the EIP-712 members of a struct that a function takes."""
    (entry,) = [item for item in _function(function)["inputs"] if item["name"] == argument]
    return tuple((member["name"], member["type"]) for member in entry["components"])


@cache
def _by_selector(kind: str) -> dict[bytes, Description]:
    length = 4 if kind == "function" else 32
    return {_selector(entry)[:length]: entry for entry in compiled().abi if entry["type"] == kind}


def _function(name: str) -> Description:
    (entry,) = [entry for entry in compiled().abi if entry["type"] == "function" and entry["name"] == name]
    return entry


def _selector(entry: Description) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(_type(item) for item in entry['inputs'])})")


def _type(item: Description) -> str:
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    return f"({','.join(_type(member) for member in item['components'])}){item['type'].removeprefix('tuple')}"


def _decode(items: list[Description], data: bytes, what: str) -> dict[str, Any]:
    try:
        values = decode([_type(item) for item in items], data)
    except (DecodingError, ValueError, OverflowError) as error:
        raise ProtocolError(f"{what} cannot be decoded: {error}") from error
    return {item["name"]: _named(item, value) for item, value in zip(items, values, strict=True)}


def _named(item: Description, value: Any) -> Any:
    """Give a struct's members their names, and an address its checksum."""
    if item["type"].endswith("[]"):
        return [_named(item | {"type": item["type"][:-2]}, element) for element in value]
    if item["type"] == "tuple":
        return {member["name"]: _named(member, part) for member, part in zip(item["components"], value, strict=True)}
    return to_checksum_address(value) if item["type"] == "address" else value
