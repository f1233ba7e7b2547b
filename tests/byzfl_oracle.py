"""ByzFL without its benchmark: an independent implementation of attacks and aggregators."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def byzfl(name: str) -> ModuleType:
    """Return the module ``byzfl.<name>``.

    The package's own ``__init__`` imports torchvision for its benchmark; what computes needs numpy and torch alone.
    """
    if "byzfl" not in sys.modules:
        spec = importlib.util.find_spec("byzfl")
        assert spec is not None
        package = ModuleType("byzfl")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["byzfl"] = package
    return importlib.import_module(f"byzfl.{name}")
