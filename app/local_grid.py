"""Flower's Grid inside one process: the same ServerApp and ClientApp code, without the start-up of a runtime.

Flower's simulation runs on Ray, which needs tens of seconds before its first round. `LocalGrid` hands each message to
the ClientApp in this process instead. It uses Flower's public `Grid` and `ClientApp`, and two internals that a message
cannot exist without outside a runtime: the task's identity and the message id.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from app.runtime import declare_simulation

_CLIENT_APP_RAISED = 2  # the error code that Flower's own simulation uses


class LocalGrid(Grid):
    """Runs the ClientApp for every message in threads of this process.

    Parameters
    ----------
    client_app : ClientApp
        The app that answers the messages.
    nodes : int
        How many nodes there are; node ``i + 1`` holds partition ``i``.
    workers : int, default 1
        How many messages are answered at once.
    on_reply : callable, optional
        Called with the numbers of answered and of sent messages after each answer.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        workers: int = 1,
        on_reply: Callable[[int, int], None] | None = None,
    ) -> None:
        declare_simulation()
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self._client_app = client_app
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="customer")
        self._on_reply = on_reply
        self._inbox: dict[str, Message] = {}
        self._run: Run | None = None
        self._contexts = {
            index + 1: Context(
                run_id=1,
                node_id=index + 1,
                node_config={"partition-id": index, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for index in range(nodes)
        }

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown()

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that was set."""
        if self._run is None:
            raise RuntimeError("no run was set on this grid")
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Create a message (Flower's older way; new code calls `Message` itself)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids, 1 to the number of nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have every message answered; return their ids."""
        sent = list(messages)
        for message in sent:
            _set_id(message)
        for done, (message, reply) in enumerate(zip(sent, self._pool.map(self._answer, sent), strict=True), start=1):
            self._inbox[message.metadata.message_id] = reply
            if self._on_reply is not None:
                self._on_reply(done, len(sent))
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._inbox.pop(message_id) for message_id in message_ids if message_id in self._inbox]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Have the messages answered and return the replies."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        own = Message(_copied(message.content), node, message.metadata.message_type, group_id=message.metadata.group_id)
        own.metadata.__dict__["_message_id"] = message.metadata.message_id
        try:
            reply = self._client_app(own, self._contexts[node])
        except Exception as error:  # noqa: BLE001 - whatever a client raises is its reply, as in Flower's runtimes
            reply = Message(Error(_CLIENT_APP_RAISED, f"{type(error).__name__}: {error}"), reply_to=own)
        _set_id(reply)
        return reply


def _copied(content: RecordDict) -> RecordDict:
    """Copy the containers, not the arrays: one client cannot change what the others receive."""
    copy = RecordDict()
    copy.update({name: ArrayRecord(dict(record)) for name, record in content.array_records.items()})
    copy.update({name: ConfigRecord(dict(record)) for name, record in content.config_records.items()})
    copy.update({name: MetricRecord(dict(record)) for name, record in content.metric_records.items()})
    return copy


def _set_id(message: Message) -> None:
    message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
