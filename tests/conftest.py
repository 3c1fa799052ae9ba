"""Fixtures that several files share, and the options that choose among the tests.

See `tests/card` and `tests/gpu` for the accelerator that Python hosts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--host-card", action="store_true", help="tests/gpu on an accelerator that Python hosts"
    )
    parser.addoption(
        "--full", action="store_true", help="tests marked full too; full sizes on that accelerator"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --full, leave out the cases of which the others are a selection."""
    if not config.getoption("--full"):
        full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory, where there is one: for hundreds of runs that each sync a disk."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as name:
        yield Path(name)
