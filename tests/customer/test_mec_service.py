"""A MEC server as a service: the same training as in the process, for its own customers alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.customer.cache import Cache
from app.customer.cipher import Cipher
from app.customer.distant_mec import DistantMec, DistantSteps
from app.customer.job import Job, MecServer
from app.customer.mec_config import MecConfig
from app.customer.mec_messages import (
    SERVICE,
    answer_from_bytes,
    gradient_from_bytes,
    gradient_to_bytes,
    job_from_bytes,
    job_to_bytes,
    key_from_bytes,
    read_metadata,
    step_from_bytes,
    step_to_bytes,
    trained_from_bytes,
    trained_to_bytes,
)
from app.customer.mec_service import MecService, read_customers
from app.customer.simulation import Cast, simulated_customer, split_model
from app.customer.wallets import wallet
from app.customer.wire import FeatureRelease
from app.protocol.errors import ConfigError, ProtocolError, RefusedError, ServiceError, ServiceUnavailableError
from app.protocol.keys import simulation_account
from app.service.client import Client
from app.service.config import compose_service
from app.service.listen import ListenConfig
from app.service.metrics import Metrics
from app.service.server import Server
from tests.customer.world import RECORD, SEED, world

LISTEN = ListenConfig("127.0.0.1:0", None, None, 2**24, 10_000, 4, None)
CUSTOMERS = tuple(simulation_account(SEED, "customer", index).address for index in range(2))
KEY = "0f" * 32


def release(records: int = 20, key: str = KEY) -> FeatureRelease:
    features = np.random.default_rng(0).normal(size=(records, 3)).astype(np.float32)
    return FeatureRelease(features, 1.0, (features[:, 0] > 0).astype(np.int64), key)


class Running:
    """A service on loopback and its clock."""

    def __init__(
        self,
        folder: Path,
        most_bytes: int = 2**30,
        cipher: Cipher | None = None,
        address: str = "127.0.0.1:0",
    ) -> None:
        self.now, self.metrics = 1_000_000.0, Metrics("mec")
        self.cache = Cache(folder, most_bytes, cipher)
        self.names = ["mec.example.org:7800"]
        service = self.service = MecService(CUSTOMERS, self.names, self.cache, split_model, self.metrics, self.tick)
        service._names = self.names  # type: ignore[assignment]
        self.server = Server(SERVICE, service.methods, replace(LISTEN, address=address), self.metrics)
        self.names.append(self.server.address)
        self.server.start()

    def tick(self) -> float:
        self.now += 0.001
        return self.now

    def mec(self, index: int = 0, seed: int = SEED, patience: float = 0.3) -> DistantMec:
        account = simulation_account(seed, "customer", index)
        return DistantMec(self.server.address, None, account, patience, self.tick)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    service = Running(tmp_path / "mec")
    yield service
    service.server.stop(0)


def test_a_customer_contributes_the_same_bytes_through_a_service(running: Running, tmp_path: Path) -> None:
    of = world()
    here = of.customer(0, tmp_path / "here").participate(of.announcement(), *of.blobs())
    there = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(running))
    assert there.participate(of.announcement(), *of.blobs()).update == here.update
    second = of.announcement(2)
    again = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(running))  # another process
    assert again.participate(second, *of.blobs()).receipt.receipt.releases == 1
    assert len(list((tmp_path / "mec" / CUSTOMERS[0]).iterdir())) == 1
    last = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(running))
    last.participate(of.announcement(of.policy.rounds), *of.blobs())
    assert list((tmp_path / "mec" / CUSTOMERS[0]).iterdir()) == []  # the task is over


def _through(running: Running, patience: float = 0.3) -> Cast:
    def server(index: int, home: Path) -> MecServer:
        return running.mec(index, patience=patience)

    return Cast(wallet, server)


def test_each_phone_sees_its_own_releases_alone(running: Running) -> None:
    running.mec(0).accept(release())
    assert running.mec(0).holds(KEY)
    assert not running.mec(1).holds(KEY)
    running.mec(1).forget(KEY)
    assert running.mec(0).holds(KEY)


def test_nobody_else_is_served(running: Running) -> None:
    with pytest.raises(RefusedError, match="is not served here"):
        running.mec(0, seed=99).holds(KEY)
    stranger = simulation_account(99, "customer", 0)
    disguised = running.mec(0)
    disguised._account = type("Disguised", (), {"address": CUSTOMERS[0], "sign_message": stranger.sign_message})()  # type: ignore[assignment]
    with pytest.raises(RefusedError, match="is not signed by"):
        disguised.holds(KEY)


def test_a_request_is_good_for_one_server_one_body_one_time(running: Running) -> None:
    sent: list[tuple[str, bytes, tuple[tuple[str, str], ...]]] = []
    client = Client(SERVICE, running.server.address, None, key="mec", patience=0.1)
    mec, call = running.mec(0), client.call

    class Recording:
        def call(self, method, body, *, timeout, metadata):
            sent.append((method, body, tuple(metadata().items())))
            return call(method, body, timeout=timeout, metadata=lambda: dict(sent[-1][2]))

    mec._client = Recording()  # type: ignore[assignment]
    mec.holds(KEY)
    method, body, told = sent[0]
    with pytest.raises(RefusedError, match="was made before"):
        call(method, body, timeout=5, metadata=lambda: dict(told))
    with pytest.raises(RefusedError, match="is not signed by"):
        call("Forget", body, timeout=5, metadata=lambda: dict(told))
    with pytest.raises(RefusedError, match="is not signed by"):
        call(method, b"1" * 64, timeout=5, metadata=lambda: dict(told))
    with pytest.raises(RefusedError, match="does not say who asks"):
        call(method, body, timeout=5)
    running.now += 121
    with pytest.raises(RefusedError, match="signed 121 s ago"):
        call(method, body, timeout=5, metadata=lambda: dict(told))
    running.now += 121  # its signature is forgotten by now, and it is too old all the same
    with pytest.raises(RefusedError, match="signed 242 s ago"):
        call(method, body, timeout=5, metadata=lambda: dict(told))
    other = running.mec(0)
    other._server = "another.example.org:7800"
    with pytest.raises(RefusedError, match="for this server"):
        other.holds(KEY)
    known = running.mec(0)
    known._server = "mec.example.org:7800"  # what it is called from outside
    assert not known.holds(KEY)


def test_what_makes_no_sense_is_an_error_and_not_a_crash(running: Running) -> None:
    mec = running.mec(0)
    for method, body in (("Accept", b"\x80\x04."), ("Train", b""), ("Holds", b"../../etc"), ("Forget", b"x" * 64)):
        with pytest.raises(ServiceError, match=r"safetensors|release|read|digits"):
            mec._ask(method, body, 5)
    with pytest.raises(ServiceError, match="holds no release"):
        mec.train(KEY, Job(*world().blobs(), seed=1))
    with pytest.raises(ServiceError, match="policy"):
        mec.train(KEY, Job(b"{}", b"", b"", 1))
    mec.accept(release())
    assert mec.holds(KEY)


def test_a_server_that_is_away_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    service = Running(tmp_path / "mec")
    mec = service.mec(0, patience=0.2)
    mec.accept(release())
    service.server.stop(0)
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        mec.holds(KEY)


def test_the_cache_keeps_to_its_size_and_lets_the_oldest_go(tmp_path: Path) -> None:
    size = len(release().to_bytes())
    service = Running(tmp_path / "mec", most_bytes=2 * size + 10)
    keys = ["0a" * 32, "0b" * 32, "0c" * 32]
    for at, key in enumerate(keys[:2]):
        service.mec(0).accept(release(key=key))
        path = service.cache.shelf(CUSTOMERS[0]).path(key)
        os.utime(path, (at, at))
    service.cache.used(CUSTOMERS[0], keys[0])  # the older one was used since
    service.mec(1).accept(release(key=keys[2]))
    assert [service.mec(0).holds(key) for key in keys[:2]] == [True, False]
    assert service.mec(1).holds(keys[2])
    assert service.cache.size() <= 2 * size + 10
    with pytest.raises(ServiceError, match="more than the cache may hold"):
        service.mec(0).accept(release(records=2000))
    service.server.stop(0)


def test_releases_are_encrypted_at_rest_where_there_is_a_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o600)
    service = Running(tmp_path / "mec", cipher=Cipher.from_file(key))
    service.mec(0).accept(release())
    [path] = (tmp_path / "mec" / CUSTOMERS[0]).iterdir()
    clear = release().to_bytes()
    assert release().values.tobytes()[:64] in clear
    assert release().values.tobytes()[:64] not in path.read_bytes()
    assert b"values" not in path.read_bytes()
    assert service.mec(0).holds(KEY)
    (path.parent / f"{'1a' * 32}.safetensors").write_bytes(path.read_bytes())  # passed off as another one
    assert not service.mec(0).holds("1a" * 32)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert not service.mec(0).holds(KEY)
    path.write_bytes(clear)  # put there by somebody without the key
    assert not service.mec(0).holds(KEY)
    service.server.stop(0)


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [("xyz", 0o600, "no key"), ("00" * 31, 0o600, "no key"), ("00" * 32, 0o644, "open to others")],
)
def test_a_key_that_is_none_is_refused(tmp_path: Path, text: str, mode: int, problem: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=problem):
        Cipher.from_file(path)


def test_customers_are_read_from_cards_or_addresses(tmp_path: Path) -> None:
    path = tmp_path / "customers"
    path.write_text(f"{CUSTOMERS[0].lower()}\n{CUSTOMERS[1]}\n")
    assert read_customers(str(path)) == CUSTOMERS
    path.write_text("")
    with pytest.raises(ConfigError, match="names no customer"):
        read_customers(str(path))
    path.write_text("somebody\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_customers(str(path))


def test_requests_are_counted(running: Running) -> None:
    running.mec(0).holds(KEY)
    with pytest.raises(RefusedError):
        running.mec(0, seed=99).holds(KEY)
    counted = {
        (sample.labels["method"], sample.labels["status"]): sample.value
        for metric in running.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "hearth_mec_requests_total"
    }
    assert counted == {("Holds", "ok"): 1.0, ("Holds", "permission_denied"): 1.0}


def test_messages_survive_the_way(tmp_path: Path) -> None:
    job = Job(b"policy", b"", b"model", 2**62)
    assert job_from_bytes(job_to_bytes(KEY, job)) == (KEY, job)
    delta = np.array([1.5, -(2.0**-40), np.nan])
    found, loss = trained_from_bytes(trained_to_bytes(delta, -0.25))
    np.testing.assert_array_equal(found, delta)
    assert loss == -0.25


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_readers_of_foreign_bytes_raise_our_errors_alone(data: bytes) -> None:
    for read in (key_from_bytes, job_from_bytes, trained_from_bytes, answer_from_bytes, FeatureRelease.from_bytes):
        try:
            read(data)
        except ProtocolError:
            continue


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_message_with_one_byte_changed_is_another_or_none(at: int, value: int) -> None:
    for whole, read in (
        (job_to_bytes(KEY, Job(b"p", b"f", b"m", 3)), job_from_bytes),
        (release(2).to_bytes(), FeatureRelease.from_bytes),
    ):
        data = bytearray(whole)
        data[at % len(data)] = value
        try:
            read(bytes(data))
        except ProtocolError:
            continue


@settings(max_examples=200, deadline=None)
@given(
    metadata=st.dictionaries(
        st.sampled_from(["hearth-customer", "hearth-time", "hearth-signature"]), st.text(max_size=50)
    )
)
def test_metadata_from_anybody_raises_our_errors_alone(metadata: dict[str, str]) -> None:
    with suppress(ProtocolError):
        read_metadata(metadata)


def test_the_world_has_a_form() -> None:
    assert replace(world().policy).config["inputs"]["kind"] == "image"


def test_a_server_that_dies_in_the_middle_of_a_training_is_asked_again(tmp_path: Path) -> None:
    """The phone's one call goes on to the server that comes back: the release is on its disk."""
    of, began, die = world(), threading.Event(), threading.Event()
    first = Running(tmp_path / "mec")

    def stuck(policy: object, frozen: bytes) -> object:
        began.set()
        die.wait(60)
        raise ProtocolError("this process is dead")

    phone = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(first, patience=60))
    here = of.customer(0, tmp_path / "here").participate(of.announcement(), *of.blobs())
    first.service._split_model = stuck  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as pool:
        contribution = pool.submit(phone.participate, of.announcement(), *of.blobs())
        assert began.wait(60)
        first.server.stop(0)
        second = Running(tmp_path / "mec", address=first.server.address)
        assert contribution.result(60).update == here.update
        die.set()
    second.server.stop(0)


def test_a_server_for_everybody_must_know_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mec.yaml"
    file.write_text("customers: x\nlisten:\n  address: 0.0.0.0:7800\n  certificate: a\n  key: b\n")
    with pytest.raises(ConfigError, match="names: must be given with"):
        compose_service("mec", MecConfig, [], file)
    assert compose_service("mec", MecConfig, ["names=['mec.example.org:7800']"], file).names


# Joint training


JOINT = replace(RECORD, batch_size=40, epsilon_phone=4.0)


def test_a_joint_extractor_learns_the_same_through_a_service(running: Running, tmp_path: Path) -> None:
    of = world(JOINT, "mlp", "joint")
    here = of.customer(0, tmp_path / "here").participate(of.announcement(), *of.blobs())
    there = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(running))
    assert there.participate(of.announcement(), *of.blobs()).update == here.update
    assert not (tmp_path / "mec" / CUSTOMERS[0]).exists()  # nothing of it is kept


def test_the_heads_own_dp_sgd_is_the_same_through_a_service(running: Running, tmp_path: Path) -> None:
    of = world(replace(RECORD, name="dp_sgd", mechanism="dp_sgd", sampling_rate=0.25), "mlp")
    here = of.customer(0, tmp_path / "here").participate(of.announcement(), *of.blobs())
    there = simulated_customer(of.policy, 0, tmp_path / "there", cast=_through(running))
    assert there.participate(of.announcement(), *of.blobs()).update == here.update


def test_a_step_that_is_sent_twice_is_taken_once(running: Running) -> None:
    of = world(JOINT, "mlp", "joint")
    mec, width = running.mec(0), split_model(of.policy, of.frozen).feature_size
    sent = [FeatureRelease(np.full((3, width), number, np.int32), 0.5, np.arange(3), KEY) for number in (1, 2)]
    heads = []
    for repeated in (False, True):
        head = mec.begin(Job(*of.blobs(), seed=1))
        gradient, loss = head.step(sent[0])
        if repeated:  # the answer was lost, and the phone asks again
            again = gradient_from_bytes(mec._ask("Step", step_to_bytes(0, sent[0]), 5))
            assert np.array_equal(again[0], gradient)
            assert again[1] == loss
        head.step(sent[1])
        heads.append(head.end())
        assert np.array_equal(head.end(), heads[-1])  # asked for twice too
        with pytest.raises(ServiceError, match="has ended"):
            head.step(sent[1])
    assert np.array_equal(*heads)


def test_steps_out_of_order_and_of_nothing_are_refused(running: Running) -> None:
    of = world(JOINT, "mlp", "joint")
    mec, width = running.mec(0), split_model(of.policy, of.frozen).feature_size
    fitting = FeatureRelease(np.zeros((1, width), np.int32), 0.5, np.zeros(1, np.int64), KEY)
    for method, body in (("Step", step_to_bytes(0, fitting)), ("End", b"")):
        with pytest.raises(ServiceError, match="no joint training was begun here"):
            mec._ask(method, body, 5)
    mec.begin(Job(*of.blobs(), seed=1))
    with pytest.raises(ServiceError, match="no joint training was begun here"):
        running.mec(1)._ask("Step", step_to_bytes(0, fitting), 5)  # another customer's is its own
    with pytest.raises(ServiceError, match="does not follow on 0 steps"):
        mec._ask("Step", step_to_bytes(1, fitting), 5)
    with pytest.raises(ServiceError, match="are not the task's"):
        mec._ask("Step", step_to_bytes(0, release()), 5)
    with pytest.raises(ServiceError, match="policy"):
        mec.begin(Job(b"{}", b"", b"", 1))


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_steps_and_gradients_from_anybody_are_read_or_refused(data: bytes) -> None:
    for read in (step_from_bytes, gradient_from_bytes):
        with suppress(ProtocolError):
            read(data)


def test_a_gradient_of_another_shape_or_of_no_number_is_refused() -> None:
    sent = release()
    for gradient in (np.zeros((20, 2), np.float32), np.full((20, 3), np.nan, np.float32)):
        answer = gradient_to_bytes(gradient, 0.0)
        with pytest.raises(ProtocolError, match="not one of the features"):
            DistantSteps(lambda *_, answer=answer: answer).step(sent)
