"""Change anything anywhere in the evidence: the audit must fail and name the place."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cut_chain import cut
from evidence import (
    Change,
    Mutation,
    byte_flips,
    content,
    dump_lines,
    dump_result,
    lines,
    load_lines,
    members,
    mutated,
    proven,
    rows,
    sql,
    whole_file,
)
from good_run import make_run
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

Audit = Callable[[Path], str]
NOT_EVIDENCE = ("run.log", "journal/", "blobs/pins", "blobs/lock", "blobs/blocks/SHARDING", ".lock")
"""As `app.audit.run.NOT_EVIDENCE` argues."""


def files_of(directory: Path) -> list[str]:
    """Return all files that are evidence."""
    found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return [path for path in found if not any(part in path for part in NOT_EVIDENCE)]


def uncaught(directory: Path, mutations: Sequence[Mutation], audit: Audit) -> list[str]:
    """Return the mutations that the audit let pass, or whose file it did not name."""
    assert mutations
    found = []
    for mutation in mutations:
        original = (directory / mutation.path).read_bytes()
        if changes_nothing(mutation, original):
            continue
        with mutated(directory, mutation):
            said = audit(directory)
        if said == "ok" or mutation.says not in said:
            found.append(f"{mutation}: {said}")
    return found


def changes_nothing(mutation: Mutation, original: bytes) -> bool:
    """Whether no evidence changes: what only the run vouches for, and bytes of SQLite that hold no row."""
    changed = mutation.change(original)
    if mutation.path == "chain.sqlite" and changed is not None:
        return content(changed) == content(original)
    loads = {"result.json": json.loads, "metrics.jsonl": load_lines, "config.yaml": load_yaml}
    load: Callable[[bytes], Any] | None = loads.get(mutation.path)
    if load is None or changed is None:
        return False
    try:
        return bool(proven(mutation.path, load(original)) == proven(mutation.path, load(changed)))
    except (ValueError, YAMLError, OmegaConfBaseException):
        return False


def sample(mutations: Sequence[Mutation], how_many: int) -> list[Mutation]:
    """Return a seeded choice, in order."""
    chosen = set(random.Random(7).sample(range(len(mutations)), min(how_many, len(mutations))))
    return [mutation for index, mutation in enumerate(mutations) if index in chosen]


# What can be changed


def of_bytes(directory: Path, each: int) -> list[Mutation]:
    paths = [path for path in files_of(directory) if path != "chain.sqlite"]
    return [flip for path in paths for flip in byte_flips(path, (directory / path).read_bytes(), each, 0)]


def of_files(directory: Path) -> list[Mutation]:
    return [mutation for path in files_of(directory) for mutation in whole_file(path)]


def of_lines(directory: Path) -> list[Mutation]:
    paths = [path for path in files_of(directory) if path.endswith(".jsonl")]
    return [m for path in paths for m in lines(path, (directory / path).read_bytes().count(b"\n"))]


def of_members(directory: Path) -> list[Mutation]:
    """Every member of every file that the run wrote about itself, changed, deleted and added to."""
    result, metrics = (directory / "result.json").read_bytes(), (directory / "metrics.jsonl").read_bytes()
    found = members("result.json", json.loads(result), dump_result, json.loads)
    found += members("metrics.jsonl", load_lines(metrics), dump_lines, load_lines)
    # Members that the audit does not know are told as such, and are no change of what it knows.
    found = [mutation for mutation in found if not mutation.name.endswith("/more added")]
    config = OmegaConf.to_container(OmegaConf.create((directory / "config.yaml").read_text()))
    return found + members("config.yaml", config, dump_yaml, load_yaml)


def dump_yaml(value: Any) -> bytes:
    return OmegaConf.to_yaml(OmegaConf.create(value)).encode()


def load_yaml(data: bytes) -> Any:
    return OmegaConf.to_container(OmegaConf.create(data.decode()))


def of_rows(directory: Path) -> list[Mutation]:
    path, found = "chain.sqlite", []
    for key in rows(directory / path):
        name = key.hex() if len(key) == 32 else key.decode()
        found.append(Mutation(f"row {name} deleted", path, sql("DELETE FROM kv WHERE k=?", key), path))
        found.append(Mutation(f"row {name} changed", path, sql("UPDATE kv SET v = v || x'00' WHERE k=?", key), path))
    for name in ("format", "chain_id", "alloc"):
        found.append(Mutation(f"meta {name} deleted", path, sql("DELETE FROM meta WHERE name=?", name), path))
        change = sql("UPDATE meta SET value = value || ' ' WHERE name=?", name)
        found.append(Mutation(f"meta {name} changed", path, change, path))
    extra = [
        ("a row more", "INSERT INTO kv VALUES(x'0102', x'03')"),
        ("a meta row more", "INSERT INTO meta VALUES('more', '1')"),
        ("a table more", "CREATE TABLE more(x)"),
        ("a text for a blob", "UPDATE kv SET v = 'text' WHERE k = 'v1:canonical_head_hash'"),
        ("more wei at the genesis", "UPDATE meta SET value = replace(value, '000\"', '001\"') WHERE name = 'alloc'"),
    ]
    return found + [Mutation(name, path, sql(statement), path) for name, statement in extra]


def of_history(directory: Path) -> list[Mutation]:
    """Cut the newest blocks off, as whoever owns the file can: the run's account and the phones know better."""
    last = max(int(key.split(b":")[1]) for key in rows(directory / "chain.sqlite") if key.startswith(b"block-number"))
    return [Mutation(f"the last {n} blocks cut", "chain.sqlite", cut_to(last - n)) for n in range(1, last + 1)]


def cut_to(number: int) -> Change:
    """Return the change that makes a chain end at an earlier block, with all its indices in order."""
    return lambda data: cut(data, number)


def of_order(directory: Path) -> list[Mutation]:
    """Put one file's content into another of its kind: what is right elsewhere is wrong here."""
    found, kinds = [], {}
    for path in files_of(directory):
        parts = Path(path)
        kind = "block" if path.startswith("blobs/") else parts.name if parts.suffix != ".safetensors" else "release"
        kinds.setdefault(kind, []).append(path)
    for paths in kinds.values():
        for one, other in pairwise(paths):
            data = (directory / other).read_bytes()
            if data != (directory / one).read_bytes():
                found.append(Mutation(f"the content of {other}", one, lambda _, data=data: data))
    return found


# A few of them by default, many in the long tests: every kind of place, and a seeded choice of the places of a kind


def test_a_good_run_passes(good: Path, verdict_on: Audit) -> None:
    assert verdict_on(good) == "ok"


@pytest.mark.parametrize(
    ("mutations", "share"),
    [
        (lambda directory: of_bytes(directory, 1), 10),
        (of_files, 10),
        (of_lines, 8),
        (of_members, 20),
        (of_order, 8),
        (of_rows, 8),
        (of_history, 1),
    ],
    ids=["bytes", "files", "lines", "members", "order", "rows", "history"],
)
def test_some_of_what_can_be_changed(
    good: Path, verdict_on: Audit, mutations: Callable[[Path], list[Mutation]], share: int
) -> None:
    assert uncaught(good, sample(mutations(good), share), verdict_on) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("mutations", "share"),
    [
        (lambda directory: of_bytes(directory, 1), 60),
        (of_files, 60),
        (of_lines, 60),
        (of_members, 100),
        (of_order, 60),
        (of_rows, 60),
        (of_history, 100),
    ],
    ids=["bytes", "files", "lines", "members", "order", "rows", "history"],
)
def test_much_of_what_can_be_changed(
    good: Path, verdict_on: Audit, mutations: Callable[[Path], list[Mutation]], share: int
) -> None:
    assert uncaught(good, sample(mutations(good), share), verdict_on) == []


@pytest.mark.long
def test_any_byte_of_the_chains_file(good: Path, verdict_on: Audit) -> None:
    data = (good / "chain.sqlite").read_bytes()
    assert uncaught(good, byte_flips("chain.sqlite", data, 40, 1), verdict_on) == []


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another good run, of the same task with another seed."""
    return make_run(tmp_path_factory.mktemp("other"), "other", "seed=1")


@pytest.mark.long
def test_nothing_can_be_replayed_from_another_run(good: Path, other: Path, verdict_on: Audit, tmp_path: Path) -> None:
    passed = []
    for path in sorted({*files_of(good)} & {*files_of(other)}):
        data = (other / path).read_bytes()
        passed += uncaught(good, [Mutation("of another run", path, lambda _, data=data: data)], verdict_on)
    for name in ("blobs", "customers", "rounds"):
        copy = tmp_path / name
        shutil.copytree(good, copy)
        shutil.rmtree(copy / name)
        shutil.copytree(other / name, copy / name)
        passed += [name] * (verdict_on(copy) == "ok")
    assert passed == []
