"""What a sealed round comes to: the computation that every miner makes on its own.

A pure function of the sealed round and the blobs that it binds. All quantities are integers and all orders are those
of addresses, digests or indices, so every machine gets the same bits, in whatever order anything arrived.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.mining.copies import without_near_copies
from app.mining.precedents import Standing, earlier_updates, last_step, standing
from app.mining.reading import BlobReader, load_model
from app.mining.round import SealedRound
from app.mining.screening import Screened, screen, sealed_manifest
from app.protocol.digest import BlobRef, sha256
from app.protocol.evaluation import CustomerEntry, Evaluation, Mark, Reason
from app.protocol.fixed_point import MODEL_DTYPE, apply_update
from app.protocol.tensors import pack
from strategies.aggregation import aggregator, combine, judge, least_valid
from strategies.bucketing import Buckets, deal
from strategies.direction import Bearings, from_products, from_updates
from strategies.evaluation import evaluation_rule, usual_score
from strategies.exact import Exact, Update, distances_of
from strategies.fedavg import weight
from strategies.reputation import threshold


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sealed round comes to.

    Attributes
    ----------
    evaluation : Evaluation
        Everybody's mark with its reason: the round record without the election.
    model : bytes
        The new global model's blob.
    fetch_seconds, compute_seconds : float
        Wall time spent in the store, and in everything else; no part of the outcome.
    """

    evaluation: Evaluation
    model: bytes
    fetch_seconds: float = field(compare=False)
    compute_seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """The aggregation rule's word on the valid updates, by customer index; nothing at all in a void round."""

    scores: dict[int, int] = field(default_factory=dict)
    cosines: dict[int, int] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    low: frozenset[int] = frozenset()
    usual: int = 0
    reach: int = 0
    buckets: int = 0


def evaluate(sealed: SealedRound, store: BlobReader) -> Outcome:
    """Screen, score, evaluate and aggregate a sealed round.

    Isolated customers (reputation below the threshold) are scored like all others and never aggregated. With fewer
    than 2f + 3 valid updates nothing can be promised: the round is void, the model stays, and valid updates get H.
    Where what has a weight is not enough for the task's rule, the model stays too.

    Raises
    ------
    RoundError
        If the seal is void, or the manifest or the model cannot be had.
    ConfigError
        If the policy names an unknown aggregation or evaluation rule.
    StoreError
        If the store cannot be reached for now, or failed: an error of the attempt, never of a customer.
    """
    start, metered = time.perf_counter(), _MeteredReader(store)
    manifest = sealed_manifest(sealed, metered)
    model = load_model(sealed, metered, "model", sealed.model)
    found = screen(sealed, manifest, metered, earlier_updates(sealed, metered))
    screened, products = without_near_copies(sealed, found, last_step(sealed, metered, model))
    h = threshold([sealed.reputation[index] for index in sealed.participants])
    valid = [item for item in screened if item.update is not None]
    judgement = _judge(sealed, valid, products, standing(sealed, metered))
    cap = _examples_cap(sealed, valid)
    entries = tuple(_entry(sealed, item, h, judgement, cap) for item in screened)
    evaluation = Evaluation(
        task=sealed.policy.digest,
        round=sealed.round,
        threshold=h,
        f=sealed.policy.f,
        rule=sealed.policy.evaluation,
        aggregator=sealed.policy.aggregator,
        buckets=judgement.buckets,
        void=not judgement.shares,
        usual=judgement.usual,
        reach=judgement.reach,
        model=sealed.model,
        customers=entries,
    )
    blob = pack(_aggregate(sealed, model, screened, entries), sealed.policy.layout, MODEL_DTYPE)
    return Outcome(evaluation, blob, metered.seconds, time.perf_counter() - start - metered.seconds)


def _judge(sealed: SealedRound, valid: Sequence[Screened], products: Exact | None, before: Standing) -> _Judgement:
    policy = sealed.policy
    rule, evaluation = aggregator(policy.aggregator), evaluation_rule(policy.evaluation)
    if len(valid) < least_valid(policy.f):
        return _Judgement()
    updates = [item.update for item in valid if item.update is not None]
    digests = [item.signed.receipt.update for item in valid]
    buckets = _buckets(sealed, valid) if len(valid) > policy.cohort else ()
    distances = None if products is None else distances_of(products)
    opinion = judge(updates, digests, policy.f, rule, buckets, distances)
    bearings = _bearings(updates, products, opinion.kept)
    index = [item.index for item in valid]
    low = evaluation(opinion.scores, opinion.kept, policy.f, bearings, before.past(index))
    return _Judgement(
        dict(zip(index, opinion.scores, strict=True)),
        dict(zip(index, bearings.cosines, strict=True)),
        dict(zip(index, opinion.shares, strict=True)),
        frozenset(index[position] for position in low),
        usual_score(opinion.scores, opinion.kept, policy.f),
        bearings.reach,
        len(buckets),
    )


def _bearings(updates: Sequence[Update], products: Exact | None, kept: Sequence[int]) -> Bearings:
    return from_updates(updates, kept) if products is None else from_products(products, kept)


def _buckets(sealed: SealedRound, valid: Sequence[Screened]) -> Buckets:
    """Deal the valid updates by the round's seed and its sealed root: nobody knew both before its update was sealed."""
    seed = sha256(b"hearth buckets" + sealed.seed + sealed.root)
    return deal([item.signed.customer.encode() for item in valid], seed, sealed.policy.cohort)


def _examples_cap(sealed: SealedRound, valid: Sequence[Screened]) -> int:
    """Return how many examples count at most: the task's cap, or the lower median of the claims if that is less.

    Nobody can check a claim. As long as most claims are honest, none gains its customer more than the weight of an
    ordinary one.
    """
    claims = sorted(item.signed.receipt.examples for item in valid)
    return min(sealed.policy.examples_cap, claims[(len(claims) - 1) // 2]) if claims else sealed.policy.examples_cap


def _entry(sealed: SealedRound, item: Screened, h: int, judgement: _Judgement, cap: int) -> CustomerEntry:
    gamma, examples = sealed.reputation[item.index], item.signed.receipt.examples
    share, isolated = judgement.shares.get(item.index, 0), gamma < h
    reason = Reason.DISSIMILAR if item.index in judgement.low else item.reason
    return CustomerEntry(
        customer=item.signed.customer,
        index=item.index,
        gamma=gamma,
        mark=Mark.H if reason is Reason.ACCEPTED else Mark.L,
        reason=reason,
        score=judgement.scores.get(item.index),
        cosine=judgement.cosines.get(item.index),
        selected=share > 0,
        isolated=isolated,
        weight=0 if isolated else share * weight(gamma, examples, cap),
        saturated=None if item.update is None else _saturated(item.update),
    )


def _saturated(update: Update) -> int:
    """Return how many entries lie at the ends of their type's range."""
    ends = np.iinfo(update.dtype)
    return int(np.count_nonzero((update == ends.min) | (update == ends.max)))


def _aggregate(
    sealed: SealedRound,
    model: npt.NDArray[np.int64],
    screened: Sequence[Screened],
    entries: Sequence[CustomerEntry],
) -> npt.NDArray[np.int64]:
    """Return the model after the round: the same one where too little has a weight for the task's rule."""
    weighed = [(item.update, entry.weight) for item, entry in zip(screened, entries, strict=True) if entry.weight]
    updates = [update for update, _ in weighed if update is not None]
    weights = [weight for _, weight in weighed]
    step = combine(updates, weights, sealed.policy.f, aggregator(sealed.policy.aggregator))
    return model if step is None else apply_update(model, step)


class _MeteredReader:
    """A store that counts the seconds spent in it."""

    def __init__(self, store: BlobReader) -> None:
        self._store, self.seconds = store, 0.0

    def get(self, ref: BlobRef, max_bytes: int) -> bytes:
        start = time.perf_counter()
        try:
            return self._store.get(ref, max_bytes)
        finally:
            self.seconds += time.perf_counter() - start
