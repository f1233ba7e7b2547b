"""``hearth task``: what is read and sent, in the words a user types, against a file, a run and a served chain."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "ledger"))

from task_world import ETHER, MANUFACTURER, STRANGER, World, account, customers, funded, now

from app.cli import main
from app.ledger.chain import Chain, embedded_chain, open_chain
from app.ledger.deposits import Role
from app.ledger.embedded import EmbeddedNode
from app.ledger.keystore import create
from app.ledger.server import serving

PASSWORD = "correct horse"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Key files of the manufacturer, two customers and a stranger."""
    home = tmp_path / "keys"
    monkeypatch.setenv("HEARTH_KEYS", str(home))
    monkeypatch.setenv("HEARTH_PASSWORD", PASSWORD)
    for name in ("manufacturer", "customer 0", "customer 1", "stranger"):
        create(name.replace(" ", "-"), bytes(account(name).key), PASSWORD, home, work=2**12)
    return home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chain.sqlite"


@pytest.fixture
def chain(file: Path) -> Iterator[Chain]:
    chain = embedded_chain(file, funded=funded(7, 4))
    yield chain
    chain.close()


def earned(chain: Chain, **terms: Any) -> World:
    """A task whose first round is finalised: customers have earned, but for the last one."""
    world = World(chain, **{"reward": ETHER, **terms})
    if world.terms.deposit:
        for role, members in ((Role.CUSTOMER, customers(7)), (Role.MINER, world.miners)):
            for member in members:
                world.task.deposits.make(member, role, world.terms.deposit)
    world.seal(1)
    world.finalise(1, honest=range(6))
    return world


def hearth(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["task", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    if code:
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
    return printed.out + printed.err


def test_show_says_what_a_person_wants_to_know(
    chain: Chain, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    world = earned(chain, deposit=ETHER // 100, submission_window=600, seal_window=7200, skips=2)
    text = hearth(capsys, "show", file)
    assert f"{world.task.address} on chain 2020" in text
    assert "round 2 of 3: collects updates" in text
    assert "a seal without all customers counts from" in text
    assert "(in 10 min)" in text
    assert "anyone may end the round unsealed from" in text
    assert "(in 2 h)" in text
    assert "0 rounds expired (at most 2 may before the task fails)" in text
    assert "7 customers (f = 2), 4 miners, quorum 3" in text
    assert "1 ether; the contract holds 1.11 ether" in text
    assert "deposit made" in text
    assert f"leader {world.miners[0].address} (rank 0)" in text
    assert "6 of 7 customers honest" in text


def test_show_for_machines_is_the_contracts_own_account(
    chain: Chain, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = earned(chain)
    found = json.loads(hearth(capsys, "show", file, "--json"))
    state = world.task.state()
    assert found["state"]["phase"] == "collection"
    assert found["state"]["model"] == "0x" + state.model.hex()
    assert [customer["reputation"] for customer in found["customers"]] == list(world.task.reputation())
    assert [customer["owed"] for customer in found["customers"]][5:] == [world.task.rewards.owed(world.addresses[5]), 0]
    assert found["owed"] == sum(customer["owed"] for customer in found["customers"])
    assert found["history"][0]["honest"] == list(range(6))
    assert (found["terms"]["rounds"], found["terms"]["reward"]) == (3, ETHER)


def test_every_phase_has_its_words(chain: Chain, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(chain, leader_window=60, skips=0)
    world.seal(1)
    text = hearth(capsys, "show", file)
    assert "round 1 of 3: sealed, waits for the miners' verdict" in text
    assert "leaders up to rank 0 may finalise, the next from" in text
    chain.wait_until(now(chain) + 86_401)
    world.task.expire(STRANGER)
    text = hearth(capsys, "show", file)
    assert "failed in round 1 of 3" in text
    assert "expired sealed, without a verdict" in text
    World(chain).task.cancel(MANUFACTURER)
    assert "there are 2 tasks on chain 2020" in hearth(capsys, "show", file, code=2)
    listed = hearth(capsys, "list", file)
    assert "cancelled by the manufacturer, 0 rounds finalised" in listed
    assert listed.count("published in block") == 2


def test_claim_directly_and_twice(chain: Chain, file: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = earned(chain)
    owed = world.task.rewards.owed(customers(1)[0].address)
    before = chain.balance(customers(1)[0].address)
    chain.close()
    text = hearth(capsys, "claim", file, "--key", "customer-0", "--yes")
    assert "done in block" in text
    evidence = open_chain(file, readonly=True)
    gained = evidence.balance(customers(1)[0].address) - before
    assert owed - 10**15 < gained < owed
    evidence.close()
    refused = hearth(capsys, "claim", file, "--key", "customer-0", "--yes", code=1)
    assert f"NothingToClaim({customers(1)[0].address})" in refused


def test_a_signed_claim_is_relayed_by_anyone(
    chain: Chain, file: Path, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = earned(chain)
    other = World(chain, reward=ETHER)
    target = account("a cold wallet").address
    claim = tmp_path / "claim.json"
    which = ("--contract", world.task.address)
    signing = ("claim", file, *which, "--key", "customer-1", "--to", target, "--sign-only", claim)
    owed = world.task.rewards.owed(customers(2)[1].address)
    assert "good once and for 720 hours" in hearth(capsys, *signing)
    assert "exists" in hearth(capsys, *signing, code=2)
    chain.close()
    relay = ("claim", file, "--key", "stranger", "--relay", claim, "--yes")
    wrong = hearth(capsys, *relay, "--contract", other.task.address, code=1)
    assert f"the claim is for {world.task.address} on chain 2020, not for {other.task.address}" in wrong
    assert f"to {target}" in hearth(capsys, *relay, *which)
    evidence = open_chain(file, readonly=True)
    assert evidence.balance(target) == owed > 0
    evidence.close()
    assert "InvalidAccountNonce(" in hearth(capsys, *relay, *which, code=1)  # good once
    claim.write_text(claim.read_text().replace(target, STRANGER.address))
    assert "is signed by" in hearth(capsys, *relay, *which, code=1)
    claim.write_text("{}")
    assert "is not a signed claim" in hearth(capsys, *relay, *which, code=2)


def test_the_manufacturer_cancels_and_reclaims(
    chain: Chain, file: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = earned(chain)
    world.task.rewards.claim(customers(1)[0])
    unclaimed = sum(world.task.rewards.owed(who) for who in world.addresses)
    address, head = world.task.address, chain.head()
    chain.close()
    assert "NotManufacturer(" in hearth(capsys, "cancel", file, "--key", "stranger", "--yes", code=1)
    assert "WrongPhase(1)" in hearth(capsys, "reclaim", file, "--key", "manufacturer", "--yes", code=1)
    assert "TooEarly(" in hearth(capsys, "expire", file, "--key", "stranger", "--yes", code=1)
    evidence = open_chain(file, readonly=True)
    assert evidence.head() == head  # nothing was sent
    evidence.close()
    hearth(capsys, "cancel", file, "--key", "manufacturer", "--yes")
    hearth(capsys, "reclaim", file, "--key", "stranger", "--yes")
    evidence = open_chain(file, readonly=True)
    assert evidence.balance(address) == unclaimed
    evidence.close()


def test_a_reader_that_has_seen_enough_is_no_error(chain: Chain, file: Path) -> None:
    earned(chain)
    line = [sys.executable, "-m", "app.cli", "task", "show", str(file), "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_one_key_on_two_chains_of_the_same_id(tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Of the same second they would have the same genesis, and nobody could tell the second from a reorganised first.
    for genesis_time, name in enumerate(("one", "two"), int(time.time()) - 60):
        chain = embedded_chain(tmp_path / name, funded=funded(7, 4), genesis_time=genesis_time)
        earned(chain)
        chain.close()
        assert "done in block" in hearth(capsys, "claim", tmp_path / name, "--key", "customer-0", "--yes")


def test_deposit_and_refund(chain: Chain, file: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    World(chain, deposit=ETHER)
    chain.close()
    member = (file, "--role", "customer", "--key", "customer-0", "--yes")
    assert "1 ether as a customer" in hearth(capsys, "deposit", *member)
    assert "AlreadyDeposited(0, 0)" in hearth(capsys, "deposit", *member, code=1)
    assert "WrongPhase(1)" in hearth(capsys, "refund", *member, code=1)


def test_bad_input_is_one_line_and_sends_nothing(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = EmbeddedNode.create(tmp_path / "served.sqlite", alloc={**funded(7, 4), account("poor").address: 10})
    create("poor", bytes(account("poor").key), PASSWORD, keys, work=2**12)
    with serving(node) as server:
        from app.ledger.chain import rpc_chain

        world = earned(rpc_chain(server.url))
        head = node.head()
        claim = ("claim", server.url, "--key", "customer-0")
        for arguments, said, code in (
            ((*claim, "--yes", "--chain-id", "5"), f"{server.url}: is the chain with the id 2020, not 5", 1),
            ((*claim, "--yes", "--contract", STRANGER.address), "there is no contract at", 1),
            ((*claim, "--yes", "--contract", "0x12"), "0x12: not an address", 1),
            (claim, "--yes: there is no terminal to agree at", 2),
            (("cancel", server.url, "--key", "nobody", "--yes"), "nobody.json cannot be read", 2),
            (("cancel", server.url, "--yes"), "--key: says whose key signs", 2),
            (("cancel", server.url, "--as", "manufacturer"), "is not a run directory", 2),
            (("expire", server.url, "--key", "poor", "--yes"), "TooEarly(", 1),
            (("show", "http://127.0.0.1:1"), "the node cannot be reached", 1),
            (("show", tmp_path / "nowhere"), "there is no", 2),
            (("burn",), "invalid choice", 2),
            ((*claim, "--to", STRANGER.address), "--to with --sign-only", 2),
            (("claim",), "the following arguments are required: PLACE", 2),
        ):
            assert said in hearth(capsys, *arguments, code=code), arguments
        hearth(capsys, "claim", server.url, "--key", "customer-0", "--sign-only", tmp_path / "claim")
        relay = ("claim", server.url, "--key", "poor", "--yes", "--relay", tmp_path / "claim")
        assert "has 0.00000000000000001 ether, and this may cost" in hearth(capsys, *relay, code=1)
        monkeypatch.setenv("HEARTH_PASSWORD", "wrong")
        assert "password: it does not open" in hearth(capsys, *claim, "--yes", code=2)
        assert node.head() == head
        assert world.task.rewards.owed(customers(1)[0].address) > 0
    node.close()
