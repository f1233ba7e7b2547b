"""A small task on the digits, as its manufacturer would publish it, for tests of the customer's side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from app.customer.attacks import Participant
from app.customer.simulation import simulated_customer
from app.learning.config import DataConfig, ModelConfig, TrainConfig
from app.learning.form import RecordForm
from app.learning.models import bottleneck_width, build
from app.learning.pretrain import pretrain
from app.learning.views import inspect, manufacturer_view
from app.learning.weights import get_vector, layout, save_frozen
from app.privacy.config import PrivacyConfig
from app.privacy.labels import flip_matrix
from app.privacy.mechanism import mechanism_of, relative_noise
from app.privacy.randomness import SystemRandom
from app.protocol.announcement import Announcement
from app.protocol.digest import BlobRef, sha256
from app.protocol.fixed_point import MODEL_DTYPE, Grid
from app.protocol.policy import Policy
from app.protocol.signing import Domain
from app.protocol.tensors import pack

SEED, CUSTOMERS, ROUNDS = 3, 5, 4
DOMAIN = Domain(31337, "0x00000000000000000000000000000000000000C0")
RECORD = PrivacyConfig(
    name="record",
    mechanism="gaussian",
    normalisation="none",
    batch_size=8,
    calibration="batch",
    labels="clear",
    epsilon=8.0,
    epsilon_label=4.0,
    delta=1e-5,
    budget=8.0,
    clip=1.0,
    epsilon_phone=2.0,
    clip_gradient=1.0,
    sampling_rate=0.1,
    randomness="seeded-insecure",
)
NONE = replace(RECORD, name="none", mechanism="none")
PAPER = replace(RECORD, name="paper", mechanism="paper", normalisation="map", budget=16.0)
DATA = DataConfig(name="digits")
ATTACK = {"name": "none", "count": 0, "scale": 1.0, "knowledge": "omniscient", "jitter": 0.0}


@dataclass(frozen=True)
class World:
    """A published task: the policy and the two blobs beside it."""

    policy: Policy
    frozen: bytes
    model: bytes

    def with_config(self, **sections: Any) -> World:
        """Return the same task with other sections of the configuration."""
        return replace(self, policy=replace(self.policy, config=self.policy.config | sections))

    def announcement(self, round_number: int = 1) -> Announcement:
        """Announce a round on the initial model."""
        return Announcement(DOMAIN, self.policy.digest, round_number, sha256(self.model))

    def customer(self, index: int, home: Path) -> Participant:
        """Return a simulated customer."""
        return simulated_customer(self.policy, index, home)

    def blobs(self) -> tuple[bytes, bytes, bytes]:
        """Return what goes with an announcement."""
        return self.policy.to_bytes(), self.frozen, self.model


@cache
def world(privacy: PrivacyConfig = RECORD, head: str = "auto", extractor: str = "frozen") -> World:
    """Return a task under ``privacy``; preparing it takes a moment, so each is made once."""
    model, form = ModelConfig(head=head, extractor=extractor), RecordForm.of(inspect(DATA, CUSTOMERS, SEED))
    width = bottleneck_width(model, form, noised=privacy.record_level)
    noise, flips = relative_noise(privacy, width), flip_matrix(privacy, len(form.classes))
    split = build(model, form, noised=privacy.record_level, noise=noise, flips=flips, seed=SEED)
    clean = mechanism_of(privacy, SystemRandom()).clean
    pretrain(split, manufacturer_view(DATA, CUSTOMERS, SEED).public, SEED, clean)
    grid, shape = Grid(14), layout(split.trained)
    initial = pack(grid.encode(get_vector(split.trained), MODEL_DTYPE)[0], shape, MODEL_DTYPE)
    frozen = save_frozen(split)
    train = TrainConfig(1, 0, 1.0, 0.0) if split.head == "prototype" else TrainConfig(2, 16, 0.05, 0.9)
    policy = Policy(
        rounds=ROUNDS,
        f=1,
        cohort=256,
        precision="int16",
        aggregator="multi_krum",
        evaluation="outlier",
        gamma_initial=5,
        gamma_max=10,
        examples_cap=1000,
        fractional_bits=grid.fractional_bits,
        weighting="equal",
        tau=1,
        copy_cosine=999_000,
        strikes=0,
        layout=shape,
        model=reference(initial),
        frozen=reference(frozen),
        config={
            "seed": SEED,
            "customers": CUSTOMERS,
            "data": asdict(DATA),
            "model": asdict(model) | {"hidden": list(model.hidden)},
            "train": asdict(train),
            "privacy": asdict(privacy),
            "attack": ATTACK,
            "inputs": form.to_json(),
        },
    )
    return World(Policy.from_bytes(policy.to_bytes()), frozen, initial)


def reference(blob: bytes) -> BlobRef:
    """Return a reference to a blob that no store holds."""
    return BlobRef(sha256(blob), len(blob), "bafkreidummy")
