"""What each customer's update was worth in a round, on the manufacturer's test records.

A round's aggregate is a function of the updates that have a weight in it; leaving some out gives another one, which is
evaluated as the real one is. Worth is counted in loss, which changes with every update, where accuracy mostly does not:
a positive number is a lower loss. It is a measurement for people and settles nothing: the contract pays by reputation,
because no miner has the manufacturer's test records.

Sources: leave one out; Shapley value by permutation sampling (Castro, Gomez, Tejada 2009; Ghorbani and Zou, "Data
Shapley", ICML 2019), with each order taken backwards too (antithetic sampling, Mitchell et al., JMLR 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.contribution_config import ContributionConfig
from app.mining.recovery import read_manifest, read_record
from app.protocol.digest import BlobRef
from app.protocol.fixed_point import MODEL_DTYPE, apply_update
from app.protocol.policy import Policy
from app.protocol.tensors import blob_limit, pack, unpack
from app.store.base import BlobStore
from strategies.aggregation import aggregator, combine
from strategies.exact import Update

Worth = Callable[[bytes], float]
"""From a model's blob to its loss on the test records."""


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """What a round was made of.

    Attributes
    ----------
    policy : Policy
        The task's rules.
    start : numpy.ndarray of int64
        The model before the round on the grid, shape ``(d,)``.
    customers : tuple of str
        Those whose updates have a weight, by address.
    updates : list of numpy.ndarray
        Theirs, shape ``(d,)`` each.
    weights : tuple of int
        Theirs.
    """

    policy: Policy
    start: npt.NDArray[np.int64]
    customers: tuple[str, ...]
    updates: Sequence[Update]
    weights: tuple[int, ...]

    def model(self, chosen: Iterable[int]) -> bytes:
        """Return the model's blob that the updates at these positions would have made."""
        kept = sorted(chosen)
        rule = aggregator(self.policy.aggregator)
        step = combine([self.updates[i] for i in kept], [self.weights[i] for i in kept], self.policy.f, rule)
        after = self.start if step is None else apply_update(self.start, step)
        return pack(after, self.policy.layout, MODEL_DTYPE)


def shares(policy: Policy, store: BlobStore, manifest: BlobRef, record: BlobRef) -> Shares:
    """Return what a finalised round was made of, from the blobs that the chain binds.

    Raises
    ------
    RoundError, StoreError, ProtocolError
        If they cannot be had.
    """
    signed = {one.customer: one.receipt for one in read_manifest(store, manifest).receipts}
    evaluation = read_record(store, record).evaluation
    start = unpack(store.get(evaluation.model, blob_limit(policy.layout, MODEL_DTYPE)), policy.layout, MODEL_DTYPE)
    counted = [entry for entry in evaluation.customers if entry.weight > 0]
    limit = blob_limit(policy.layout, policy.update_dtype)
    updates = [
        unpack(store.get(signed[entry.customer].blob, limit), policy.layout, policy.update_dtype).astype(
            policy.update_dtype
        )
        for entry in counted
    ]
    return Shares(
        policy, start, tuple(entry.customer for entry in counted), updates, tuple(entry.weight for entry in counted)
    )


def contributions(of: Shares, worth: Worth, config: ContributionConfig, seed: int) -> dict[str, float]:
    """Return each counted customer's contribution to a round: by how much it lowered the loss.

    Parameters
    ----------
    of : Shares
        What the round was made of.
    worth : callable
        The loss of a model.
    config : ContributionConfig
        How it is measured.
    seed : int
        Draws the orders.
    """
    known: dict[frozenset[int], float] = {}

    def loss(chosen: frozenset[int]) -> float:
        if chosen not in known:
            known[chosen] = worth(of.model(chosen))
        return known[chosen]

    everybody = frozenset(range(len(of.customers)))
    if config.name == "leave_one_out":
        return {who: loss(everybody - {i}) - loss(everybody) for i, who in enumerate(of.customers)}
    rng, gained = np.random.default_rng([seed, 0x5A]), np.zeros(len(everybody))
    for _ in range(config.permutations):
        order = rng.permutation(len(everybody)).tolist()
        for way in (order, order[::-1]):
            before = frozenset[int]()
            for i in way:
                gained[i] += loss(before) - loss(before | {i})
                before |= {i}
    return dict(zip(of.customers, (gained / (2 * config.permutations)).tolist(), strict=True))
