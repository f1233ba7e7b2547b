"""hearth: the Flower ClientApp. One message asks one customer, a phone and its MEC, for its update of one round."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from app.customer.simulation import simulated_customer
from app.protocol.policy import Policy
from app.runtime import in_deployment, pin_project_root, use_one_thread
from strategies.wire import Assignment, Reply

pin_project_root()

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in one round."""
    use_one_thread()
    task = Assignment.from_records(message.content)
    customer = simulated_customer(
        Policy.from_bytes(task.policy), task.customer, Path(task.home), deployment=in_deployment()
    )
    contribution = customer.participate(task.announcement, task.policy, task.frozen, task.model)
    return Message(Reply(contribution.update, contribution.receipt).to_records(), reply_to=message)
