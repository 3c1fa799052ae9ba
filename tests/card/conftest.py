"""What runs on the card of `host_card`, in a process of its own, see `test_card.py`."""

from __future__ import annotations

from collections.abc import Iterator

import host_cupy
import pytest
import torch


def pytest_sessionstart(session: pytest.Session) -> None:
    host_cupy.install()


@pytest.fixture
def card() -> torch.device:
    """The card."""
    return torch.device("card", 0)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()
