from __future__ import annotations

import pytest
from eth_abi import encode
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.errors import ProtocolError
from app.protocol.merkle import MerkleTree, leaf_hash, verify_inclusion

LEAF = st.binary(min_size=32, max_size=32)
LEAVES = st.lists(LEAF, min_size=1, max_size=40)


def test_root_of_openzeppelins_readme() -> None:
    """The example in the README of npm ``@openzeppelin/merkle-tree``."""
    rows = [("0x" + "11" * 20, 5 * 10**18), ("0x" + "22" * 20, 25 * 10**17)]
    tree = MerkleTree([leaf_hash(("address", "uint256"), row) for row in rows])
    assert tree.root.hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


def test_leaves_are_hashed_twice() -> None:
    """64 bytes of a single hash could be an inner node's two children."""
    row = ("0x" + "11" * 20, 7)
    assert leaf_hash(("address", "uint256"), row) == keccak(keccak(encode(["address", "uint256"], list(row))))


def test_three_leaves_by_hand() -> None:
    def pair(a: bytes, b: bytes) -> bytes:
        return keccak(min(a, b) + max(a, b))

    low, middle, high = (bytes([i]) * 32 for i in (1, 2, 3))
    # Sorted descending from node 2: nodes 2, 3, 4 hold high, middle, low; node 1 = (3, 4); node 0 = (1, 2).
    assert MerkleTree([middle, low, high]).root == pair(pair(middle, low), high)


@given(LEAVES)
def test_every_leaf_is_included(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    assert all(verify_inclusion(tree.root, leaf, tree.proof(i)) for i, leaf in enumerate(leaves))


@given(LEAVES, st.randoms(use_true_random=False))
def test_order_does_not_matter(leaves: list[bytes], random: object) -> None:
    shuffled = list(leaves)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert MerkleTree(shuffled).root == MerkleTree(leaves).root


@given(LEAVES, LEAF, st.data())
def test_what_is_not_in_the_tree_is_not_included(leaves: list[bytes], other: bytes, data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    assert verify_inclusion(tree.root, other, tree.proof(index)) == (other == leaves[index])


@given(st.lists(LEAF, min_size=2, max_size=20, unique=True))
def test_a_changed_or_shortened_proof_proves_nothing(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    first, *rest = tree.proof(0)
    changed = bytes([first[0] ^ 1]) + first[1:]
    assert not verify_inclusion(tree.root, leaves[0], [changed, *rest])
    assert not verify_inclusion(tree.root, leaves[0], rest)


def test_single_leaf_is_the_root_and_none_is_refused() -> None:
    assert MerkleTree([b"\5" * 32]).root == b"\5" * 32
    with pytest.raises(ProtocolError, match="at least one leaf"):
        MerkleTree([])
