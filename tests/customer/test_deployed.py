"""A customer on a machine of its own: its own records, key, secret and noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.customer.deployed import deployed_customer
from app.customer.site import Site
from app.learning.data import Dataset
from app.learning.datasets.own import own_records
from app.learning.form import RecordForm
from app.learning.views import customer_view
from app.protocol.errors import BudgetError, ConfigError, DataError, PrivacyError, ProtocolError
from app.protocol.keys import simulation_account
from tests.customer.world import CUSTOMERS, DATA, NONE, RECORD, SEED, world

ACCOUNT = simulation_account(77, "deployed", 0)
SYSTEM = replace(RECORD, randomness="system")
GIVEN = {"key": "/k.json", "home": "/h", "data": "/d"}


def save(path: Path, data: Dataset, names: np.ndarray | None = None) -> Path:
    labels = np.array(data.classes)[data.labels] if names is None else names
    np.savez(path, pixels=np.asarray(data.inputs), label=labels)
    return path


def site(home: Path, **changes: object) -> Site:
    return replace(Site.of(GIVEN | {"home": str(home)}), **changes)


def own(index: int = 1) -> Dataset:
    return customer_view(DATA, CUSTOMERS, index, SEED)


def test_it_trains_on_its_own_records_and_spends_its_budget_once(tmp_path: Path) -> None:
    of, records = world(SYSTEM), own()
    here = site(tmp_path / "home", data=str(save(tmp_path / "records.npz", records)))
    first = deployed_customer(of.policy, here, ACCOUNT).participate(of.announcement(), *of.blobs())
    assert first.receipt.signer(of.announcement().domain) == ACCOUNT.address
    assert first.examples == len(records)
    again = deployed_customer(of.policy, here, ACCOUNT)  # another message is another process
    second = again.participate(of.announcement(2), *of.blobs())
    assert (second.receipt.receipt.releases, first.receipt.receipt.releases) == (1, 1)
    assert (tmp_path / "home" / "phone" / "salt").stat().st_mode & 0o077 == 0
    other = site(tmp_path / "other", data=here.data)
    update = deployed_customer(of.policy, other, ACCOUNT).participate(of.announcement(), *of.blobs()).update
    assert update != first.update  # the noise is the operating system's


def test_a_lost_salt_makes_a_second_release_and_the_accountant_refuses_it(tmp_path: Path) -> None:
    of = world(SYSTEM)
    here = site(tmp_path / "home", data=str(save(tmp_path / "records.npz", own())))
    deployed_customer(of.policy, here, ACCOUNT).participate(of.announcement(), *of.blobs())
    (tmp_path / "home" / "phone" / "salt").unlink()
    for path in (tmp_path / "home" / "phone" / "released").iterdir():
        path.unlink()
    with pytest.raises(BudgetError):
        deployed_customer(of.policy, here, ACCOUNT).participate(of.announcement(2), *of.blobs())
    (tmp_path / "home" / "phone" / "salt").write_bytes(b"short")
    (tmp_path / "home" / "phone" / "salt").chmod(0o600)
    with pytest.raises(PrivacyError, match="records that were released"):
        deployed_customer(of.policy, here, ACCOUNT)


def test_noise_from_a_seed_is_refused_with_real_records_and_nothing_is_written(tmp_path: Path) -> None:
    here = site(tmp_path / "home", data=str(save(tmp_path / "records.npz", own())))
    with pytest.raises(PrivacyError, match="refused with real records"):
        deployed_customer(world(RECORD).policy, here, ACCOUNT)
    assert not (tmp_path / "home").exists()
    of = world(NONE)  # no noise, no seed
    assert deployed_customer(of.policy, here, ACCOUNT).participate(of.announcement(), *of.blobs()).update


def test_a_rehearsal_is_the_simulations_customer_with_a_key_of_its_own(tmp_path: Path) -> None:
    of = world()
    here = site(tmp_path / "home", data=None, rehearse=2)
    deployed = deployed_customer(of.policy, here, ACCOUNT).participate(of.announcement(), *of.blobs())
    simulated = of.customer(2, tmp_path / "simulated").participate(of.announcement(), *of.blobs())
    assert deployed.update == simulated.update
    assert deployed.receipt.receipt.customer == ACCOUNT.address
    with pytest.raises(ProtocolError, match="not 5"):
        deployed_customer(of.policy, replace(here, rehearse=5), ACCOUNT)
    private = of.with_config(data=of.policy.config["data"] | {"name": "folder"})
    with pytest.raises(ConfigError, match="no public demonstration"):
        deployed_customer(private.policy, here, ACCOUNT)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"key": None}, "node-config key: is missing"),
        ({"home": 3}, "node-config home: 3 is no text"),
        ({"data": None}, "says neither where the records are nor whom to rehearse"),
        ({"rehearse": 1}, "is given twice"),
        ({"data": None, "rehearse": -1}, "-1 is no customer's index"),
        ({"data": None, "rehearse": True}, "True is no customer's index"),
        ({"mek": "127.0.0.1:1"}, "node-config mek: unknown key"),
        ({"mec-patience": "long"}, "'long' is no number"),
        ({"mec-patience": -1}, "mec-patience: -1 is out of range"),
    ],
)
def test_a_node_config_that_is_wrong_names_the_key(change: dict[str, object], problem: str) -> None:
    given = {key: value for key, value in (GIVEN | change).items() if value is not None}
    with pytest.raises(ConfigError, match=problem):
        Site.of(given)


def test_flowers_own_keys_are_left_alone() -> None:
    found = Site.of(GIVEN | {"partition-id": 0, "num-partitions": 2, "mec": "", "mec-patience": 5})
    assert (found.mec, found.mec_patience, found.rehearse) == (None, 5.0, None)


class TestOwnRecords:
    FORM = RecordForm("image", (8, 8), ("0", "1", "2"), 90)

    def images(self, labels: list[str], shape: tuple[int, ...] = (8, 8)) -> dict[str, np.ndarray]:
        return {"pixels": np.zeros((len(labels), *shape), np.uint8), "label": np.array(labels)}

    def test_classes_keep_the_tasks_numbers(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "r.npz", **self.images(["2", "0", "2"]))
        for place in (tmp_path, tmp_path / "r.npz"):
            found = own_records(str(place), None, self.FORM)
            assert found.labels.tolist() == [2, 0, 2]
            assert found.classes == self.FORM.classes

    @pytest.mark.parametrize(
        ("columns", "problem"),
        [
            ({"labels": ["0", "7"]}, "class '7' is none of the task's"),
            ({"labels": ["0", "1"], "shape": (8, 9)}, r"holds image records of shape \(8, 9\); the task is about"),
        ],
    )
    def test_other_records_are_refused(self, tmp_path: Path, columns: dict[str, object], problem: str) -> None:
        np.savez(tmp_path / "r.npz", **self.images(**columns))  # type: ignore[arg-type]
        with pytest.raises(DataError, match=problem):
            own_records(str(tmp_path), None, self.FORM)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is no such file"):
            own_records(str(tmp_path / "none.npz"), None, self.FORM)
        for name in ("train", "test"):
            np.savez(tmp_path / f"{name}.npz", **self.images(["0", "1"]))
        with pytest.raises(DataError, match="all of it to train on"):
            own_records(str(tmp_path), None, self.FORM)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"kind": "image", "shape": [8, 8], "classes": ["a"]},
        {"kind": "sound", "shape": [], "classes": ["a"], "records": 1},
        {"kind": "image", "shape": [8, -8], "classes": ["a"], "records": 1},
        {"kind": "image", "shape": [2**30], "classes": ["a"], "records": 1},
        {"kind": "image", "shape": [1, 1, 1, 1], "classes": ["a"], "records": 1},
        {"kind": "image", "shape": [8, 8], "classes": [], "records": 1},
        {"kind": "image", "shape": [8, 8], "classes": [1], "records": 1},
        {"kind": "image", "shape": [8, 8], "classes": ["a"], "records": -1},
    ],
)
def test_a_form_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        RecordForm.from_json(value)


def test_a_form_survives_its_json() -> None:
    form = RecordForm("signal", (), ("a", "b"), 7)
    assert RecordForm.from_json(form.to_json()) == form
