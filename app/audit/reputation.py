"""Reputation and rewards, an independent model of what the contract does with them.

Zhao et al. 2020, equation (4), written as its four cases; h is the participants' mean reputation, rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.audit.history import History
from app.audit.report import Section, same
from app.audit.task import ChainTask, Round
from app.protocol.bitmap import indices


@dataclass(slots=True)
class Book:
    """Everybody's reputation and points, by customer index, as the rounds go by."""

    gammas: list[int]
    points: list[int]
    gamma_max: int
    paid: bool

    @classmethod
    def opened(cls, task: ChainTask) -> Book:
        """Return the book before the first round."""
        n, terms = len(task.customers), task.terms
        return cls([terms["gammaInitial"]] * n, [0] * n, terms["gammaMax"], terms["reward"] > 0)

    def threshold(self, participants: tuple[int, ...]) -> int:
        """Return h."""
        return sum(self.gammas[i] for i in participants) // len(participants)

    def close(self, participants: tuple[int, ...], honest: tuple[int, ...]) -> int:
        """Apply a finalised round; return the points that it earned."""
        h, earned = self.threshold(participants), 0
        for i in participants:
            gamma = self.gammas[i]
            if gamma < h:
                self.gammas[i] = gamma + 1  # isolated: serves its time, whatever its mark
            elif i in honest:
                earned += gamma if self.paid else 0
                self.points[i] += gamma if self.paid else 0
                self.gammas[i] = min(gamma + 1, self.gamma_max)
            elif gamma > h:
                self.gammas[i] = gamma - 1
            else:
                self.gammas[i] = 0
        return earned


def check_book(task: ChainTask, history: History, section: Section) -> list[tuple[int, ...]]:
    """Recompute reputation and rewards over all rounds; compare with every event and the contract's last word.

    Returns
    -------
    list of tuple of int
        Reputations by customer index: before round 1, after round 1, after round 2 and so on.
    """
    book = Book.opened(task)
    timeline, credited = [tuple(book.gammas)], 0
    for round_ in task.rounds:
        if round_.finalisation is not None:
            credited += _close(book, round_, history.where)
        if round_.over:
            timeline.append(tuple(book.gammas))
    section.counts.update({"reputations": sum(map(len, timeline)), "points": credited})
    _check_contract(task, history, book, credited)
    return timeline


def price(task: ChainTask) -> int:
    """Return the wei of one point: the reward over all points that could be earned, rounded down."""
    terms = task.terms
    if task.opening is None or terms["reward"] == 0:
        return 0
    return int(terms["reward"] // (terms["rounds"] * len(task.customers) * terms["gammaMax"]))


def rewards(task: ChainTask, points: list[int]) -> dict[str, int]:
    """Return the wei that each customer can still claim."""
    return {c: price(task) * (p - task.claimed.get(c, 0)) for c, p in zip(task.customers, points, strict=True)}


def points_of(task: ChainTask) -> list[int]:
    """Return all points that each customer earned, by index."""
    book = Book.opened(task)
    for round_ in task.rounds:
        if round_.finalisation is not None:
            verdict = round_.finalisation.verdict
            book.close(indices(verdict["participants"]), indices(verdict["honest"]))
    return book.points


def _close(book: Book, round_: Round, where: str) -> int:
    assert round_.finalisation is not None
    verdict, outcome = round_.finalisation.verdict, round_.finalisation.outcome
    participants, honest = indices(verdict["participants"]), indices(verdict["honest"])
    place = f"{where}, round {round_.number}"
    same(f"{place}, threshold", book.threshold(participants), outcome["threshold"])
    earned = book.close(participants, honest)
    same(f"{place}, points", earned, outcome["credited"])
    return earned


def _check_contract(task: ChainTask, history: History, book: Book, credited: int) -> None:
    contract, where = task.domain.contract, history.where
    packed = b"".join(word.to_bytes(32, "little") for word in history.view(contract, "reputations"))
    same(f"{where}, reputations at the end", book.gammas, list(packed[: len(book.gammas)]))
    status = history.view(contract, "status")
    same(f"{where}, points at the end", credited, status["credited"])
    same(f"{where}, price of a point", price(task), status["price"])
    if task.opening is not None:
        same(f"{where}, price of a point when the task opened", price(task), task.opening["price"])
    for customer, wei in rewards(task, book.points).items():
        same(f"{where}, owed to {customer}", wei, history.view(contract, "owed", customer))
