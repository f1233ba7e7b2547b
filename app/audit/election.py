"""The election of a round's leader: every ticket's VRF proof, the weighted sortition, and what the next seed is.

Sources: Zhao et al. 2020; Gilad et al., SOSP 2017, algorithm 1; RFC 9381.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb
from typing import Any

from app.audit.report import AuditError, holds, same
from app.protocol import vrf
from app.protocol.digest import hex32, sha256
from app.protocol.errors import ProtocolError
from app.protocol.seat import Seat
from app.protocol.signing import Domain

WEIGHTINGS = ("equal", "stake", "reputation")
_MEMBERS = ["candidates", "leader", "seed"]
_CANDIDATE = ["miner", "proof", "selected", "weight"]


def message(domain: Domain, task: bytes, number: int, seed: bytes) -> bytes:
    """Return what the miners of a round evaluate their VRF on."""
    chain = domain.chain_id.to_bytes(32, "big") + bytes.fromhex(domain.contract[2:])
    return b"hearth/election/1" + chain + task + number.to_bytes(32, "big") + seed


def weights(rule: str, miners: Sequence[Seat], gammas: Mapping[str, int]) -> dict[str, int]:
    """Return each miner's sub-users: one each, its stake, or its reputation as a customer before the round."""
    if rule == "reputation":
        return {seat.miner: gammas.get(seat.miner, 0) for seat in miners}
    return {seat.miner: seat.stake if rule == "stake" else 1 for seat in miners}


def sub_users(output: bytes, weight: int, p: Fraction) -> int:
    """Return how many of ``weight`` sub-users a VRF output selects: the inverse of the binomial distribution.

    j is the least number for which P(Bin(weight, p) <= j) exceeds the output as a fraction of 2**512.
    """
    if p == 1:
        return weight
    a, b = p.numerator, p.denominator
    drawn, whole = int.from_bytes(output, "big") * b**weight, 0
    for j in range(weight + 1):
        whole += comb(weight, j) * a**j * (b - a) ** (weight - j)
        if whole * 2**512 > drawn:
            return j
    raise AssertionError("the probabilities of a binomial distribution sum to one")


def check_election(
    place: str,
    election: dict[str, Any],
    about: bytes,
    tau: int,
    miners: Sequence[Seat],
    weight_of: Mapping[str, int],
    signers: Sequence[str],
    verdict: dict[str, Any],
) -> int:
    """Check a record's election against the miners on chain, the verdict's leader and its signers.

    Parameters
    ----------
    place : str
        For messages.
    election : dict
        The election's JSON form.
    about : bytes
        From `message`.
    tau : int
        How many sub-users are selected on average.
    miners : sequence of Seat
        From the chain.
    weight_of : mapping of str to int
        From `weights`.
    signers : sequence of str
        Who signed the verdict: each must have seen its own ticket among these.
    verdict : dict
        The verdict's members.

    Returns
    -------
    int
        How many proofs hold.
    """
    same(f"{place}, members (this audit knows these)", _MEMBERS, sorted(election))
    keys, outputs = {seat.miner: seat.vrf_key for seat in miners}, {}
    chance, total = Fraction(0), sum(weight_of.values())
    if total:
        chance = min(Fraction(tau, total), Fraction(1))
    for number, candidate in enumerate(election["candidates"]):
        here, miner = f"{place}, candidate {number}", candidate["miner"]
        same(f"{here}, members (this audit knows these)", _CANDIDATE, sorted(candidate))
        holds(miner in keys and miner not in outputs, f"{here}, miner", "another miner of the task", miner)
        try:
            outputs[miner] = vrf.verify(keys[miner], about, bytes.fromhex(candidate["proof"][2:]))
        except ProtocolError as error:
            raise AuditError(f"{here}, {miner}, proof", "a proof on the round's seed", error) from error
        same(f"{here}, {miner}, weight", weight_of[miner], candidate["weight"])
        same(f"{here}, {miner}, selected", sub_users(outputs[miner], weight_of[miner], chance), candidate["selected"])

    def turn(miner: str) -> tuple[int, bytes, int]:
        weight, drawn = weight_of[miner], sub_users(outputs[miner], weight_of[miner], chance)
        tickets = range(drawn or weight or 1)
        first = min(sha256(b"hearth/sub-user/1" + outputs[miner] + i.to_bytes(4, "big")) for i in tickets)
        return 0 if drawn else 1 if weight else 2, first, int(miner, 16)

    order = sorted(outputs, key=turn)
    same(f"{place}, order of the candidates", order, [candidate["miner"] for candidate in election["candidates"]])
    same(f"{place}, signers without a ticket", [], sorted(set(signers) - set(outputs)))
    rank = verdict["rank"]
    holds(rank < len(order), f"{place}, rank of the leader", f"below {len(order)}", rank)
    leader, seed = order[rank], outputs[order[rank]][:32]
    same(f"{place}, leader", leader, election["leader"])
    same(f"{place}, leader in the verdict", leader, verdict["leader"])
    same(f"{place}, next seed", hex32(seed), election["seed"])
    same(f"{place}, next seed in the verdict", seed, verdict["seed"])
    return len(outputs)
