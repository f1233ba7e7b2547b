"""JSON-RPC over the embedded chain: what is refused and how, and what other nodes answer too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from task_world import ETHER, MANUFACTURER, STRANGER, World, account

from app.ledger import rpc_call
from app.ledger.chain import Chain
from app.ledger.embedded import EmbeddedNode
from app.ledger.json_rpc import INVALID_PARAMS, REFUSED
from app.ledger.rpc import EmbeddedRpc

PAYMENT = {
    "type": 2,
    "chainId": 2020,
    "nonce": 0,
    "to": STRANGER.address,
    "value": 5,
    "gas": 21_000,
    "maxFeePerGas": 10**10,
    "maxPriorityFeePerGas": 10**9,
}


@pytest.fixture
def rpc(tmp_path: Path) -> Iterator[EmbeddedRpc]:
    node = EmbeddedNode.create(tmp_path / "chain.sqlite", alloc={MANUFACTURER.address: ETHER})
    yield EmbeddedRpc(node)
    node.close()


def ask(rpc: EmbeddedRpc, method: str, *params: Any) -> Any:
    answer = rpc.handle({"jsonrpc": "2.0", "id": 9, "method": method, "params": list(params)})
    assert answer["id"] == 9
    return answer.get("result", answer.get("error"))


def signed(**changes: Any) -> str:
    fields = {key: value for key, value in {**PAYMENT, **changes}.items() if value is not None}
    return "0x" + Account.sign_transaction(fields, MANUFACTURER.key).raw_transaction.hex()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chainId": 1}, "invalid chain id: 1 (allowed: 2020)"),
        ({"nonce": 1}, "nonce too high: next nonce 0, tx nonce 1"),
        ({"gas": 20_999}, "intrinsic gas too low: 20999 of 21000"),
        # EIP-7623: a thousand bytes that nobody executes have a floor price
        ({"data": "0x" + "ff" * 1000, "gas": 60_999}, "intrinsic gas too low: 60999 of 61000"),
        ({"gas": 100_000_001}, "exceeds block gas limit of 100000000"),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, "max fee per gas less than block base fee"),
        ({"value": ETHER}, "insufficient funds for gas * price + value"),
        (
            {"type": None, "maxFeePerGas": None, "maxPriorityFeePerGas": None, "gasPrice": 10**10},
            "transaction type not supported (allowed: EIP-1559)",
        ),
        (
            {"type": 1, "accessList": [], "maxFeePerGas": None, "maxPriorityFeePerGas": None, "gasPrice": 10**10},
            "transaction type not supported (allowed: EIP-1559)",
        ),
    ],
)
def test_refused_transactions(rpc: EmbeddedRpc, changes: dict[str, Any], message: str) -> None:
    assert ask(rpc, "eth_sendRawTransaction", signed(**changes)) == {"code": -32000, "message": message}
    assert ask(rpc, "eth_blockNumber") == "0x0"


def test_twice(rpc: EmbeddedRpc) -> None:
    raw = signed()
    ask(rpc, "eth_sendRawTransaction", raw)
    assert ask(rpc, "eth_sendRawTransaction", raw)["message"] == "already known"
    assert ask(rpc, "eth_sendRawTransaction", signed(value=6))["message"].startswith("nonce too low")
    assert ask(rpc, "eth_blockNumber") == "0x1"


@pytest.mark.parametrize("raw", ["0x", "0x02", "0x02c0", "nonsense", "0x04c0", "0xc0", signed()[:-2]])
def test_malformed_transactions(rpc: EmbeddedRpc, raw: str) -> None:
    assert ask(rpc, "eth_sendRawTransaction", raw)["code"] in (REFUSED, INVALID_PARAMS)
    assert ask(rpc, "eth_blockNumber") == "0x0"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_getBalance", ["0x12"], INVALID_PARAMS),
        ("eth_getBalance", [STRANGER.address, "nonsense"], INVALID_PARAMS),
        ("eth_getBalance", [STRANGER.address, ["0x1"]], INVALID_PARAMS),
        ("eth_getBalance", [None], INVALID_PARAMS),
        ("eth_getBalance", [STRANGER.address, "0x5"], REFUSED),
        ("eth_getBalance", [STRANGER.address, "0x" + "f" * 64], REFUSED),
        ("eth_getBalance", [STRANGER.address, {"blockHash": "0x" + "11" * 32}], REFUSED),
        ("eth_call", [], INVALID_PARAMS),
        ("eth_call", ["0x"], INVALID_PARAMS),
        ("eth_call", [{"data": "0xzz"}], INVALID_PARAMS),
        ("eth_estimateGas", [{"to": STRANGER.address, "value": "0x-1"}], INVALID_PARAMS),
        ("eth_chainId", [1, 2], INVALID_PARAMS),
        ("eth_getLogs", [{"blockHash": "0x" + "11" * 32}], REFUSED),
        ("eth_getLogs", [{"fromBlock": "0xnone"}], INVALID_PARAMS),
        ("eth_getTransactionReceipt", [5], INVALID_PARAMS),
        ("eth_getBlockByHash", ["0x12"], REFUSED),
    ],
)
def test_malformed_requests(rpc: EmbeddedRpc, method: str, params: list[Any], code: int) -> None:
    assert ask(rpc, method, *params)["code"] == code


def test_a_block_may_be_named_as_eip_1898_has_it(rpc: EmbeddedRpc) -> None:
    first = ask(rpc, "eth_getBlockByNumber", "0x0", False)["hash"]
    ask(rpc, "eth_sendRawTransaction", signed())
    for tag in ({"blockHash": first, "requireCanonical": True}, {"blockNumber": "0x0"}):
        assert ask(rpc, "eth_getBalance", STRANGER.address, tag) == "0x0"
    assert ask(rpc, "eth_getBlockReceipts", "latest")[0]["status"] == "0x1"


def test_a_call_cannot_keep_the_chain_busy(rpc: EmbeddedRpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """JUMPDEST PUSH0 JUMP goes round until the gas is used up: no caller may give more than the node's cap."""
    monkeypatch.setattr(rpc_call, "MOST_GAS", 100_000)
    for method in ("eth_call", "eth_estimateGas"):
        assert ask(rpc, method, {"data": "0x5b5f56", "gas": hex(2**63)})["message"].startswith("OutOfGas")


def test_unknown_method(rpc: EmbeddedRpc) -> None:
    assert ask(rpc, "eth_mine") == {"code": -32601, "message": "the method eth_mine does not exist"}


def test_what_does_not_exist_is_null(rpc: EmbeddedRpc) -> None:
    nothing = "0x" + "00" * 32
    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_getBlockByHash"):
        assert ask(rpc, method, nothing) is None
    assert ask(rpc, "eth_getBlockByNumber", "0x7", False) is None


def test_history_stays_readable(rpc: EmbeddedRpc) -> None:
    for nonce in range(3):
        ask(rpc, "eth_sendRawTransaction", signed(nonce=nonce))
    balances = [ask(rpc, "eth_getBalance", STRANGER.address, hex(n)) for n in range(4)]
    assert balances == ["0x0", "0x5", "0xa", "0xf"]
    assert ask(rpc, "eth_getTransactionCount", MANUFACTURER.address, "earliest") == "0x0"
    assert ask(rpc, "eth_getTransactionCount", MANUFACTURER.address, "pending") == "0x3"


def test_blocks_and_transactions_agree(rpc: EmbeddedRpc) -> None:
    sent = ask(rpc, "eth_sendRawTransaction", signed())
    block = ask(rpc, "eth_getBlockByNumber", "latest", False)
    full = ask(rpc, "eth_getBlockByHash", block["hash"], True)
    receipt = ask(rpc, "eth_getTransactionReceipt", sent)
    transaction = ask(rpc, "eth_getTransactionByHash", sent)
    assert block["transactions"] == [sent]
    assert full == {**block, "transactions": [transaction]}
    assert (receipt["status"], receipt["gasUsed"], receipt["blockHash"]) == ("0x1", "0x5208", block["hash"])
    assert transaction["from"] == receipt["from"] == MANUFACTURER.address
    assert block["parentHash"] == ask(rpc, "eth_getBlockByNumber", "0x0", False)["hash"]
    spent = int(receipt["effectiveGasPrice"], 16) * 21_000 + 5
    assert int(ask(rpc, "eth_getBalance", MANUFACTURER.address), 16) == ETHER - spent


def test_fee_history(rpc: EmbeddedRpc) -> None:
    for nonce in range(3):
        ask(rpc, "eth_sendRawTransaction", signed(nonce=nonce))
    history = ask(rpc, "eth_feeHistory", "0x2", "latest", [50])
    fees = [ask(rpc, "eth_getBlockByNumber", n, False)["baseFeePerGas"] for n in ("0x2", "0x3")]
    assert (history["oldestBlock"], history["baseFeePerGas"][:2]) == ("0x2", fees)
    assert len(history["baseFeePerGas"]) == 3
    assert int(history["baseFeePerGas"][2], 16) < int(fees[1], 16)  # nearly empty blocks


def test_calls_see_the_senders_true_balance_and_leave_no_trace(rpc: EmbeddedRpc) -> None:
    # init code: return the caller's balance, CALLER BALANCE PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
    call = {"from": MANUFACTURER.address, "data": "0x33315f5260205ff3"}
    assert int(ask(rpc, "eth_call", call), 16) == ETHER
    too_much = {"from": MANUFACTURER.address, "to": STRANGER.address, "value": hex(ETHER + 1)}
    assert ask(rpc, "eth_call", too_much)["code"] == -32000
    assert ask(rpc, "eth_call", {**too_much, "value": hex(ETHER)}) == "0x"
    assert ask(rpc, "eth_getBalance", STRANGER.address) == "0x0"


def test_estimates_suffice_and_are_close(any_chain: Chain) -> None:
    world = World(any_chain, n=40)
    w3 = any_chain.w3
    calls = [
        ({"from": MANUFACTURER.address, "to": account("new").address, "value": 1}, 21_000),
        # calldata priced by its floor (EIP-7623): a thousand bytes that nobody executes
        ({"from": MANUFACTURER.address, "to": account("new").address, "data": "0x" + "ff" * 1000}, 61_000),
    ]
    for call, gas in calls:
        assert gas <= w3.eth.estimate_gas(call) <= gas * 1.01
    world.seal(1)
    function = world.task._contract._function(
        "hashVerdict",
        (bytes(32), 1, bytes(32), bytes(32), bytes(32), 1, bytes(36), [], [], STRANGER.address, 0, bytes(32)),
    )
    estimate = function.estimate_gas({"from": STRANGER.address})
    function.call({"from": STRANGER.address, "gas": estimate})


def test_logs_by_address_topic_and_range(chain: Chain) -> None:
    one, two = World(chain), World(chain)
    for world in (one, two):
        world.seal(1)
    w3 = chain.w3
    event = one.task._contract._contract.events.RoundSealed()
    topic = w3.keccak(text="RoundSealed(uint256,bytes32,bytes32,uint64,bytes,uint256[])").to_0x_hex()
    head = w3.eth.block_number
    every = {"fromBlock": 0, "toBlock": "latest"}
    assert len(w3.eth.get_logs({**every, "topics": [topic]})) == 2
    assert len(w3.eth.get_logs({**every, "topics": [[topic, "0x" + "11" * 32]]})) == 2
    assert len(w3.eth.get_logs({**every, "topics": [None, "0x" + (1).to_bytes(32, "big").hex()]})) == 2
    assert w3.eth.get_logs({**every, "topics": [topic, "0x" + (2).to_bytes(32, "big").hex()]}) == []
    assert w3.eth.get_logs({**every, "topics": [topic, None, None]}) == []
    mine = w3.eth.get_logs({**every, "address": two.task.address, "topics": [topic]})
    assert [log["blockNumber"] for log in mine] == [head]
    both = w3.eth.get_logs({**every, "address": [one.task.address, two.task.address], "topics": [topic]})
    assert [log["blockNumber"] for log in both] == [head - 1, head]
    assert w3.eth.get_logs({"fromBlock": head + 1, "toBlock": head + 9}) == []
    block_hash = w3.eth.get_block(head - 1)["hash"].to_0x_hex()
    assert [log["address"] for log in w3.eth.get_logs({"blockHash": block_hash})] == [one.task.address]
    assert event.process_log(mine[0])["args"]["round"] == 1
