"""What a single value of the configuration may be, checked where it is read."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.protocol.errors import ConfigError


def in_range(key: str, value: int | None, low: int, high: int) -> None:
    """Raise `ConfigError` unless the value of ``key`` is None or in ``low..high``."""
    if value is not None and not low <= value <= high:
        raise ConfigError(key, f"{value} is out of range", f"{low}..{high}")


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless the value of ``key`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(key, f"'{value}' is not known", choices)


def no_password(key: str, url: str | None) -> None:
    """Raise `ConfigError` if an address holds a user or a password."""
    if url is not None and "@" in url:  # the address itself is not shown either
        problem = "holds a user or a password: a run would keep it in its config.yaml and show it in its messages"
        raise ConfigError(key, problem, "an address without user and password; no others are supported")


def check_url(key: str, url: str | None, schemes: tuple[str, ...], wanted: bool) -> None:
    """Raise `ConfigError` unless ``url`` is an address of one of the ``schemes``, and given exactly if ``wanted``."""
    section = key.partition(".")[0]
    allowed = f"an address that starts with {', '.join(scheme + '://' for scheme in schemes)}"
    if not wanted and url is not None:
        raise ConfigError(key, f"is not used by {section}=embedded", f"null, or another {section}")
    if wanted and not url:
        raise ConfigError(key, "must be given", allowed)
    if url is not None:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in schemes and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(key, f"'{url}' is not an address", allowed)
