"""A good run's evidence, and every way to change it: files, fields, rows, bytes, order."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[bytes], bytes | None]
"""Returns a file's new content; None deletes it."""

OWN_WORD = {
    "result.json": (
        *("name", "place", "seconds", "loss_by_round/0", "accuracy_by_round/0", "model/features"),
        *("data/kind", "data/classes", "data/train", "data/public", "data/test"),
    ),
    "metrics.jsonl": ("seconds",),
    "config.yaml": (
        *("name", "data/path", "wallet", "engine/workers", "store/url"),
        *("chain/url", "chain/confirmations", "store/path", "store/most_bytes", "store/pinning"),
        *("members/name", "members/path", "members/join_seconds", "members/reply_seconds"),
        *("contribution/name", "contribution/permutations", "tracker/name", "tracker/place", "tracker/group"),
        *("probe/name", "probe/epsilons", "probe/records", "probe/passes"),
    ),
}
"""Members that nothing signed or committed confirms; see `app.audit.files`."""


@dataclass(frozen=True)
class Mutation:
    """One change of one file, and what the audit must say about the place."""

    name: str
    path: str
    change: Change
    says: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"


@contextlib.contextmanager
def mutated(directory: Path, mutation: Mutation) -> Iterator[None]:
    """Change the file inside the ``with`` block, and nothing else; put it back afterwards."""
    path = directory / mutation.path
    original = path.read_bytes()
    changed = mutation.change(original)
    assert changed != original, f"{mutation} changes nothing"
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        yield
    finally:
        path.write_bytes(original)


def byte_flips(path: str, data: bytes, how_many: int, seed: int) -> list[Mutation]:
    """Change single bytes at random places of a file."""
    source = random.Random(f"{path} {seed}")
    places = [(source.randrange(len(data)), source.randrange(1, 256)) for _ in range(how_many)]
    return [Mutation(f"byte {at} ^ {mask:#x}", path, flip(at, mask)) for at, mask in places]


def flip(at: int, mask: int) -> Change:
    """Return the change of one byte."""
    return lambda data: data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def whole_file(path: str) -> list[Mutation]:
    """Delete, empty, cut and lengthen a file."""
    return [
        Mutation("deleted", path, lambda data: None),
        Mutation("emptied", path, lambda data: b""),
        Mutation("last byte cut", path, lambda data: data[:-1]),
        Mutation("one byte more", path, lambda data: data + b" "),
    ]


def lines(path: str, count: int) -> list[Mutation]:
    """Delete, repeat and exchange lines."""

    def edit(work: Callable[[list[bytes]], object]) -> Change:
        def change(data: bytes) -> bytes:
            parts = data.splitlines(keepends=True)
            work(parts)
            return b"".join(parts)

        return change

    found = [Mutation(f"line {n} deleted", path, edit(lambda parts, n=n: parts.pop(n))) for n in range(count)]
    found += [
        Mutation(f"line {n} twice", path, edit(lambda parts, n=n: parts.insert(n, parts[n]))) for n in range(count)
    ]
    found += [
        Mutation(f"lines {n} and {n + 1} exchanged", path, edit(lambda parts, n=n: parts.insert(n, parts.pop(n + 1))))
        for n in range(count - 1)
    ]
    return found


def members(path: str, value: Any, dump: Callable[[Any], bytes], load: Callable[[bytes], Any]) -> list[Mutation]:
    """Change, delete and add every member of a JSON value; the text stays as the run would write it."""
    found = []
    for place in sorted(places(value), key=str):
        if place:
            found.append(Mutation(f"{'/'.join(map(str, place))} deleted", path, _edit(load, dump, place, _delete)))
        inner = reach(value, place)
        if isinstance(inner, dict):
            found.append(Mutation(f"{'/'.join(map(str, place))}/more added", path, _edit(load, dump, place, _add)))
        elif not isinstance(inner, list):
            found.append(Mutation(f"{'/'.join(map(str, place))} changed", path, _edit(load, dump, place, _other)))
    return found


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every member."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*at, index))


def reach(value: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        value = value[step]
    return value


def proven(path: str, value: Any) -> Any:
    """Return a file's JSON value without the members that only the run itself vouches for."""
    known = OWN_WORD.get(path, ())

    def without(item: Any, at: str) -> Any:
        if isinstance(item, dict):
            kept = {key: part for key, part in item.items() if f"{at}/{key}".lstrip("/") not in known}
            return {key: without(part, f"{at}/{key}".lstrip("/")) for key, part in kept.items()}
        if isinstance(item, list):
            return [None if f"{at}/{i}" in known else without(part, f"{at}/{i}") for i, part in enumerate(item)]
        return item

    return [without(line, "") for line in value] if isinstance(value, list) else without(value, "")


def rows(path: Path) -> list[bytes]:
    """Return the keys of an embedded chain's rows."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [key for (key,) in connection.execute("SELECT k FROM kv ORDER BY k")]


def content(data: bytes) -> Any:
    """Return all that an embedded chain's file says, or why it says nothing."""
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(data)
            sound = connection.execute("PRAGMA integrity_check").fetchall()
            tables = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
            return sound, tables, [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("kv", "meta")]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def sql(statement: str, *values: object) -> Change:
    """Return the change that an SQL statement makes to a database's bytes."""

    def change(data: bytes) -> bytes:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        with contextlib.closing(connection):
            connection.deserialize(data)
            connection.execute(statement, values)
            assert connection.total_changes or statement.startswith("CREATE")
            return connection.serialize()

    return change


def dump_result(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def dump_lines(value: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in value).encode()


def load_lines(data: bytes) -> Any:
    return [json.loads(line) for line in data.splitlines()]


def dump_canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _edit(
    load: Callable[[bytes], Any],
    dump: Callable[[Any], bytes],
    place: tuple[Any, ...],
    work: Callable[[Any, Any], None],
) -> Change:
    def change(data: bytes) -> bytes:
        root = {"root": load(data)}
        full = ("root", *place)
        work(reach(root, full[:-1]), full[-1])
        return dump(root["root"])

    return change


def _delete(holder: Any, key: Any) -> None:
    del holder[key]


def _add(holder: Any, key: Any) -> None:
    holder[key]["more"] = 1


def _other(holder: Any, key: Any) -> None:
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int | float):
        holder[key] = value + 1
    elif isinstance(value, str) and value:
        holder[key] = value[:-1] + ("1" if value[-1] == "0" else "0")
    else:
        holder[key] = "x"
