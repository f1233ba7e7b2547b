"""The schema of a configuration: its sections, and what each of their values may be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from app.customer.attacks import AttackConfig
from app.learning.config import DataConfig, ModelConfig, default_training
from app.privacy.config import PrivacyConfig
from app.protocol.errors import ConfigError
from app.protocol.seat import MOST_STAKE
from app.run_directory import check_name
from app.typed import leaves

MOST_ROUNDS, MOST_CUSTOMERS = 10_000, 10_000
MOST_SECONDS = 2**32 - 1
"""Of a window: the contract counts them in 32 bits."""
AGGREGATORS = ("fedavg", "median", "multi_krum", "nnm_krum", "trimmed_mean")
"""The rules of `strategies.aggregation`, named here so that reading a configuration loads no numerical library."""
PRECISIONS = ("int16", "int32")
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """A customer's local training, as `app.learning.config.TrainConfig`; None takes what suits the model's head."""

    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    momentum: float | None

    def __post_init__(self) -> None:
        in_range("train.epochs", self.epochs, 1, 10_000)
        in_range("train.batch_size", self.batch_size, 0, 2**31 - 1)
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
    aggregator : str
        Which rule makes one update of a round's updates, see `strategies.aggregation`.
    evaluation : str
        Which rule gives an update its L: ``outlier`` or ``paper``.
    gamma_initial, gamma_max : int
        Reputation at the start and at most, in 0..255.
    examples_cap : int
        An update weighs ``gamma * min(examples, examples_cap)``.
    fractional_bits : int
        The fixed-point grid's resolution: models and updates are multiples of ``2**-fractional_bits``.
    precision : str
        The integers of an update, ``int16`` or ``int32``: with how many steps of the grid it may differ from nothing.
    cohort : int
        How many vectors at most are compared pairwise; a larger round is scored through this many buckets.
    """

    name: str
    f: int
    aggregator: str
    evaluation: str
    gamma_initial: int
    gamma_max: int
    examples_cap: int
    fractional_bits: int
    precision: str
    cohort: int

    def __post_init__(self) -> None:
        one_of("strategy.name", self.name, ("hearth",))
        in_range("strategy.f", self.f, 0, (MOST_CUSTOMERS - 3) // 2)
        one_of("strategy.aggregator", self.aggregator, AGGREGATORS)
        one_of("strategy.evaluation", self.evaluation, ("outlier", "paper"))
        in_range("strategy.gamma_max", self.gamma_max, 1, 255)
        in_range("strategy.gamma_initial", self.gamma_initial, 0, self.gamma_max)
        in_range("strategy.examples_cap", self.examples_cap, 1, 2**32 - 1)
        in_range("strategy.fractional_bits", self.fractional_bits, 1, 24)
        one_of("strategy.precision", self.precision, PRECISIONS)
        in_range("strategy.cohort", self.cohort, 2 * self.f + 3, MOST_CUSTOMERS)


@dataclass(frozen=True, slots=True)
class TermsConfig:
    """What the task's contract fixes besides the rules of `StrategyConfig`; see `app.ledger.task_records.TaskTerms`.

    Attributes
    ----------
    name : str
        ``simulation`` or ``deployment``: the file of conf/ that the values come from.
    reward, deposit : float
        Ether: what the manufacturer escrows for the customers, and what each member deposits.
    submission_window, seal_window, leader_window, finalise_window : int
        Seconds.
    skips : int
        Rounds that may expire before the task fails.
    """

    name: str
    reward: float
    deposit: float
    submission_window: int
    seal_window: int
    leader_window: int
    finalise_window: int
    skips: int

    @property
    def reward_wei(self) -> int:
        """The reward in wei, exactly as it is written."""
        return _wei(self.reward)

    @property
    def deposit_wei(self) -> int:
        """The deposit in wei, exactly as it is written."""
        return _wei(self.deposit)

    def __post_init__(self) -> None:
        one_of("terms.name", self.name, ("simulation", "deployment"))
        for key in ("reward", "deposit"):
            if not 0 <= getattr(self, key) <= 1e6:
                raise ConfigError(f"terms.{key}", f"{getattr(self, key)} is out of range", "0 to 1000000 ether")
        in_range("terms.submission_window", self.submission_window, 0, MOST_SECONDS)
        in_range("terms.seal_window", self.seal_window, 1, MOST_SECONDS)
        in_range("terms.leader_window", self.leader_window, 0, MOST_SECONDS)
        in_range("terms.finalise_window", self.finalise_window, 1, MOST_SECONDS)
        in_range("terms.skips", self.skips, 0, MOST_ROUNDS)
        if self.submission_window >= self.seal_window:
            problem = f"{self.submission_window} s would last as long as terms.seal_window={self.seal_window}"
            raise ConfigError("terms.submission_window", problem, f"0..{self.seal_window - 1}")


@dataclass(frozen=True, slots=True)
class MinersConfig:
    """The committee: who verifies and votes, and how the sortition of each round's leader weighs them.

    Attributes
    ----------
    count : int
        How many miners, of which a third may fail.
    weighting : str
        ``equal``: one sub-user each. ``stake``: as many as `stakes` says. ``reputation``: the miners are the first
        ``count`` customers, and each has as many as its reputation.
    stakes : tuple of int or None
        Each miner's stake, for ``stake`` alone.
    tau : int
        How many sub-users are selected on average; all of them where they are fewer.
    """

    count: int
    weighting: str
    stakes: tuple[int, ...] | None
    tau: int

    def __post_init__(self) -> None:
        in_range("miners.count", self.count, 1, 255)
        one_of("miners.weighting", self.weighting, ("equal", "stake", "reputation"))
        in_range("miners.tau", self.tau, 1, MOST_STAKE)
        if self.weighting != "stake":
            if self.stakes is not None:
                problem = f"is not used by miners.weighting={self.weighting}"
                raise ConfigError("miners.stakes", problem, "null, or miners.weighting=stake")
            return
        if self.stakes is None or len(self.stakes) != self.count:
            given = "must be given with miners.weighting=stake" if self.stakes is None else f"has {len(self.stakes)}"
            raise ConfigError("miners.stakes", given, f"a list of miners.count={self.count} whole numbers")
        for index, stake in enumerate(self.stakes):
            in_range(f"miners.stakes[{index}]", stake, 1, MOST_STAKE)
        if sum(self.stakes) > MOST_STAKE:  # more would only make the exact arithmetic slow
            raise ConfigError("miners.stakes", f"sum to {sum(self.stakes)}", f"at most {MOST_STAKE} together")


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
        one_of("chain.name", self.name, ("embedded", "rpc"))
        in_range("chain.chain_id", self.chain_id, 1, 2**53 - 1)
        if self.name == "embedded" and self.chain_id is None:
            raise ConfigError("chain.chain_id", "the embedded chain needs one", f"1..{2**53 - 1}")
        _no_password("chain.url", self.url)
        _check_url("chain.url", self.url, ("http", "https"), wanted=self.name == "rpc")
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
        one_of("store.name", self.name, ("embedded", "ipfs"))
        _no_password("store.url", self.url)
        if self.name == "ipfs" and self.url and self.url.startswith("/"):
            from app.store.kubo import KuboStore  # an HTTP client: only for those who use it

            KuboStore(self.url)  # reads the multiaddr; nothing is sent before the first request
        else:
            _check_url("store.url", self.url, ("http", "https"), wanted=self.name == "ipfs")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What runs the customers: this process (``local``), Ray (``ray``), or the Flower runtime we run in (``flower``).

    ``workers`` is how many customers train at once; 0 means one per core.
    """

    name: str
    workers: int

    def __post_init__(self) -> None:
        one_of("engine.name", self.name, ("local", "ray", "flower"))
        in_range("engine.workers", self.workers, 0, 1024)


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
    terms: TermsConfig
    miners: MinersConfig
    attack: AttackConfig
    chain: ChainConfig
    store: StoreConfig
    engine: EngineConfig

    def __post_init__(self) -> None:
        in_range("seed", self.seed, 0, 2**63 - 1)
        in_range("rounds", self.rounds, 1, MOST_ROUNDS)
        in_range("customers", self.customers, 3, MOST_CUSTOMERS)
        if self.name is not None:
            check_name(self.name)


KEYS = leaves(Config)
"""Every dotted key that holds a value, with its type."""


def _wei(ether: float) -> int:
    return int(Decimal(str(ether)) * 10**18)


def in_range(key: str, value: int | None, low: int, high: int) -> None:
    """Raise `ConfigError` unless the value of ``key`` is None or in ``low..high``."""
    if value is not None and not low <= value <= high:
        raise ConfigError(key, f"{value} is out of range", f"{low}..{high}")


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless the value of ``key`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(key, f"'{value}' is not known", choices)


def _no_password(key: str, url: str | None) -> None:
    if url is not None and "@" in url:  # the address itself is not shown either
        problem = "holds a user or a password: a run would keep it in its config.yaml and show it in its messages"
        raise ConfigError(key, problem, "an address without user and password; no others are supported")


def _check_url(key: str, url: str | None, schemes: tuple[str, ...], wanted: bool) -> None:
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
