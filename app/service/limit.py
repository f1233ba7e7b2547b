"""How often each caller may ask: a token bucket for each, so that one cannot take the service from the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

_MOST_CALLERS = 10_000


class RateLimit:
    """Lets each caller in ``per_minute`` times a minute, and as often at once after a quiet minute.

    Parameters
    ----------
    per_minute : int
        How often.
    clock : callable, optional
        Tells the seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._lock = float(per_minute), clock, Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def admits(self, caller: str) -> bool:
        """Count a request of ``caller``, and tell whether it is let in."""
        now = self._clock()
        with self._lock:
            left, since = self._left.pop(caller, (self._most, now))
            left = min(self._most, left + (now - since) * self._most / 60)
            admitted = left >= 1
            self._left[caller] = (left - admitted, now)
            while len(self._left) > _MOST_CALLERS:  # the one that has been quiet the longest is full again anyway
                del self._left[next(iter(self._left))]
        return admitted
