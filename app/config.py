"""The one `compose` over conf/ that every entry uses, and the forms a configuration travels in."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from app.consistency import unused, validate
from app.overrides import CONF, check, without_password
from app.protocol.errors import ConfigError
from app.settings import KEYS, Config
from app.typed import build

_NO_OVERRIDES = ("overrides", "resume")
"""Keys of Flower's run-config that are not conf's: free text, and a run to go on with (`app.server_app`)."""


def compose(overrides: Sequence[str] = ()) -> Config:
    """Lay ``overrides`` over conf/ and return the checked configuration.

    Parameters
    ----------
    overrides : sequence of str
        In Hydra's grammar: ``data=digits`` chooses from a group, ``privacy.epsilon=4`` sets a value.

    Raises
    ------
    ConfigError
        Names the first key that is unknown, of the wrong type, or does not fit the others, and what is allowed.
    """
    return compose_all([overrides])[0]


def compose_all(jobs: Sequence[Sequence[str]]) -> list[Config]:
    """Compose the jobs of a sweep, see `compose`.

    A key that does nothing is refused as in `compose`, but here it is enough that one of the jobs uses it:
    ``privacy=record,none privacy.epsilon=4`` compares one with the other.
    """
    checked = [check(job, KEYS) for job in jobs]
    configs = [_compose(job) for job in checked]
    given = {text.partition("=")[0] for job in checked for text in job}
    without_use = [dict(unused(config, given)) for config in configs]
    for key, error in without_use[0].items():
        if all(key in other for other in without_use):
            raise error
    return configs


def _compose(checked: list[str]) -> Config:
    plain = _hydra(checked) | {"experiment": _experiment(checked)}
    _locate(plain["data"])
    return from_plain(plain)


def sweep_parameters(overrides: Sequence[str]) -> dict[str, str]:
    """Return what ``hydra.sweeper.params`` of the chosen experiment sweeps over: keys and their values' text."""
    experiment = _experiment(check(overrides, KEYS))
    if experiment is None:
        return {}
    parameters = _hydra([f"experiment={experiment}"], of_hydra=True)["hydra"]["sweeper"]["params"]
    return {str(key): str(value) for key, value in (parameters or {}).items()}


def to_plain(config: Config) -> dict[str, Any]:
    """Return ``config`` as what JSON and YAML hold; `from_plain` reads it back to an equal one."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def from_plain(plain: Mapping[str, Any]) -> Config:
    """Read what `to_plain` wrote; raise `ConfigError` on anything that is not a whole, possible configuration."""
    return validate(build(Config, plain))


def from_run_config(run_config: Mapping[str, bool | int | float | str]) -> Config:
    """Compose from Flower's run-config: its flat keys and the free text of its key ``overrides``.

    The flat keys mirror conf/ in pyproject.toml. Only those that ``flwr run -c`` changed become overrides, so that an
    experiment's own values stay; empty text means conf's default.

    Parameters
    ----------
    run_config : mapping
        What Flower hands to the apps. ``overrides`` holds one override a line, or several separated by spaces, quoted
        as in a shell.

    Raises
    ------
    ConfigError
        As `compose`.
    """
    defaults = run_config_defaults()
    flat = [
        f"{key}={_literal(value)}"
        for key, value in run_config.items()
        if key not in _NO_OVERRIDES
        and value != ""
        and not (value == defaults.get(key) and type(value) is type(defaults[key]))
    ]
    return compose(flat + _split(str(run_config.get("overrides", ""))))


def run_config_defaults() -> dict[str, bool | int | float | str]:
    """Return ``[tool.flwr.app.config]`` of the pyproject.toml beside conf/; a wheel has none."""
    path = CONF.parent / "pyproject.toml"
    if not path.is_file():
        return {}
    table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
    return dict(table)


def _hydra(overrides: list[str], of_hydra: bool = False) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            composed = hydra_compose("config", overrides, return_hydra_config=of_hydra)
        if of_hydra:
            return {"hydra": {"sweeper": OmegaConf.to_container(composed.hydra.sweeper)}}
        return cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None) or " ".join(overrides) or "conf/"
        problem = " ".join(str(error).split("\n")[0].split())
        raise ConfigError(without_password(str(key)), without_password(problem)) from None


def _experiment(checked: list[str]) -> str | None:
    name = next((text.partition("=")[2] for text in checked if text.startswith("experiment=")), "null")
    return None if name == "null" else name


def _locate(data: Any) -> None:
    """Make a path that is there absolute, because engines work from other folders; refuse a folder that is not."""
    path = data.get("path") if isinstance(data, dict) else None
    if not isinstance(path, str) or not path:
        return
    place = Path(path).expanduser()
    if place.exists():
        data["path"] = str(place.resolve())
    elif data.get("name") == "folder":
        raise ConfigError("data.path", f"there is no {place.absolute()}", "a folder or file that exists")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _literal(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Text is always quoted: bare 123, true or null would change its type. Choices of groups are never text to Hydra.
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else repr(value)


def _split(text: str) -> list[str]:
    if "\n" in text:
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError("overrides", f"cannot read {text!r}: {error}", "key=value key=value ...") from error
