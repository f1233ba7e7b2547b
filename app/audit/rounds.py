"""One sealed round, recomputed from its blobs: receipts, scores, marks, the aggregate, the record, the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.audit.abi import struct_fields
from app.audit.blobs import Blobs, reference
from app.audit.copies import first_come, mark_copies
from app.audit.election import check_election, message, weights
from app.audit.report import AuditError, Section, holds, same, same_json
from app.audit.robust import Judged, Standing, Vector, combine, dealt, judge, next_model
from app.audit.screening import Screened, screen
from app.audit.task import ChainTask, Finalisation, Round, Seal
from app.protocol.bitmap import indices
from app.protocol.digest import BlobRef, hex32, parse_json, sha256
from app.protocol.errors import ProtocolError
from app.protocol.fixed_point import MODEL_DTYPE
from app.protocol.manifest import MAX_RECEIPT_BYTES, Manifest
from app.protocol.policy import Policy
from app.protocol.record import RoundRecord
from app.protocol.signing import recover
from app.protocol.tensors import pack, unpack

_MOST_ENTRY = 2**12  # bytes of a customer's entry or a miner's ticket in a record, far above what they take


@dataclass(slots=True)
class Checked:
    """A round that holds.

    Attributes
    ----------
    round : Round
        What the chain says.
    manifest : Manifest or None
        The sealed receipts; None where the round expired unsealed.
    manifest_bytes, record_bytes : bytes
        The blobs; empty where there are none.
    evaluation : dict
        The recomputed evaluation, as the record has it.
    model : BlobRef
        The model after the round.
    signers : tuple of str
        Who signed the verdict.
    """

    round: Round
    manifest: Manifest | None
    manifest_bytes: bytes
    record_bytes: bytes
    evaluation: dict[str, Any]
    model: BlobRef
    signers: tuple[str, ...]


@dataclass(slots=True)
class Auditor:
    """Goes through a task's rounds: each starts from what the one before came to.

    Attributes
    ----------
    policy : Policy
        The task's rules.
    task : ChainTask
        What the chain says.
    blobs : Blobs
        Where the blobs are.
    model : bytes
        The current global model's blob.
    seed : bytes
        Seed of the next election.
    unproven : list of str
        Receives what rests on the miners' word.
    earlier : set of bytes
        Digests of the updates that finalised rounds have sealed so far.
    strikes : Counter of int
        How often each customer, by index, was evaluated L so far.
    standing : Standing
        What the rounds so far say of how far, and where, each customer's updates pointed.
    step : numpy.ndarray of int64 or None
        What the last finalised round changed in the model; None before the first.
    """

    policy: Policy
    task: ChainTask
    blobs: Blobs
    model: bytes
    seed: bytes
    unproven: list[str]
    earlier: set[bytes] = field(default_factory=set)
    strikes: Counter[int] = field(default_factory=Counter)
    standing: Standing = field(default_factory=Standing)
    step: Vector | None = None

    def check(self, round_: Round, gammas: tuple[int, ...], section: Section) -> Checked:
        """Recompute a round, given everybody's reputation before it."""
        place = f"round {round_.number}"
        manifest_bytes, manifest = b"", None
        if round_.seal is not None:
            manifest_bytes = self._manifest_bytes(place, round_.seal)
            manifest = self._check_manifest(place, round_, manifest_bytes, section)
        checked = Checked(round_, manifest, manifest_bytes, b"", {}, reference(self.model), ())
        if round_.finalisation is None:
            return checked
        holds(manifest is not None, f"{place} on chain", "a seal before the verdict", "none")
        assert manifest is not None
        final = round_.finalisation
        checked.record_bytes = self.blobs.needed(
            f"{place}, record", final.record, _MOST_ENTRY * (len(manifest.receipts) + len(self.task.miners) + 1)
        )
        record = self._record(place, checked.record_bytes)
        checked.signers = self._check_quorum(place, final, section)
        checked.evaluation = self._check_evaluation(place, round_, manifest, record["evaluation"], gammas, section)
        about = message(self.task.domain, self.policy.digest, round_.number, self.seed)
        proofs = check_election(
            f"{place}, record, election",
            record["election"],
            about,
            self.policy.tau,
            self.task.miners,
            weights(self.policy.weighting, self.task.miners, dict(zip(self.task.customers, gammas, strict=True))),
            checked.signers,
            final.verdict,
        )
        section.counts["VRF proofs"] += proofs
        self.seed = final.verdict["seed"]
        checked.model = reference(self.model)
        self.blobs.needed(f"{place}, new model", checked.model, checked.model.size)
        return checked

    def _manifest_bytes(self, place: str, seal: Seal) -> bytes:
        return self.blobs.needed(f"{place}, manifest", seal.manifest, (len(seal.participants) + 1) * MAX_RECEIPT_BYTES)

    def _check_manifest(self, place: str, round_: Round, data: bytes, section: Section) -> Manifest:
        """Check that what is sealed is the customers' own word, and whole."""
        place, seal = f"{place}, manifest", round_.seal
        assert seal is not None
        try:
            manifest = Manifest.from_bytes(data)
        except ProtocolError as error:
            raise AuditError(place, "a manifest", error) from error
        same(f"{place}, round", round_.number, manifest.round)
        index = {customer: i for i, customer in enumerate(self.task.customers)}
        for signed in manifest.receipts:
            receipt, who = signed.receipt, f"{place}, receipt of {signed.customer}"
            holds(receipt.customer in index, who, "a customer of the task", receipt.customer)
            same(f"{who}, task", self.policy.digest, receipt.task)
            try:
                same(f"{who}, signer", receipt.customer, signed.signer(self.task.domain))
            except ProtocolError as error:
                raise AuditError(f"{who}, signature", "the customer's", error) from error
        present = tuple(sorted(index[signed.customer] for signed in manifest.receipts))
        same(f"{place}, participants in the seal", present, seal.participants)
        same(f"{place}, Merkle root in the seal", manifest.tree(self.task.domain).root, seal.root)
        sealed = set(present)
        for signed in round_.submissions:
            holds(
                index[signed.customer] in sealed,
                f"{place}, {signed.customer}, who submitted on chain",
                "a receipt",
                "none",
            )
        section.counts["receipts"] += len(manifest.receipts)
        return manifest

    def _record(self, place: str, data: bytes) -> dict[str, Any]:
        try:
            RoundRecord.from_bytes(data)
        except ProtocolError as error:
            raise AuditError(f"{place}, record", "a round record", error) from error
        return parse_json(data, f"{place}, record")

    def _check_quorum(self, place: str, final: Finalisation, section: Section) -> tuple[str, ...]:
        fields, verdict = struct_fields("finalise", "verdict"), final.verdict
        miners = [seat.miner for seat in self.task.miners]
        signers = []
        for number, signature in enumerate(final.signatures):
            signer = recover(self.task.domain, "Verdict", fields, verdict, signature)
            holds(signer in miners, f"{place}, verdict, signature {number}", "a miner's", signer)
            signers.append(signer)
        numbers = [int(signer, 16) for signer in signers]
        same(f"{place}, verdict, signers, each once and sorted", sorted(set(numbers)), numbers)
        needed, noted = 2 * len(miners) // 3 + 1, indices([final.outcome["signers"]])
        holds(len(signers) >= needed, f"{place}, verdict, signatures", f"at least {needed}", len(signers))
        same(f"{place}, verdict, signers by index", {miners.index(s) for s in signers}, {*noted})
        same(f"{place}, verdict, sender", verdict["leader"], final.sender)
        section.counts["signatures"] += len(signers)
        return tuple(signers)

    def _check_evaluation(
        self,
        place: str,
        round_: Round,
        manifest: Manifest,
        stated: dict[str, Any],
        gammas: tuple[int, ...],
        section: Section,
    ) -> dict[str, Any]:
        """Recompute marks and aggregate; move to the new model."""
        assert round_.seal is not None
        assert round_.finalisation is not None
        verdict, policy, start = round_.finalisation.verdict, self.policy, reference(self.model)
        index = {address: i for i, address in enumerate(self.task.customers)}
        claimed = {entry["customer"]: entry["reason"] for entry in stated["customers"]}
        excluded = {i for i, count in self.strikes.items() if 0 < policy.strikes <= count}
        screened, late = screen(
            policy, start.sha256, manifest.receipts, index, self.blobs, claimed, excluded, self.earlier
        )
        ordered = first_come(round_.seal.root, round_.submissions, screened)
        mark_copies(ordered, self.step, policy.f, policy.copy_cosine, policy.cohort)
        self.unproven += [f"{place}: {c} is marked {claimed[c]} by the miners; its blob is here now" for c in late]
        h = sum(gammas[i] for i in round_.seal.participants) // len(round_.seal.participants)
        valid = [item for item in screened if item.update is not None]
        groups: list[list[int]] = []
        if len(valid) > policy.cohort:
            names = [item.signed.customer.encode() for item in valid]
            groups = dealt(names, sha256(b"hearth buckets" + self.seed + round_.seal.root), policy.cohort)
        customers, judged = self._judge(screened, groups, gammas, h)
        evaluation = {
            "task": hex32(policy.digest),
            "round": round_.number,
            "threshold": h,
            "f": policy.f,
            "rule": policy.evaluation,
            "aggregator": policy.aggregator,
            "buckets": len(groups),
            "void": judged is None,
            "usual": str(judged.usual if judged else 0),
            "reach": str(judged.reach if judged else 0),
            "model": start.to_json(),
            "customers": customers,
        }
        same_json(f"{place}, record, evaluation", evaluation, stated)
        same(f"{place}, verdict, task", policy.digest, verdict["task"])
        same(f"{place}, verdict, root", round_.seal.root, verdict["root"])
        same(f"{place}, verdict, manifest", round_.seal.manifest.sha256, round_.finalisation.manifest)
        same(f"{place}, verdict, participants", round_.seal.participants, indices(verdict["participants"]))
        honest = tuple(sorted(entry["index"] for entry in customers if entry["mark"] == "H"))
        same(f"{place}, verdict, evaluated H", honest, indices(verdict["honest"]))
        weighed = [entry["weight"] for entry in customers]
        before, self.model = self.model, self._aggregate(screened, weighed)
        same(f"{place}, verdict, model", reference(self.model).sha256, verdict["model"])
        self._remember(manifest, customers, before)
        section.counts.update({"updates": len(screened), "aggregated": sum(weight > 0 for weight in weighed)})
        return evaluation

    def _remember(self, manifest: Manifest, customers: list[dict[str, Any]], before: bytes) -> None:
        """Keep what later rounds are compared with."""
        self.earlier |= {signed.receipt.update for signed in manifest.receipts}
        self.strikes.update(entry["index"] for entry in customers if entry["mark"] == "L")
        old, new = (unpack(blob, self.policy.layout, MODEL_DTYPE) for blob in (before, self.model))
        self.step = new - old

    def _judge(
        self, screened: list[Screened], groups: list[list[int]], gammas: tuple[int, ...], h: int
    ) -> tuple[list[dict[str, Any]], Judged | None]:
        """Return everybody's entry in the record, and what the round came to, or None where it is void."""
        policy, valid = self.policy, [item for item in screened if item.update is not None]
        updates = [item.update for item in valid if item.update is not None]
        digests = [item.signed.receipt.update for item in valid]
        who = [item.index for item in valid]
        judged = judge(updates, digests, policy.f, policy.aggregator, policy.evaluation, who, self.standing, groups)
        if judged is not None:
            self.standing.add(judged, who)
        claims = sorted(item.signed.receipt.examples for item in valid)
        middle = claims[(len(claims) - 1) // 2 :][:1] if claims else []
        positions = {item.index: position for position, item in enumerate(valid)} if judged else {}
        entries = []
        for item in screened:
            gamma, receipt, position = gammas[item.index], item.signed.receipt, positions.get(item.index)
            score, cosine, share, reason = None, None, 0, item.reason
            if judged is not None and position is not None:
                score, cosine, share = str(judged.scores[position]), judged.cosines[position], judged.shares[position]
                reason = "dissimilar" if position in judged.low else reason
            counts = share * gamma * min([receipt.examples, policy.examples_cap, *middle])
            entries.append(
                {
                    "customer": receipt.customer,
                    "index": item.index,
                    "gamma": gamma,
                    "mark": "H" if reason == "accepted" else "L",
                    "reason": reason,
                    "score": score,
                    "cosine": cosine,
                    "selected": share > 0,
                    "isolated": gamma < h,
                    "weight": 0 if gamma < h else counts,
                    "saturated": _saturated(item, 8 * policy.update_dtype.itemsize),
                }
            )
        return entries, judged

    def _aggregate(self, screened: list[Screened], weighed: list[int]) -> bytes:
        """Return the blob of the model after the round; the same one where too little has a weight for the rule."""
        pairs = [(item.update, weight) for item, weight in zip(screened, weighed, strict=True) if weight]
        updates = [update for update, _ in pairs if update is not None]
        step = combine(updates, [weight for _, weight in pairs], self.policy.f, self.policy.aggregator)
        if step is None:
            return self.model
        model = unpack(self.model, self.policy.layout, MODEL_DTYPE)
        return pack(next_model(model, step), self.policy.layout, MODEL_DTYPE)


def _saturated(item: Screened, bits: int) -> int | None:
    if item.update is None:
        return None
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return int((item.update == low).sum() + (item.update == high).sum())
