"""What the pages and comparisons show of a run: read from its folder, finished or not, and believed in nothing.

The files may come from a stranger. They are bounded before they are parsed, checked for the types that are used, and a
page escapes all of their texts. Whether they are true is `hearth audit`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.protocol.digest import parse_json
from app.protocol.errors import ConfigError, ProtocolError
from app.protocol.manifest import Manifest
from app.protocol.receipt import Receipt
from app.run_directory import RunDirectory

_LARGEST = 2**26
"""Bytes of a file of the evidence that is read at most."""


@dataclass(frozen=True, slots=True)
class RoundView:
    """One finalised round.

    Attributes
    ----------
    number : int
        From 1.
    accuracy, loss : float
        Of the new model on the manufacturer's test records.
    leader : str
        Address of the miner that finalised it.
    candidates : int or None
        How many miners stood for election; None where the record is not there.
    dissent : tuple of str
        Miners that did not vote for the outcome.
    rejected : dict of str to str
        Customers judged L, each with the reason.
    absent : dict of str to str
        Customers that took no part, each with the reason.
    isolated : tuple of str
        Customers below the round's threshold.
    void : bool
        Whether too few valid updates were left.
    updates, aggregated : int
        How many took part, and how many went into the model.
    gas : int
        Of seal and finalisation.
    seconds : float
        Wall time of the whole round.
    reputation : dict of str to int
        Everybody's after the round.
    digests : dict of str to (str, str)
        sha-256 and CID of ``model``, ``manifest`` and ``record``.
    transactions : dict of str to str
        Hashes of the transactions that sealed and finalised it.
    """

    number: int
    accuracy: float
    loss: float
    leader: str
    candidates: int | None
    dissent: tuple[str, ...]
    rejected: dict[str, str]
    absent: dict[str, str]
    isolated: tuple[str, ...]
    void: bool
    updates: int
    aggregated: int
    gas: int
    seconds: float
    reputation: dict[str, int]
    digests: dict[str, tuple[str, str]]
    transactions: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, as far as it has come.

    Attributes
    ----------
    name : str
        Of its folder.
    config : dict
        ``config.yaml``.
    rounds : tuple of RoundView
        The finalised rounds, ascending.
    result : dict or None
        ``result.json``; None where the run has not ended, or not well.
    receipts : tuple of Receipt
        Every customer's last one, sorted by address.
    picture : bytes or None
        What an adversary drew from releases (PNG), where the run was probed.
    """

    name: str
    config: dict[str, Any]
    rounds: tuple[RoundView, ...]
    result: dict[str, Any] | None
    receipts: tuple[Receipt, ...]
    picture: bytes | None

    @property
    def planned(self) -> int:
        """How many rounds the run is to have."""
        planned = self.config.get("rounds")
        return planned if type(planned) is int else len(self.rounds)

    @property
    def before(self) -> float | None:
        """Accuracy of the public set alone; None until the run has ended."""
        curve = (self.result or {}).get("accuracy_by_round") or [None]
        return curve[0] if isinstance(curve[0], float) else None

    @property
    def accuracy(self) -> float | None:
        """Accuracy after the last round; None before the first."""
        return self.rounds[-1].accuracy if self.rounds else self.before


def read_run(path: Path | str) -> RunView:
    """Read a run's folder.

    Raises
    ------
    ConfigError
        If it is no run's folder, or one of its files cannot be read; the file is named.
    """
    directory = RunDirectory.at(path)
    if not directory.config_path.is_file():
        raise ConfigError("run directory", f"{directory.path} has no config.yaml", "the folder of a run")
    config = _config(directory.config_path)
    rounds = tuple(
        _round(directory, line, number) for number, line in enumerate(_lines(directory.metrics_path), start=1)
    )
    result = _json(_read(directory.result_path), directory.result_path) if directory.result_path.exists() else None
    picture = directory.reconstructions_path
    return RunView(
        name=directory.path.name,
        config=config,
        rounds=rounds,
        result=result,
        receipts=_receipts(directory, len(rounds)),
        picture=_png(picture) if picture.exists() else None,
    )


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _config(path: Path) -> dict[str, Any]:
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
        """YAML without aliases, by which a short file can stand for a huge one."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it has an alias")
            return super().compose_node(parent, index)

    try:
        config = yaml.load(_read(path), Plain)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(path, "is no YAML of ours") from error
    if not isinstance(config, dict):
        raise _broken(path, "is no configuration")
    return _texts(config)


def _texts(value: dict[Any, Any]) -> dict[str, Any]:
    """Return a mapping with text keys, all the way down: YAML's may be anything."""
    return {str(key): _texts(part) if isinstance(part, dict) else part for key, part in value.items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; one that a killed process has left unfinished is left out."""
    if not path.exists():
        return []
    data = _read(path)
    whole = data[: data.rfind(b"\n") + 1]
    return [_json(line, path) for line in whole.splitlines()]


def _round(directory: RunDirectory, metrics: dict[str, Any], number: int) -> RoundView:
    record = directory.round_path(number) / "record.json"
    candidates = _candidates(record) if record.exists() else None
    try:
        view = RoundView(
            number=_int(metrics["round"]),
            accuracy=float(metrics["accuracy"]),
            loss=float(metrics["loss"]),
            leader=_text(metrics["leader"]),
            candidates=candidates,
            dissent=tuple(map(_text, metrics["dissent"])),
            rejected=_reasons(metrics["rejected"]),
            absent=_reasons(metrics["absent"]),
            isolated=tuple(map(_text, metrics["isolated"])),
            void=bool(metrics["void"]),
            updates=len(metrics["participants"]),
            aggregated=len(metrics["aggregated"]),
            gas=_int(metrics["gas_seal"]) + _int(metrics["gas_finalise"]),
            seconds=float(metrics["seconds"]),
            reputation={_text(who): _int(gamma) for who, gamma in metrics["reputation"].items()},
            digests={
                name: (_text(metrics[name]["sha256"]), _text(metrics[name]["cid"]))
                for name in ("model", "manifest", "record")
            },
            transactions={"sealed by": _text(metrics["tx_seal"]), "finalised by": _text(metrics["tx_finalise"])},
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken(directory.metrics_path, f"line {number} is not a round's ({error})") from error
    if view.number != number:
        raise _broken(directory.metrics_path, f"line {number} is that of round {view.number}")
    return view


def _candidates(path: Path) -> int:
    try:
        return len(_json(_read(path), path)["election"]["candidates"])
    except (LookupError, TypeError) as error:
        raise _broken(path, "is no round record") from error


def _receipts(directory: RunDirectory, rounds: int) -> tuple[Receipt, ...]:
    """Return every customer's last receipt; the manifests say who signed, `hearth audit` whether that is true."""
    last: dict[str, Receipt] = {}
    for number in range(1, rounds + 1):
        path = directory.round_path(number) / "manifest.json"
        if not path.exists():
            continue
        try:
            last |= {signed.customer: signed.receipt for signed in Manifest.from_bytes(_read(path)).receipts}
        except ProtocolError as error:
            raise _broken(path, f"is damaged: {error}") from error
    return tuple(last[who] for who in sorted(last))


def _reasons(value: Any) -> dict[str, str]:
    return {_text(who): _text(why) for who, why in value.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _png(path: Path) -> bytes:
    data = _read(path)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise _broken(path, "is no PNG picture")
    return data


def _json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return parse_json(data, path.name)
    except ProtocolError as error:
        raise _broken(path, f"is damaged: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise _broken(path, f"is larger than {_LARGEST} bytes")
    return data


def _broken(path: Path, problem: str) -> ConfigError:
    return ConfigError("run directory", f"{path} {problem}", "the folder of a run")
