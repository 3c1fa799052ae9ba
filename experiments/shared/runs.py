"""`Runs`: finished runs in a JSON file, so that an interrupted experiment goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Runs:
    """Results by the settings they came from; equal settings are computed once.

    The code is not among the settings: after changing it, delete the file. Processes that compute
    different runs may share it.

    Args:
        path: The file, read before and written after every run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = self._read()

    def get(self, settings: dict[str, Any], do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what `do` returned for these settings, in this session or an earlier one."""
        settings = json.loads(json.dumps(settings))
        self.done = self._read()
        for run in self.done:
            if run["settings"] == settings:
                result: dict[str, Any] = run["result"]
                return result
        result = json.loads(json.dumps(do()))
        # what another process has done meanwhile
        self.done = [*self._read(), {"settings": settings, "result": result}]
        self._write()
        return result

    def _read(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            json.loads(self.path.read_text()) if self.path.exists() else []
        )
        return found

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # a kill in the middle of writing leaves the file as it was
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(self.done, indent=1) + "\n")
        os.replace(draft, self.path)
