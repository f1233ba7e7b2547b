"""The task's policy: known to this audit word by word, and the one that chain and configuration name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from app.audit.blobs import Blobs
from app.audit.election import WEIGHTINGS
from app.audit.report import AuditError, holds, same
from app.audit.robust import AGGREGATORS
from app.audit.task import ChainTask
from app.protocol.digest import parse_json, sha256
from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.policy import Policy
from app.protocol.tensors import blob_limit, unpack

MOST_POLICY = 2**24
"""Largest policy, in bytes, that is read."""
_MEMBERS = {
    *("rounds", "f", "gamma_initial", "gamma_max", "examples_cap", "fractional_bits", "tau", "cohort"),
    *("copy_cosine", "strikes"),
    *("aggregator", "evaluation", "weighting", "precision", "layout", "model", "frozen", "config"),
}
_SECTIONS = {
    "strategy": {
        *("name", "f", "aggregator", "evaluation", "gamma_initial", "gamma_max", "examples_cap", "fractional_bits"),
        *("precision", "cohort", "copy_cosine", "strikes"),
    },
    "terms": {
        *("name", "reward", "deposit", "skips"),
        *("submission_window", "seal_window", "leader_window", "finalise_window"),
    },
    "miners": {"count", "weighting", "stakes", "tau"},
    "privacy": {
        *("name", "mechanism", "normalisation", "batch_size", "calibration", "labels"),
        *("epsilon", "epsilon_label", "delta", "budget", "clip", "randomness"),
        *("epsilon_phone", "clip_gradient", "sampling_rate"),
    },
}
"""Sections of the configuration that change what a round comes to, and all keys of them that this audit knows."""
_CHOICES = {
    "strategy.name": ("hearth",),
    "strategy.aggregator": AGGREGATORS,
    "strategy.evaluation": ("outlier", "paper"),
    "strategy.precision": ("int16", "int32"),
    "miners.weighting": WEIGHTINGS,
    "privacy.mechanism": ("gaussian", "laplace", "paper", "dp_sgd", "none"),
    "privacy.normalisation": ("none", "record", "public", "batch", "map"),
    "privacy.labels": ("clear", "randomized_response"),
}
_LOCAL_SECTIONS = {
    "chain": {"name", "url", "chain_id", "confirmations"},
    "wallet": {"name", "folder"},
    "store": {"name", "url", "path", "most_bytes", "pinning"},
    "members": {"name", "path", "join_seconds", "reply_seconds"},
    "engine": {"name", "workers"},
    "probe": {"name", "epsilons", "records", "passes"},
    "contribution": {"name", "permutations"},
    "tracker": {"name", "place", "group"},
}
_OF_THE_POLICY = "inputs"
"""What a policy tells customers of the records' form: it follows from data that only the manufacturer has."""
_LOCAL = {"name", "experiment", *_LOCAL_SECTIONS}
"""Keys of a run's configuration that say where and how it ran, and are no part of its policy."""


def read_policy(data: bytes) -> Policy:
    """Return the policy; one with rules that this audit does not know is refused by name."""
    members = set(parse_json(data, "a policy"))
    for name in sorted(members - _MEMBERS):
        raise _unknown(f"policy.{name}", parse_json(data, "a policy")[name])
    policy = Policy.from_bytes(data)
    for section, known in _SECTIONS.items():
        values = policy.config.get(section)
        if not isinstance(values, dict):
            raise AuditError(f"policy, config.{section}", "a section", values)
        for key in sorted(set(values) - known):
            raise _unknown(f"{section}.{key}", values[key])
        holds(set(values) == known, f"policy, config.{section}", sorted(known), sorted(values))
    for name, choices in _CHOICES.items():
        section, key = name.split(".")
        value = policy.config[section][key]
        if value not in choices:
            raise _unknown(name, value)
    return policy


def check_policy(policy: Policy, task: ChainTask) -> None:
    """Compare a policy with its own configuration and with the terms on chain."""
    terms, config = task.terms, policy.config
    strategy, on_chain = config["strategy"], config["terms"]
    same("policy, digest", terms["policy"], policy.digest)
    for name in sorted(_SECTIONS["strategy"] - {"name", "copy_cosine"}):
        same(f"policy, {name} and config.strategy.{name}", getattr(policy, name), strategy[name])
    cosine = round(Decimal(str(strategy["copy_cosine"])) * 10**6)
    same("policy, copy_cosine in millionths and config.strategy.copy_cosine", policy.copy_cosine, cosine)
    same("policy, rounds and config.rounds", policy.rounds, config.get("rounds"))
    same("policy, config.customers and customers on chain", config.get("customers"), len(task.customers))
    for name in ("weighting", "tau"):
        same(f"policy, {name} and config.miners.{name}", getattr(policy, name), config["miners"][name])
    same("policy, config.miners.count and miners on chain", config["miners"]["count"], len(task.miners))
    if config["miners"]["stakes"] is not None:
        stakes = [seat.stake for seat in task.miners]
        same("policy, config.miners.stakes and stakes on chain", config["miners"]["stakes"], stakes)
    expected = {
        "rounds": policy.rounds,
        "f": policy.f,
        "gammaInitial": policy.gamma_initial,
        "gammaMax": policy.gamma_max,
        "model": policy.model.sha256,
        "seed": sha256(b"hearth first seed" + policy.digest),
        "reward": _wei(on_chain["reward"]),
        "deposit": _wei(on_chain["deposit"]),
        "submissionWindow": on_chain["submission_window"],
        "sealWindow": on_chain["seal_window"],
        "leaderWindow": on_chain["leader_window"],
        "finaliseWindow": on_chain["finalise_window"],
        "skips": on_chain["skips"],
    }
    same("contract's terms, members (this audit knows these)", sorted({*expected, "policy"}), sorted(terms))
    for name, value in expected.items():
        same(f"contract's terms, {name}", value, terms[name])


def check_initial_blobs(policy: Policy, blobs: Blobs) -> bytes:
    """Return the initial model's blob; raise `AuditError` unless it and the frozen part are the policy's."""
    blobs.needed("frozen part", policy.frozen, policy.frozen.size)
    model = blobs.needed("initial model", policy.model, blob_limit(policy.layout, MODEL_DTYPE))
    try:
        unpack(model, policy.layout, MODEL_DTYPE)
    except ProtocolError as error:
        raise AuditError("initial model", "a model of the policy's layout", error) from error
    return model


def check_config(policy: Policy, config: dict[str, Any], chain_id: int) -> None:
    """Compare a run's resolved configuration with its policy's, and what it says of chain and store with what is here.

    The rest of `_LOCAL` tells how it ran on its machine: nothing confirms that, and nothing rests on it.
    """
    same("config.yaml, keys", sorted({*policy.config, *_LOCAL} - {_OF_THE_POLICY}), sorted(config))
    for section, keys in _LOCAL_SECTIONS.items():
        holds(isinstance(config[section], dict), f"config.yaml, {section}", "a section", config[section])
        same(f"config.yaml, {section}, keys", sorted(keys), sorted(map(str, config[section])))
    same("config.yaml, chain.name", "embedded", config["chain"].get("name"))
    same("config.yaml, chain.chain_id", chain_id, config["chain"].get("chain_id"))
    same("config.yaml, store.name", "embedded", config["store"].get("name"))
    of_the_task = {key: value for key, value in config.items() if key not in _LOCAL}
    if isinstance(of_the_task.get("data"), dict):
        of_the_task["data"] = of_the_task["data"] | {"path": None}  # where the data was on that machine
    for key, value in policy.config.items():
        if key != _OF_THE_POLICY:
            same(f"config.yaml, {key}", value, of_the_task[key])


def _wei(ether: float) -> int:
    return int(Decimal(str(ether)) * 10**18)


def _unknown(name: str, value: object) -> AuditError:
    return AuditError(f"policy, {name}", "a rule that this audit knows", f"this audit does not know {name}={value}")
