"""The election of a round's leader: the lowest VRF output on the round's seed leads.

Zhao et al. 2020 take sortition from Algorand. All miners have equal stake for now, so each holds one ticket and the
binomial draw over sub-users falls away; weighting by reputation or stake, in exact rational arithmetic, comes with the
deadlines of the contract. A miner's output on a seed is unique, so it cannot be ground, and nobody knows it before the
miner shows its proof. The next seed is the leader's output: the one thing a leader can do to it is to stay silent and
lose the turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from app.protocol import vrf
from app.protocol.errors import ProtocolError
from app.protocol.record import Ticket
from app.protocol.signing import Domain

__all__ = ["Ticket", "draw", "election_message", "next_seed", "rank", "ticket_output"]

_LOG = logging.getLogger(__name__)
_PREFIX = b"hearth/election/1"


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


def ticket_output(ticket: Ticket, vrf_keys: Mapping[str, bytes], message: bytes) -> bytes:
    """Return the VRF output (64 bytes) that a ticket proves.

    Raises
    ------
    ProtocolError
        If no key is registered for the miner, or the proof is not for that key and this message.
    """
    if ticket.miner not in vrf_keys:
        raise ProtocolError(f"{ticket.miner:.42} is not a miner of this task")
    return vrf.verify(vrf_keys[ticket.miner], message, ticket.proof)


def rank(tickets: Iterable[Ticket], vrf_keys: Mapping[str, bytes], message: bytes) -> tuple[Ticket, ...]:
    """Return the valid tickets, the leader's first: by VRF output, ties by address; one a miner.

    Invalid tickets are dropped and the reason logged; `ticket_output` tells it for one ticket. A miner has one output
    but may have several proofs of it: the lowest proof counts, so the order of arrival does not matter.

    Parameters
    ----------
    tickets : iterable of Ticket
        As they arrived.
    vrf_keys : mapping of str to bytes
        The registered VRF public keys (32 bytes) by the miners' checksum addresses.
    message : bytes
        From `election_message`.
    """
    ranked: dict[str, tuple[bytes, int, bytes]] = {}
    for ticket in tickets:
        try:
            output = ticket_output(ticket, vrf_keys, message)
        except ProtocolError as error:
            _LOG.warning("ticket of %s dropped: %s", ticket.miner, error)
            continue
        key = (output, int(ticket.miner, 16), ticket.proof)
        ranked[ticket.miner] = min(key, ranked.get(ticket.miner, key))
    order = sorted(ranked, key=lambda miner: ranked[miner])
    return tuple(Ticket(miner, ranked[miner][2]) for miner in order)


def next_seed(ticket: Ticket) -> bytes:
    """Return the next round's seed (32 bytes) from the leader's *verified* ticket."""
    return vrf.proof_to_hash(ticket.proof)[:32]
