"""The configuration of a run: its schema, the one `compose` over conf/ that every entry uses, and its checks."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from app.customer.attacks import ATTACKS, AttackConfig
from app.learning.config import DATA_SETS, HEADS, MODELS, PARTITIONS, DataConfig, ModelConfig, default_training
from app.overrides import CONF, check, without_password
from app.privacy.config import PrivacyConfig
from app.protocol.errors import ConfigError
from app.run_directory import check_name
from app.typed import build, leaves

MOST_ROUNDS, MOST_CUSTOMERS = 10_000, 10_000
_MOST_POINTS = 65_535
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_MOST_WEIGHT = (2**63 - 1) // (2 * 2**15 + 2)
"""What all weights of a round may sum to: beyond it the exact sums of `strategies.fedavg` would leave 63 bits."""
_USED_BY = {
    "data.alpha": ("data.partition", ("dirichlet",)),
    "data.column": ("data.partition", ("column",)),
    "attack.scale": ("attack", tuple(ATTACKS)),
    "engine.workers": ("engine", ("local",)),
    **{f"privacy.{leaf}": ("privacy", ("record",)) for leaf in ("epsilon", "delta", "budget", "clip", "randomness")},
}
"""Keys that only some choices use, with those choices: given beside another one, they would silently do nothing."""
_BOUNDS = {
    # Wide enough for any experiment, and so narrow that squares fit float32 and receipts' whole micros and picos.
    "privacy.epsilon": (1e-6, 1e6),
    "privacy.budget": (1e-6, 1e6),
    "privacy.delta": (1e-12, 1.0),
    "privacy.clip": (1e-6, 1e6),
    "attack.scale": (1e-6, 1e6),
}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """A customer's local training, as `app.learning.config.TrainConfig`; None takes what suits the model's head."""

    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    momentum: float | None

    def __post_init__(self) -> None:
        _range("train.epochs", self.epochs, 1, 10_000)
        _range("train.batch_size", self.batch_size, 0, 2**31 - 1)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError("train.learning_rate", f"{self.learning_rate} is impossible", "a number above 0")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ConfigError("train.momentum", f"{self.momentum} is impossible", "a number from 0 to below 1")

    def resolved(self, head: str, records: int) -> TrainOptions:
        """Return these options, each None replaced by what suits a resolved head and ``records`` records a customer."""
        chosen = {key: value for key, value in asdict(self).items() if value is not None}
        return TrainOptions(**(asdict(default_training(head, records)) | chosen))


@dataclass(frozen=True, slots=True)
class StrategyConfig:
    """How rounds are judged and aggregated.

    Attributes
    ----------
    name : str
        ``hearth``.
    f : int
        How many hostile customers the aggregation withstands; it takes at least ``2 f + 3`` customers.
    evaluation : str
        Which rule gives an update its L: ``outlier`` or ``paper``.
    gamma_initial, gamma_max : int
        Reputation at the start and at most, in 0..255.
    examples_cap : int
        An update weighs ``gamma * min(examples, examples_cap)``.
    fractional_bits : int
        The fixed-point grid's resolution: models and updates are multiples of ``2**-fractional_bits``.
    reward : float
        Ether that the manufacturer escrows for the customers; they earn it by reputation, round by round.
    """

    name: str
    f: int
    evaluation: str
    gamma_initial: int
    gamma_max: int
    examples_cap: int
    fractional_bits: int
    reward: float

    @property
    def reward_wei(self) -> int:
        """The reward in wei, exactly as it is written."""
        return int(Decimal(str(self.reward)) * 10**18)

    def __post_init__(self) -> None:
        _choice("strategy.name", self.name, ("hearth",))
        _range("strategy.f", self.f, 0, (MOST_CUSTOMERS - 3) // 2)
        _choice("strategy.evaluation", self.evaluation, ("outlier", "paper"))
        _range("strategy.gamma_max", self.gamma_max, 1, 255)
        _range("strategy.gamma_initial", self.gamma_initial, 0, self.gamma_max)
        _range("strategy.examples_cap", self.examples_cap, 1, 2**32 - 1)
        _range("strategy.fractional_bits", self.fractional_bits, 1, 24)
        if not 0 <= self.reward <= 1e6:
            raise ConfigError("strategy.reward", f"{self.reward} is out of range", "0 to 1000000 ether")


@dataclass(frozen=True, slots=True)
class MinersConfig:
    """The committee: ``count`` miners, of which a third may fail."""

    count: int

    def __post_init__(self) -> None:
        _range("miners.count", self.count, 1, 255)


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Where the rounds are committed: an ``embedded`` chain in the run directory, or a node behind ``rpc``.

    Attributes
    ----------
    name : str
        ``embedded`` or ``rpc``.
    url : str or None
        The node's JSON-RPC address; for ``rpc`` alone.
    chain_id : int or None
        The chain's identity, bound into every signature. With ``rpc`` it is the one that is expected there; None takes
        what the node says.
    """

    name: str
    url: str | None
    chain_id: int | None

    def __post_init__(self) -> None:
        _choice("chain.name", self.name, ("embedded", "rpc"))
        _range("chain.chain_id", self.chain_id, 1, 2**53 - 1)
        if self.name == "embedded" and self.chain_id is None:
            raise ConfigError("chain.chain_id", "the embedded chain needs one", f"1..{2**53 - 1}")
        _no_password("chain.url", self.url)
        _url("chain.url", self.url, ("http", "https"), wanted=self.name == "rpc")
        if self.name == "rpc" and urlsplit(self.url or "").hostname not in _THIS_MACHINE:
            # Whoever knows the seed knows the keys: what they own on a shared chain is anyone's.
            problem = "the keys of a simulation follow from its seed, so its chain must be on this machine"
            raise ConfigError("chain.url", problem, ", ".join(_THIS_MACHINE))


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where the blobs are: a directory (``embedded``), or an IPFS node's RPC at ``url`` (``ipfs``)."""

    name: str
    url: str | None

    def __post_init__(self) -> None:
        _choice("store.name", self.name, ("embedded", "ipfs"))
        _no_password("store.url", self.url)
        if self.name == "ipfs" and self.url and self.url.startswith("/"):
            from app.store.kubo import KuboStore  # an HTTP client: only for those who use it

            KuboStore(self.url)  # reads the multiaddr; nothing is sent before the first request
        else:
            _url("store.url", self.url, ("http", "https"), wanted=self.name == "ipfs")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What runs the customers: this process (``local``), Ray (``ray``), or the Flower runtime we run in (``flower``).

    ``workers`` is how many customers train at once; 0 means one per core.
    """

    name: str
    workers: int

    def __post_init__(self) -> None:
        _choice("engine.name", self.name, ("local", "ray", "flower"))
        _range("engine.workers", self.workers, 0, 1024)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a run depends on. One field for each key of conf/config.yaml, one section for each group.

    Attributes
    ----------
    seed : int
        Everything random in a simulation follows from it.
    rounds, customers : int
        Length and size of the task.
    name : str or None
        Name of the run directory; None lets the run choose a new one.
    experiment : str or None
        The preset of conf/experiment that was laid over the defaults.
    """

    seed: int
    rounds: int
    customers: int
    name: str | None
    experiment: str | None
    data: DataConfig
    model: ModelConfig
    train: TrainOptions
    privacy: PrivacyConfig
    strategy: StrategyConfig
    miners: MinersConfig
    attack: AttackConfig
    chain: ChainConfig
    store: StoreConfig
    engine: EngineConfig

    def __post_init__(self) -> None:
        _range("seed", self.seed, 0, 2**63 - 1)
        _range("rounds", self.rounds, 1, MOST_ROUNDS)
        _range("customers", self.customers, 3, MOST_CUSTOMERS)
        if self.name is not None:
            check_name(self.name)


KEYS = leaves(Config)
"""Every dotted key that holds a value, with its type."""


def compose(overrides: Sequence[str] = ()) -> Config:
    """Lay ``overrides`` over conf/ and return the checked configuration.

    Parameters
    ----------
    overrides : sequence of str
        In Hydra's grammar: ``data=digits`` chooses from a group, ``privacy.epsilon=4`` sets a value.

    Raises
    ------
    ConfigError
        Names the first key that is unknown, of the wrong type, or does not fit the others, and what is allowed.
    """
    return compose_all([overrides])[0]


def compose_all(jobs: Sequence[Sequence[str]]) -> list[Config]:
    """Compose the jobs of a sweep, see `compose`.

    A key that does nothing is refused as in `compose`, but here it is enough that one of the jobs uses it:
    ``privacy=record,none privacy.epsilon=4`` compares one with the other.
    """
    checked = [check(job, KEYS) for job in jobs]
    configs = [_compose(job) for job in checked]
    given = {text.partition("=")[0] for job in checked for text in job}
    unused = [dict(_unused(config, given)) for config in configs]
    for key, error in unused[0].items():
        if all(key in other for other in unused):
            raise error
    return configs


def _compose(checked: list[str]) -> Config:
    plain = _hydra(checked) | {"experiment": _experiment(checked)}
    _locate(plain["data"])
    return from_plain(plain)


def sweep_parameters(overrides: Sequence[str]) -> dict[str, str]:
    """Return what ``hydra.sweeper.params`` of the chosen experiment sweeps over: keys and their values' text."""
    experiment = _experiment(check(overrides, KEYS))
    if experiment is None:
        return {}
    parameters = _hydra([f"experiment={experiment}"], of_hydra=True)["hydra"]["sweeper"]["params"]
    return {str(key): str(value) for key, value in (parameters or {}).items()}


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
    if config.attack.count > config.customers:
        problem = f"{config.attack.count} is more than all {config.customers} customers"
        raise ConfigError("attack.count", problem, f"0..{config.customers}")
    if config.attack.name == "none" and config.attack.count:
        raise ConfigError("attack.count", "nobody attacks with attack=none", "0, or another attack")
    _validate_weights(config)
    _validate_points(config)
    _validate_bounds(config)
    _validate_data(config.data)
    _validate_model(config.model)
    return config


def warnings(config: Config) -> list[str]:
    """Return a line for each thing that is possible and probably not what the user wants."""
    hostile, f, lines = config.attack.count, config.strategy.f, []
    if hostile > f:
        lines.append(f"warning: attack.count={hostile} attack, and strategy.f={f} is how many are withstood")
    if config.customers < 3 * f + 3:
        told = f"customers={config.customers} is fewer than 3 f + 3 = {3 * f + 3}"
        lines.append(f"warning: {told}: {f} of them can void every round by sending nothing")
    return lines


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
    largest = _MOST_WEIGHT // (config.strategy.gamma_max * config.customers)
    if config.strategy.examples_cap > largest:
        problem = f"{config.strategy.examples_cap} is too large for exact sums over {config.customers} customers"
        raise ConfigError("strategy.examples_cap", problem, f"1..{largest}, or fewer customers or strategy.gamma_max")


def _validate_bounds(config: Config) -> None:
    for key, (low, high) in _BOUNDS.items():
        section, _, leaf = key.partition(".")
        part = getattr(config, section)
        if part.name != "none" and not low <= getattr(part, leaf) <= high:
            raise ConfigError(key, f"{getattr(part, leaf)} is out of range", f"{low:g} to {high:g}")


def _unused(config: Config, given: set[str]) -> Iterator[tuple[str, ConfigError]]:
    """Yield the given keys that this configuration does not use."""
    for key in sorted(given & _USED_BY.keys()):
        chooser, users = _USED_BY[key]
        section, _, leaf = chooser.partition(".")
        chosen = getattr(getattr(config, section), leaf or "name")
        if chosen not in users:
            choices = (f"{chooser}={user}" for user in users)
            yield key, ConfigError(key, f"is not used by {chooser}={chosen}", ["leave it out", *choices])
    if "data.test_share" not in given:
        return
    from app.learning.datasets import has_test  # loads numpy

    data = config.data
    if has_test(data.name, data.path):
        problem = f"is not used: data={data.name} brings its own test records"
        yield "data.test_share", ConfigError("data.test_share", problem, "leave it out, or one file without a test.*")


def _validate_data(data: DataConfig) -> None:
    _choice("data.name", data.name, DATA_SETS)
    _choice("data.partition", data.partition, PARTITIONS)
    if data.alpha <= 0:
        raise ConfigError("data.alpha", f"{data.alpha} is impossible", "a number above 0")
    if not 0 < data.test_share < 1:
        raise ConfigError("data.test_share", f"{data.test_share} is impossible", "a number between 0 and 1")
    _range("data.public", data.public, 1, 1_000_000)
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


def _validate_model(model: ModelConfig) -> None:
    _choice("model.name", model.name, MODELS)
    _choice("model.head", model.head, HEADS)
    _range("model.bottleneck", model.bottleneck, 1, 4096)
    if len(model.hidden) > 8:
        raise ConfigError("model.hidden", f"{len(model.hidden)} layers are too many", "at most 8 widths")
    for index, width in enumerate(model.hidden):
        _range(f"model.hidden[{index}]", width, 1, 65_536)


def to_plain(config: Config) -> dict[str, Any]:
    """Return ``config`` as what JSON and YAML hold; `from_plain` reads it back to an equal one."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def from_plain(plain: Mapping[str, Any]) -> Config:
    """Read what `to_plain` wrote; raise `ConfigError` on anything that is not a whole, possible configuration."""
    return validate(build(Config, plain))


def from_run_config(run_config: Mapping[str, bool | int | float | str]) -> Config:
    """Compose from Flower's run-config: its flat keys and the free text of its key ``overrides``.

    The flat keys mirror conf/ in pyproject.toml. Only those that ``flwr run -c`` changed become overrides, so that an
    experiment's own values stay; empty text means conf's default.

    Parameters
    ----------
    run_config : mapping
        What Flower hands to the apps. ``overrides`` holds one override a line, or several separated by spaces, quoted
        as in a shell.

    Raises
    ------
    ConfigError
        As `compose`.
    """
    defaults = run_config_defaults()
    flat = [
        f"{key}={_literal(value)}"
        for key, value in run_config.items()
        if key != "overrides"
        and value != ""
        and not (value == defaults.get(key) and type(value) is type(defaults[key]))
    ]
    return compose(flat + _split(str(run_config.get("overrides", ""))))


def run_config_defaults() -> dict[str, bool | int | float | str]:
    """Return ``[tool.flwr.app.config]`` of the pyproject.toml beside conf/; a wheel has none."""
    path = CONF.parent / "pyproject.toml"
    if not path.is_file():
        return {}
    table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
    return dict(table)


def _hydra(overrides: list[str], of_hydra: bool = False) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            composed = hydra_compose("config", overrides, return_hydra_config=of_hydra)
        if of_hydra:
            return {"hydra": {"sweeper": OmegaConf.to_container(composed.hydra.sweeper)}}
        return cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None) or " ".join(overrides) or "conf/"
        problem = " ".join(str(error).split("\n")[0].split())
        raise ConfigError(without_password(str(key)), without_password(problem)) from None


def _experiment(checked: list[str]) -> str | None:
    name = next((text.partition("=")[2] for text in checked if text.startswith("experiment=")), "null")
    return None if name == "null" else name


def _locate(data: Any) -> None:
    """Make a path that is there absolute, because engines work from other folders; refuse a folder that is not."""
    path = data.get("path") if isinstance(data, dict) else None
    if not isinstance(path, str) or not path:
        return
    place = Path(path).expanduser()
    if place.exists():
        data["path"] = str(place.resolve())
    elif data.get("name") == "folder":
        raise ConfigError("data.path", f"there is no {place.absolute()}", "a folder or file that exists")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _literal(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Text is always quoted: bare 123, true or null would change its type. Choices of groups are never text to Hydra.
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else repr(value)


def _split(text: str) -> list[str]:
    if "\n" in text:
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError("overrides", f"cannot read {text!r}: {error}", "key=value key=value ...") from error


def _range(key: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(key, f"{value} is out of range", f"{low}..{high}")


def _choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(key, f"'{value}' is not known", choices)


def _no_password(key: str, url: str | None) -> None:
    if url is not None and "@" in url:  # the address itself is not shown either
        problem = "holds a user or a password: a run would keep it in its config.yaml and show it in its messages"
        raise ConfigError(key, problem, "an address without user and password; no others are supported")


def _url(key: str, url: str | None, schemes: tuple[str, ...], wanted: bool) -> None:
    section = key.partition(".")[0]
    allowed = f"an address that starts with {', '.join(scheme + '://' for scheme in schemes)}"
    if not wanted and url is not None:
        raise ConfigError(key, f"is not used by {section}=embedded", f"null, or another {section}")
    if wanted and not url:
        raise ConfigError(key, "must be given", allowed)
    if url is not None:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in schemes and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(key, f"'{url}' is not an address", allowed)
