from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.protocol.digest import BlobRef, canonical_json, sha256
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy

MODEL, FROZEN = BlobRef(b"\1" * 32, 10, "bafkmodel"), BlobRef(b"\2" * 32, 20, "bafkfrozen")
POLICY = Policy(
    rounds=10,
    f=2,
    cohort=256,
    precision="int16",
    aggregator="multi_krum",
    evaluation="outlier",
    gamma_initial=5,
    gamma_max=10,
    examples_cap=100,
    fractional_bits=14,
    weighting="stake",
    tau=3,
    copy_cosine=999_000,
    strikes=0,
    layout=(("w", (2, 3)), ("b", ())),
    model=MODEL,
    frozen=FROZEN,
    config={"seed": 0, "data": {"name": "plaid", "alpha": 0.5}, "text": "Wärme"},
)
CHANGES = {
    "rounds": 11,
    "f": 1,
    "cohort": 99,
    "precision": "int32",
    "aggregator": "median",
    "evaluation": "paper",
    "gamma_initial": 4,
    "gamma_max": 9,
    "examples_cap": 99,
    "fractional_bits": 13,
    "weighting": "equal",
    "tau": 4,
    "copy_cosine": 998_000,
    "strikes": 1,
    "layout": (("w", (3, 2)), ("b", ())),
    "model": FROZEN,
    "frozen": MODEL,
    "config": {},
}


def test_round_trip() -> None:
    again = Policy.from_bytes(POLICY.to_bytes())
    assert again == POLICY
    assert again.digest == sha256(POLICY.to_bytes()) == POLICY.digest
    assert again.grid.fractional_bits == 14


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_binds_every_member(name: str) -> None:
    assert {field.name for field in fields(Policy)} == set(CHANGES)
    assert replace(POLICY, **{name: CHANGES[name]}).digest != POLICY.digest


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("value", [None, True, 1.0, [1], "\ud800"])
def test_bad_members_are_refused(name: str, value: object) -> None:
    changed = json.loads(POLICY.to_bytes()) | {name: value}
    with pytest.raises(ProtocolError):
        Policy.from_bytes(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("name", CHANGES)
def test_missing_and_superfluous_members_are_refused(name: str) -> None:
    value = json.loads(POLICY.to_bytes())
    with pytest.raises(ProtocolError, match="exactly these members"):
        Policy.from_bytes(canonical_json(value | {name + "2": 1}))
    del value[name]
    with pytest.raises(ProtocolError, match="exactly these members"):
        Policy.from_bytes(canonical_json(value))


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_hostile_bytes_raise_our_error(data: st.DataObject, hostile_to, refuses) -> None:
    refuses(Policy.from_bytes, data.draw(hostile_to(POLICY.to_bytes())))


@pytest.mark.parametrize("depth", [100, 900, 980, 990, 1000, 2000, 5000])
def test_deep_nesting_raises_our_error(depth: int, refuses) -> None:
    config = b'{"a":' * depth + b"0" + b"}" * depth
    refuses(Policy.from_bytes, POLICY.to_bytes().replace(canonical_json(POLICY.config), config))
