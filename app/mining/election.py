"""The election of a round's leader: by Algorand's sortition on the round's seed, weighted as the policy says.

Zhao et al. 2020, with `app.mining.sortition`. The order is total, so every round has a leader as long as one
miner shows a ticket:

1. miners of which at least one sub-user was selected, by the lowest priority among the selected ones;
2. miners with a weight of which none was selected, by the lowest priority among all their sub-users: so where the
   sortition selects nobody at all (probability ``(1 - p)**W``, below ``exp(-tau)``), each still leads in proportion to
   its weight;
3. miners without a weight, by their one priority: they vote, and lead only where nobody else is left.

Equal priorities (a collision of SHA-256) go by address. A miner's output on a seed is unique, so it cannot be ground,
and nobody knows it before the miner shows its proof. The next seed is the leader's output.

What this does not give
-----------------------
* *Withholding.* A leader can stay silent and lose its turn: the next rank's output becomes the seed. Who holds the
  first k ranks chooses among k + 1 seeds; with a share s of the weight that happens with probability about ``s**k``,
  and each choice costs a turn and the round a ``leader_window``. What a round comes to is not a leader's to choose.
* *The first seed* follows from the policy. A manufacturer that tries G policies, or a miner that tries G keys after it
  saw the policy, gets the best of G first seeds for a miner whose secret it knows; each later seed is a VRF output
  again, but a head start of about ``log G / log(1/s)`` rounds in a row is possible.
* *Concentration.* A share s of the weight leads a share s of the rounds, and nothing here bounds s. The quorum counts
  miners, not weights: no weight makes a verdict.
* *Left-out tickets.* Whoever gathers the votes can leave out the tickets of those miners that it can do without for a
  quorum, at most f of 3f + 1: each miner signs only where its own ticket is in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.mining import sortition
from app.mining.round import SealedRound
from app.protocol import vrf
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.record import Candidate, Ticket
from app.protocol.signing import Domain

_LOG = logging.getLogger(__name__)
_PREFIX = b"hearth/election/1"
WEIGHTINGS = ("equal", "stake", "reputation")


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who may lead a round, and by what they are drawn; all of it follows from the chain and the policy.

    Attributes
    ----------
    message : bytes
        What the miners evaluate their VRF on, from `election_message`.
    tau : int
        How many sub-users the sortition selects on average.
    vrf_keys : mapping of str to bytes
        The miners' VRF public keys (32 bytes), by address.
    weights : mapping of str to int
        How many sub-users each miner has.
    """

    message: bytes
    tau: int
    vrf_keys: Mapping[str, bytes]
    weights: Mapping[str, int]


def electorate(sealed: SealedRound) -> Electorate:
    """Return who may lead a sealed round.

    Raises
    ------
    ConfigError
        If the policy names an unknown weighting.
    """
    message = election_message(sealed.domain, sealed.policy.digest, sealed.round, sealed.seed)
    keys = {seat.miner: seat.vrf_key for seat in sealed.miners}
    return Electorate(message, sealed.policy.tau, keys, _weights(sealed))


def _weights(sealed: SealedRound) -> dict[str, int]:
    """Return each miner's sub-users: one each, its stake, or its reputation as a customer before the round."""
    rule = sealed.policy.weighting
    if rule == "equal":
        return {seat.miner: 1 for seat in sealed.miners}
    if rule == "stake":
        return {seat.miner: seat.stake for seat in sealed.miners}
    if rule == "reputation":
        gammas = dict(zip(sealed.customers, sealed.reputation, strict=True))
        return {seat.miner: gammas.get(seat.miner, 0) for seat in sealed.miners}
    raise ConfigError("miners.weighting", f"'{rule}' is not known", WEIGHTINGS)


def election_message(domain: Domain, task: bytes, round_number: int, seed: bytes) -> bytes:
    """Return what the miners of a round evaluate their VRF on.

    Prefix, chain id (32 bytes), contract (20), task (32), round (32) and seed (32), all of fixed length: no two
    elections share a message, on whatever chain.

    Raises
    ------
    ProtocolError
        If task or seed do not have 32 bytes.
    """
    if len(task) != 32 or len(seed) != 32:
        raise ProtocolError("an election's task and seed have 32 bytes each")
    contract = bytes.fromhex(domain.contract.removeprefix("0x"))
    return _PREFIX + domain.chain_id.to_bytes(32, "big") + contract + task + round_number.to_bytes(32, "big") + seed


def draw(miner: str, vrf_secret: bytes, message: bytes) -> Ticket:
    """Return the miner's ticket: the proof (80 bytes) of its VRF output on ``message``.

    Parameters
    ----------
    miner : str
        The miner's checksum address.
    vrf_secret : bytes
        Its VRF secret (32 bytes), whose public key is registered on chain.
    message : bytes
        From `election_message`.
    """
    return Ticket(miner, vrf.prove(vrf_secret, message))


def ticket_output(ticket: Ticket, voters: Electorate) -> bytes:
    """Return the VRF output (64 bytes) that a ticket proves.

    Raises
    ------
    ProtocolError
        If no key is registered for the miner, or the proof is not for that key and this election.
    """
    if ticket.miner not in voters.vrf_keys:
        raise ProtocolError(f"{ticket.miner:.42} is not a miner of this task")
    return vrf.verify(voters.vrf_keys[ticket.miner], voters.message, ticket.proof)


def rank(tickets: Iterable[Ticket], voters: Electorate) -> tuple[Candidate, ...]:
    """Return a candidate for each miner with a valid ticket, the leader first, in the order that this module describes.

    Invalid tickets are dropped and the reason logged; `ticket_output` tells it for one ticket. A miner has one output
    but may have several proofs of it: the lowest proof counts, so the order of arrival does not matter.

    Parameters
    ----------
    tickets : iterable of Ticket
        As they arrived.
    voters : Electorate
        From `electorate`.
    """
    proofs: dict[str, bytes] = {}
    outputs: dict[str, bytes] = {}
    for ticket in tickets:
        try:
            outputs[ticket.miner] = ticket_output(ticket, voters)
        except ProtocolError as error:
            _LOG.warning("ticket of %s dropped: %s", ticket.miner, error)
            continue
        proofs[ticket.miner] = min(ticket.proof, proofs.get(ticket.miner, ticket.proof))
    p = sortition.chance(voters.tau, sum(voters.weights.values()))
    found = [
        Candidate(miner, proofs[miner], weight, sortition.selected(output, weight, p))
        for miner, output in outputs.items()
        for weight in [voters.weights[miner]]
    ]
    return tuple(sorted(found, key=lambda candidate: _place(candidate, outputs[candidate.miner])))


def _place(candidate: Candidate, output: bytes) -> tuple[int, bytes, int]:
    """Return what candidates are sorted by."""
    tier = 0 if candidate.selected else 1 if candidate.weight else 2
    drawn = candidate.selected or candidate.weight or 1
    return tier, sortition.priority(output, drawn), int(candidate.miner, 16)


def next_seed(proof: bytes) -> bytes:
    """Return the next round's seed (32 bytes) from the leader's *verified* proof."""
    return vrf.proof_to_hash(proof)[:32]
