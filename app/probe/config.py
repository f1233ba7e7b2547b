"""What a user can choose about the probe: a plain frozen record."""

from __future__ import annotations

from dataclasses import dataclass

from app.protocol.errors import ConfigError

PROBES = ("none", "privacy")


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Whether a run is attacked in the end, and with what means.

    Attributes
    ----------
    name : str
        One of `PROBES`.
    epsilons : tuple of float
        Strengths of the features' protection that are compared; features without noise come always first.
    records : int
        Members that are attacked, as many non-members, both at least 100.
    passes : int
        Passes of the decoder over the adversary's own records.

    Raises
    ------
    ConfigError
        If a value is unknown or impossible.
    """

    name: str
    epsilons: tuple[float, ...]
    records: int
    passes: int

    def __post_init__(self) -> None:
        if self.name not in PROBES:
            raise ConfigError("probe.name", f"unknown probe {self.name!r}", PROBES)
        if not self.epsilons or any(not 0.01 <= epsilon <= 1e6 for epsilon in self.epsilons):
            raise ConfigError("probe.epsilons", f"{list(self.epsilons)} cannot be compared", "a list of 0.01 to 1e6")
        if not 100 <= self.records <= 100_000:
            raise ConfigError("probe.records", f"{self.records} is out of range", "100..100000")
        if not 1 <= self.passes <= 1000:
            raise ConfigError("probe.passes", f"{self.passes} is out of range", "1..1000")
