"""Options of the suites that run on a card; see `tests/card` and `tests/gpu`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--host-card", action="store_true", help="tests/gpu on an accelerator that Python hosts"
    )
    parser.addoption(
        "--full", action="store_true", help="every combination and full sizes on that accelerator"
    )
