"""The built site: make docs writes it, and these tests read it and look at it in a browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from paths import ROOT

SITE = ROOT / os.environ.get("QKAN_SITE", "build/site")


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site."""
    assert (SITE / "index.html").exists(), f"{SITE} has no site; `make docs` builds it."
    return SITE
