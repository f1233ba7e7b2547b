from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def byzfl() -> ModuleType:
    """ByzFL's package without its ``__init__``, which also wants its data sets and torchvision."""
    spec = importlib.util.find_spec("byzfl")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("byzfl is not installed")
    package = ModuleType("byzfl")
    package.__path__ = list(spec.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "byzfl", package)
        package.aggregators = importlib.import_module("byzfl.aggregators.aggregators")  # type: ignore[attr-defined]
        package.preaggregators = importlib.import_module("byzfl.aggregators.preaggregators")  # type: ignore[attr-defined]
    return package
