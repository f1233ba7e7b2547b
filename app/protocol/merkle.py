"""Merkle tree over a round's receipts, in OpenZeppelin's StandardMerkleTree format.

Leaves are hashed twice and pairs are sorted before they are hashed, so OpenZeppelin's ``MerkleProof`` verifies our
proofs on chain and no inner node can be passed off as a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi import encode
from eth_utils import keccak

from app.protocol.errors import ProtocolError


def leaf_hash(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return ``keccak(keccak(abi.encode(values)))`` (32 bytes)."""
    return keccak(keccak(encode(list(types), list(values))))


class MerkleTree:
    """A tree over leaf hashes.

    Parameters
    ----------
    leaves : sequence of bytes
        Leaf hashes of 32 bytes, at least one. Their order does not matter to the root.

    Raises
    ------
    ProtocolError
        If there is no leaf: an empty tree has no root.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ProtocolError("a Merkle tree needs at least one leaf")
        count = len(leaves)
        self._nodes: list[bytes] = [b""] * (2 * count - 1)
        self._position = [0] * count
        # The sorted leaves fill the array from its end; node i is the hash of its children 2i+1 and 2i+2.
        for rank, (leaf, index) in enumerate(sorted((leaf, index) for index, leaf in enumerate(leaves))):
            self._position[index] = 2 * count - 2 - rank
            self._nodes[2 * count - 2 - rank] = leaf
        for node in range(count - 2, -1, -1):
            self._nodes[node] = _pair(self._nodes[2 * node + 1], self._nodes[2 * node + 2])

    @property
    def root(self) -> bytes:
        """The root (32 bytes)."""
        return self._nodes[0]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """Return the siblings from leaf ``index`` (as passed in) up to the root."""
        node, siblings = self._position[index], []
        while node > 0:
            siblings.append(self._nodes[node + 1 if node % 2 else node - 1])
            node = (node - 1) // 2
        return tuple(siblings)


def verify_inclusion(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether ``leaf`` is in the tree with ``root``."""
    for sibling in proof:
        leaf = _pair(leaf, sibling)
    return leaf == root


def _pair(left: bytes, right: bytes) -> bytes:
    return keccak(min(left, right) + max(left, right))
