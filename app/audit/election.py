"""The election of a round's leader: every ticket's VRF proof, their order, and what the leader's output seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.audit.report import AuditError, holds, same
from app.protocol import vrf
from app.protocol.digest import hex32
from app.protocol.errors import ProtocolError
from app.protocol.signing import Domain

_MEMBERS = {"tickets", "leader", "seed"}
_TICKET = {"miner", "proof"}


def message(domain: Domain, task: bytes, number: int, seed: bytes) -> bytes:
    """Return what the miners of a round evaluate their VRF on."""
    chain = domain.chain_id.to_bytes(32, "big") + bytes.fromhex(domain.contract[2:])
    return b"hearth/election/1" + chain + task + number.to_bytes(32, "big") + seed


def check_election(
    place: str,
    election: dict[str, Any],
    about: bytes,
    miners: Sequence[tuple[str, bytes]],
    signers: Sequence[str],
    verdict: dict[str, Any],
) -> int:
    """Check a record's election against the VRF keys on chain, the verdict's leader and its signers.

    Parameters
    ----------
    place : str
        For messages.
    election : dict
        The election's JSON form.
    about : bytes
        From `message`.
    miners : sequence of (str, bytes)
        Addresses and VRF keys, from the chain.
    signers : sequence of str
        Who signed the verdict: each must have seen its own ticket among these.
    verdict : dict
        The verdict's members.

    Returns
    -------
    int
        How many proofs hold.
    """
    same(f"{place}, members (this audit knows these)", sorted(_MEMBERS), sorted(election))
    keys, outputs = dict(miners), {}
    for number, ticket in enumerate(election["tickets"]):
        same(f"{place}, ticket {number}, members (this audit knows these)", sorted(_TICKET), sorted(ticket))
        miner = ticket["miner"]
        holds(miner in keys and miner not in outputs, f"{place}, ticket {number}, miner", "another miner", miner)
        try:
            outputs[miner] = vrf.verify(keys[miner], about, bytes.fromhex(ticket["proof"][2:]))
        except ProtocolError as error:
            raise AuditError(f"{place}, ticket {number} of {miner}, proof", "a proof on the seed", error) from error
    order = sorted(outputs, key=lambda miner: (outputs[miner], int(miner, 16)))
    same(f"{place}, order of the tickets", order, [ticket["miner"] for ticket in election["tickets"]])
    silent = sorted(set(signers) - set(outputs))
    same(f"{place}, signers without a ticket", [], silent)
    rank = verdict["rank"]
    holds(rank < len(order), f"{place}, rank of the leader", f"below {len(order)}", rank)
    leader, seed = order[rank], outputs[order[rank]][:32]
    same(f"{place}, leader", leader, election["leader"])
    same(f"{place}, leader in the verdict", leader, verdict["leader"])
    same(f"{place}, next seed", hex32(seed), election["seed"])
    same(f"{place}, next seed in the verdict", seed, verdict["seed"])
    return len(outputs)
