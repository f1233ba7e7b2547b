"""Print what the contract costs: python tests/benchmarks/gas.py [--write]

Gas of every transaction of a task; and, to compare with peers that keep every update's digest in a slot of its own,
what a round costs a customer if ours did so too. The clock, the keys and so all signatures are fixed: the same contract
gives the same figures on every machine, and every node with Prague's rules gives them too. ``--write`` renews the
committed snapshot (tests/contracts/gas_snapshot.json), which a test compares: a change has to be deliberate."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from task_world import ETHER, MANUFACTURER, STRANGER, World, account, customers, digest, funded, now, set_time

from app.ledger.chain import Chain, embedded_chain
from app.ledger.deposits import Role
from app.ledger.rewards import Claim

SNAPSHOT = Path(__file__).parents[1] / "contracts" / "gas_snapshot.json"
SIZES = [(10, 4), (10, 10), (100, 10), (1000, 10)]
DEPOSIT = 1000
DEPOSITS = "1000 customers, 10 miners, deposits"


def main() -> None:
    """Print the table, and write it down if asked to."""
    found = snapshot() | {DEPOSITS: with_deposits()}
    print(json.dumps(found, indent=1))
    if "--write" in sys.argv:
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")


def snapshot() -> dict[str, dict[str, int]]:
    """Return the gas of everything, by situation and transaction."""
    found = {}
    for n, m in SIZES:
        found[f"{n} customers, {m} miners"] = rounds(n, m, reward=ETHER)
    found["100 customers, 10 miners, no reward"] = rounds(100, 10)
    found["per customer, every digest in a slot of its own"] = like_for_like(found)
    return found | {"64 customers, 4 miners, once": once()}


def with_deposits() -> dict[str, int]:
    """Return the gas of rounds in which everybody's deposit is checked: a thousand deposits take a minute to make."""
    return rounds(1000, 10, reward=ETHER, deposit=DEPOSIT)


def like_for_like(found: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return a round's gas for a customer that also writes its digest into a slot, in a transaction of its own."""
    compiled = json.loads((SNAPSHOT.parent / "DigestSlots.json").read_text())
    with chain() as place:
        factory = place.w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
        address = place.send(MANUFACTURER, factory.constructor(), "deploy").contract
        slots = place.w3.eth.contract(address=address, abi=compiled["abi"])
        own = place.send(customers(1)[0], slots.functions.record(3, digest("update", 0, 3)), "record").gas
    return {size: own + gas["round 3, per customer"] for size, gas in found.items() if "reward" not in size}


def rounds(n: int, m: int, **terms: int) -> dict[str, int]:
    """Play three rounds, one customer in ten evaluated L in each."""
    with chain(n, m) as place:
        world = World(place, n=n, m=m, f=2, gamma_initial=5, gamma_max=10, **terms)
        if world.terms.deposit:
            for role, members in ((Role.CUSTOMER, customers(n)), (Role.MINER, world.miners)):
                for member in members:
                    world.task.deposits.make(member, role, DEPOSIT)
        for number in (1, 2, 3):
            world.seal(number)
            world.finalise(number, honest=[i for i in range(n) if i % 10])
        first, seal, final = world.task.finalised(1), world.task.sealed(3), world.task.finalised(3)
    assert first is not None
    assert seal is not None
    assert final is not None
    return {
        "seal": seal.gas,
        "finalise, round 1": first.gas,
        "finalise, round 3": final.gas,
        "round 3, per customer": -(-(seal.gas + final.gas) // n),
    }


def once() -> dict[str, int]:
    """Return the gas of what is paid once, and of what is sent in need."""
    with chain() as place:
        world = World(place, n=64, reward=ETHER, deposit=DEPOSIT, skips=1, seal_window=10)
        task, some = world.task, customers(64)
        gas = dict(task.gas_spent)
        present = range(10)
        for index in present:
            gas["deposit, customer"] = task.deposits.make(some[index], Role.CUSTOMER, DEPOSIT).gas
        for miner in world.miners:
            gas["deposit, miner"] = task.deposits.make(miner, Role.MINER, DEPOSIT).gas
        gas["submit"] = task.submit(STRANGER, world.receipt(0)).gas
        world.seal(1, present)
        world.finalise(1, present)
        gas["claim"] = task.rewards.claim(some[1]).gas
        claim = Claim(some[2].address, account("purse").address, 0, now(place) + 1000)
        gas["claim, relayed"] = task.rewards.relay(STRANGER, claim, claim.sign(some[2], task.domain)).gas
        one, two = world.receipt(3), world.receipt(3, examples=11)
        gas["slash a customer"] = task.deposits.slash_customer(STRANGER, one, two).gas
        verdict = world.call(1)
        verdicts = [verdict, replace(verdict, model=digest("lie"))]
        signed = [replace(call, signatures=(world.signature(call, world.miners[1]),)) for call in verdicts]
        gas["slash a miner"] = task.deposits.slash_miner(STRANGER, *signed, 64).gas
        set_time(place, now(place) + 100)
        gas["expire"] = task.expire(STRANGER).gas
        gas["cancel"] = task.cancel(MANUFACTURER).gas
        gas["reclaim"] = task.rewards.reclaim(STRANGER).gas
        set_time(place, now(place) + 10**6)
        gas["refund"] = task.deposits.refund(some[0], Role.CUSTOMER).gas
    return gas


@contextmanager
def chain(n: int = 64, m: int = 10) -> Iterator[Chain]:
    """A new chain for so many members, whose clock stands still but for a second a block."""
    with tempfile.TemporaryDirectory() as folder:
        place = embedded_chain(Path(folder) / "chain.sqlite", funded=funded(n, m), genesis_time=1_700_000_000)
        set_time(place, 0)
        yield place
        place.close()


if __name__ == "__main__":
    main()
