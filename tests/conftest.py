"""Fixtures that several files share, and options of the suites that run on a card.

See `tests/card` and `tests/gpu` for the options.
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
        "--full", action="store_true", help="every combination and full sizes on that accelerator"
    )


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory, where there is one: for hundreds of runs that each sync a disk."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as name:
        yield Path(name)
