"""A round's replies: which of them count, and why the others do not.

Whatever arrives is somebody else's word. One well-signed reply a customer is kept; anything else costs its sender the
round, and nobody else anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Message

from app.one_line import one_line
from app.protocol.errors import ProtocolError
from app.protocol.policy import Policy
from app.protocol.presence import Presence
from app.protocol.signing import Domain
from app.protocol.tensors import blob_limit
from app.store.base import reference
from strategies.wire import Reply

_LONGEST = 200
"""Characters of a reason, as it goes into reports."""


@dataclass(slots=True)
class Collected:
    """A round's replies after they were checked.

    Attributes
    ----------
    replies : dict of str to Reply
        Those that count, by customer.
    refused : dict of str to str
        Why the others did not send one.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class ReplyDesk:
    """Checks the replies of one task.

    Attributes
    ----------
    customer_of : dict of int to str
        Which customer answered last through a node of its own.

    Parameters
    ----------
    policy : Policy
        The task's rules.
    domain : Domain
        What its customers' signatures are for.
    customers : sequence of str
        Their addresses, by index.
    own_nodes : bool
        Whether each customer has a Flower node of its own, which it must name (`app.protocol.presence`).
    """

    def __init__(self, policy: Policy, domain: Domain, customers: Sequence[str], *, own_nodes: bool) -> None:
        self._task, self._domain, self._customers, self._own_nodes = policy.digest, domain, customers, own_nodes
        self._limit = blob_limit(policy.layout, policy.update_dtype)
        self._known = frozenset(customers)
        self.customer_of: dict[int, str] = {}

    def collect(self, round_number: int, model: bytes, messages: Iterable[Message]) -> Collected:
        """Sort a round's messages.

        Parameters
        ----------
        round_number : int
            The round, from 1.
        model : bytes
            SHA-256 of the model that it starts from (32 bytes).
        messages : iterable of Message
            Whatever arrived, in any order.
        """
        collected = Collected()
        for message in messages:
            try:
                reply = self._checked(message, round_number, model)
            except ProtocolError as error:
                collected.refused.setdefault(self._sender(message), one_line(str(error), _LONGEST))
                continue
            customer = reply.receipt.receipt.customer
            known = collected.replies.get(customer)
            # Two receipts of one customer: the order of arrival must not decide, so the lower digest counts.
            if known is None or reply.receipt.receipt.update < known.receipt.receipt.update:
                collected.replies[customer] = reply
        for customer in self._customers:
            if customer in collected.replies:
                collected.refused.pop(customer, None)
            else:
                collected.refused.setdefault(customer, "no reply")
        return collected

    def _sender(self, message: Message) -> str:
        """Return whom a message was meant for: a label for reports, never a proof of who answered."""
        _, index, node = [*message.metadata.group_id.split("/"), "", ""][:3]
        if index.isdecimal() and int(index) < len(self._customers):
            return self._customers[int(index)]
        asked = int(node) if node.isdecimal() else message.metadata.src_node_id
        return self.customer_of.get(asked, f"node {asked}")

    def _checked(self, message: Message, round_number: int, model: bytes) -> Reply:
        """Return the reply in a message if its receipt is for this round and the named customer signed it."""
        if message.has_error():
            raise ProtocolError(f"the client failed: {message.error.reason}")
        reply = Reply.from_records(message.content, self._limit)
        receipt = reply.receipt.receipt
        if receipt.customer not in self._known:
            raise ProtocolError(f"{receipt.customer} is not a customer of this task")
        if reply.receipt.signer(self._domain) != receipt.customer:
            raise ProtocolError("the receipt is not signed by the customer it names")
        if (receipt.task, receipt.round, receipt.model) != (self._task, round_number, model):
            raise ProtocolError("the receipt is for another task, round or model")
        if reference(reply.update) != receipt.blob:
            raise ProtocolError("the update is not the one that the receipt binds")
        if self._own_nodes:
            self._check_presence(reply, round_number, message.metadata.src_node_id)
        return reply

    def _check_presence(self, reply: Reply, round_number: int, node: int) -> None:
        """Raise `ProtocolError` unless the customer says itself that it answers through this node."""
        customer = reply.receipt.receipt.customer
        if Presence(self._task, round_number, node).signer(reply.presence, self._domain) != customer:
            raise ProtocolError(f"node {node} passes on an update of {customer}, who does not say that it uses it")
        self.customer_of[node] = customer
