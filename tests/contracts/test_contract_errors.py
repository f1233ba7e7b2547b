"""Every custom error of the contracts, by the call that must cause it; the last test shows that none is left out."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from task_world import CID, MANUFACTURER, STRANGER, TERMS, World, blob, customers, digest, miners, reverts
from web3 import Web3

from app.ledger.chain import Chain
from app.ledger.contract import artifact
from app.ledger.task_ledger import TaskLedger
from app.protocol.cid import cid_to_bytes, cid_to_text
from app.protocol.errors import ContractRevertedError

ZERO = "0x" + "00" * 20
NONE = bytes(32)
GOOD_CID = cid_to_bytes(CID)
OTHER_CID = cid_to_text(GOOD_CID[:-1] + b"\0")


def send(task: TaskLedger, who: Any, name: str, *arguments: Any) -> None:
    task._send(who, "test", name, name, *arguments)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def deploy(chain: Chain, **changes: Any) -> TaskLedger:
    """A task that is not open yet."""
    return TaskLedger.deploy(chain, MANUFACTURER, replace(TERMS, **changes))


@pytest.fixture(scope="module")
def collecting(chain: Chain) -> World:
    return World(chain)


@pytest.fixture(scope="module")
def sealed(chain: Chain) -> World:
    world = World(chain)
    world.seal(1, [0, 1, 2, 3, 4, 5])
    return world


@pytest.fixture
def admitting(chain: Chain) -> TaskLedger:
    return deploy(chain)


@pytest.mark.parametrize(
    "changes", [{"rounds": 0}, {"gamma_max": 0, "gamma_initial": 0}, {"gamma_initial": 6, "gamma_max": 5}]
)
def test_wrong_terms(chain: Chain, changes: dict[str, int]) -> None:
    terms = replace(TERMS, **changes)
    with reverts("WrongTerms", terms.rounds, terms.gamma_initial, terms.gamma_max):
        deploy(chain, **changes)


@pytest.mark.parametrize("name", ["policy", "model", "seed"])
def test_terms_need_digests(chain: Chain, name: str) -> None:
    with reverts("ZeroDigest"):
        deploy(chain, **{name: NONE})


class TestAdmission:
    def test_only_by_the_manufacturer(self, admitting: TaskLedger) -> None:
        for name, arguments in {"admitCustomers": [[]], "admitMiners": [[]], "open": []}.items():
            with reverts("NotManufacturer", STRANGER.address):
                send(admitting, STRANGER, name, *arguments)

    def test_not_once_open(self, collecting: World) -> None:
        for name, arguments in {"admitCustomers": [[]], "admitMiners": [[]], "open": []}.items():
            with reverts("WrongPhase", 1):
                send(collecting.task, MANUFACTURER, name, *arguments)

    def test_no_rounds_before_it_ends(self, admitting: TaskLedger) -> None:
        for name in ("expire", "claim"):
            with reverts("WrongPhase", 0) if name == "expire" else reverts("NotCustomer", STRANGER.address):
                send(admitting, STRANGER, name)
        with reverts("WrongPhase", 0):
            send(admitting, MANUFACTURER, "seal", 1, digest("r"), digest("m"), 1, GOOD_CID, [1])

    def test_zero_address(self, admitting: TaskLedger) -> None:
        with reverts("ZeroAddress"):
            send(admitting, MANUFACTURER, "admitCustomers", [ZERO])
        with reverts("ZeroAddress"):
            send(admitting, MANUFACTURER, "admitMiners", [(ZERO, 1, digest("vrf"))])

    def test_twice(self, admitting: TaskLedger) -> None:
        who = STRANGER.address
        with reverts("AlreadyAdmitted", who):
            send(admitting, MANUFACTURER, "admitCustomers", [who, who])
        send(admitting, MANUFACTURER, "admitCustomers", [who])
        with reverts("AlreadyAdmitted", who):
            send(admitting, MANUFACTURER, "admitCustomers", [who])
        send(admitting, MANUFACTURER, "admitMiners", [(who, 1, digest("vrf"))])  # both roles are allowed
        with reverts("AlreadyAdmitted", who):
            send(admitting, MANUFACTURER, "admitMiners", [(who, 1, digest("another vrf"))])

    def test_vrf_keys(self, admitting: TaskLedger) -> None:
        one, two = (miner.address for miner in miners(2))
        with reverts("WrongVrfKey", hexed(NONE)):
            send(admitting, MANUFACTURER, "admitMiners", [(one, 1, NONE)])
        with reverts("WrongVrfKey", hexed(digest("vrf"))):
            send(admitting, MANUFACTURER, "admitMiners", [(one, 1, digest("vrf")), (two, 1, digest("vrf"))])

    def test_too_many_miners(self, admitting: TaskLedger) -> None:
        seats = [(Web3.to_checksum_address((1 + i).to_bytes(20, "big")), 1, digest("vrf", i)) for i in range(256)]
        send(admitting, MANUFACTURER, "admitMiners", seats[:255])
        with reverts("TooManyMiners", 256):
            send(admitting, MANUFACTURER, "admitMiners", seats[255:])

    def test_too_few(self, admitting: TaskLedger) -> None:
        addresses = [customer.address for customer in customers(7)]
        send(admitting, MANUFACTURER, "admitCustomers", addresses[:6])
        with reverts("TooFewCustomers", 6, 7):
            send(admitting, MANUFACTURER, "open")
        send(admitting, MANUFACTURER, "admitCustomers", addresses[6:])
        with reverts("NoMiners"):
            send(admitting, MANUFACTURER, "open")
        send(admitting, MANUFACTURER, "admitMiners", [(STRANGER.address, 1, digest("vrf"))])
        send(admitting, MANUFACTURER, "open")
        assert admitting.state().quorum == 1


class TestSubmit:
    def test_by_a_customer(self, collecting: World) -> None:
        with reverts("NotCustomer", STRANGER.address):
            collecting.submit(0, customer=STRANGER.address, signer=STRANGER)

    def test_in_the_current_round(self, collecting: World) -> None:
        with reverts("WrongRound", 2, 1):
            collecting.submit(0, round=2)

    def test_for_this_task(self, collecting: World) -> None:
        with reverts("WrongTask", hexed(digest("another")), hexed(TERMS.policy)):
            collecting.submit(0, task=digest("another"))

    def test_not_after_the_seal(self, sealed: World) -> None:
        with reverts("WrongPhase", 2):
            sealed.submit(0)

    def test_signed_by_the_customer(self, collecting: World) -> None:
        with reverts("WrongSignature", 0):
            collecting.submit(0, signer=STRANGER)
        good = collecting.receipt(0)
        with reverts("WrongSignature", 0):
            collecting.task.submit(STRANGER, replace(good, signature=good.signature[:64]))
        changed = replace(good, receipt=replace(good.receipt, examples=11))
        with reverts("WrongSignature", 0):
            collecting.task.submit(STRANGER, changed)

    @pytest.mark.parametrize("cid", ["", "b", "Qm" + "a" * 44, CID.upper(), CID + "-", "b" * 129, "b\u00e9"])
    def test_what_would_void_a_manifest_stays_out(self, collecting: World, cid: str) -> None:
        with reverts("WrongCid", hexed(cid.encode())):
            collecting.submit(0, cid=cid)

    def test_encoding(self, collecting: World) -> None:
        with reverts("WrongEncoding", "float32"):
            collecting.submit(0, encoding="float32")

    def test_once(self, chain: Chain) -> None:
        world = World(chain)
        world.submit(6)
        with reverts("AlreadySubmitted", 6):
            world.submit(6)

    def test_hash_is_the_eip_712_digest(self, collecting: World) -> None:
        signed = collecting.receipt(3, epsilonMicros=2**64 - 1)
        assert collecting.task._call("hashReceipt", astuple(signed.receipt)) == signed.receipt.digest(
            collecting.task.domain
        )


class TestSeal:
    def seal(self, task: TaskLedger, who: Any = MANUFACTURER, **changes: Any) -> None:
        values = {
            "round": 1,
            "root": digest("root"),
            "manifest": digest("manifest"),
            "size": 1,
            "cid": GOOD_CID,
            "participants": [0b1111111],
        }
        send(task, who, "seal", *{**values, **changes}.values())

    @pytest.mark.parametrize(
        ("changes", "error", "arguments"),
        [
            ({"who": STRANGER}, "NotManufacturer", [STRANGER.address]),
            ({"round": 0}, "WrongRound", [0, 1]),
            ({"round": 2}, "WrongRound", [2, 1]),
            ({"root": NONE}, "ZeroDigest", []),
            ({"manifest": NONE}, "ZeroDigest", []),
            ({"cid": b""}, "WrongCid", ["0x"]),
            ({"cid": GOOD_CID[:-1]}, "WrongCid", [hexed(GOOD_CID[:-1])]),
            ({"cid": GOOD_CID + b"\0"}, "WrongCid", [hexed(GOOD_CID + b"\0")]),
            ({"cid": b"\x02" + GOOD_CID[1:]}, "WrongCid", [hexed(b"\x02" + GOOD_CID[1:])]),
            ({"cid": bytes(36)}, "WrongCid", [hexed(bytes(36))]),
            ({"participants": []}, "WrongLength", [0, 1]),
            ({"participants": [1, 0]}, "WrongLength", [2, 1]),
            ({"participants": [0]}, "NoParticipants", []),
            ({"participants": [0b10000001]}, "UnknownCustomers", [0b10000000]),
            ({"participants": [1 << 255 | 1]}, "UnknownCustomers", [1 << 255]),
        ],
    )
    def test_refused(self, collecting: World, changes: dict[str, Any], error: str, arguments: list[object]) -> None:
        with reverts(error, *arguments):
            self.seal(collecting.task, **changes)

    def test_once(self, sealed: World) -> None:
        with reverts("WrongPhase", 2):
            self.seal(sealed.task)

    def test_omitted(self, chain: Chain) -> None:
        world = World(chain)
        task = world.task
        for index in (2, 4):
            world.submit(index)
        with reverts("Omitted", 0, 0b10100):
            self.seal(task, participants=[0b1101011])
        with reverts("Omitted", 0, 0b10000):
            self.seal(task, participants=[0b1101111])
        self.seal(task, participants=[0b0010100])

    def test_bits_of_a_second_word(self, chain: Chain) -> None:
        task = World(chain, n=257).task
        with reverts("UnknownCustomers", 2):
            self.seal(task, participants=[1, 3])
        with reverts("WrongLength", 1, 2):
            self.seal(task, participants=[1])
        self.seal(task, participants=[0, 1])

    def test_omitted_in_a_second_word(self, chain: Chain) -> None:
        world = World(chain, n=258)
        task = world.task
        world.submit(257)
        assert task.submitted(1) == (257,)
        with reverts("Omitted", 1, 0b10):
            self.seal(task, participants=[2**256 - 1, 0b01])
        self.seal(task, participants=[0, 0b10])

    def test_a_full_word_has_no_bits_to_spare(self, chain: Chain) -> None:
        task = World(chain, n=256).task
        self.seal(task, participants=[1 << 255])
        assert task.sealed(1) is not None


PRESENT = (0, 1, 2, 3, 4, 5)


class TestFinalise:
    @pytest.mark.parametrize(
        ("changes", "error", "arguments"),
        [
            ({"round": 2}, "WrongRound", [2, 1]),
            ({"task": digest("another")}, "WrongTask", [hexed(digest("another")), hexed(TERMS.policy)]),
            ({"model": NONE}, "ZeroDigest", []),
            ({"record": replace(blob("record", 1), sha256=NONE)}, "ZeroDigest", []),
            ({"seed": NONE}, "ZeroDigest", []),
            ({"honest": (0, 6)}, "HonestNotParticipant", [0, 1 << 6]),
            ({"leader": STRANGER.address}, "NotLeader", [miners(1)[0].address, STRANGER.address]),
            ({"leader": miners(2)[1].address}, "NotLeader", [miners(1)[0].address, miners(2)[1].address]),
        ],
    )
    def test_refused(self, sealed: World, changes: dict[str, Any], error: str, arguments: list[object]) -> None:
        with reverts(error, *arguments):
            sealed.task.finalise(sealed.miners[0], replace(sealed.call(1, PRESENT), **changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {"root": digest("another root")},
            {"manifest": digest("another manifest")},
            {"participants": (0, 1, 2, 3, 4)},
            {"participants": (0, 1, 2, 3, 4, 5, 6)},
        ],
    )
    def test_not_as_sealed(self, sealed: World, changes: dict[str, Any]) -> None:
        with pytest.raises(ContractRevertedError, match="NotAsSealed") as caught:
            sealed.task.finalise(
                sealed.miners[0], sealed.call(1, **{"participants": PRESENT, "honest": (0,), **changes})
            )
        assert caught.value.arguments[1] == hexed(sealed.task._call("commitment"))

    def test_shape(self, sealed: World) -> None:
        good = sealed.call(1, PRESENT)
        verdict = list(good.verdict(7))
        cid, honest = 6, 8  # their places
        for place, value, error, arguments in [
            (cid, bytes(36), "WrongCid", [hexed(bytes(36))]),
            (cid, b"", "WrongCid", ["0x"]),
            (honest, [], "WrongLength", [0, 1]),
            (honest, [63, 0], "WrongLength", [2, 1]),
        ]:
            changed = [*verdict[:place], value, *verdict[place + 1 :]]
            with reverts(error, *arguments):
                send(sealed.task, sealed.miners[0], "finalise", changed, good.manifest, good.signatures)

    def test_honest_in_a_second_word(self, chain: Chain) -> None:
        world = World(chain, n=258)
        world.seal(1, [0, 1, 256])
        with reverts("HonestNotParticipant", 1, 0b10):
            world.finalise(1, [0, 1, 256], [1, 257])
        world.finalise(1, [0, 1, 256], [1, 256])
        assert [world.task.reputation()[i] for i in (0, 1, 256, 257)] == [0, 4, 4, 3]

    def test_leader_is_a_miner(self, sealed: World) -> None:
        with reverts("NotMiner", STRANGER.address):
            sealed.task.finalise(STRANGER, sealed.call(1, PRESENT, leader=STRANGER.address))

    def test_not_before_the_seal(self, collecting: World) -> None:
        with reverts("WrongPhase", 1):
            collecting.task.finalise(collecting.miners[0], collecting.call(1))

    def test_not_after_the_last_round(self, chain: Chain) -> None:
        world = World(chain, rounds=1)
        world.seal(1)
        world.finalise(1)
        attempts: list[Callable[[], object]] = [
            lambda: world.finalise(1),
            lambda: world.finalise(2),
            lambda: world.seal(2),
            lambda: world.submit(0, round=2),
        ]
        for attempt in attempts:
            with reverts("WrongPhase", 3):
                attempt()


class TestQuorum:
    @pytest.mark.parametrize(("m", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7)])
    def test_exactly_enough(self, chain: Chain, m: int, quorum: int) -> None:
        world = World(chain, m=m)
        assert world.task.state().quorum == quorum
        world.seal(1)
        call = world.call(1)
        with reverts("NoQuorum", quorum - 1, quorum):
            world.task.finalise(world.miners[0], replace(call, signatures=world.sign(call, world.miners[: quorum - 1])))
        world.task.finalise(world.miners[0], replace(call, signatures=world.sign(call, world.miners[-quorum:])))
        done = world.task.finalised(1)
        assert done is not None
        assert done.signers == tuple(range(m - quorum, m))

    def test_all_may_sign(self, chain: Chain) -> None:
        world = World(chain)
        world.seal(1)
        call = world.call(1)
        world.task.finalise(world.miners[0], replace(call, signatures=world.sign(call, world.miners)))

    def test_no_signature_counts_twice(self, sealed: World) -> None:
        call = sealed.call(1, PRESENT)
        first, second, third = call.signatures
        last = sorted(sealed.miners[:3], key=lambda who: int(who.address, 16))
        with reverts("SignersNotAscending", 1, last[0].address):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=(first, first, second)))
        with reverts("SignersNotAscending", 2, last[2].address):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=(first, third, third)))
        with reverts("SignersNotAscending", 1, last[0].address):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=(second, first, third)))

    def test_strangers_do_not_count(self, sealed: World) -> None:
        call = sealed.call(1, PRESENT)
        signatures = sealed.sign(call, [*sealed.miners[:2], STRANGER])
        with reverts("NotMiner", STRANGER.address):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=signatures))

    def test_a_customer_is_no_miner(self, sealed: World) -> None:
        call = sealed.call(1, PRESENT)
        signatures = sealed.sign(call, [*sealed.miners[:2], customers(1)[0]])
        with reverts("NotMiner", customers(1)[0].address):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=signatures))

    @pytest.mark.parametrize(
        "domain", [{"chainId": 1}, {"verifyingContract": STRANGER.address}, {"version": "2"}, {"name": "Earth"}]
    )
    def test_another_domain(self, sealed: World, domain: dict[str, Any]) -> None:
        call = sealed.call(1, PRESENT)
        foreign = sealed.sign(call, sealed.miners[:3], **domain)  # recovers to accounts that nobody has
        with pytest.raises(ContractRevertedError, match=r"NotMiner|SignersNotAscending"):
            sealed.task.finalise(sealed.miners[0], replace(call, signatures=foreign))

    @pytest.mark.parametrize(
        "changes",
        [
            {"model": digest("another")},
            {"record": blob("another")},
            {"record": replace(blob("record", 1), size=999)},
            {"record": replace(blob("record", 1), cid=OTHER_CID)},
            {"rank": 1},
            {"seed": digest("another")},
            {"honest": (0, 1)},
        ],
    )
    def test_every_field_is_signed(self, sealed: World, changes: dict[str, Any]) -> None:
        with pytest.raises(ContractRevertedError, match=r"NotMiner|SignersNotAscending"):
            sealed.task.finalise(sealed.miners[0], replace(sealed.call(1, PRESENT), **changes))

    def test_another_miners_turn(self, sealed: World) -> None:
        """Who leads is signed too: another miner cannot send the same signatures under its own name."""
        thief = sealed.miners[1]
        with pytest.raises(ContractRevertedError, match=r"NotMiner|SignersNotAscending"):
            sealed.task.finalise(thief, replace(sealed.call(1, PRESENT), leader=thief.address))

    def test_malformed_signatures(self, sealed: World) -> None:
        call = sealed.call(1, PRESENT)
        first, second, third = call.signatures
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        high_s = (order - int.from_bytes(second[32:64], "big")).to_bytes(32, "big")
        malleable = second[:32] + high_s + bytes([55 - second[64]])
        for wrong in (b"", second[:64], second + b"\0", malleable, second[:64] + b"\x05", bytes(65)):
            with reverts("WrongSignature", 1):
                sealed.task.finalise(sealed.miners[0], replace(call, signatures=(first, wrong, third)))


def test_hash_is_the_eip_712_digest(sealed: World) -> None:
    call = sealed.call(1, PRESENT, honest=(1, 2))
    domain = sealed.task._call("eip712Domain")
    assert domain[1:5] == ["Hearth", "1", 2020, sealed.task.address]
    signature = sealed.signature(call, sealed.miners[0])
    recovered = sealed.task.chain.w3.eth.account._recover_hash(
        sealed.task._call("hashVerdict", call.verdict(7)), signature=signature
    )
    assert recovered == sealed.miners[0].address


def test_no_ether_is_taken(collecting: World) -> None:
    with pytest.raises(ContractRevertedError):
        collecting.task.chain.transfer(STRANGER, collecting.task.address, 1)


def test_every_error_is_provoked_somewhere() -> None:
    """By name: as a text of its own in a test beside this one, not in a comment or a docstring.

    Not possible: our names are short strings; the contract always has what it pays; a nonce in a call is checked.
    """
    named: set[str] = set()
    for path in Path(__file__).parent.glob("test_contract_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    declared = {entry["name"] for entry in artifact("HearthTask").abi if entry["type"] == "error"}
    impossible = {"InvalidShortString", "StringTooLong", "InsufficientBalance"}
    assert declared - impossible - named == set()
    assert impossible <= declared
