"""Where the files lie that a user has fetched."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """Return the folder that QKAN_DATA names, or the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("QKAN_DATA", cache / "qkan"))
