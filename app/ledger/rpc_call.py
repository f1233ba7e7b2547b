"""Calls on an embedded chain that leave no trace: ``eth_call`` and ``eth_estimateGas``."""

from __future__ import annotations

from typing import Any

from eth.abc import BlockHeaderAPI, ComputationAPI
from eth.constants import GAS_TX
from eth.exceptions import Revert
from eth.vm.forks.prague.constants import STANDARD_TOKEN_COST, TOTAL_COST_FLOOR_PER_TOKEN
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address
from eth_utils import ValidationError, to_canonical_address

from app.ledger.embedded import EmbeddedNode
from app.ledger.json_rpc import REFUSED, REVERTED, Json, RpcError
from app.ledger.rpc_encoding import data, quantity

MOST_GAS = 30_000_000
"""Of one call, as other nodes have it: no caller keeps the chain busy for long."""
_NOBODY = "0x" + "00" * 20


def call(node: EmbeddedNode, header: BlockHeaderAPI, request: Json) -> str:
    """Return what a call answers on the state after a block."""
    return data(_succeeded(_execute(node, header, request, _gas_of(header, request))).output)


def estimate_gas(node: EmbeddedNode, header: BlockHeaderAPI, request: Json) -> str:
    """Return the least gas, to half a per cent, with which the call succeeds: what it uses, or by bisection."""

    def suffices(gas: int) -> bool:
        try:
            return not _execute(node, header, request, gas).is_error
        except ValidationError:  # not even the intrinsic gas
            return False

    enough = _gas_of(header, request)
    computation = _succeeded(_execute(node, header, request, enough))
    used = enough - computation.get_gas_remaining()
    too_little = used - computation.get_gas_refund() - 1
    # A 64th is kept from inner calls, so what was used may not be enough.
    for guess in (used, used * 65 // 64 + 2300):
        if guess < enough and suffices(guess):
            enough = guess
            break
    while enough - too_little > max(1, enough // 200):
        middle = (enough + too_little) // 2
        if suffices(middle):
            enough = middle
        else:
            too_little = middle
    return quantity(enough)


def least_gas(transaction: Any) -> int:
    """Return the gas below which no block may hold a transaction.

    py-evm 0.12 charges EIP-7623's price of calldata but does not ask for a gas limit that covers it, as the EIP does.
    """
    zeros = int(transaction.data.count(0))
    tokens: int = zeros + STANDARD_TOKEN_COST * (len(transaction.data) - zeros)
    return max(int(transaction.intrinsic_gas), int(GAS_TX + TOTAL_COST_FLOOR_PER_TOKEN * tokens))


def _gas_of(header: BlockHeaderAPI, request: Json) -> int:
    asked = int(request["gas"], 16) if request.get("gas") else MOST_GAS
    return min(asked, MOST_GAS, int(header.gas_limit))


def _execute(node: EmbeddedNode, header: BlockHeaderAPI, request: Json, gas: int) -> ComputationAPI:
    """Execute a call on a state that is thrown away; the sender pays nothing, whatever its balance."""
    state, sender = node.state_after(header), to_canonical_address(request.get("from") or _NOBODY)
    fee = state.execution_context.base_fee_per_gas or 0
    state.set_balance(sender, state.get_balance(sender) + gas * fee)
    unsigned = PragueTransactionBuilder.new_unsigned_dynamic_fee_transaction(
        chain_id=node.chain_id,
        nonce=state.get_nonce(sender),
        max_priority_fee_per_gas=0,
        max_fee_per_gas=fee,
        gas=gas,
        to=to_canonical_address(request["to"]) if request.get("to") else Address(b""),
        value=int(request.get("value") or "0x0", 16),
        data=bytes.fromhex((request.get("data") or request.get("input") or "0x")[2:]),
        access_list=(),
    )
    transaction = SpoofTransaction(unsigned, from_=sender)
    if gas < least_gas(transaction):
        raise ValidationError(f"intrinsic gas too low: {gas} of {least_gas(transaction)}")
    computation: ComputationAPI = state.apply_transaction(transaction)  # type: ignore[arg-type]
    return computation


def _succeeded(computation: ComputationAPI) -> ComputationAPI:
    if computation.is_error and isinstance(computation.error, Revert):
        raise RpcError(REVERTED, "execution reverted", data(computation.output))
    if computation.is_error:
        raise RpcError(REFUSED, f"{type(computation.error).__name__}: {computation.error}")
    return computation
