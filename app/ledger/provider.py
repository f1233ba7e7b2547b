"""web3's way to an embedded chain in the same process."""

from __future__ import annotations

import json
from typing import Any

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from app.ledger.embedded import EmbeddedNode
from app.ledger.rpc import EmbeddedRpc


class EmbeddedProvider(JSONBaseProvider):
    """Passes every request through JSON, as it would go to another process: the two behave alike."""

    def __init__(self, node: EmbeddedNode) -> None:
        super().__init__()
        self._rpc = EmbeddedRpc(node)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer a request of web3."""
        request = json.loads(self.encode_rpc_request(method, params))
        return self.decode_rpc_response(json.dumps(self._rpc.handle(request)).encode())

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Return whether there is a chain; there is."""
        return True
