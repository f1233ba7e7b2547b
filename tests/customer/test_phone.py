"""The phone: one release, counted before it leaves; resending is free, drawing again is not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.customer.phone import LEDGER, RECEIPTS, Phone
from app.customer.wire import FeatureRelease
from app.learning.data import Dataset
from app.privacy.accountant import Accountant
from app.privacy.labels import ClearLabels, LabelTreatment, RandomizedResponse
from app.privacy.mechanism import Mechanism, mechanism_of
from app.privacy.normalisation import FeatureSpace
from app.privacy.randomness import InsecureSeededRandom, RandomSource, SystemRandom
from app.protocol.errors import BudgetError, PrivacyError
from app.protocol.keys import simulation_account
from app.protocol.receipt import ENCODING, Receipt, SignedReceipt
from app.protocol.signing import Domain
from tests.customer.world import NONE, RECORD

TASK, FROZEN, SALT = b"t" * 32, b"f" * 32, b"s" * 32
ACCOUNT = simulation_account(0, "customer", 0)
DOMAIN = Domain(5, ACCOUNT.address)


class Tanh(torch.nn.Module):
    """An extractor: a table of four columns to as many features."""

    space = FeatureSpace((4,))
    prepare = staticmethod(lambda inputs: torch.from_numpy(np.ascontiguousarray(inputs)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


def records(seed: int = 0, count: int = 12) -> Dataset:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 4)).astype(np.float32)
    return Dataset(inputs, rng.integers(0, 3, count), ("a", "b", "c"), "table")


def gaussian(
    clip: float = 1.0, epsilon: float = 4.0, delta: float = 1e-5, source: RandomSource | None = None
) -> Mechanism:
    return mechanism_of(replace(RECORD, clip=clip, epsilon=epsilon, delta=delta), source or SystemRandom())


def phone(
    home: Path,
    *,
    data: Dataset | None = None,
    source: RandomSource | None = None,
    mechanism: Mechanism | None = None,
    labels: LabelTreatment | None = None,
    budget: float = 4.0,
    salt: bytes = SALT,
    deployment: bool = False,
) -> Phone:
    mechanism = mechanism or gaussian(source=source)
    accountant = Accountant(home / LEDGER, ACCOUNT.address, budget, 1.0)
    data = records() if data is None else data
    labels = labels or ClearLabels()
    return Phone(data, mechanism, labels, accountant, ACCOUNT, salt, home, deployment=deployment)


def release(of: Phone) -> FeatureRelease:
    return of.release(FROZEN, Tanh())


def receipt() -> Receipt:
    return Receipt(TASK, 1, ACCOUNT.address, b"m" * 32, b"u" * 32, 9, "bafkrei", ENCODING, 12, 4_000_000, 10_000_000, 1)


def released_files(home: Path) -> list[Path]:
    return sorted((home / "released").iterdir())


def test_a_release_is_drawn_and_counted_once(tmp_path: Path) -> None:
    first = phone(tmp_path)
    one = release(first)
    assert release(first).digest == one.digest
    assert first.spent().releases == 1
    later = phone(tmp_path)  # the app was restarted
    assert release(later).to_bytes() == one.to_bytes()
    assert later.spent().releases == 1
    assert later.spent().epsilon == 4.0


def test_with_the_copy_lost_a_second_release_is_refused(tmp_path: Path) -> None:
    release(phone(tmp_path))
    for path in released_files(tmp_path):
        path.unlink()
    with pytest.raises(PrivacyError, match="release refused"):
        release(phone(tmp_path))
    with pytest.raises(PrivacyError, match="release refused"):  # nor with the batch that was drawn in vain
        release(phone(tmp_path))
    assert phone(tmp_path).spent().releases == 1


def test_with_the_copy_lost_a_larger_budget_pays_for_a_second(tmp_path: Path) -> None:
    one = release(phone(tmp_path, budget=8.0))
    for path in released_files(tmp_path):
        path.unlink()
    two = release(phone(tmp_path, budget=8.0))
    # Noise lies on a grid: one number may well come twice, a whole record does not.
    assert not (one.features == two.features).all(axis=1).any()
    assert phone(tmp_path).spent().epsilon == 8.0
    assert phone(tmp_path).spent().releases == 2


def test_a_damaged_copy_is_never_sent(tmp_path: Path) -> None:
    release(phone(tmp_path))
    (path,) = released_files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(PrivacyError, match="release refused"):
        release(phone(tmp_path))


def test_what_cannot_be_paid_never_leaves(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="release refused"):
        release(phone(tmp_path, budget=3.9))
    assert phone(tmp_path).spent().releases == 0


@pytest.mark.parametrize(
    "change",
    [
        {"data": records(1)},
        {"data": records(0, 11)},
        {"salt": b"S" * 32},
        {"mechanism": gaussian(clip=0.5)},
        {"mechanism": gaussian(epsilon=4.1)},
        {"mechanism": gaussian(delta=1e-6)},
        {"source": InsecureSeededRandom(1)},
        {"mechanism": mechanism_of(NONE, SystemRandom())},
        {"labels": RandomizedResponse(1.0, 3, SystemRandom())},
    ],
)
def test_the_key_names_records_and_mechanism(tmp_path: Path, change: dict[str, object]) -> None:
    base = phone(tmp_path / "a").key(FROZEN)
    assert phone(tmp_path / "b").key(FROZEN) == base
    assert phone(tmp_path / "c", **change).key(FROZEN) != base  # type: ignore[arg-type]


def test_the_key_names_the_frozen_part(tmp_path: Path) -> None:
    of = phone(tmp_path)
    assert of.key(FROZEN) != of.key(TASK)
    release(of)
    with pytest.raises(PrivacyError, match="release refused"):  # another extractor's features are other features
        of.release(TASK, Tanh())


def test_who_may_not_release_new_records_goes_on_with_those_released_before(tmp_path: Path) -> None:
    one = release(phone(tmp_path))
    grown = phone(tmp_path, data=records(1, 30))
    assert release(grown).to_bytes() == one.to_bytes()
    assert (grown.examples, grown.spent().releases) == (12, 1)
    assert len(released_files(tmp_path)) == 1  # nothing was drawn in vain
    rich = phone(tmp_path, data=records(1, 30), budget=8.0)
    two = release(rich)
    assert (rich.examples, rich.spent().releases, len(two.labels)) == (30, 2, 30)
    again = phone(tmp_path, data=records(2, 5))
    assert release(again).to_bytes() == two.to_bytes()  # the newest


@pytest.mark.parametrize(
    "change",
    [
        {"mechanism": gaussian(epsilon=4.1)},
        {"labels": RandomizedResponse(1.0, 3, SystemRandom())},
        {"source": InsecureSeededRandom(1)},
    ],
)
def test_it_never_goes_on_with_what_another_mechanism_released(tmp_path: Path, change: dict[str, object]) -> None:
    release(phone(tmp_path))
    with pytest.raises(BudgetError):
        release(phone(tmp_path, data=records(1), **change))  # type: ignore[arg-type]
    assert len(released_files(tmp_path)) == 1


def test_it_never_goes_on_with_what_was_drawn_and_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = phone(tmp_path)

    def dies(*_: object) -> None:
        raise PowerCutError

    monkeypatch.setattr(Accountant, "charge", dies)
    with pytest.raises(PowerCutError):
        release(of)
    monkeypatch.undo()
    assert len(released_files(tmp_path)) == 1
    with pytest.raises(BudgetError):
        release(phone(tmp_path, data=records(1), budget=3.9))


def test_a_deployment_refuses_seeded_noise(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="refused in deployment"):
        phone(tmp_path, source=InsecureSeededRandom(1), deployment=True)
    assert release(phone(tmp_path, source=SystemRandom(), deployment=True)).features.shape == (12, 4)


def test_the_released_arrays_share_nothing_with_the_data(tmp_path: Path) -> None:
    data = records()
    one = release(phone(tmp_path, data=data, mechanism=mechanism_of(NONE, SystemRandom()), budget=float("inf")))
    assert not np.shares_memory(one.labels, data.labels)
    assert not np.shares_memory(one.features, data.inputs)
    assert np.array_equal(one.labels, data.labels)


def test_features_that_are_not_numbers_are_not_released(tmp_path: Path) -> None:
    data = records()
    data.inputs[3, 0] = np.nan  # type: ignore[index]
    of = phone(tmp_path, data=data)
    with pytest.raises(PrivacyError, match="1 of 12 records"):
        release(of)
    assert of.spent().releases == 0


def test_receipts_are_signed_and_kept(tmp_path: Path) -> None:
    of = phone(tmp_path)
    release(of)
    signed = [of.sign(replace(receipt(), round=number), DOMAIN) for number in (1, 2)]
    assert of.sign(receipt(), DOMAIN) == signed[0]  # asked for once more: kept once
    lines = [json.loads(line) for line in (tmp_path / RECEIPTS).read_bytes().splitlines()]
    assert [SignedReceipt.from_json(line["receipt"]) for line in lines] == signed
    assert all(Domain(line["chain_id"], line["contract"]) == DOMAIN for line in lines)
    assert signed[0].signer(DOMAIN) == of.address == ACCOUNT.address


@pytest.mark.parametrize("loss", ["deleted", "shortened"])
def test_a_lost_ledger_is_noticed_and_does_not_give_a_new_budget(tmp_path: Path, loss: str) -> None:
    of = phone(tmp_path)
    release(of)
    of.sign(receipt(), DOMAIN)
    ledger = tmp_path / LEDGER
    if loss == "deleted":
        ledger.unlink()
    else:
        ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(PrivacyError, match="it was lost"):
        phone(tmp_path)


class PowerCutError(BaseException):
    """The process ends here."""


def test_after_a_crash_at_any_step_no_sent_release_is_uncounted_and_none_is_wasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die before and after each call that touches the disk, restart, go on: all that was sent is one release."""
    left = 0

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCutError

    def dying(name: str) -> None:
        call = getattr(os, name)

        def wrapped(*args: object, **kwargs: object) -> object:
            step()
            result = call(*args, **kwargs)
            step()
            return result

        monkeypatch.setattr(os, name, wrapped)

    for name in ("open", "fsync", "replace"):
        dying(name)
    crashes = 0
    for steps in range(1000):
        home, sent, left = tmp_path / str(steps), [], steps
        try:
            sent.append(release(phone(home)).digest)
            finished = True
        except PowerCutError:
            finished = False
        left = 10**9
        assert all(Accountant(home / LEDGER, ACCOUNT.address, 4.0, 1.0).counted(digest) for digest in sent)
        sent.append(release(phone(home)).digest)  # restarted: always possible, whatever was lost
        assert phone(home).spent().releases == 1
        assert len(set(sent)) == 1
        if finished:
            break
        crashes += 1
    assert crashes >= 20  # two durable writes of five calls each, before and after
