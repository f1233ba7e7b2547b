"""The in-process Grid behaves as Flower's own, as far as a strategy can see."""

from __future__ import annotations

import threading

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from app.local_grid import LocalGrid


def doubling_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            raise ValueError("out of order")
        message.content["arrays"]["x"] = Array(message.content["arrays"]["x"].numpy() * 2)
        calls = context.state.metric_records.setdefault("calls", MetricRecord({"n": 0}))
        calls["n"] = int(calls["n"]) + 1  # type: ignore[arg-type]
        answer = RecordDict({"arrays": message.content["arrays"], "m": MetricRecord({"calls": calls["n"]})})
        return Message(answer, reply_to=message)

    return app


def messages(content: RecordDict, nodes: list[int]) -> list[Message]:
    return [Message(content, node, MessageType.TRAIN, group_id=f"1/{node - 1}") for node in nodes]


def test_replies_carry_their_group_and_a_client_that_raises_answers_with_an_error() -> None:
    grid = LocalGrid(doubling_app(), nodes=3, workers=2)
    content = RecordDict({"arrays": ArrayRecord({"x": Array(np.arange(3))}), "c": ConfigRecord({"a": 1})})

    replies = {r.metadata.group_id: r for r in grid.send_and_receive(messages(content, [1, 2, 3]))}
    grid.close()

    assert set(replies) == {"1/0", "1/1", "1/2"}
    assert replies["1/1"].has_error()
    assert "out of order" in replies["1/1"].error.reason
    assert replies["1/0"].content["arrays"]["x"].numpy().tolist() == [0, 2, 4]


def test_one_client_cannot_change_what_the_next_receives() -> None:
    grid = LocalGrid(doubling_app(), nodes=3, workers=1)
    content = RecordDict({"arrays": ArrayRecord({"x": Array(np.arange(3))})})

    replies = list(grid.send_and_receive(messages(content, [1, 3])))
    grid.close()

    assert [r.content["arrays"]["x"].numpy().tolist() for r in replies] == [[0, 2, 4]] * 2
    assert content["arrays"]["x"].numpy().tolist() == [0, 1, 2]


def test_a_node_keeps_its_state_between_messages() -> None:
    grid = LocalGrid(doubling_app(), nodes=1)
    content = RecordDict({"arrays": ArrayRecord({"x": Array(np.arange(3))})})

    calls = [next(iter(grid.send_and_receive(messages(content, [1])))).content["m"]["calls"] for _ in range(3)]
    grid.close()

    assert calls == [1, 2, 3]


def test_progress_is_told_in_order_from_the_calling_thread() -> None:
    told: list[tuple[int, int, bool]] = []
    main = threading.current_thread()
    grid = LocalGrid(doubling_app(), 4, 2, lambda done, of: told.append((done, of, threading.current_thread() is main)))

    list(grid.send_and_receive(messages(RecordDict({"arrays": ArrayRecord({"x": Array(np.ones(1))})}), [1, 2, 3, 4])))
    grid.close()

    assert told == [(1, 4, True), (2, 4, True), (3, 4, True), (4, 4, True)]
