"""hearth: the Flower ClientApp. One message asks one customer, a phone and its MEC, for its update of one round."""

from __future__ import annotations

import logging
from logging import INFO
from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.logger import log

from app.customer.simulation import simulated_customer
from app.protocol.errors import StoreError
from app.protocol.policy import Policy
from app.protocol.presence import Presence
from app.runtime import in_simulation, pin_project_root, use_one_thread
from strategies.wire import Assignment, Reply

pin_project_root()

app = ClientApp()
_log = logging.getLogger("hearth.customer")
_FAILED = 1000
"""Error code of a reply without an update; Flower's own codes are smaller."""


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in one round.

    What goes wrong stays with the customer: the text of an error may quote its data, so the manufacturer learns the
    kind of the error alone. In a simulation it also learns what the disk refused: it is its own.
    """
    try:
        return Message(_contribution(message, context).to_records(), reply_to=message)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text must not leave
        _log.exception("this customer sits the round out")
        told = str(error) if in_simulation() and isinstance(error, StoreError) else type(error).__name__
        return Message(Error(_FAILED, told), reply_to=message)


def _contribution(message: Message, context: Context) -> Reply:
    use_one_thread()
    task = Assignment.from_records(message.content)
    return _simulated(task) if in_simulation() else _deployed(task, context)


def _simulated(task: Assignment) -> Reply:
    """Play the customer that the assignment names."""
    data = task.data_path or None
    customer = simulated_customer(Policy.from_bytes(task.policy), task.customer, Path(task.home), data_path=data)
    contribution = customer.participate(task.announcement, task.policy, task.frozen, task.model)
    return Reply(contribution.update, contribution.receipt)


def _deployed(task: Assignment, context: Context) -> Reply:
    """Be the customer of this machine: which one that is, no message says."""
    from app.customer.deployed import deployed_customer
    from app.customer.site import Site
    from app.ledger.keystore import load
    from app.ledger.password import password

    site = Site.of(context.node_config)
    account = load(site.key, password(None))
    customer = deployed_customer(Policy.from_bytes(task.policy), site, account)
    told = task.announcement
    contribution = customer.participate(told, task.policy, task.frozen, task.model)
    spent = contribution.receipt.receipt
    line = "round %d: trained on %d records, receipt signed; %d releases, epsilon %.6g spent"
    log(INFO, line, told.round, contribution.examples, spent.releases, spent.epsilonMicros / 1e6)
    presence = Presence(told.task, told.round, context.node_id).sign(account, told.domain)
    return Reply(contribution.update, contribution.receipt, presence)
