"""Whether the parts of a configuration fit each other: what no section can tell by itself."""

from __future__ import annotations

from collections.abc import Iterator

from app.checks import in_range, one_of
from app.customer.attacks import ATTACKS, COLLUDING, SCALED, SPYING
from app.learning.config import DATA_SETS, EXTRACTORS, HEADS, MODELS, PARTITIONS, DataConfig, ModelConfig
from app.ledger.config import THIS_MACHINE
from app.privacy.config import COUPLING
from app.privacy.exposure import Exposure, require_possible
from app.protocol.errors import ConfigError
from app.settings import Config

_MOST_POINTS = 65_535
_MOST_WEIGHT = {bits: (2**63 - 1) // (2**bits + 2) for bits in (16, 32)}
"""What all weights of a round may sum to, by the bits of an update's entries: beyond it the exact sums of
`strategies.fedavg` would leave 63 bits."""
_NOISED = ("privacy", ("record", "laplace", "paper", "paper_batch", "dp_sgd"))
_RECORD = ("privacy", ("record", "laplace"))
_JOINT = ("model.extractor", ("joint",))
_PAPER = ("privacy", ("paper", "paper_batch"))
_USED_BY: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "data.alpha": (("data.partition", ("dirichlet",)),),
    "data.column": (("data.partition", ("column",)),),
    "attack.count": (("attack", ATTACKS),),
    "attack.scale": (("attack", SCALED),),
    "attack.knowledge": (("attack", COLLUDING),),
    "attack.jitter": (("attack", COLLUDING),),
    "engine.workers": (("engine", ("local",)),),
    **{f"probe.{leaf}": (("probe", ("privacy",)),) for leaf in ("epsilons", "records", "passes")},
    **{f"privacy.{leaf}": (_NOISED,) for leaf in ("epsilon", "budget", "randomness")},
    "privacy.clip": (_RECORD,),
    "privacy.delta": (("privacy", (*_RECORD[1], "dp_sgd")), _JOINT),
    "privacy.epsilon_phone": (_JOINT,),
    "privacy.clip_gradient": (("privacy", ("dp_sgd",)), _JOINT),
    "privacy.sampling_rate": (("privacy", ("dp_sgd",)),),
    "contribution.permutations": (("contribution", ("shapley",)),),
    "privacy.calibration": (_PAPER,),
    "privacy.batch_size": (_PAPER, _JOINT, ("privacy.normalisation", COUPLING)),
    "privacy.epsilon_label": (("privacy.labels", ("randomized_response",)),),
}
"""Keys that only some choices use, with those choices: given beside other ones, they would silently do nothing."""
_BOUNDS = {
    # Wide enough for any experiment, and so narrow that squares fit float32 and receipts' whole micros and picos.
    "privacy.epsilon": (1e-6, 1e6),
    "privacy.epsilon_label": (1e-6, 1e6),
    "privacy.budget": (1e-6, 1e6),
    "privacy.delta": (1e-12, 1.0),
    "privacy.clip": (1e-6, 1e6),
    "privacy.epsilon_phone": (1e-6, 1e6),
    "privacy.clip_gradient": (1e-6, 1e6),
    "privacy.sampling_rate": (1e-6, 1.0),
    "attack.scale": (1e-6, 1e9),
}


def validate(config: Config) -> Config:
    """Return ``config`` if its parts fit each other.

    Raises
    ------
    ConfigError
        Names the key that does not fit and its allowed range. Each section has checked itself already.
    """
    most = (config.customers - 3) // 2
    if config.strategy.f > most:
        problem = f"{config.strategy.f} hostile among {config.customers} customers cannot be withstood"
        raise ConfigError("strategy.f", problem, f"0..{most}, or customers={2 * config.strategy.f + 3} and more")
    _validate_attack(config)
    _validate_terms(config)
    if config.miners.weighting == "reputation" and config.miners.count > config.customers:
        problem = f"{config.miners.count} miners cannot all be customers, as miners.weighting=reputation has them"
        raise ConfigError("miners.count", problem, f"1..{config.customers}, or another miners.weighting")
    _validate_keys(config)
    _validate_weights(config)
    _validate_points(config)
    _validate_bounds(config)
    _validate_data(config.data)
    _validate_model(config.model)
    # With as many passes as there are at least; those that suit the model are known once it is built.
    require_possible(
        config.privacy, Exposure(config.rounds, config.train.epochs or 1, config.model.extractor == "joint")
    )
    if config.probe.name == "privacy" and config.model.extractor == "joint":
        problem = "attacks a record's one release, and a joint extractor makes many"
        raise ConfigError("probe", problem, "none, or model.extractor=frozen")
    if config.probe.name == "privacy" and config.privacy.mechanism != "gaussian":
        problem = f"attacks releases with Gaussian noise, and privacy.mechanism={config.privacy.mechanism} has another"
        raise ConfigError("probe", problem, "none, or privacy=record")
    return config


def warnings(config: Config) -> list[str]:
    """Return a line for each thing that is possible and probably not what the user wants."""
    hostile, f, lines = len(config.attack.crew(config.customers)), config.strategy.f, []
    if hostile > f:
        lines.append(f"warning: attack.count={hostile} attack, and strategy.f={f} is how many are withstood")
    if hostile and config.strategy.aggregator == "fedavg":
        lines.append(f"warning: strategy.aggregator=fedavg withstands nobody, and attack.count={hostile} attack")
    if config.customers < 3 * f + 3:
        told = f"customers={config.customers} is fewer than 3 f + 3 = {3 * f + 3}"
        lines.append(f"warning: {told}: {f} of them can void every round by sending nothing")
    if config.wallet.name == "keystore" and not config.members.elsewhere:
        told = "wallet=keystore signs with real keys; the customers' data and noise are a simulation's all the same"
        lines.append(f"warning: {told}")
    return lines


def _validate_terms(config: Config) -> None:
    """Check that every leader that may be needed has its turn, and that a task which only expires fails."""
    terms, faulty = config.terms, (config.miners.count - 1) // 3
    last_turn = terms.leader_window * max(1, faulty)
    if last_turn >= terms.finalise_window:
        problem = (
            f"{terms.leader_window} s for each of the leaders that may fail ({faulty} of miners.count="
            f"{config.miners.count}) leave no turn before terms.finalise_window={terms.finalise_window} has passed"
        )
        allowed = f"0..{(terms.finalise_window - 1) // max(1, faulty)}, or a longer terms.finalise_window"
        raise ConfigError("terms.leader_window", problem, allowed)
    if terms.skips >= config.rounds:
        problem = f"{terms.skips} are all of rounds={config.rounds}: a task in which nothing happens would complete"
        raise ConfigError("terms.skips", problem, f"0..{config.rounds - 1}")
    points = config.rounds * config.customers * config.strategy.gamma_max
    if 0 < terms.reward_wei < points:
        problem = f"{terms.reward} ether are less than one wei for each of the {points} points that can be earned"
        raise ConfigError("terms.reward", problem, f"0, or {points / 10**18:g} ether and more")


def _validate_attack(config: Config) -> None:
    if config.attack.count > config.customers:
        problem = f"{config.attack.count} is more than all {config.customers} customers"
        raise ConfigError("attack.count", problem, f"0..{config.customers}")
    if config.attack.name in SPYING and config.privacy.randomness == "system" and config.privacy.name != "none":
        problem = f"attack={config.attack.name} recomputes other customers' updates, noise and all"
        raise ConfigError("privacy.randomness", problem, "seeded-insecure, or another attack")


def _validate_keys(config: Config) -> None:
    """Check that keys which anybody can derive stay on this machine, and that key files can reach their owners."""
    if config.wallet.name == "simulation" and not config.chain.is_here:
        problem = "the keys of a simulation follow from its seed, so its chain must be on this machine"
        raise ConfigError("chain.url", problem, [*THIS_MACHINE, "any other with wallet=keystore"])
    if config.members.elsewhere:
        _validate_elsewhere(config)
        return
    if config.wallet.name == "keystore" and config.engine.name != "local":
        problem = f"wallet=keystore opens all key files in this process, and engine={config.engine.name} has others"
        raise ConfigError("wallet", problem, "simulation, or engine=local")


def _validate_elsewhere(config: Config) -> None:
    """Check that members which are processes of their own can take part, and that nothing is simulated for them."""
    needed = {
        "wallet": ("keystore", config.wallet.name, "keystore: keys from a seed are everybody's"),
        "chain": ("rpc", config.chain.name, "rpc: a chain that the miners reach too"),
    }
    for key, (wanted, given, allowed) in needed.items():
        if given != wanted:
            raise ConfigError(key, f"members=file does not go with {key}={given}", allowed)
    if config.store.name == "embedded" and config.store.path is None:
        problem = "the blobs would lie in the run directory, where miners of members=file do not find them"
        raise ConfigError("store", problem, "ipfs, or store.path=DIR that all processes of this machine share")


def _validate_points(config: Config) -> None:
    """Check that what a customer may earn fits the 16 bits in which the contract counts it."""
    gamma_max = config.strategy.gamma_max
    most = (_MOST_POINTS - 1) // gamma_max
    if config.rounds > most:
        problem = (
            f"{config.rounds} rounds of up to strategy.gamma_max={gamma_max} points are more than a contract counts"
        )
        raise ConfigError("rounds", problem, f"1..{most}, or a smaller strategy.gamma_max")


def _validate_weights(config: Config) -> None:
    # With nnm_krum an update may be in as many mixtures as there are customers.
    shares = config.customers if config.strategy.aggregator == "nnm_krum" else 1
    most = _MOST_WEIGHT[int(config.strategy.precision.removeprefix("int"))]
    largest = most // (config.strategy.gamma_max * config.customers * shares)
    if config.strategy.examples_cap > largest:
        problem = f"{config.strategy.examples_cap} is too large for exact sums over {config.customers} customers"
        raise ConfigError("strategy.examples_cap", problem, f"1..{largest}, or fewer customers, gamma_max or bits")


def _validate_bounds(config: Config) -> None:
    for key, (low, high) in _BOUNDS.items():
        section, _, leaf = key.partition(".")
        part = getattr(config, section)
        value = getattr(part, leaf)
        if part.name != "none" and value is not None and not low <= value <= high:
            raise ConfigError(key, f"{value} is out of range", f"{low:g} to {high:g}")


def unused(config: Config, given: set[str]) -> Iterator[tuple[str, ConfigError]]:
    """Yield the given keys that this configuration does not use."""
    for key in sorted(given & _USED_BY.keys()):
        uses = _USED_BY[key]
        if not any(_chosen(config, chooser) in users for chooser, users in uses):
            chooser = uses[0][0]
            choices = [f"{chooser}={user}" for chooser, users in uses for user in users]
            problem = f"is not used by {chooser}={_chosen(config, chooser)}"
            yield key, ConfigError(key, problem, ["leave it out", *choices])
    if "data.test_share" not in given:
        return
    from app.learning.datasets import has_test  # loads numpy

    data = config.data
    if has_test(data.name, data.path):
        problem = f"is not used: data={data.name} brings its own test records"
        yield "data.test_share", ConfigError("data.test_share", problem, "leave it out, or one file without a test.*")


def _chosen(config: Config, chooser: str) -> str:
    section, _, leaf = chooser.partition(".")
    return str(getattr(getattr(config, section), leaf or "name"))


def _validate_data(data: DataConfig) -> None:
    one_of("data.name", data.name, DATA_SETS)
    one_of("data.partition", data.partition, PARTITIONS)
    if data.alpha <= 0:
        raise ConfigError("data.alpha", f"{data.alpha} is impossible", "a number above 0")
    if not 0 < data.test_share < 1:
        raise ConfigError("data.test_share", f"{data.test_share} is impossible", "a number between 0 and 1")
    in_range("data.public", data.public, 1, 1_000_000)
    in_range("data.records", data.records, 2, 1_000_000_000)
    if data.name == "folder" and not data.path:
        raise ConfigError(
            "data.path", "must be given with data=folder", "the folder with your train.* and test.* files"
        )
    if data.partition == "column" and data.name in ("plaid", "digits"):
        raise ConfigError("data.partition", f"data={data.name} has no column of customers", "iid, dirichlet")
    if data.partition == "column" and not data.column:
        raise ConfigError("data.column", "must be given with data.partition=column", "the name of a column of the data")
    for key in ("path", "label", "column"):
        if getattr(data, key) is not None and data.name in ("plaid", "digits"):
            raise ConfigError(f"data.{key}", f"is not used by data={data.name}", "null, or data=folder, or data=mnist")


def installed_models() -> tuple[str, ...]:
    """Return the names of models that somebody installed."""
    from app.learning.models.installed import names  # loads torch

    return names()


def _validate_model(model: ModelConfig) -> None:
    if model.name not in MODELS:
        one_of("model.name", model.name, (*MODELS, *installed_models()))
    one_of("model.extractor", model.extractor, EXTRACTORS)
    one_of("model.head", model.head, HEADS)
    in_range("model.bottleneck", model.bottleneck, 1, 4096)
    if len(model.hidden) > 8:
        raise ConfigError("model.hidden", f"{len(model.hidden)} layers are too many", "at most 8 widths")
    for index, width in enumerate(model.hidden):
        in_range(f"model.hidden[{index}]", width, 1, 65_536)
