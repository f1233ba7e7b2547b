"""Cards: what members say of themselves, signed; and the file that a task is published with."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli import main
from app.config import compose
from app.ledger.keystore import create
from app.members import read_members
from app.mining.config import MinerConfig
from app.parties import parties_of, vrf_secret
from app.protocol.card import CUSTOMER, MINER, Card
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.keys import simulation_account
from app.protocol.vrf import public_key
from app.service.config import compose_service

NODE_KEY = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQ"


def account(name: str):
    return simulation_account(5, name)


def miner(index: int, service: str | None = None) -> Card:
    who = account(f"miner{index}")
    return Card(MINER, who.address, public_key(vrf_secret(who)), service or f"10.0.0.{index}:7700").signed(who)


def customer(index: int) -> Card:
    who = account(f"customer{index}")
    return Card(CUSTOMER, who.address, node_key=f"{NODE_KEY}{index}").signed(who)


def write(path: Path, *cards: Card) -> str:
    path.write_bytes(b"".join(card.to_bytes() + b"\n" for card in cards))
    return str(path)


def test_a_card_survives_the_way_and_every_change_of_it_is_noticed() -> None:
    card = miner(1)
    assert Card.from_bytes(card.to_bytes()) == card
    for key, value in json.loads(card.to_bytes()).items():
        for other in ("0x" + "11" * 32, "elsewhere:1", CUSTOMER, 7, None):
            changed = json.loads(card.to_bytes()) | {key: other}
            if other == value:
                continue
            with pytest.raises(ProtocolError):
                Card.from_bytes(json.dumps(changed).encode())


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 500), value=st.integers(0, 255))
def test_bytes_from_anybody_raise_our_errors_alone(data: bytes, at: int, value: int) -> None:
    changed = bytearray(customer(1).to_bytes())
    changed[at % len(changed)] = value
    for candidate in (data, bytes(changed), b"x" * 5000):
        with suppress(ProtocolError):
            assert Card.from_bytes(candidate).to_bytes() is not None


def test_the_order_of_the_cards_is_that_of_the_members(tmp_path: Path) -> None:
    members = read_members(write(tmp_path / "m", customer(2), miner(1), customer(1), miner(0)))
    assert members.customers == (customer(2), customer(1))
    assert members.miners == (miner(1), miner(0))


@pytest.mark.parametrize(
    ("cards", "problem"),
    [
        ((customer(1), customer(1)), "two cards with one member"),
        ((miner(1, "a:1"), miner(2, "a:1")), "two cards with one service"),
        ((miner(1, "nowhere"),), "'nowhere' is not an address"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path: Path, cards: tuple[Card, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_members(write(tmp_path / "m", *cards))


def test_a_line_that_is_no_card_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(customer(1).to_bytes() + b"\n\nnonsense\n")
    with pytest.raises(ConfigError, match="line 3: a card must be JSON"):
        read_members(str(tmp_path / "m"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_members(str(tmp_path / "none"))


def deployed(path: str, *more: str) -> list[str]:
    return [
        *("members=file", f"members.path={path}", "wallet=keystore", "chain=rpc", "chain.url=http://127.0.0.1:8545"),
        *("store=ipfs", "strategy.f=0", *more),
    ]


def test_a_manufacturer_admits_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("HEARTH_PASSWORD", "secret")
    create("manufacturer", bytes(account("manufacturer").key), "secret", tmp_path / "keys", work=2)
    path = write(tmp_path / "m", *map(customer, range(3)), miner(0))
    parties = parties_of(compose(deployed(path, "customers=3", "miners.count=1", "attack=none")))
    assert parties.manufacturer.address == account("manufacturer").address
    assert parties.customers == tuple(customer(index).member for index in range(3))
    assert parties.seats[0].vrf_key == miner(0).vrf_key
    assert parties.keys is None
    with pytest.raises(ConfigError, match=r"customers: 4 are not the 3 of .*\(allowed: customers=3\)"):
        parties_of(compose(deployed(path, "customers=4", "miners.count=1", "attack=none")))
    with pytest.raises(ConfigError, match=r"miners\.count: 4 are not the 1"):
        parties_of(compose(deployed(path, "customers=3", "attack=none")))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("wallet=simulation", "wallet: members=file does not go with wallet=simulation"),
        ("chain=embedded chain.url=null", "chain: members=file does not go with chain=embedded"),
        ("store=embedded", "store: the blobs would lie in the run directory"),
        ("members=simulation", "members.path: is not used by members=simulation"),
    ],
)
def test_what_does_not_go_with_members_elsewhere_is_refused(change: str, problem: str) -> None:
    keys = dict(text.partition("=")[::2] for text in deployed("m"))
    keys |= dict(text.partition("=")[::2] for text in change.split())
    with pytest.raises(ConfigError, match=problem):
        compose([f"{key}={value}" for key, value in keys.items()])


def test_python_m_app_says_where_members_elsewhere_are_run(tmp_path: Path, monkeypatch, capsys) -> None:
    from app.__main__ import main as run

    monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("HEARTH_PASSWORD", "secret")
    monkeypatch.setenv("HEARTH_RUNS", str(tmp_path / "runs"))
    create("manufacturer", bytes(account("manufacturer").key), "secret", tmp_path / "keys", work=2)
    path = write(tmp_path / "m", *map(customer, range(3)), miner(0))
    assert run([*deployed(path), "customers=3", "miners.count=1", "attack=none", "data=digits"]) == 2
    assert "flwr run, see docs/deployment.md" in capsys.readouterr().err


class TestCommand:
    @pytest.fixture(autouse=True)
    def keys(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEARTH_KEYS", str(tmp_path / "keys"))
        monkeypatch.setenv("HEARTH_PASSWORD", "secret")
        for name in ("alice", "m0"):
            create(name, bytes(account(name).key), "secret", tmp_path / "keys", work=2)
        (tmp_path / "node.pub").write_text(f"{NODE_KEY} comment with words\n")

    def test_cards_are_made_shown_and_taken_apart(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["members", "card", "alice", "--customer", "--node-key", str(tmp_path / "node.pub")]) == 0
        assert main(["members", "card", "m0", "--miner", "--service", "m0.example.org:7700"]) == 0
        lines = capsys.readouterr().out
        (tmp_path / "m").write_text(lines)
        members = read_members(str(tmp_path / "m"))
        assert members.customers[0].node_key == NODE_KEY
        assert members.miners[0].vrf_key == public_key(vrf_secret(account("m0")))
        assert main(["members", "show", str(tmp_path / "m")]) == 0
        shown = capsys.readouterr().out
        assert account("alice").address in shown
        assert "1 customers, 1 miners" in shown
        assert main(["members", "node-keys", str(tmp_path / "m"), str(tmp_path / "pub")]) == 0
        assert (tmp_path / "pub" / "customer-0.pub").read_text() == NODE_KEY + "\n"

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["alice", "--customer"], "--node-key"),
            (["m0", "--miner"], "--service"),
            (["m0", "--miner", "--service", "here"], "is not an address"),
            (["m0"], "required"),
            (["nobody", "--miner", "--service", "a:1"], "nobody"),
        ],
    )
    def test_what_is_missing_is_named(self, arguments: list[str], problem: str, capsys) -> None:
        assert main(["members", "card", *arguments]) == 2
        assert problem in capsys.readouterr().err

    def test_a_private_key_given_by_mistake_is_not_put_on_a_card(self, tmp_path: Path, capsys) -> None:
        (tmp_path / "node").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n")
        assert main(["members", "card", "alice", "--customer", "--node-key", str(tmp_path / "node")]) == 2
        captured = capsys.readouterr()
        assert "abc" not in captured.out + captured.err


class TestServiceConfig:
    def test_a_file_lies_between_the_defaults_and_the_command_line(self, tmp_path: Path) -> None:
        file = tmp_path / "miner.yaml"
        file.write_text("poll: 7.5\nkey:\n  name: mine\nchain:\n  url: http://10.0.0.1:8545\n")
        found = compose_service("miner", MinerConfig, ["key.name=other"], file)
        assert (found.poll, found.key.name, found.chain.url) == (7.5, "other", "http://10.0.0.1:8545")
        assert found.listen.address == "127.0.0.1:7700"
        assert found.chain.chain.depth == 2

    @pytest.mark.parametrize(
        ("overrides", "problem"),
        [
            (["pol=3"], "pol: unknown key, did you mean poll"),
            (["poll=x"], "poll: 'x' is not"),
            (["poll=0"], "poll: 0.0 is out of range"),
            (["log=xml"], "log: 'xml' is not known"),
            (["store.name=embedded", "store.url=null"], "store.path: must be given"),
            (["listen.address=0.0.0.0:7700"], "listen.certificate: 0.0.0.0:7700 can be reached from elsewhere"),
            (["listen.address=nowhere"], "'nowhere' is not an address"),
            (["listen.certificate=x"], "comes with a key"),
            (["chain.url=ftp://x"], "chain.url"),
            (["listen.per_minute=0"], "listen.per_minute: 0 is out of range"),
            (["poll=1", "poll=2"], "poll: is given twice"),
        ],
    )
    def test_what_is_wrong_names_the_key(self, overrides: list[str], problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            compose_service("miner", MinerConfig, overrides, None)

    @pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "\x00", "polls: 3\n"])
    def test_a_file_that_is_none_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "f").write_text(text)
        with pytest.raises(ConfigError):
            compose_service("miner", MinerConfig, [], tmp_path / "f")
