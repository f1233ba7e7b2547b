"""JSON-RPC 2.0 around any object that answers one request: bodies, batches, notifications and their errors.

https://www.jsonrpc.org/specification. What comes in is anybody's: sizes and depth are bounded before it is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from app.protocol.digest import parse_value
from app.protocol.errors import ProtocolError

Json = dict[str, Any]
MAX_BATCH = 100
"""Requests in one body; more are refused as a whole."""

PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
REVERTED, REFUSED, TOO_MUCH = 3, -32000, -32005
"""Ethereum's own: a call that reverted (with its data), a refusal, an answer that would be too large."""


class RpcError(Exception):
    """An error that is answered, not raised: JSON-RPC code, message and data."""

    def __init__(self, code: int, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def to_json(self) -> Json:
        """Return the error object of an answer."""
        found: Json = {"code": self.code, "message": self.message}
        return found if self.details is None else {**found, "data": self.details}


def respond(body: bytes, handle: Callable[[Json], Json]) -> bytes:
    """Answer a request's body, one request or a batch.

    Parameters
    ----------
    body : bytes
        JSON in UTF-8, of a size that was checked.
    handle : callable
        Answers one well-formed request.

    Returns
    -------
    bytes
        JSON, or nothing where all requests are notifications.
    """
    try:
        value = parse_value(body, "a request")
    except ProtocolError as error:
        return _dump(_failure(None, RpcError(PARSE_ERROR, str(error))))
    if not isinstance(value, list):
        answer = _respond_to_one(value, handle)
        return b"" if answer is None else _dump(answer)
    if not 0 < len(value) <= MAX_BATCH:
        problem = f"a batch of {len(value)} requests (allowed: 1 to {MAX_BATCH})"
        return _dump(_failure(None, RpcError(INVALID_REQUEST, problem)))
    answers = [answer for request in value if (answer := _respond_to_one(request, handle)) is not None]
    return _dump(answers) if answers else b""


def _respond_to_one(request: Any, handle: Callable[[Json], Json]) -> Json | None:
    """Return the answer to one request, or None to a notification, which is carried out all the same."""
    problem = _problem_of(request)
    if problem is not None:
        identity = request.get("id") if isinstance(request, dict) else None
        known = identity if isinstance(identity, str | int) else None
        return _failure(known, RpcError(INVALID_REQUEST, problem))
    answer = handle(request)
    return answer if "id" in request else None


def _problem_of(request: Any) -> str | None:
    if not isinstance(request, dict):
        return "a request must be an object"
    if request.get("jsonrpc") != "2.0":
        return 'a request must have "jsonrpc": "2.0"'
    if not isinstance(request.get("method"), str):
        return "a request must name its method"
    if not isinstance(request.get("params", []), list):
        return "params must be a list"
    if not isinstance(request.get("id"), str | int | float | None):
        return "id must be text, a number or null"
    return None


def _failure(identity: str | int | None, error: RpcError) -> Json:
    return {"jsonrpc": "2.0", "id": identity, "error": error.to_json()}


def _dump(value: Json | list[Json]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
