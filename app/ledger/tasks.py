"""Finding the tasks on a chain: every task's contract says so when it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from web3 import Web3

from app.ledger.chain import Chain
from app.ledger.task_contract import compiled

_BLOCKS = 10_000
"""Of one search: nodes answer for no more."""


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task's contract, its manufacturer (checksum addresses), and the block of its publication."""

    address: str
    manufacturer: str
    block: int


def find_tasks(chain: Chain, first: int = 0) -> list[FoundTask]:
    """Return the tasks of this version that were published from block ``first`` on, the oldest first.

    Anybody can emit the event, so each contract's code is compared with ours.
    """
    event = next(entry for entry in compiled().abi if entry.get("name") == "TaskPublished")
    topic = Web3.keccak(text=f"TaskPublished({','.join(map(_type, event['inputs']))})").to_0x_hex()
    newest, found = chain.head()[0], []
    for start in range(first, newest + 1, _BLOCKS):
        with chain.guard("TaskPublished"):
            query = {"fromBlock": start, "toBlock": min(start + _BLOCKS - 1, newest), "topics": [topic]}
            logs = chain.w3.eth.get_logs(query)  # type: ignore[arg-type]
        found += [log for log in logs if len(log["topics"]) == 2 and _is_ours(chain, log["address"])]
    return [
        FoundTask(log["address"], Web3.to_checksum_address(bytes(log["topics"][1])[-20:]), int(log["blockNumber"]))
        for log in found
    ]


def _is_ours(chain: Chain, address: Any) -> bool:
    with chain.guard("eth_getCode"):
        return compiled().is_deployed_as(bytes(chain.w3.eth.get_code(address)))


def _type(entry: Any) -> str:
    """Return a parameter's type as it stands in a signature, structs spelled out."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    return f"({','.join(map(_type, entry['components']))}){entry['type'].removeprefix('tuple')}"
