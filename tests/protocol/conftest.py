"""Strategies for hostile input: bytes and JSON that are almost right."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from app.protocol.errors import HearthError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, child in children for path in _paths(child, (*prefix, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = _replaced(value[path[0]], path[1:], new)
    return changed


@st.composite
def _almost(draw: st.DrawFn, data: bytes) -> bytes:
    """The text with a slice replaced, or its JSON with one member replaced by any other value."""
    if draw(st.booleans()):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 8)))
        return data[:start] + draw(st.binary(max_size=8)) + data[stop:]
    value = json.loads(data)
    path = draw(st.sampled_from(_paths(value)))
    changed = _replaced(value, path, draw(JSON))
    text = json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="session")
def hostile_to() -> Callable[[bytes], st.SearchStrategy[bytes]]:
    """Return a strategy of bytes around a valid text."""

    def strategy(data: bytes) -> st.SearchStrategy[bytes]:
        return st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()) | _almost(data)

    return strategy


@pytest.fixture(scope="session")
def refuses() -> Callable[[Callable[[bytes], Any], bytes], None]:
    """Return a check: what a reader accepts is written back to the same bytes, all else is a HearthError."""

    def check(read: Callable[[bytes], Any], data: bytes) -> None:
        message = "accepted"
        try:
            assert read(data).to_bytes() == data
        except HearthError as error:
            message = str(error)
        assert message
        assert "\n" not in message

    return check
