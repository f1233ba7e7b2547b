"""Whether a node's EVM can run our contracts: asked before anything is sent to it."""

from __future__ import annotations

from hexbytes import HexBytes
from web3.exceptions import Web3Exception

from app.ledger.chain import Chain
from app.ledger.faults import words_of
from app.protocol.errors import LedgerError

# PUSH0 PUSH0 PUSH0 MCOPY PUSH0 PUSH0 RETURN as the code of a new contract: PUSH0 came with Shanghai, MCOPY with Cancun.
_PROBE = HexBytes("0x5f5f5f5e5f5ff3")


def require_evm(chain: Chain) -> None:
    """Raise `LedgerError` unless a node has EIP-1559 fees and the instructions that our compiler uses."""
    with chain.guard("eth_getBlockByNumber"):
        newest = chain.w3.eth.get_block("latest")
    if newest.get("baseFeePerGas") is None:
        raise LedgerError(f"{chain.where}: the chain has no base fee (allowed: chains with EIP-1559)")
    with chain.guard("eth_call"):
        try:
            chain.w3.eth.call({"data": _PROBE})
        except Web3Exception as error:
            problem = f"the node's EVM cannot run our contracts ({words_of(error)})"
            raise LedgerError(f"{chain.where}: {problem} (allowed: Cancun or newer)") from error
