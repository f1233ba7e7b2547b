"""A task with money, as its rules say it, in plain Python: no lanes, no bitmaps, no slots."""

from __future__ import annotations

ADMISSION, COLLECTION, SEALED, COMPLETED, CANCELLED, FAILED = range(6)
CUSTOMER, MINER = range(2)


class Refused(Exception):
    """The contract must refuse with the error of this name."""


class TaskModel:
    """An open task; `time` is that of the block in which the next call would be."""

    def __init__(self, n: int, m: int, since: int, **terms: int) -> None:
        self.n, self.m, self.terms = n, m, terms
        self.time = self.since = since
        self.phase, self.round, self.skipped = COLLECTION, 1, 0
        self.gammas = [terms["gamma_initial"]] * n
        self.points, self.nonces = [0] * n, [0] * n
        self.price = terms["reward"] // (terms["rounds"] * n * terms["gamma_max"])
        self.balance, self.credited, self.forfeited, self.paid = terms["reward"], 0, 0, 0
        self.settled = False
        self.deposits: set[tuple[int, int]] = set()
        self.expelled: set[tuple[int, int]] = set()
        self.submitted: dict[int, set[int]] = {}
        self.present: set[int] = set()
        self.finalised: dict[int, tuple[tuple[int, ...], int, int]] = {}

    @property
    def ended(self) -> bool:
        return self.phase in (COMPLETED, CANCELLED, FAILED)

    def owed(self, index: int) -> int:
        return self.price * self.points[index]

    def check(self, condition: bool, error: str) -> None:
        if not condition:
            raise Refused(error)

    # Rounds

    def submit(self, round: int, index: int, own: bool) -> None:
        self.check(self.phase == COLLECTION, "WrongPhase")
        known = self.submitted.setdefault(round, set())
        self.check(index not in known, "AlreadySubmitted")
        self.check((CUSTOMER, index) in self.deposits, "NoDeposit")
        self.check(own, "WrongSignature")
        known.add(index)

    def seal(self, manufacturer: bool, round: int, present: set[int]) -> None:
        self.check(manufacturer, "NotManufacturer")
        self.check(self.phase == COLLECTION, "WrongPhase")
        self.check(round == self.round, "WrongRound")
        self.check(bool(present), "NoParticipants")
        waited = self.time >= self.since + self.terms["submission_window"]
        self.check(waited or len(present) == self.n, "TooEarly")
        able = {index for role, index in self.deposits if role == CUSTOMER}
        self.check(self.submitted.get(round, set()) & able <= present, "Omitted")
        self.check(present <= able, "NoDeposit")
        self.phase, self.since, self.present = SEALED, self.time, present

    def finalise(self, round: int, honest: set[int], rank: int, signers: tuple[int, ...]) -> None:
        self.check(self.phase == SEALED, "WrongPhase")
        self.check(self.time >= self.since + rank * self.terms["leader_window"], "TooEarly")
        self.check(len(signers) >= 3, "NoQuorum")
        self.check(all((MINER, signer) in self.deposits for signer in signers), "NoDeposit")
        h = sum(self.gammas[i] for i in self.present) // len(self.present)
        earned = 0
        for i in self.present:
            gamma = self.gammas[i]
            if gamma < h:
                self.gammas[i] += 1
            elif i in honest:
                self.points[i] += gamma
                earned += gamma
                self.gammas[i] = min(gamma + 1, self.terms["gamma_max"])
            else:
                self.gammas[i] = gamma - 1 if gamma > h else 0
        self.credited += earned
        self.finalised[round] = (tuple(sorted(honest)), h, earned)
        self.advance()

    def stale(self) -> None:
        self.check(self.phase == SEALED, "WrongPhase")
        raise Refused("WrongRound")

    def expire(self) -> None:
        self.check(self.phase in (COLLECTION, SEALED), "WrongPhase")
        window = self.terms["seal_window" if self.phase == COLLECTION else "finalise_window"]
        self.check(self.time >= self.since + window, "TooEarly")
        if self.skipped == self.terms["skips"]:
            self.phase, self.since = FAILED, self.time
        else:
            self.skipped += 1
            self.advance()

    def cancel(self, manufacturer: bool) -> None:
        self.check(manufacturer, "NotManufacturer")
        self.check(self.phase == COLLECTION, "WrongPhase")
        self.phase, self.since = CANCELLED, self.time

    def advance(self) -> None:
        self.since, self.present = self.time, set()
        if self.round == self.terms["rounds"]:
            self.phase = COMPLETED
        else:
            self.phase, self.round = COLLECTION, self.round + 1

    # Money

    def pay(self, wei: int) -> None:
        assert 0 < wei <= self.balance
        self.balance -= wei

    def claim(self, index: int) -> None:
        self.check(self.points[index] > 0, "NothingToClaim")
        self.paid += self.owed(index)
        self.pay(self.owed(index))
        self.points[index] = 0

    def relay(self, index: int, nonce: int) -> None:
        self.check(nonce == self.nonces[index], "InvalidAccountNonce")
        self.claim(index)
        self.nonces[index] += 1

    def reclaim(self) -> None:
        self.check(self.ended, "WrongPhase")
        wei = self.forfeited + (0 if self.settled else self.terms["reward"] - self.price * self.credited)
        self.check(wei > 0, "NothingToClaim")
        self.forfeited, self.settled = 0, True
        self.pay(wei)

    def deposit(self, role: int, index: int) -> None:
        self.check(not self.ended, "WrongPhase")
        self.check((role, index) not in self.deposits, "AlreadyDeposited")
        self.check((role, index) not in self.expelled, "Expelled")
        self.deposits.add((role, index))
        self.balance += self.terms["deposit"]

    def refund(self, role: int, index: int) -> None:
        self.check(self.ended, "WrongPhase")
        self.check(self.time >= self.since + self.terms["finalise_window"], "TooEarly")
        self.check((role, index) in self.deposits, "NoDeposit")
        self.deposits.remove((role, index))
        self.pay(self.terms["deposit"])

    def slash(self, role: int, index: int, lie: bool) -> None:
        self.check(lie, "NoEquivocation")
        self.check((role, index) in self.deposits, "NoDeposit")
        self.deposits.remove((role, index))
        self.expelled.add((role, index))
        self.pay(self.terms["deposit"] // 2)
        self.forfeited += self.terms["deposit"] - self.terms["deposit"] // 2
