from __future__ import annotations

from dataclasses import replace

import pytest

from app.protocol.digest import BlobRef
from app.protocol.errors import ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.signing import Domain
from app.protocol.verdict import Verdict, quorum_of

MINER = simulation_account(1, "miner")
DOMAIN = Domain(31337, simulation_account(1, "contract").address)
CID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
RECORD = BlobRef(b"\4" * 32, 1000, CID)
VERDICT = Verdict(b"\1" * 32, 3, b"\2" * 32, b"\3" * 32, RECORD, (0, 2, 5), (0, 5), 300, MINER.address, 1, b"\5" * 32)
CHANGES = {
    "task": b"\7" * 32,
    "round": 4,
    "root": b"\7" * 32,
    "model": b"\7" * 32,
    "record": replace(RECORD, sha256=b"\7" * 32),
    "participants": (0, 2),
    "honest": (0, 2, 5),
    "customers": 200,
    "leader": DOMAIN.contract,
    "rank": 0,
    "seed": b"\7" * 32,
}


def test_the_signer_is_recovered() -> None:
    assert VERDICT.signer(VERDICT.sign(MINER, DOMAIN), DOMAIN) == MINER.address


@pytest.mark.parametrize("name", CHANGES)
def test_every_member_is_signed(name: str) -> None:
    changed = replace(VERDICT, **{name: CHANGES[name]})
    assert changed.digest(DOMAIN) != VERDICT.digest(DOMAIN)
    assert changed.signer(VERDICT.sign(MINER, DOMAIN), DOMAIN) != MINER.address


@pytest.mark.parametrize("changes", [{"size": 999}, {"cid": CID[:-2] + "4e"}])
def test_the_record_is_signed_with_size_and_place(changes: dict[str, object]) -> None:
    changed = replace(VERDICT, record=replace(RECORD, **changes))
    assert changed.digest(DOMAIN) != VERDICT.digest(DOMAIN)


def test_another_domain_is_another_signer() -> None:
    signature = VERDICT.sign(MINER, DOMAIN)
    assert VERDICT.signer(signature, Domain(1, DOMAIN.contract)) != MINER.address
    with pytest.raises(ProtocolError):
        VERDICT.signer(signature[:-1], DOMAIN)


def test_customers_travel_as_bitmaps() -> None:
    assert VERDICT.values()["participants"] == [0b100101, 0]
    assert VERDICT.values()["honest"] == [0b100001, 0]


@pytest.mark.parametrize(
    ("miners", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (100, 67)]
)
def test_quorum(miners: int, quorum: int) -> None:
    assert quorum_of(miners) == quorum


@pytest.mark.parametrize("miners", range(1, 60))
def test_two_quorums_share_an_honest_miner(miners: int) -> None:
    faulty = (miners - 1) // 3
    assert 2 * quorum_of(miners) - miners > faulty
    assert quorum_of(miners) <= miners - faulty or miners % 3 != 1
