"""Where a run's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall seconds by part.

    Attributes
    ----------
    seconds : dict of str to float
        Seconds by the name of the part.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count seconds that were counted to one part to another."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the ``with`` block, failed or not, to one part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
