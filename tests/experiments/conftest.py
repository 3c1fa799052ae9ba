"""The experiments are scripts beside the package: `load` imports their modules by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paths import EXPERIMENTS

ROOMS = {
    "demo",
    "report",
    "headlines",
    "decisions",
    *(path.parent.name for path in EXPERIMENTS.glob("*/__init__.py")),
}


def _forgotten() -> dict[str, Any]:
    """Take all modules of these names out of `sys.modules`; the benchmarks have some as well."""
    names = [name for name in sys.modules if name.partition(".")[0] in ROOMS]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], Any]]:
    """Import a module of the experiments, such as "functions.noise"."""
    others = _forgotten()
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(EXPERIMENTS))
        _forgotten()
        sys.modules.update(others)
