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

from app.mining.round import SealedRound
from app.mining.screening import BlobReader, Screened, fetch_model, screen, sealed_manifest
from app.protocol.digest import BlobRef
from app.protocol.errors import ProtocolError, RoundError
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPE, apply_update
from app.protocol.record import CustomerEntry, Evaluation, Mark, Reason
from app.protocol.tensors import pack, unpack
from strategies.evaluation import evaluation_rule
from strategies.fedavg import reputation_weighted_mean, weight
from strategies.multi_krum import Update, krum_scores, select
from strategies.reputation import threshold

_ENDS = (np.iinfo(UPDATE_DTYPE).min, np.iinfo(UPDATE_DTYPE).max)


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
    """Multi-Krum's word on the valid updates, by customer index; nothing at all in a void round."""

    scores: dict[int, int]
    selected: frozenset[int]
    low: frozenset[int]


def evaluate(sealed: SealedRound, store: BlobReader) -> Outcome:
    """Screen, score, evaluate and aggregate a sealed round.

    Isolated customers (reputation below the threshold) are scored like all others and never aggregated. With fewer
    than 2f + 3 valid updates Multi-Krum promises nothing: the round is void, the model stays, and valid updates get
    H. Where nothing that was selected has a weight, the model stays too.

    Raises
    ------
    RoundError
        If the seal is void, or the manifest or the model cannot be had.
    ConfigError
        If the policy names an unknown evaluation rule.
    StoreError
        If the store cannot be reached for now, or failed: an error of the attempt, never of a customer.
    """
    start, metered = time.perf_counter(), _MeteredReader(store)
    manifest = sealed_manifest(sealed, metered)
    model = _model(sealed, metered)
    screened = screen(sealed, manifest, metered)
    valid = [item for item in screened if item.update is not None]
    h = threshold([sealed.reputation[index] for index in sealed.participants])
    judgement = _judge(sealed, valid)
    chosen = [item for item in valid if item.index in judgement.selected and sealed.reputation[item.index] >= h]
    evaluation = Evaluation(
        task=sealed.policy.digest,
        round=sealed.round,
        threshold=h,
        f=sealed.policy.f,
        rule=sealed.policy.evaluation,
        void=not judgement.selected,
        model=sealed.model,
        customers=tuple(_entry(sealed, item, h, judgement) for item in screened),
    )
    blob = pack(_aggregate(sealed, model, chosen), sealed.policy.layout, MODEL_DTYPE)
    return Outcome(evaluation, blob, metered.seconds, time.perf_counter() - start - metered.seconds)


def _model(sealed: SealedRound, store: BlobReader) -> npt.NDArray[np.int64]:
    try:
        return unpack(fetch_model(sealed, store), sealed.policy.layout, MODEL_DTYPE)
    except ProtocolError as error:
        raise RoundError(f"round {sealed.round} starts from a model that is not this task's: {error}") from error


def _judge(sealed: SealedRound, valid: Sequence[Screened]) -> _Judgement:
    f, rule = sealed.policy.f, evaluation_rule(sealed.policy.evaluation)
    if len(valid) < 2 * f + 3:
        return _Judgement({}, frozenset(), frozenset())
    scores = krum_scores(_updates(valid), f)
    selected = select(scores, [item.signed.receipt.update for item in valid], f)
    low = rule(scores, selected, f)
    index = [item.index for item in valid]
    return _Judgement(
        dict(zip(index, scores, strict=True)), frozenset(index[i] for i in selected), frozenset(index[i] for i in low)
    )


def _entry(sealed: SealedRound, item: Screened, h: int, judgement: _Judgement) -> CustomerEntry:
    gamma, examples = sealed.reputation[item.index], item.signed.receipt.examples
    selected, isolated = item.index in judgement.selected, gamma < h
    reason = Reason.DISSIMILAR if item.index in judgement.low else item.reason
    return CustomerEntry(
        customer=item.signed.customer,
        index=item.index,
        gamma=gamma,
        mark=Mark.H if reason is Reason.ACCEPTED else Mark.L,
        reason=reason,
        score=judgement.scores.get(item.index),
        selected=selected,
        isolated=isolated,
        weight=weight(gamma, examples, sealed.policy.examples_cap) if selected and not isolated else 0,
        saturated=None if item.update is None else int(np.isin(item.update, _ENDS).sum()),
    )


def _aggregate(sealed: SealedRound, model: npt.NDArray[np.int64], chosen: Sequence[Screened]) -> npt.NDArray[np.int64]:
    """Return the model after the chosen updates; the same model if there are none."""
    if not chosen:
        return model
    gammas = [sealed.reputation[item.index] for item in chosen]
    examples = [item.signed.receipt.examples for item in chosen]
    return apply_update(model, reputation_weighted_mean(_updates(chosen), gammas, examples, sealed.policy.examples_cap))


def _updates(items: Sequence[Screened]) -> list[Update]:
    return [item.update for item in items if item.update is not None]


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
