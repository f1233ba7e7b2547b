"""The run directory: where the evidence of one task lies, and how it gets there without anything being lost."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.durable import replace_file
from app.protocol.digest import parse_json
from app.protocol.errors import ConfigError, ProtocolError, StoreError

if TYPE_CHECKING:
    from app.settings import Config

_HERE = Path(os.path.abspath(__file__)).parent.parent
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]{0,99}")


def runs_home() -> Path:
    """Return the folder that runs go to, absolute, whether it exists or not.

    ``$HEARTH_RUNS`` where it is set, ``runs/`` of a checkout, and else the user's data directory: an installed package
    or an app bundle of Flower is no place to write to.
    """
    chosen = os.environ.get("HEARTH_RUNS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if (_HERE / "pyproject.toml").is_file() and (_HERE / ".git").exists():
        return _HERE / "runs"
    import platformdirs

    return Path(platformdirs.user_data_dir("hearth", appauthor=False)) / "runs"


def check_name(name: str, key: str = "name") -> None:
    """Raise `ConfigError` unless ``name`` is fit for a folder of its own on every system."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(key, f"'{name}' cannot name a run", "1 to 100 of A-Z a-z 0-9 _ . , = + -, no dot at the ends")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One run's folder.

    Attributes
    ----------
    path : Path
        The folder, absolute.
    """

    path: Path

    @classmethod
    def create(cls, config: Config, parent: Path | None = None, name: str | None = None) -> RunDirectory:
        """Make the folder of a new run; an existing one is never touched.

        Parameters
        ----------
        config : Config
            Names the run, with ``name`` or else by its data set, privacy, seed and the time.
        parent : Path, optional
            Where to make it; by default `runs_home`.
        name : str, optional
            Overrules the configuration's name: a sweep names its jobs.

        Raises
        ------
        ConfigError
            If the name is taken or unfit, or the folder cannot be made.
        """
        wanted = name or config.name
        parent = (parent or runs_home()).absolute()
        if wanted is not None:
            check_name(wanted)
            return cls(make_named_directory(parent, wanted))
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return cls(make_fresh_directory(parent, f"{config.data.name}-{config.privacy.name}-s{config.seed}-{stamp}"))

    @classmethod
    def at(cls, path: Path | str) -> RunDirectory:
        """Open an existing run directory; raise `ConfigError` if there is none at ``path``."""
        folder = Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError("run directory", f"{folder} is not a folder", "the folder of a run")
        return cls(folder)

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def result_path(self) -> Path:
        """What the run came to; it exists once the run has ended well."""
        return self.path / "result.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON line a round."""
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        """What the run's loggers said, and the traceback of what ended it."""
        return self.path / "run.log"

    @property
    def chain_path(self) -> Path:
        """The embedded chain's database."""
        return self.path / "chain.sqlite"

    @property
    def journal_path(self) -> Path:
        """The folder of the transactions' journals, one file for each sender."""
        return self.path / "journal"

    @property
    def blobs_path(self) -> Path:
        """The embedded store's folder."""
        return self.path / "blobs"

    @property
    def customers_path(self) -> Path:
        """The homes of the simulated phones and MECs."""
        return self.path / "customers"

    @property
    def reconstructions_path(self) -> Path:
        """What an adversary draws from releases, where the run was probed."""
        return self.path / "reconstructions.png"

    def round_path(self, number: int) -> Path:
        """Return the folder of round ``number`` (from 1)."""
        return self.path / "rounds" / f"{number:04d}"

    def write_config(self, config: Config) -> None:
        """Write ``config.yaml``, every key resolved; raise `StoreError` if the disk refuses."""
        write_atomically(self.config_path, to_yaml(config).encode())

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``, on the disk on return; raise `StoreError` if it refuses."""
        line = json.dumps(metrics, allow_nan=False) + "\n"
        try:
            with self.metrics_path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.metrics_path, error) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``; one that a dying process left unfinished is taken off the file.

        Raises
        ------
        ConfigError
            If a line is damaged.
        StoreError
            If the disk refuses.
        """
        if not self.metrics_path.exists():
            return []
        data = self.metrics_path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomically(self.metrics_path, whole)
        try:
            return [parse_json(line, self.metrics_path.name) for line in whole.splitlines()]
        except ProtocolError as error:
            raise ConfigError("run directory", f"{self.metrics_path} is damaged: {error}") from error

    def read_config(self) -> Config:
        """Read ``config.yaml``; raise `ConfigError` if there is none, or it is not one of this version."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        from app.config import from_plain

        if not self.config_path.is_file():
            raise ConfigError("run directory", f"{self.path} has no config.yaml", "the folder of a run")
        try:
            plain = OmegaConf.to_container(OmegaConf.create(self.config_path.read_text()))
        except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
            raise ConfigError("run directory", f"{self.config_path} cannot be read: {error}") from error
        if not isinstance(plain, dict):
            raise ConfigError("run directory", f"{self.config_path} is no configuration")
        return from_plain({str(key): value for key, value in plain.items()})

    def write_round(self, number: int, name: str, data: bytes) -> None:
        """Write the file ``name`` of round ``number``; raise `StoreError` if the disk refuses."""
        folder = self.round_path(number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        write_atomically(folder / name, data)

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, whole or not at all; raise `StoreError` if the disk refuses."""
        write_atomically(self.result_path, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())

    def read_result(self) -> dict[str, Any]:
        """Read ``result.json``; raise `ConfigError` if the run has none, or a damaged one."""
        try:
            result = json.loads(self.result_path.read_bytes())
        except FileNotFoundError:
            problem = f"{self.path} has no result.json: it is not a run, or one that has not ended well"
            raise ConfigError("run directory", problem, "the folder of a finished run") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError("run directory", f"{self.result_path} cannot be read: {error}") from error
        if not isinstance(result, dict):
            raise ConfigError("run directory", f"{self.result_path} does not hold a result")
        return result


def to_yaml(config: Config) -> str:
    """Return ``config`` as YAML, in the order of the schema."""
    from omegaconf import OmegaConf

    from app.config import to_plain

    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))


def make_directory(parent: Path, name: str) -> Path | None:
    """Make the folder ``parent/name`` and return it, or return None if something has that name already.

    Raises
    ------
    ConfigError
        If the system does not let us.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(parent, error) from error
    try:
        (parent / name).mkdir()
    except FileExistsError:
        return None
    except OSError as error:
        raise _refused(parent / name, error) from error
    return parent / name


def make_named_directory(parent: Path, name: str) -> Path:
    """Make the folder ``parent/name`` and return it; raise `ConfigError` if the name is taken."""
    path = make_directory(parent, name)
    if path is None:
        raise _taken(parent / name)
    return path


def refuse_taken(parent: Path, name: str) -> None:
    """Raise `ConfigError` if ``parent/name`` exists: said before the work begins, it saves the wait."""
    if (parent / name).exists():
        raise _taken(parent / name)


def make_fresh_directory(parent: Path, name: str) -> Path:
    """Make the folder ``parent/name``, or with ``-2``, ``-3``... appended where that exists; return it."""
    return next(path for candidate in _numbered(name) if (path := make_directory(parent, candidate)) is not None)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file such that a reader, or a power cut, sees the old content or the new and nothing between.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    try:
        replace_file(path, data, fsync=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _taken(path: Path) -> ConfigError:
    return ConfigError("name", f"{path} exists, and a run is never overwritten", "another name, or none")


def _refused(path: Path, error: OSError) -> ConfigError:
    key = "HEARTH_RUNS" if os.environ.get("HEARTH_RUNS") else "run directory"
    return ConfigError(key, f"{path} cannot be made: {error.strerror or error}", "a folder that can be written to")


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error.strerror or error}")
