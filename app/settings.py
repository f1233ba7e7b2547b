"""The schema of a configuration: its sections, and what each of their values may be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.checks import check_url, in_range, no_password, one_of
from app.contribution_config import ContributionConfig
from app.customer.attacks import AttackConfig
from app.learning.config import DataConfig, ModelConfig, default_training
from app.ledger.config import ChainConfig, TermsConfig, WalletConfig
from app.members import MembersConfig
from app.privacy.config import PrivacyConfig
from app.probe.config import ProbeConfig
from app.protocol.errors import ConfigError
from app.protocol.seat import MOST_STAKE
from app.reporting.tracker import TrackerConfig
from app.run_directory import check_name
from app.typed import leaves

MOST_ROUNDS, MOST_CUSTOMERS = 10_000, 10_000
AGGREGATORS = ("fedavg", "median", "multi_krum", "nnm_krum", "trimmed_mean")
"""The rules of `strategies.aggregation`, named here so that reading a configuration loads no numerical library."""
PRECISIONS = ("int16", "int32")


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

    def resolved(self, head: str, records: int, **how: Any) -> TrainOptions:
        """Return these options, each None replaced by what suits, see `app.learning.config.default_training`."""
        chosen = {key: value for key, value in asdict(self).items() if value is not None}
        suitable = default_training(head, records, **how)
        return TrainOptions(**(asdict(suitable) | chosen))


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
        An update weighs ``gamma * min(examples, examples_cap, median of the round's claimed examples)``.
    copy_cosine : float
        Two updates are copies from this cosine on, 0.5 to 1; see `app.mining.copies`.
    strikes : int
        After so many L a customer is excluded for the rest of the task; 0: nobody is.
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
    copy_cosine: float
    strikes: int
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
        if not 0.5 <= self.copy_cosine <= 1:
            raise ConfigError("strategy.copy_cosine", f"{self.copy_cosine} is out of range", "0.5 to 1")
        in_range("strategy.strikes", self.strikes, 0, MOST_ROUNDS)
        in_range("strategy.fractional_bits", self.fractional_bits, 1, 24)
        one_of("strategy.precision", self.precision, PRECISIONS)
        in_range("strategy.cohort", self.cohort, 2 * self.f + 3, MOST_CUSTOMERS)


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
class StoreConfig:
    """Where the blobs are.

    Attributes
    ----------
    name : str
        ``embedded`` (a directory) or ``ipfs`` (an IPFS node's RPC).
    url : str or None
        The node's address, for ``ipfs`` alone.
    path : str or None
        The directory, for ``embedded`` alone; None takes the run directory's.
    most_bytes : int or None
        How much the directory may hold, for ``embedded`` alone; None: as much as the disk.
    pinning : str or None
        For ``ipfs`` alone: the remote pinning service, as the node knows it, that keeps every blob too.
    """

    name: str
    url: str | None
    path: str | None
    most_bytes: int | None
    pinning: str | None

    def __post_init__(self) -> None:
        one_of("store.name", self.name, ("embedded", "ipfs"))
        no_password("store.url", self.url)
        others = ("path", "most_bytes") if self.name == "ipfs" else ("pinning",)
        for key in others:
            if getattr(self, key) is not None:
                raise ConfigError(f"store.{key}", f"is not used by store={self.name}", "null, or another store")
        in_range("store.most_bytes", self.most_bytes, 2**20, 2**60)
        if self.name == "ipfs" and self.url and self.url.startswith("/"):
            from app.store.kubo import KuboStore  # an HTTP client: only for those who use it

            KuboStore(self.url)  # reads the multiaddr; nothing is sent before the first request
        else:
            check_url("store.url", self.url, ("http", "https"), wanted=self.name == "ipfs")


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
    members: MembersConfig
    attack: AttackConfig
    chain: ChainConfig
    wallet: WalletConfig
    store: StoreConfig
    engine: EngineConfig
    probe: ProbeConfig
    contribution: ContributionConfig
    tracker: TrackerConfig

    def __post_init__(self) -> None:
        in_range("seed", self.seed, 0, 2**63 - 1)
        in_range("rounds", self.rounds, 1, MOST_ROUNDS)
        in_range("customers", self.customers, 3, MOST_CUSTOMERS)
        if self.name is not None:
            check_name(self.name)


KEYS = leaves(Config)
"""Every dotted key that holds a value, with its type."""
