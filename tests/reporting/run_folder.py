"""A run's folder with two finalised rounds, written down without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.protocol.keys import simulation_account
from app.protocol.manifest import Manifest
from app.protocol.receipt import ENCODING, UNBOUNDED, Receipt
from app.protocol.signing import Domain
from app.run_directory import RunDirectory

CUSTOMERS = [simulation_account(3, "customer", i) for i in range(3)]
ADDRESSES = [account.address for account in CUSTOMERS]
LEADER = simulation_account(3, "miner", 0).address
DOMAIN = Domain(2020, LEADER)
RESULT: dict[str, Any] = {
    "accuracy_by_round": [0.5, 0.625, 0.75],
    "adversaries": [ADDRESSES[2]],
    "privacy": {"mechanism": "gaussian", "unit": "record", "epsilon": 8.0, "delta": 1e-5, "randomness": "system"},
    "gas": {"per_customer": 1234.5},
    "seconds": {"train": 1.5, "mine": 0.5, "total": 2.0},
    "head": {"number": 7, "hash": "0xbeef"},
}


def metrics(number: int, **changes: Any) -> dict[str, Any]:
    """The line of a round: the last customer is judged L."""
    blob = {"sha256": f"0x{number:064x}", "cid": f"bafk{number}", "size": 9}
    return {
        "round": number,
        "leader": LEADER,
        **dict.fromkeys(("model", "manifest", "record"), blob),
        "void": False,
        "participants": ADDRESSES,
        "aggregated": ADDRESSES[:2],
        "rejected": {ADDRESSES[2]: "dissimilar"},
        "isolated": [],
        "absent": {},
        "dissent": {},
        "reputation": dict(zip(ADDRESSES, (5 + number, 5 + number, 0), strict=True)),
        "gas_seal": 40_000,
        "gas_finalise": 60_000 + number,
        "tx_seal": f"0x5ea1{number:060x}",
        "tx_finalise": f"0xf1a1{number:060x}",
        "seconds": 0.5,
        "accuracy": 0.5 + number / 8,
        "loss": 1.0 / number,
        **changes,
    }


def append_round(folder: Path, number: int, **changes: Any) -> None:
    """Write a round down as a run does."""
    directory = RunDirectory(folder)
    receipts = [
        Receipt(b"t" * 32, number, who.address, b"m" * 32, b"u" * 32, 9, "bafk", ENCODING, 5, epsilon, 10**7, 1).sign(
            who, DOMAIN
        )
        for who, epsilon in zip(CUSTOMERS, (8 * 10**6, 4_500_000, UNBOUNDED), strict=True)
    ]
    directory.write_round(number, "manifest.json", Manifest.of(number, receipts).to_bytes())
    directory.write_round(number, "record.json", json.dumps({"election": {"candidates": [1, 2, 3, 4]}}).encode())
    directory.append_metrics(metrics(number, **changes))


def write_run(folder: Path, config: str = "rounds: 2\nprivacy:\n  epsilon: 8.0\n", *, ended: bool = True) -> Path:
    """Write a whole run."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    for number in (1, 2):
        append_round(folder, number)
    if ended:
        (folder / "result.json").write_text(json.dumps(RESULT))
    return folder
