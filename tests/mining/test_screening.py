from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from app.mining.outcome import evaluate
from app.mining.round import SealedRound
from app.mining.screening import SATURATED_PART, Forgery
from app.protocol.digest import BlobRef, sha256
from app.protocol.errors import ProtocolError, RoundError, StoreUnavailableError
from app.protocol.evaluation import Mark, Reason
from app.protocol.fixed_point import MODEL_DTYPE, UPDATE_DTYPE
from app.protocol.keys import simulation_account
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.tensors import blob_limit, pack
from app.store.base import reference

LAYOUT = (("head.weight", (8, 12)), ("head.bias", (12,)))
GOOD = np.arange(108)


def _reasons(world, sealed: SealedRound) -> dict[int, Reason]:
    entries = evaluate(sealed, world.store).evaluation.customers
    assert all((entry.mark is Mark.H) == (entry.reason is Reason.ACCEPTED) for entry in entries)
    refused = [entry for entry in entries if entry.reason not in (Reason.ACCEPTED, Reason.DISSIMILAR)]
    assert all(entry.score is None and not entry.selected and entry.weight == 0 for entry in refused)
    return {entry.index: entry.reason for entry in entries}


def _only(reason: Reason) -> dict[int, Reason]:
    """Customer 3 is marked for this reason, and nobody else for any."""
    return {i: reason if i == 3 else Reason.ACCEPTED for i in range(10)}


def test_nothing_wrong(world) -> None:
    entries = evaluate(world.seal(), world.store).evaluation.customers
    assert {entry.reason for entry in entries} == {Reason.ACCEPTED}


def test_wrong_model(world, with_receipt) -> None:
    sealed = world.seal(tweaks={3: with_receipt(model=b"\7" * 32)})
    assert _reasons(world, sealed) == _only(Reason.WRONG_MODEL)


def test_too_large_is_not_even_read(world, with_blob) -> None:
    blob = bytes(blob_limit(LAYOUT, UPDATE_DTYPE) + 1)
    sealed = world.seal(tweaks={3: with_blob(blob)})
    assert _reasons(world, sealed) == _only(Reason.TOO_LARGE)
    assert sha256(blob) not in {ref.sha256 for ref in world.store.read}


def test_missing(world) -> None:
    sealed = world.seal(tweaks={3: lambda sent: replace(sent, stored=False)})
    assert _reasons(world, sealed) == _only(Reason.MISSING)


@pytest.mark.parametrize(
    "change", [lambda blob: blob[:-1] + b"\x55", lambda blob: blob[:-2], lambda blob: blob + b"\0"]
)
def test_tampered(world, change: Callable[[bytes], bytes]) -> None:
    sealed = world.seal()
    cid = reference(world.submission(3, world.update(3)).blob).cid
    world.store.blobs[cid] = change(world.store.blobs[cid])
    assert _reasons(world, sealed) == _only(Reason.TAMPERED)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not safetensors",
        pack(GOOD, (("head.weight", (12, 8)), ("head.bias", (12,))), UPDATE_DTYPE),
        pack(GOOD, (("other", (8, 12)), ("head.bias", (12,))), UPDATE_DTYPE),
        pack(GOOD, LAYOUT, MODEL_DTYPE),
        pack(GOOD, LAYOUT, UPDATE_DTYPE)[:-2],
        pack(GOOD, LAYOUT, UPDATE_DTYPE) + b"\0\0",
    ],
)
def test_malformed(world, with_blob, blob: bytes) -> None:
    assert _reasons(world, world.seal(tweaks={3: with_blob(blob)})) == _only(Reason.MALFORMED)


def test_zero(world, with_blob) -> None:
    sealed = world.seal(tweaks={3: with_blob(pack(np.zeros(108, np.int64), LAYOUT, UPDATE_DTYPE))})
    assert _reasons(world, sealed) == _only(Reason.ZERO)


@pytest.mark.parametrize("part", [1, SATURATED_PART - 1, SATURATED_PART + 1])
def test_range(world, with_blob, part: int) -> None:
    """108 entries: up to 6 may lie at the ends of int16."""
    vector = world.update(3)
    vector[: len(vector) // part] = np.where(np.arange(len(vector) // part) % 2, 32767, -32768)
    reason = _reasons(world, world.seal(tweaks={3: with_blob(pack(vector, LAYOUT, UPDATE_DTYPE))}))[3]
    assert (reason is Reason.RANGE) == (part < SATURATED_PART)


def test_a_replay_of_an_earlier_round_is_refused_whoever_sends_it(world) -> None:
    past = world.past(world.seal())
    updates = {i: world.update(i + 20) for i in range(10)} | {3: world.update(3), 4: world.update(7)}
    assert _reasons(world, world.seal(updates, round_number=2, earlier=(past,))) == {
        i: Reason.REPLAY if i in (3, 4) else Reason.ACCEPTED for i in range(10)
    }
    assert set(_reasons(world, world.seal(updates, round_number=2)).values()) == {Reason.ACCEPTED}


@pytest.mark.parametrize(("strikes", "excluded"), [(0, []), (1, [6]), (2, [6]), (3, [])])
def test_who_was_judged_low_too_often_is_excluded(make_world, strikes: int, excluded: list[int]) -> None:
    """Customer 6 got L twice, and customer 9 was absent three times, which is no judgement."""
    world = make_world(strikes=strikes)
    past = replace(world.past(world.seal()), participants=tuple(range(9)), honest=tuple(range(9)))
    low = replace(past, honest=(0, 1, 2, 3, 4, 5, 7, 8))
    earlier = (replace(low, round=1), replace(past, round=2), replace(low, round=4))
    sealed = world.seal({i: world.update(i + 20) for i in range(10)}, round_number=5, earlier=earlier)
    assert [sealed.strikes(i) for i in (5, 6, 9)] == [0, 2, 0]
    assert [i for i, reason in _reasons(world, sealed).items() if reason is Reason.EXCLUDED] == excluded


@pytest.mark.parametrize(("submitted", "author"), [((), None), ((5,), 5), ((8, 2), 8), ((8, 5, 2), 8)])
def test_copies_cost_all_but_the_first(world, submitted: tuple[int, ...], author: int | None) -> None:
    """First on chain in the chain's order, then by a hash that nobody knows before the seal."""
    updates = {i: world.update(i) for i in range(10)}
    updates[2] = updates[5] = updates[8]
    sealed = world.seal(updates, submitted=submitted)
    if author is None:
        author = min((2, 5, 8), key=lambda i: sha256(sealed.root + bytes.fromhex(world.customers[i][2:])))
    reasons = _reasons(world, sealed)
    assert {i for i, reason in reasons.items() if reason is Reason.COPY} == {2, 5, 8} - {author}
    assert reasons[author] is Reason.ACCEPTED


def test_an_earlier_receipt_for_something_else_makes_nobody_an_author(world) -> None:
    """A copier submits anything on chain at once, and relays the copy later."""
    updates = {i: world.update(i) for i in range(10)}
    updates[8] = updates[2]
    sealed = world.seal(updates, submitted=(2,))
    early = (8, sha256(b"anything"))
    assert _reasons(world, replace(sealed, submitted=(early, *sealed.submitted)))[8] is Reason.COPY


def test_no_address_always_comes_first(world) -> None:
    updates = {i: world.update(i) for i in range(10)}
    updates[2] = updates[5]
    losers = set()
    for salt in range(12):
        updates[0] = world.update(100 + salt)
        losers |= {i for i, reason in _reasons(world, world.seal(updates)).items() if reason is Reason.COPY}
    assert losers == {2, 5}


def test_a_copy_of_an_update_that_is_refused_is_no_copy(world, with_receipt) -> None:
    """The author's receipt is for another model, so its update is not in the round."""
    updates = {i: world.update(i) for i in range(10)}
    first, second = 3, 8
    updates[second] = updates[first]
    sealed = world.seal(updates, tweaks={first: with_receipt(model=b"\7" * 32)}, submitted=(first,))
    reasons = {entry.index: entry.reason for entry in evaluate(sealed, world.store).evaluation.customers}
    assert reasons[first] is Reason.WRONG_MODEL
    assert reasons[second] is Reason.ACCEPTED


def test_what_is_refused_for_another_reason_is_not_called_a_copy(world, with_receipt) -> None:
    updates = {i: world.update(i) for i in range(10)}
    first, second = 3, 8
    updates[second] = updates[first]
    sealed = world.seal(updates, tweaks={second: with_receipt(model=b"\7" * 32)}, submitted=(second,))
    reasons = {entry.index: entry.reason for entry in evaluate(sealed, world.store).evaluation.customers}
    assert reasons[first] is Reason.ACCEPTED
    assert reasons[second] is Reason.WRONG_MODEL


def _void(world, sealed: SealedRound, forgery: Forgery) -> None:
    with pytest.raises(RoundError, match=forgery.value):
        evaluate(sealed, world.store)


def test_a_receipt_that_another_key_signed_voids_the_seal(world) -> None:
    """The relayer forged it: customer 3 must not lose its H for that."""
    _void(world, world.seal(tweaks={3: lambda sent: replace(sent, signer=4)}), Forgery.SIGNATURE)


@pytest.mark.parametrize("signature", [bytes(65), b"\xff" * 65])
def test_a_malformed_signature_voids_the_seal(world, signature: bytes) -> None:
    sealed = world.seal()
    entries = list(Manifest.from_bytes(world.store.get(sealed.manifest, 10**6)).receipts)
    entries[0] = replace(entries[0], signature=signature)
    _void(world, _resealed(world, sealed, entries), Forgery.SIGNATURE)


def test_a_receipt_for_another_contract_voids_the_seal(world) -> None:
    """Signed by the right key, but in the domain of another task."""
    sealed = world.seal()
    elsewhere = replace(sealed, domain=replace(sealed.domain, contract=simulation_account(9, "contract").address))
    _void(world, elsewhere, Forgery.SIGNATURE)


def test_a_receipt_for_another_task_voids_the_seal(world, with_receipt) -> None:
    """Another run on a chain with the same id and address can have one: replaying it must not cost its customer."""
    _void(world, world.seal(tweaks={3: with_receipt(task=b"\7" * 32)}), Forgery.TASK)


def test_an_earlier_rounds_manifest_voids_the_seal(world) -> None:
    old = world.seal(round_number=1)
    _void(world, replace(old, round=2), Forgery.ROUND)


def test_an_unknown_customer_voids_the_seal(world) -> None:
    sealed = world.seal()
    others = (simulation_account(9, "stranger").address, *world.customers[1:])
    _void(world, replace(sealed, customers=others), Forgery.CUSTOMER)


@pytest.mark.parametrize("participants", [tuple(range(9)), tuple(range(1, 10)), ()])
def test_other_participants_void_the_seal(world, participants: tuple[int, ...]) -> None:
    sealed = replace(world.seal(), participants=participants)
    with pytest.raises(RoundError):
        evaluate(sealed, world.store)


def test_participants_are_compared_with_the_manifests_customers(world) -> None:
    sealed = replace(world.seal({i: world.update(i) for i in range(9)}), participants=tuple(range(1, 10)))
    _void(world, sealed, Forgery.PARTICIPANTS)


def test_another_root_voids_the_seal(world) -> None:
    _void(world, replace(world.seal(), root=b"\7" * 32), Forgery.MANIFEST)


def test_a_manifest_in_another_form_voids_the_seal(world) -> None:
    sealed = world.seal()
    data = world.store.get(sealed.manifest, 10**6)
    for other in (data + b" ", b"{}", b"\xff"):
        _void(world, replace(sealed, manifest=world.store.put(other)), Forgery.MANIFEST)


@pytest.mark.parametrize(
    ("cid", "reason"), [("bnotacid", Reason.MALFORMED), (reference(b"something else").cid, Reason.TAMPERED)]
)
def test_a_cid_that_contradicts_the_digest_is_the_customers_own_word(
    world, with_receipt, cid: str, reason: Reason
) -> None:
    assert _reasons(world, world.seal(tweaks={3: with_receipt(cid=cid)})) == _only(reason)


def _resealed(world, sealed: SealedRound, entries: list) -> SealedRound:
    manifest = Manifest.of(sealed.round, entries)
    ref = world.store.put(manifest.to_bytes())
    return replace(sealed, manifest=ref, root=manifest.tree(sealed.domain).root)


def test_a_store_that_is_down_is_nobodys_fault(world) -> None:
    sealed = world.seal()
    world.store.down = True
    with pytest.raises(StoreUnavailableError):
        evaluate(sealed, world.store)


def test_a_store_that_goes_down_between_two_updates_is_nobodys_fault(world) -> None:
    sealed, store = world.seal(), world.store

    class Failing:
        def get(self, ref: BlobRef, max_bytes: int) -> bytes:
            store.down = len(store.read) >= 6
            return store.get(ref, max_bytes)

    with pytest.raises(StoreUnavailableError):
        evaluate(sealed, Failing())


@pytest.mark.parametrize("what", ["manifest", "model"])
def test_what_the_chain_binds_must_be_there(world, what: str) -> None:
    sealed = world.seal()
    del world.store.blobs[getattr(sealed, what).cid]
    with pytest.raises(RoundError, match=f"its {what} cannot be had"):
        evaluate(sealed, world.store)


def test_a_huge_manifest_or_model_is_refused_unread(world) -> None:
    sealed, before = world.seal(), list(world.store.read)
    huge = replace(sealed.manifest, size=11 * MAX_RECEIPT_BYTES + 1)
    with pytest.raises(RoundError, match=r"its manifest has .* bytes \(allowed: up to"):
        evaluate(replace(sealed, manifest=huge), world.store)
    assert world.store.read == before
    huge = replace(sealed.model, size=10**9)
    with pytest.raises(RoundError, match="its model has"):
        evaluate(replace(sealed, model=huge), world.store)


def test_a_model_of_another_layout_stops_the_round(world) -> None:
    other = world.store.put(pack(np.zeros(3, np.int64), (("x", (3,)),), MODEL_DTYPE))
    with pytest.raises(RoundError, match="not this task's"):
        evaluate(replace(world.seal(), model=other), world.store)


def test_a_round_without_receipts_cannot_be_sealed(world) -> None:
    sealed = world.seal()
    empty = replace(sealed, participants=(), manifest=world.store.put(Manifest.of(1, []).to_bytes()))
    _void(world, empty, Forgery.MANIFEST)


@pytest.mark.parametrize(
    "change",
    [
        {"participants": (1, 0)},
        {"participants": (0, 0)},
        {"participants": (0, 10)},
        {"participants": (-1, 0)},
        {"reputation": (5,) * 9},
        {"customers": ("0x" + "11" * 20,) * 10},
    ],
)
def test_a_round_that_contradicts_itself_is_refused(world, change: dict[str, tuple]) -> None:
    with pytest.raises(ProtocolError):
        replace(world.seal(), **change)
