"""A miner as a process of its own: it follows the chain, judges each sealed round, votes when asked, leads in its turn.

Nobody coordinates miners. Each sees the seal on chain, judges the round, and shows its ticket to whoever asks. The one
of rank k gathers the votes and finalises, k ``leader_window`` after the seal, if nobody before it did. What a miner
missed while it was away it computes from what the chain binds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from app.ledger.docket import TaskDocket
from app.ledger.task_ledger import TaskLedger
from app.ledger.task_records import Phase, TaskState
from app.mining.ballot import Ballot, signatures_of, told
from app.mining.equivocation import charge
from app.mining.follower import Follower
from app.mining.messages import Question, ticket_to_json, vote_to_bytes
from app.mining.miner import Miner
from app.mining.outcome import Outcome
from app.mining.roles import Voter
from app.mining.round import SealedRound
from app.protocol.digest import canonical_json, hex32
from app.protocol.errors import HearthError, ProtocolError, ServiceUnavailableError
from app.protocol.record import Candidate, Ticket
from app.service.metrics import Metrics
from app.service.server import Caller, Method

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 30.0  # seconds between two attempts to lead the same round


class MinerDaemon:
    """One miner of one task.

    Parameters
    ----------
    miner : Miner
        Its keys, its store.
    peers : sequence of Voter
        The other miners.
    ledger : TaskLedger
        The task.
    follower : Follower
        What is known of it.
    metrics : Metrics
        Is told how things stand.
    depth : int
        Blocks upon a seal before it is judged: a reorganisation must not make a miner sign twice.
    clock : callable, optional
        Tells the time of day in seconds since 1970.
    """

    def __init__(
        self,
        miner: Miner,
        peers: Sequence[Voter],
        ledger: TaskLedger,
        follower: Follower,
        metrics: Metrics,
        *,
        depth: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._miner, self._peers, self._ledger, self._follower = miner, peers, ledger, follower
        self._docket, self._metrics, self._depth, self._clock = TaskDocket(ledger, miner.account), metrics, depth, clock
        self._judging = threading.Lock()
        self._sealed: SealedRound | None = None
        self._judged = (0, b"")
        self._pause, self._not_before = 1.0, 0.0

    @property
    def methods(self) -> dict[str, Method]:
        """What it answers to other miners."""
        return {"Ticket": self._show_ticket, "Vote": self._give_vote}

    def run(self, stopped: threading.Event, poll: float, on_health: Callable[[bool], None] = lambda _: None) -> bool:
        """Follow the task until it has ended (True) or ``stopped`` is set (False).

        What fails is logged and tried again: a chain or a store that is away comes back.

        Parameters
        ----------
        stopped : threading.Event
            Ends the work.
        poll : float
            Seconds between two looks at the chain.
        on_health : callable, optional
            Is told after each look whether it went well.
        """
        failed = ""
        while not stopped.is_set():
            try:
                if self.step():
                    return True
                failed = ""
                on_health(True)
            except HearthError as error:
                if str(error) != failed:  # once, not at every look
                    _LOG.error("%s", error)
                failed = str(error)
                on_health(False)
            stopped.wait(poll)
        return False

    def step(self) -> bool:
        """Look at the chain once and do what is to be done; return whether the task has ended.

        Raises
        ------
        HearthError
            If the chain, the store or the round does not let it.
        """
        state = self._ledger.state()
        self._tell(state)
        if state.phase.ended:
            _LOG.info("the task has ended: %s after %d rounds", state.phase.name.lower(), state.finalised)
            return True
        if state.phase is not Phase.SEALED or state.block < state.sealed_at + self._depth:
            self._sealed = None
            return False
        if self._sealed is None or self._sealed.round != state.round:
            self._sealed, self._pause, self._not_before = self._follower.sealed(state), 1.0, 0.0
        self._judge(self._sealed)
        if self._clock() >= self._not_before:
            self._lead(self._sealed, state)
        return False

    def _judge(self, sealed: SealedRound) -> Outcome:
        """Judge a round, once: before anybody asks."""
        with self._judging:
            outcome = self._miner.outcome(sealed)
            if self._judged != (sealed.round, sealed.root):
                self._judged, model = (sealed.round, sealed.root), self._follower.learn(outcome.model)
                low = len(outcome.evaluation.customers) - len(outcome.evaluation.honest)
                seconds = outcome.fetch_seconds + outcome.compute_seconds
                self._metrics.tell("judged_round", "Last round that this miner judged", sealed.round)
                self._metrics.tell("judge_seconds", "Seconds that it took", seconds)
                words = "round %d judged in %.1f s: %d updates, %d of them L%s, model %s"
                void = ", void" if outcome.evaluation.void else ""
                _LOG.info(words, sealed.round, seconds, len(sealed.participants), low, void, hex32(model.sha256))
            return outcome

    def _lead(self, sealed: SealedRound, state: TaskState) -> None:
        """Gather the votes and finalise, if this miner's turn has come."""
        ballot = Ballot(sealed, [self._miner, *self._peers], self._docket.barred(), at_once=1 + len(self._peers))
        tickets = ballot.tickets()
        candidates = ballot.candidates(tickets)
        places = [place for place, candidate in enumerate(candidates) if candidate.miner == self._miner.address]
        if not places:
            self._later(f"this miner cannot lead: {ballot.dissent.get(self._miner.address, 'it has no ticket')}")
            return
        [place] = places
        turn = state.since + place * self._ledger.terms().leader_window
        if place and self._clock() < turn:
            self._not_before = min(turn, self._clock() + _LONGEST_PAUSE)
            return
        try:
            came_of_it = self._finalise(ballot, tickets, place, candidates[place])
            if self._docket.finalised(sealed.round) is None:
                self._later(f"round {sealed.round} is not finalised: {came_of_it}")
            else:
                _LOG.info("round %d: %s", sealed.round, came_of_it)
        finally:
            for one, two in ballot.statements.proofs.values():
                charge(self._docket, one, two)

    def _finalise(self, ballot: Ballot, tickets: Sequence[Ticket], place: int, own: Candidate) -> str:
        """Bring what a quorum agrees on to the contract; return what came of it in a few words."""
        try:
            agreed = ballot.agreed(tickets, place, own)
            if own.miner not in agreed:
                return f"a quorum of the others agrees, and not with this miner. {told(ballot.dissent)}"
            vote = agreed[own.miner]
            self._miner.publish(vote)
            self._miner.finalise(ballot.sealed, vote.verdict, signatures_of(agreed))
        except HearthError as error:
            return str(error)
        return f"finalised as leader of rank {place}, {len(agreed)} signatures"

    def _later(self, why: str) -> None:
        """Try to lead again after a while that grows, so that a miner that is away is not asked without end."""
        _LOG.warning("%s; next attempt in %.0f s", why, self._pause)
        self._not_before, self._pause = self._clock() + self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def _tell(self, state: TaskState) -> None:
        self._metrics.tell("round", "Round that the chain is at", state.round)
        self._metrics.tell("finalised", "Rounds that are finalised", state.finalised)
        self._metrics.tell("block", "Newest block that this miner has seen", state.block)
        self._metrics.tell("phase", "What the contract waits for: 1 updates, 2 a verdict, 3..5 nothing", state.phase)

    # What other miners ask

    def _asked(self, question: Question) -> SealedRound:
        sealed = self._sealed
        if question.task != self._follower.policy.digest:
            raise ProtocolError("this miner works on another task")
        if sealed is None or (sealed.round, sealed.root) != (question.round, question.root):
            raise ServiceUnavailableError(f"this miner does not see round {question.round} as sealed so")
        return sealed

    def _show_ticket(self, request: bytes, caller: Caller) -> bytes:
        return canonical_json(ticket_to_json(self._miner.ticket(self._asked(Question.from_bytes(request)))))

    def _give_vote(self, request: bytes, caller: Caller) -> bytes:
        question = Question.from_bytes(request)
        sealed = self._asked(question)
        with self._judging:
            return vote_to_bytes(self._miner.vote(sealed, question.tickets, question.rank))
