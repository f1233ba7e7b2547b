"""``hearth mec``: a MEC server as a process of its own."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from app.command_line import dispatch, service_parser

_ABOUT = """\
A MEC server keeps the features that phones release, and trains heads on them. It serves the customers it is told of and
nobody else: each request is signed with the customer's key. Every key of conf/mec.yaml can be given, in a file or here:

  hearth mec serve customers=members.jsonl listen.address=127.0.0.1:7800

A phone reaches it by its Flower node's configuration: --node-config 'mec="127.0.0.1:7800" ...'."""


def main(arguments: Sequence[str]) -> int:
    """Run ``hearth mec``; return its exit code.

    Raises
    ------
    HearthError
        If the configuration is wrong.
    """
    return dispatch(arguments, _parse, {"serve": _serve})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    return service_parser("mec", "serve", "serve phones until it is stopped", _ABOUT).parse_args(arguments)


def _serve(options: argparse.Namespace) -> int:
    from app.launch import limit_threads

    limit_threads()
    from app.customer.cache import Cache
    from app.customer.cipher import Cipher
    from app.customer.mec_config import MecConfig
    from app.customer.mec_messages import SERVICE
    from app.customer.mec_service import MecService, read_customers
    from app.customer.simulation import split_model
    from app.runtime import use_one_thread
    from app.service.config import compose_service
    from app.service.metrics import Metrics
    from app.service.process import log_to_stderr, state_folder, until_stopped
    from app.service.server import Server

    config = compose_service("mec", MecConfig, options.overrides, options.config)
    customers = read_customers(config.customers or "")
    folder = state_folder(config.cache.folder, "mec")
    cipher = Cipher.from_file(Path(config.cache.key_file).expanduser()) if config.cache.key_file else None
    log_to_stderr(config.log)
    use_one_thread()
    metrics, cache = Metrics("mec"), Cache(folder, config.cache.most_bytes, cipher)
    names = config.names or (config.listen.address,)
    service = MecService(customers, names, cache, split_model, metrics)
    server = Server(SERVICE, service.methods, config.listen, metrics)
    with until_stopped() as stopped:
        metrics.open(config.listen.monitor)
        server.start()
        words = "MEC server of %d customers answers on %s, releases in %s%s"
        encrypted = ", encrypted" if cipher else ""
        logging.getLogger("hearth.mec").info(words, len(customers), server.address, folder, encrypted)
        stopped.wait()
        server.stop(config.grace)
        metrics.close()
    return 0
