"""Joint training and DP-SGD: the same as training the whole model, counted before it leaves, kept once it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.customer.customer import Contribution, training_seed
from app.customer.job import InProcessMec, Job, MecServer, global_model
from app.customer.kept import KeptUpdates
from app.customer.mec import Mec
from app.customer.simulation import Cast, simulated_customer, split_model
from app.customer.task import TaskConfig
from app.customer.wallets import wallet
from app.customer.wire import FeatureRelease
from app.learning.views import customer_view
from app.learning.weights import get_vector
from app.privacy.config import PrivacyConfig
from app.protocol.errors import BudgetError, ProtocolError, StoreError
from app.protocol.fixed_point import UPDATE_DTYPE
from app.protocol.receipt import UNBOUNDED
from app.protocol.tensors import unpack
from tests.customer.world import CUSTOMERS, DATA, NONE, PAPER, RECORD, ROUNDS, SEED, World, world

# Of a round: two epochs.
JOINT = replace(RECORD, batch_size=40, epsilon_phone=4.0)
OF_THE_PAPER = replace(PAPER, batch_size=40, budget=64.0)
DP_SGD = replace(RECORD, name="dp_sgd", mechanism="dp_sgd", sampling_rate=0.25)
SYSTEM = {"randomness": "system"}


def task(privacy: PrivacyConfig) -> World:
    return world(privacy, "mlp", "frozen" if privacy.mechanism == "dp_sgd" else "joint")


def take_part(
    of: World, home: Path, round_number: int = 1, mec: Callable[[Path], MecServer] | None = None
) -> Contribution:
    cast = Cast(wallet, lambda _, folder: mec(folder)) if mec else None
    customer = simulated_customer(of.policy, 0, home, cast=cast)
    return customer.participate(of.announcement(round_number), *of.blobs())


def ledger(home: Path) -> list[dict]:  # type: ignore[type-arg]
    lines = (home / "00000" / "phone" / "privacy.jsonl").read_text().splitlines()[1:]
    return [json.loads(line) for line in lines]


class Watched:
    """A MEC server that notes what it is sent, and may fail after some steps."""

    def __init__(self, home: Path, fails_after: int | None = None) -> None:
        self._inner = InProcessMec(Mec(home), split_model)
        self.holds, self.accept, self.train = self._inner.holds, self._inner.accept, self._inner.train
        self.forget, self.seen, self._fails_after = self._inner.forget, [], fails_after
        self.seen: list[FeatureRelease] = []

    def begin(self, job: Job) -> Watched:
        self._head = self._inner.begin(job)
        return self

    def step(self, release: FeatureRelease) -> tuple[np.ndarray, float]:
        if self._fails_after is not None and len(self.seen) >= self._fails_after:
            raise ProtocolError("the MEC server has died")
        self.seen.append(release)
        return self._head.step(release)

    def end(self) -> np.ndarray:
        return self._head.end()


def test_without_noise_it_is_plain_training_of_the_whole_model(tmp_path: Path) -> None:
    """The gradient that goes to the phone and on through its layers is the chain rule, and nothing else."""
    privacy = replace(NONE, batch_size=40)
    of = task(privacy)
    contribution = take_part(of, tmp_path)
    update = of.policy.grid.decode(unpack(contribution.update, of.policy.layout, UPDATE_DTYPE))

    train = TaskConfig.of(of.policy).train
    data = customer_view(DATA, CUSTOMERS, 0, SEED)
    model = global_model(split_model(of.policy, of.frozen), of.policy, of.model)
    start = get_vector(model.trained)
    optimiser = torch.optim.SGD(model.trained.parameters(), lr=train.learning_rate, momentum=train.momentum)
    x, y = model.phone.prepare(data.inputs), torch.from_numpy(data.labels)
    order = torch.Generator().manual_seed(training_seed(SEED, 1, 0))
    for _ in range(train.epochs):
        for batch in torch.split(torch.randperm(len(x), generator=order), 40):
            optimiser.zero_grad()
            model.mec.loss(model.phone(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    whole = get_vector(model.trained) - start
    assert np.abs(update - whole).max() < 2.0**-14 + 1e-5
    phones = sum(p.numel() for p in model.phone.parameters())
    assert np.abs(whole[:phones]).max() > 1e-3  # the phone's layers did learn
    assert contribution.receipt.receipt.epsilonMicros == UNBOUNDED


@pytest.mark.parametrize("privacy", [JOINT, OF_THE_PAPER, DP_SGD], ids=["record", "paper", "dp_sgd"])
def test_every_round_is_counted_and_the_receipt_says_what_all_of_them_cost(
    tmp_path: Path, privacy: PrivacyConfig
) -> None:
    of, steps = task(privacy), 2 * (4 if privacy is DP_SGD else 1)
    spent = []
    for number in range(1, ROUNDS + 1):
        receipt = take_part(of, tmp_path, number).receipt.receipt
        assert receipt.releases == number * steps
        assert ledger(tmp_path)[-1]["parameters"]["round"] == number
        spent.append(receipt.epsilonMicros / 1e6)
    assert spent == sorted(spent)
    if privacy.protects_records:
        assert 0.98 * privacy.epsilon < spent[-1] <= privacy.epsilon
        assert receipt.deltaPicos == 10_000_000


@pytest.mark.parametrize("privacy", [JOINT, DP_SGD], ids=["record", "dp_sgd"])
def test_the_same_round_again_is_the_same_update_and_costs_nothing(tmp_path: Path, privacy: PrivacyConfig) -> None:
    of = task(replace(privacy, **SYSTEM))
    first = take_part(of, tmp_path)
    again = take_part(of, tmp_path)
    assert (again.update, again.receipt) == (first.update, first.receipt)
    assert len(ledger(tmp_path)) == 1
    other = take_part(of, tmp_path / "other")
    assert other.update != first.update  # the operating system's noise


def test_noise_from_a_seed_is_the_same_in_every_home(tmp_path: Path) -> None:
    of = task(JOINT)
    take_part(of, tmp_path / "a", 1)
    after = take_part(of, tmp_path / "a", 2)
    assert take_part(of, tmp_path / "b", 2).update == after.update  # whatever was played before


def test_a_record_is_noised_afresh_in_every_step(tmp_path: Path) -> None:
    seen: list[Watched] = []

    def mec(home: Path) -> Watched:
        seen.append(Watched(home))
        return seen[-1]

    of = task(replace(JOINT, batch_size=10_000))
    take_part(of, tmp_path, mec=mec)
    first, second = seen[0].seen  # two epochs of one batch
    assert len(first.labels) == len(second.labels) == len(customer_view(DATA, CUSTOMERS, 0, SEED))
    assert first.values.dtype == second.values.dtype == np.int32
    apart = first.features[np.argsort(first.labels)] - second.features[np.argsort(second.labels)]
    assert (apart != 0).mean() > 0.99
    assert first.features.std() > 1.0  # noise, far beyond vectors of norm 1


@pytest.mark.parametrize("randomness", ["seeded-insecure", "system"])
def test_a_mec_server_that_dies_midway_costs_what_was_counted_before(tmp_path: Path, randomness: str) -> None:
    of = task(replace(JOINT, randomness=randomness))
    with pytest.raises(ProtocolError, match="has died"):
        take_part(of, tmp_path, mec=lambda home: Watched(home, fails_after=2))
    assert len(ledger(tmp_path)) == 1  # counted, although nothing was signed
    assert not (tmp_path / "00000" / "phone" / "receipts.jsonl").exists()
    take_part(of, tmp_path)
    # Noise from a seed tells nothing new the second time; the operating system's is another release.
    assert len(ledger(tmp_path)) == (1 if randomness == "seeded-insecure" else 2)
    last = ROUNDS if randomness == "seeded-insecure" else ROUNDS - 1
    for number in range(2, last + 1):
        take_part(of, tmp_path, number)
    if randomness == "system":
        with pytest.raises(BudgetError, match="would exceed the budget"):
            take_part(of, tmp_path, ROUNDS)
        assert len(ledger(tmp_path)) == ROUNDS


def test_a_kept_update_that_is_damaged_is_taken_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, task, asked = KeptUpdates(tmp_path), bytes(32), b"1" * 32
    assert kept.get(task, asked) is None
    kept.put(task, b"0" * 32, np.arange(2.0), 1.5)
    kept.put(task, asked, np.arange(3.0), 0.5)  # in place of the round before
    assert kept.get(task, b"0" * 32) is None
    assert kept.get(b"2" * 32, asked) is None
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    found = kept.get(task, asked)
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([0.0, 1.0, 2.0], 0.5)
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.get(task, asked) is None
    assert "damaged" in caplog.text
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="cannot read"):
        kept.get(task, asked)


def test_a_head_takes_no_release_of_another_task(tmp_path: Path) -> None:
    of = task(JOINT)
    head = InProcessMec(Mec(tmp_path), split_model).begin(Job(*of.blobs(), seed=1))
    width = split_model(of.policy, of.frozen).feature_size
    for values, labels in (
        (np.zeros((2, width + 1), np.int32), [0, 1]),
        (np.zeros((2, width), np.int32), [0, 10]),
        (np.zeros((0, width), np.int32), []),
    ):
        with pytest.raises(ProtocolError, match="are not the task's"):
            head.step(FeatureRelease(values, 0.5, np.array(labels, np.int64), "0" * 64))


def test_the_update_of_dp_sgd_has_the_noise_that_was_counted(tmp_path: Path) -> None:
    """Two noises, same everything else: their difference is noise alone, with the deviation of so many steps."""
    of = task(replace(DP_SGD, **SYSTEM))
    updates = [
        of.policy.grid.decode(unpack(take_part(of, tmp_path / name).update, of.policy.layout, UPDATE_DTYPE))
        for name in ("a", "b")
    ]
    (entry,) = ledger(tmp_path / "a")
    assert entry["costs"][0]["mechanism"] == "dp_sgd"
    multiplier = entry["parameters"]["noise_multiplier"]
    train, records = TaskConfig.of(of.policy).train, len(customer_view(DATA, CUSTOMERS, 0, SEED))
    momentum = train.momentum
    # Step k of 8 is felt in all later ones: its weight is the sum of the powers of the momentum that follow.
    weights = [(1 - momentum ** (8 - k)) / (1 - momentum) for k in range(8)]
    of_noise = multiplier * 1.0 / (0.25 * records) * train.learning_rate * np.sqrt(np.sum(np.square(weights)))
    apart = (updates[0] - updates[1]).std() / np.sqrt(2)
    assert apart > 0.97 * of_noise  # the rest is that batches differ
    assert apart < 1.3 * of_noise
