"""Print what a round costs by its number of customers: python tests/benchmarks/scale.py [N ...] [--aggregator NAME]

One round of a task with N synthetic customers (10, 100, 1,000 and 10,000 unless given) and a model of 1,000 parameters,
through the strategy itself: their signed replies are checked, the updates stored, the receipts sealed, one miner
recomputes the round, and the verdict is finalised, on an embedded chain and an embedded store in a temporary folder.
Every size runs in a process of its own, so that the peak memory is its own. The last column says how each part grew in
the last step beside n log n: about 1 or less is what is wanted outside Krum's n^2 d, which ends at the cohort.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType
from flwr.supercore.task_identity import TaskIdentity

from app.ledger.chain import embedded_chain
from app.ledger.docket import TaskDocket
from app.ledger.task_ledger import TaskLedger, TaskTerms
from app.members import MembersConfig
from app.mining.committee import Committee
from app.mining.miner import Miner
from app.protocol.digest import sha256
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.keys import simulation_account, simulation_secret
from app.protocol.policy import Policy
from app.protocol.receipt import ENCODING, Receipt
from app.protocol.seat import Seat
from app.protocol.tensors import pack
from app.protocol.vrf import public_key
from app.store.base import reference
from app.store.embedded import EmbeddedStore
from strategies.hearth import Hearth
from strategies.stopwatch import Stopwatch
from strategies.wire import Reply

SIZES = (10, 100, 1_000, 10_000)
PARAMETERS = 1_000
COHORT = 256
LAYOUT = (("head.weight", (PARAMETERS,)),)


def play(customers: int, aggregator: str) -> tuple[dict[str, float], dict[str, int]]:
    """Play one round; return the seconds of each part with the peak memory in MB, and the gas of each transaction."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # a message wants to know where it is made
    clock, started = Stopwatch(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder) / "blobs", fsync=False)
        manufacturer, miner = simulation_account(0, "manufacturer"), simulation_account(0, "miner", 0)
        secret = simulation_secret(0, "vrf", 0)
        accounts = [simulation_account(0, "customer", index) for index in range(customers)]
        model = store.put(pack(np.zeros(PARAMETERS, np.int64), LAYOUT, MODEL_DTYPE))
        policy = _policy(model, aggregator)
        funded = {manufacturer.address: 10**24, miner.address: 10**24}
        chain = embedded_chain(Path(folder) / "chain.sqlite", funded=funded)
        terms = TaskTerms(policy.digest, model.sha256, sha256(b"seed"), 1, policy.f, 5, 10)
        addresses = [account.address for account in accounts]
        with clock.part("admit"):
            ledger = TaskLedger.publish(
                chain, manufacturer, terms, addresses, [Seat(miner.address, public_key(secret))]
            )
        docket = TaskDocket(ledger, manufacturer)
        strategy = Hearth(
            ledger=ledger,
            store=store,
            committee=Committee([Miner(miner, secret, store, docket)], docket),
            policy=policy,
            manufacturer=manufacturer,
            home=folder,
            data_path="",
            members=MembersConfig("simulation", None, 0, 3600),
            stopwatch=clock,
        )
        with clock.part("announce"):
            grid = SimpleNamespace(get_node_ids=lambda: range(customers))
            asked = list(strategy.configure_train(1, ArrayRecord(), ConfigRecord(), grid))  # type: ignore[arg-type]
        assert len(asked) == customers
        with clock.part("customers"):
            replies = [_reply(policy, ledger, index, account) for index, account in enumerate(accounts)]
        clock.seconds.pop("train", None)
        strategy._train_started = time.perf_counter()  # the customers' own time is theirs
        strategy.aggregate_train(1, replies)
        outcome = strategy.history[0]
        assert len(outcome.participants) == customers
        assert len(outcome.aggregated) == customers - policy.f or aggregator not in ("multi_krum", "nnm_krum")
        chain.close()
        store.close()
    seconds = {"collect" if name == "train" else name: spent for name, spent in clock.seconds.items()}
    seconds["all"] = time.perf_counter() - started
    seconds["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, {
        "admit, all": ledger.gas_spent["admit"],
        "seal": outcome.gas_seal,
        "finalise": outcome.gas_finalise,
    }


def _policy(model: object, aggregator: str) -> Policy:
    return Policy(
        rounds=1,
        f=3,
        aggregator=aggregator,
        evaluation="outlier",
        gamma_initial=5,
        gamma_max=10,
        examples_cap=100,
        fractional_bits=12,
        weighting="stake",
        tau=1,
        cohort=COHORT,
        copy_cosine=999_000,
        strikes=0,
        precision="int16",
        layout=LAYOUT,
        model=model,  # type: ignore[arg-type]
        frozen=model,  # type: ignore[arg-type]
        config={},
    )


def _reply(policy: Policy, ledger: TaskLedger, index: int, account: object) -> Message:
    """A common step and a deviation of the customer's own, signed."""
    common = np.random.default_rng(1).normal(0, 300, PARAMETERS)
    own = np.random.default_rng([2, index]).normal(0, 200, PARAMETERS)
    blob = pack(np.rint(common + own).astype(np.int64), LAYOUT, policy.update_dtype)
    ref = reference(blob)
    receipt = Receipt(
        task=policy.digest,
        round=1,
        customer=account.address,  # type: ignore[attr-defined]
        model=policy.model.sha256,
        update=ref.sha256,
        size=ref.size,
        cid=ref.cid,
        encoding=ENCODING,
        examples=50,
        epsilonMicros=4_000_000,
        deltaPicos=10_000_000,
        releases=1,
    )
    signed = receipt.sign(account, ledger.domain)  # type: ignore[arg-type]
    return Message(Reply(blob, signed).to_records(), 0, MessageType.TRAIN, group_id=f"1/{index}")


def main() -> None:
    """Play every size and print the tables."""
    parser = argparse.ArgumentParser(description="What a round costs by its number of customers.")
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="N")
    parser.add_argument("--aggregator", default="multi_krum")
    options = parser.parse_args()
    found = []
    for size in options.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(play, (size, options.aggregator)))
        print(f"{size:,} customers: {found[-1][0]['all']:.1f} s", file=sys.stderr, flush=True)
    _table("seconds, peak MB", options.sizes, [seconds for seconds, _ in found])
    _table("gas", options.sizes, [gas for _, gas in found])


def _table(title: str, sizes: list[int], columns: list[dict[str, float]]) -> None:
    print(f"{title:18}" + "".join(f"{size:>14,}" for size in sizes) + f"{'beside n log n':>16}")
    for name in columns[0]:
        values = [column[name] for column in columns]
        cells = "".join(f"{value:>14,.0f}" if title == "gas" else f"{value:>14,.2f}" for value in values)
        told = ""
        if len(sizes) > 1 and min(values[-2:]) > 0:
            expected = sizes[-1] * math.log(sizes[-1]) / (sizes[-2] * math.log(sizes[-2]))
            told = f"{values[-1] / values[-2] / expected:>16.2f}"
        print(f"{name:18}{cells}{told}")


if __name__ == "__main__":
    main()
