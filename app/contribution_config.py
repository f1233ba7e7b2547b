"""How contributions of customers are measured; read without a numerical library."""

from __future__ import annotations

from dataclasses import dataclass

from app.checks import in_range, one_of


@dataclass(frozen=True, slots=True)
class ContributionConfig:
    """How contributions are measured, see conf/contribution."""

    name: str
    permutations: int

    def __post_init__(self) -> None:
        one_of("contribution.name", self.name, ("none", "leave_one_out", "shapley"))
        in_range("contribution.permutations", self.permutations, 1, 10_000)
