"""What the MEC server gets to see: releases, keys, heads, seeds; no raw data, clean features, wallet or accountant."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from app.customer.customer import Customer
from app.customer.job import InProcessMec
from app.customer.mec import Mec
from app.customer.phone import LEDGER, Phone
from app.customer.simulation import split_model
from app.customer.wire import FeatureRelease
from app.learning.config import TrainConfig
from app.learning.data import Dataset
from app.learning.training import features
from app.learning.views import customer_view
from app.privacy.accountant import Accountant
from app.privacy.calibration import gaussian_scale
from app.privacy.config import PrivacyConfig
from app.privacy.labels import ClearLabels
from app.privacy.lattice import clip_rows
from app.privacy.mechanism import mechanism_of
from app.privacy.randomness import InsecureSeededRandom
from app.protocol.keys import simulation_account
from tests.customer.world import CUSTOMERS, DATA, NONE, PAPER, RECORD, SEED, World, world


class RecordingMec(Mec):
    """A MEC server that keeps every argument it was ever given."""

    def __init__(self, home: Path | None) -> None:
        super().__init__(home)
        self.crossed: list[tuple[str, tuple[Any, ...]]] = []

    def holds(self, key: str) -> bool:
        self.crossed.append(("holds", (key,)))
        return super().holds(key)

    def accept(self, release: FeatureRelease) -> None:
        self.crossed.append(("accept", (release,)))
        super().accept(release)

    def train(self, key: str, head: nn.Module, train: TrainConfig, seed: int) -> tuple[np.ndarray, float]:
        self.crossed.append(("train", (key, head, train, seed)))
        return super().train(key, head, train, seed)


def reachable(root: object) -> Iterator[object]:
    """Walk all that ``root`` holds: attributes, items, closures, arguments bound to methods and partials, bases."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, dict):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += list(thing)
        elif isinstance(thing, types.FunctionType):
            waiting += [cell.cell_contents for cell in thing.__closure__ or ()] + [thing.__defaults__]
        elif isinstance(thing, types.MethodType):
            waiting += [thing.__self__, thing.__func__]
        elif isinstance(thing, np.ndarray):
            waiting.append(thing.base)
        else:
            waiting += [getattr(thing, "__dict__", None)]
            waiting += [getattr(thing, name, None) for kind in type(thing).__mro__ for name in slots(kind)]


def slots(kind: type) -> list[str]:
    names = kind.__dict__.get("__slots__", ())
    return [names] if isinstance(names, str) else list(names)


def play(
    home: Path, of: World, privacy: PrivacyConfig = RECORD, index: int = 1, rounds: int = 2
) -> tuple[RecordingMec, Dataset, np.ndarray, Phone]:
    """Take part in some rounds with a recording MEC; return it, the raw data, the clean features and the phone."""
    data = customer_view(DATA, CUSTOMERS, index, SEED)
    account = simulation_account(SEED, "customer", index)
    budget = privacy.budget if privacy.name == "record" else float("inf")
    phone = Phone(
        data,
        mechanism_of(privacy, InsecureSeededRandom(SEED, index)),
        ClearLabels(),
        Accountant(home / "phone" / LEDGER, account.address, budget, 1e-5),
        account,
        b"salt" * 8,
        home / "phone",
        deployment=False,
    )
    mec = RecordingMec(home / "mec")
    customer = Customer(phone, InProcessMec(mec, split_model), index, split_model)
    for round_number in range(1, rounds + 1):
        customer.participate(of.announcement(round_number), *of.blobs())
    return mec, data, features(split_model(of.policy, of.frozen).phone, data), phone


def test_only_a_release_crosses_and_only_once(tmp_path: Path) -> None:
    mec, data, _, phone = play(tmp_path, world(), rounds=3)
    assert [call for call, _ in mec.crossed] == ["holds", "accept", "train", "holds", "train", "holds", "train"]
    kinds = {call: tuple(type(argument) for argument in arguments) for call, arguments in mec.crossed}
    assert kinds["holds"] == (str,)
    assert kinds["accept"] == (FeatureRelease,)
    assert kinds["train"][0] is str
    assert issubclass(kinds["train"][1], nn.Module)
    assert kinds["train"][2:] == (TrainConfig, int)
    (release,) = (arguments[0] for call, arguments in mec.crossed if call == "accept")
    assert [*FeatureRelease.__dataclass_fields__] == ["values", "step", "labels", "key"]
    assert release.values.dtype == np.int32
    assert np.array_equal(release.labels, data.labels)  # in the clear, as documented
    assert phone.spent().releases == 1


def test_the_features_that_crossed_are_noised_as_promised(tmp_path: Path) -> None:
    mec, _, clean, _ = play(tmp_path, world())
    release = next(arguments[0] for call, arguments in mec.crossed if call == "accept")
    sigma = 2 * RECORD.clip * gaussian_scale(RECORD.epsilon, RECORD.delta)
    z = (release.features - clip_rows(clean.astype(np.float64), RECORD.clip, 2)) / sigma
    assert z.size > 5000
    assert abs(z.var() - 1) < 5 * (2 / z.size) ** 0.5
    assert abs(z.mean()) < 5 / z.size**0.5
    assert np.all(z.var(axis=0) > 1 - 6 * (2 / len(z)) ** 0.5)  # no feature crossed with less
    assert np.all(z.var(axis=1) > 0.1)  # nor any record


def secrets_in(mec: Mec, data: Dataset, clean: np.ndarray) -> list[str]:
    """Name everything reachable from the MEC that it must not have."""
    raw_rows = {np.ascontiguousarray(record).tobytes() for record in data.inputs}
    raw_values = np.unique(np.concatenate([np.ravel(record) for record in data.inputs]))
    clean_rows = {np.ascontiguousarray(row).tobytes() for row in clean}
    found = []
    for found_thing in reachable(mec):
        thing = found_thing.detach().numpy() if isinstance(found_thing, torch.Tensor) else found_thing
        if isinstance(thing, Dataset | Phone | Accountant | LocalAccount | InsecureSeededRandom):
            found.append(type(thing).__name__)
        if isinstance(thing, np.ndarray):
            rows = {np.ascontiguousarray(row).tobytes() for row in thing} if thing.ndim > 1 else set()
            found += ["raw record"] * bool(rows & raw_rows) + ["clean features"] * bool(rows & clean_rows)
            found += ["shared memory"] * any(np.shares_memory(thing, record) for record in list(data.inputs)[:1])
            said = thing[thing != 0] if thing.dtype.kind == "f" else thing[:0]  # zeros, as in a fresh head, say nothing
            if said.size > 50 and np.isin(said, raw_values).mean() > 0.5:
                found.append("raw values")
    return found


@pytest.mark.parametrize("privacy", [RECORD, PAPER], ids=["record", "paper"])
def test_nothing_that_the_mec_can_reach_is_secret(tmp_path: Path, privacy: PrivacyConfig) -> None:
    mec, data, clean, _ = play(tmp_path, world(privacy), privacy)
    assert secrets_in(mec, data, clean) == []


def test_no_statistic_of_a_batch_crosses(tmp_path: Path) -> None:
    """Under `map` nothing but noised, normalised integers and labels crosses: a batch's own mean is gone."""
    mec, data, clean, phone = play(tmp_path, world(PAPER), PAPER)
    release = next(arguments[0] for call, arguments in mec.crossed if call == "accept")
    for shift in (0.0, 5.0):  # the same noise on features of another mean
        space = split_model(world(PAPER).policy, world(PAPER).frozen).phone.space
        moved = (shift + clean).astype(np.float32)
        again = mechanism_of(PAPER, InsecureSeededRandom(SEED, 1)).release(moved, space)
        assert np.abs(again.values.astype(np.int64) - release.values).max() <= 2  # rounding
    arrays = [thing for thing in reachable(release) if isinstance(thing, np.ndarray)]
    assert {array.shape for array in arrays} <= {release.values.shape, release.labels.shape}
    assert len(data) == len(release.values)
    assert phone.spent().unit == "record"


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Planted: without a mechanism clean features do cross, and a MEC that is given more is caught."""
    mec, data, clean, phone = play(tmp_path, world(NONE), NONE)
    assert "clean features" in secrets_in(mec, data, clean)
    for planted, name in [
        (lambda: phone, "Phone"),
        ({"deep": [np.array(data.inputs)]}, "raw record"),
        (np.array(data.inputs).reshape(-1).astype(np.float32), "raw values"),
        ([torch.from_numpy(clean)], "clean features"),
        (clean[:3], "clean features"),
        (phone.release, "Accountant"),
        (data.inputs[0], "shared memory"),
    ]:
        honest = Mec(None)
        honest.extra = planted  # type: ignore[attr-defined]
        assert name in secrets_in(honest, data, clean)


def test_what_lies_on_the_mecs_disk_is_the_release_alone(tmp_path: Path) -> None:
    mec, _, _, _ = play(tmp_path, world())
    (path,) = (tmp_path / "mec").iterdir()
    release = next(arguments[0] for call, arguments in mec.crossed if call == "accept")
    assert path.read_bytes() == release.to_bytes()


@settings(max_examples=12, deadline=None)
@given(
    epsilon=st.floats(0.1, 16),
    delta=st.floats(1e-9, 1e-3),
    clip=st.floats(0.05, 5),
    index=st.integers(0, CUSTOMERS - 1),
)
def test_under_every_configuration_no_clean_feature_crosses(
    tmp_path_factory: pytest.TempPathFactory, epsilon: float, delta: float, clip: float, index: int
) -> None:
    home = tmp_path_factory.mktemp("crossing")
    privacy = replace(RECORD, epsilon=epsilon, delta=delta, clip=clip, budget=epsilon)
    data = customer_view(DATA, CUSTOMERS, index, SEED)
    account = simulation_account(SEED, "customer", index)
    phone = Phone(
        data,
        mechanism_of(privacy, InsecureSeededRandom(SEED, index)),
        ClearLabels(),
        Accountant(home / LEDGER, account.address, epsilon, delta),
        account,
        b"salt" * 8,
        home,
        deployment=False,
    )
    model = split_model(world().policy, world().frozen)
    release = phone.release(world().policy.frozen.sha256, model.phone)
    clean = features(model.phone, data)
    distance = np.linalg.norm(release.features - clip_rows(clean.astype(np.float64), clip, 2), axis=1)
    sigma, d = 2 * clip * gaussian_scale(epsilon, delta), clean.shape[1]
    assert np.all(distance > sigma * d**0.5 / 3)  # a chi of 32 degrees is below a third of its mean once in 1e11
    assert np.mean(release.features == clean) < 0.001  # by chance, one in a million
