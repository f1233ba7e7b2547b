"""A whole committee lies and signs: digests fit, the chain is valid, and the audit finds what does not add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evil import SEED, Draft, Lie, World, entry, with_model

from app.audit.blobs import BlockDirectory
from app.protocol import vrf
from app.protocol.evaluation import Mark, Reason
from app.protocol.keys import simulation_account
from app.protocol.manifest import Manifest
from app.protocol.receipt import SignedReceipt


def accepted(item: object) -> bool:
    return item.reason is Reason.ACCEPTED  # type: ignore[attr-defined]


def rejected(item: object) -> bool:
    return item.reason is Reason.DISSIMILAR  # type: ignore[attr-defined]


def one_parameter(world: World, draft: Draft) -> Draft:
    return with_model(world, draft, lambda vector: vector + np.eye(1, len(vector), 5, dtype=np.int64)[0])


def the_old_model(world: World, draft: Draft) -> Draft:
    return replace(draft, model=world.store.get(world.policy.model, world.policy.model.size))


def attacker_praised(world: World, draft: Draft) -> Draft:
    return entry(draft, rejected, mark=Mark.H, reason=Reason.ACCEPTED)


def honest_blamed(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, mark=Mark.L, reason=Reason.DISSIMILAR)


def honest_called_a_copy(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, mark=Mark.L, reason=Reason.COPY, score=None, selected=False, weight=0, saturated=None)


def another_score(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, score=draft.evaluation.customers[0].score + 1)  # type: ignore[operator]


def another_weight(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, weight=1)


def another_gamma(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, gamma=9)


def isolated(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, isolated=True, weight=0)


def selected(world: World, draft: Draft) -> Draft:
    return entry(draft, rejected, selected=True)


def saturated(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, saturated=7)


def another_way(world: World, draft: Draft) -> Draft:
    return entry(draft, accepted, cosine=7)


def void(world: World, draft: Draft) -> Draft:
    return the_old_model(world, replace(draft, evaluation=replace(draft.evaluation, void=True)))


def another(**changes: object) -> Lie:
    return lambda world, draft: replace(draft, evaluation=replace(draft.evaluation, **changes))  # type: ignore[arg-type]


def another_start(world: World, draft: Draft) -> Draft:
    return replace(draft, evaluation=replace(draft.evaluation, model=world.policy.frozen))


def second_leads(world: World, draft: Draft) -> Draft:
    first, second, *rest = draft.election.candidates
    seed = vrf.proof_to_hash(second.proof)[:32]
    election = replace(draft.election, candidates=(second, first, *rest), leader=second.miner, seed=seed)
    return replace(draft, election=election)


def seed_chosen(world: World, draft: Draft) -> Draft:
    return replace(draft, election=replace(draft.election, seed=b"\x07" * 32))


def proof_on_another_seed(world: World, draft: Draft) -> Draft:
    leader = draft.election.candidates[0]
    secret = world.secrets[[account.address for account in world.miners].index(leader.miner)]
    proof = vrf.prove(secret, b"a message that suits me")
    seed = vrf.proof_to_hash(proof)[:32]
    candidates = (replace(leader, proof=proof), *draft.election.candidates[1:])
    return replace(draft, election=replace(draft.election, candidates=candidates, seed=seed))


def ticket_left_out(world: World, draft: Draft) -> Draft:
    return replace(draft, election=replace(draft.election, candidates=draft.election.candidates[:-1]))


def more_sub_users(world: World, draft: Draft) -> Draft:
    last = draft.election.candidates[-1]
    candidates = (*draft.election.candidates[:-1], replace(last, weight=last.weight + 1))
    return replace(draft, election=replace(draft.election, candidates=candidates))


def selected_by_nobody(world: World, draft: Draft) -> Draft:
    last = draft.election.candidates[-1]
    candidates = (*draft.election.candidates[:-1], replace(last, selected=1 - last.selected))
    return replace(draft, election=replace(draft.election, candidates=candidates))


LIES: dict[str, tuple[Lie, str]] = {
    "one parameter of the model": (one_parameter, "round 1, verdict, model"),
    "the model did not move": (the_old_model, "round 1, verdict, model"),
    "the attacker is praised": (attacker_praised, "record, evaluation, customers"),
    "an honest customer is blamed": (honest_blamed, "record, evaluation, customers"),
    "an honest customer is called a copy": (honest_called_a_copy, "record, evaluation, customers"),
    "another score": (another_score, "score"),
    "another cosine": (another_way, "cosine"),
    "another usual score": (another(usual=7), "usual"),
    "another reach": (another(reach=7), "reach"),
    "another weight": (another_weight, "weight"),
    "another reputation": (another_gamma, "gamma"),
    "isolated without cause": (isolated, "isolated"),
    "the attacker counts as selected": (selected, "selected"),
    "another count of saturated entries": (saturated, "saturated"),
    "the round is called void": (void, "void"),
    "another threshold": (another(threshold=4), "threshold"),
    "another f": (another(f=0), "evaluation, f"),
    "another rule": (another(rule="paper"), "rule"),
    "another aggregator": (another(aggregator="fedavg"), "aggregator"),
    "another round": (another(round=2), "evaluation, round"),
    "another task": (another(task=b"\x01" * 32), "evaluation, task"),
    "another model at the start": (another_start, "evaluation, model"),
    "the second leads": (second_leads, "order of the candidates"),
    "a chosen seed": (seed_chosen, "next seed"),
    "a proof on another seed": (proof_on_another_seed, "proof"),
    "a signer's ticket left out": (ticket_left_out, "signers without a ticket"),
    "more weight in the election": (more_sub_users, "weight"),
    "another draw": (selected_by_nobody, "selected"),
}
SOME = ("one parameter of the model", "the attacker is praised", "the second leads")


@pytest.fixture(scope="module")
def sealed(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task published anew, its first round sealed: where every lie begins."""
    world = World(good, tmp_path_factory.mktemp("evil") / "sealed")
    world.seal(1, world.manifests[0])
    world.chain.close()
    return world.home


def test_what_the_liars_write_without_a_lie_holds(good: Path, sealed: Path, tmp_path: Path) -> None:
    world = World(good, tmp_path / "honest", sealed)
    world.finalise(1)
    world.seal(2, world.manifests[1])
    world.finalise(2)
    assert world.audit()[0] == "ok"


@pytest.mark.parametrize("name", SOME)
def test_a_lie_of_the_whole_committee(good: Path, sealed: Path, tmp_path: Path, name: str) -> None:
    world, (lie, place) = World(good, tmp_path / "evil", sealed), LIES[name]
    world.finalise(1, lie)
    assert place in world.audit()[0]


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(LIES) - set(SOME)))
def test_any_lie_of_the_whole_committee(good: Path, sealed: Path, tmp_path: Path, name: str) -> None:
    test_a_lie_of_the_whole_committee(good, sealed, tmp_path, name)


@pytest.mark.long
def test_a_customer_that_the_miners_say_had_no_blob_is_not_proven(good: Path, sealed: Path, tmp_path: Path) -> None:
    world = World(good, tmp_path / "evil", sealed)
    victim = world.manifests[0].receipts[0].receipt
    block = BlockDirectory(world.home / "blobs").path(victim.update)
    data = block.read_bytes()
    block.unlink()
    world.finalise(1)  # every miner finds nothing, and marks the customer
    block.write_bytes(data)
    said, unproven = world.audit()
    assert said == "ok"
    assert any(f"{victim.customer} is marked missing by the miners" in line for line in unproven)


# Lies of whoever seals


def resigned(world: World, signed: SignedReceipt, **changes: object) -> SignedReceipt:
    """Return a receipt with other contents, signed by its customer."""
    account = world.customer(signed.customer)
    return replace(signed.receipt, **changes).sign(account, world.ledger.domain)  # type: ignore[arg-type]


def of_a_stranger(world: World) -> Manifest:
    first, *rest = world.manifests[0].receipts
    stranger = simulation_account(SEED, "manufacturer")
    return Manifest.of(
        1, [replace(first, signature=first.receipt.sign(stranger, world.ledger.domain).signature), *rest]
    )


def for_another_task(world: World) -> Manifest:
    first, *rest = world.manifests[0].receipts
    return Manifest.of(1, [resigned(world, first, task=b"\x01" * 32), *rest])


def over_the_budget(world: World) -> Manifest:
    first, *rest = world.manifests[0].receipts
    return Manifest.of(1, [resigned(world, first, epsilonMicros=8_000_001), *rest])


def over_the_budgets_delta(world: World) -> Manifest:
    first, *rest = world.manifests[0].receipts
    return Manifest.of(1, [resigned(world, first, deltaPicos=10_000_001), *rest])


@pytest.mark.long
@pytest.mark.parametrize(
    ("manifest", "place"),
    [
        (of_a_stranger, "signer"),
        (for_another_task, "task"),
        (over_the_budget, "epsilonMicros"),
        (over_the_budgets_delta, "deltaPicos"),
    ],
)
def test_a_forged_receipt_under_the_seal(
    good: Path, tmp_path: Path, manifest: Callable[[World], Manifest], place: str
) -> None:
    world = World(good, tmp_path / "evil")
    world.seal(1, manifest(world))
    if place not in ("signer", "task"):  # a seal that no honest miner would judge
        world.finalise(1)
    assert place in world.audit()[0]


@pytest.mark.long
def test_another_root_or_other_participants_than_the_manifests(good: Path, tmp_path: Path) -> None:
    world = World(good, tmp_path / "root")
    world.seal(1, world.manifests[0], root=b"\x05" * 32)
    assert "Merkle root" in world.audit()[0]
    world = World(good, tmp_path / "participants")
    world.seal(1, world.manifests[0], present=[0, 1, 2, 3, 4])
    assert "participants in the seal" in world.audit()[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("terms", "place"),
    [
        ({"seed": b"\x03" * 32}, "terms, seed"),
        ({"reward": 2 * 10**18}, "terms, reward"),
        ({"gamma_max": 11}, "terms, gammaMax"),
        ({"f": 0}, "terms, f"),
        ({"rounds": 4}, "terms, rounds"),
        ({"model": b"\x03" * 32}, "terms, model"),
        ({"skips": 1}, "terms, skips"),
        ({"leader_window": 7}, "terms, leaderWindow"),
        ({"policy": b"\x03" * 32}, "task's policy"),
    ],
)
def test_a_contract_with_other_terms_than_the_policy(
    good: Path, tmp_path: Path, terms: dict[str, object], place: str
) -> None:
    assert place in World(good, tmp_path / "evil", **terms).audit()[0]
