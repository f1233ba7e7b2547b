"""Other tools that keep track of runs, through three calls: a run begins, a round is over, the run has ended.

What a tool does with them is its own affair. One that fails is told no more, and costs the run nothing: the evidence is
in the run directory.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.checks import no_password, one_of
from app.protocol.errors import ConfigError

_LOG = logging.getLogger("hearth.tracker")
_LONGEST = 500  # characters that MLflow takes for a parameter's value


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Which tool is told of a run, where it keeps things, and what the run belongs to there; see conf/tracker."""

    name: str
    place: str | None
    group: str | None

    def __post_init__(self) -> None:
        one_of("tracker.name", self.name, ("none", *TRACKERS))
        no_password("tracker.place", self.place)


class Tracker(Protocol):
    """A tool that is told of a run."""

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        """Take down a run's name and its whole configuration."""

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take down what a round came to; round 0 is the model before the first."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Take down how the run ended."""


class Untold:
    """Tells nobody."""

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Do nothing."""


class TensorBoard:
    """Event files for TensorBoard, written by PyTorch's own writer.

    Parameters
    ----------
    folder : Path
        Where.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        """Write the configuration as text."""
        text = "\n".join(f"    {key}: {value}" for key, value in flat(config).items())
        self._writer.add_text("config", text)

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics as scalars."""
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, number)
        self._writer.flush()

    def end(self, result: Mapping[str, Any]) -> None:
        """Close the file."""
        self._writer.close()


class MlFlow:
    """A run of MLflow.

    Parameters
    ----------
    uri : str or None
        Of the tracking server or store; None takes the environment's.
    experiment : str
        Its name there; made where there is none.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client, self._experiment, self._run = MlflowClient(tracking_uri=uri), experiment, ""

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        """Make a run with the configuration as parameters."""
        found = self._client.get_experiment_by_name(self._experiment)
        belongs_to = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._run = self._client.create_run(belongs_to, run_name=name).info.run_id
        for key, value in flat(config).items():
            self._client.log_param(self._run, key, str(value)[:_LONGEST])

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics at the round as step."""
        for key, value in metrics.items():
            self._client.log_metric(self._run, key, value, step=number)

    def end(self, result: Mapping[str, Any]) -> None:
        """Tag the run with what identifies it on chain, and end it."""
        for key in ("model_digest", "policy_digest", "contract", "place"):
            self._client.set_tag(self._run, key, str(result.get(key)))
        self._client.set_terminated(self._run)


class _Guarded:
    """A tracker whose failures are logged once and cost nothing."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name, self._failed = tracker, name, False

    def begin(self, name: str, config: Mapping[str, Any]) -> None:
        self._tell(lambda: self._tracker.begin(name, config))

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        self._tell(lambda: self._tracker.round(number, metrics))

    def end(self, result: Mapping[str, Any]) -> None:
        self._tell(lambda: self._tracker.end(result))

    def _tell(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a foreign tool, of which the run must not depend
            self._failed = True
            _LOG.warning("tracker=%s is told no more: %s: %s", self._name, type(error).__name__, error)


def open_tracker(config: TrackerConfig, folder: Path) -> Tracker:
    """Return the tool that a configuration names, ready to be told of the run in ``folder``.

    Raises
    ------
    ConfigError
        If it cannot write where it should.
    """
    if config.name == "none":
        return Untold()
    try:
        return _Guarded(TRACKERS[config.name](config, folder), config.name)
    except OSError as error:
        raise ConfigError("tracker.place", f"{config.place} cannot be used: {error}") from error


def require_tracker(config: TrackerConfig) -> None:
    """Raise `ConfigError` if the tool that a configuration names is not installed: before anything has begun."""
    if config.name != "none" and importlib.util.find_spec(config.name) is None:
        raise ConfigError("tracker", f"{config.name} is not installed", f"pip install 'hearth[{config.name}]'")


def _tensorboard(config: TrackerConfig, folder: Path) -> Tracker:
    return TensorBoard(Path(config.place).expanduser() if config.place else folder / "tensorboard")


def _mlflow(config: TrackerConfig, folder: Path) -> Tracker:
    # A server that is away is given up after seconds; MLflow itself would keep the run waiting for minutes.
    settings = {"DISABLE_TELEMETRY": "true", "HTTP_REQUEST_MAX_RETRIES": "2", "HTTP_REQUEST_TIMEOUT": "10"}
    for key, value in settings.items():
        os.environ.setdefault(f"MLFLOW_{key}", value)
    return MlFlow(config.place, config.group or "hearth")


TRACKERS: dict[str, Callable[[TrackerConfig, Path], Tracker]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}


def flat(plain: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a configuration's leaves by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        name = f"{above}.{key}" if above else key
        found |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found
