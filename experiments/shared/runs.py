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
        record: What the file says beside its runs, which then stand in it as "runs". None for a
            file that holds a list of runs and nothing else.
    """

    def __init__(self, path: Path, record: dict[str, Any] | None = None) -> None:
        self.path, self.record = path, record
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
        if not self.path.exists():
            return []
        held = json.loads(self.path.read_text())
        found: list[dict[str, Any]] = held if self.record is None else held["runs"]
        return found

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # a kill in the middle of writing leaves the file as it was
        draft = self.path.with_suffix(".part")
        held = self.done if self.record is None else {**self.record, "runs": self.done}
        draft.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n")
        os.replace(draft, self.path)
