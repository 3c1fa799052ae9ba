"""The committed JSON as the report reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples import Ratio, Rounds, Summary, ratio, summary

OTHERS = (
    "first_step.json", "limit.json", "gpu.json", "decode.json", "block.json", "activation.json",
    "cells.json", "fold.json", "wide.json",
)  # fmt: skip
"""Files in the results' folder that are no run of `run.py`."""
PEER = "qkan "
"""How the names of the peer's solvers begin."""


@dataclass(frozen=True)
class CaseRecord:
    """One case of one run.

    Attributes:
        case: What the run stored of it.
        run: What the run stored about itself, without its cases.
    """

    case: dict[str, Any]
    run: dict[str, Any]

    def measured(self, name: str, measure: str) -> bool:
        """Whether a candidate passed the gate and has samples of a measure."""
        return measure in self.case["results"].get(name, {}).get("measures", {})

    def rounds(self, name: str, measure: str) -> Rounds:
        """Seconds for the whole batch, also where a candidate was given a part of it."""
        result = self.case["results"][name]
        scaled = result["scaled"]
        return [[one * scaled for one in turn] for turn in result["measures"][measure]["rounds"]]

    def summary(self, name: str, measure: str) -> Summary:
        """Seconds a call of a candidate."""
        return summary(self.rounds(name, measure))

    def ratio(self, slow: str, fast: str, measure: str) -> Ratio:
        """How many times longer `slow` takes than `fast`, within this run."""
        return ratio(self.rounds(slow, measure), self.rounds(fast, measure))

    def names(self, measure: str) -> list[str]:
        """The candidates that have a figure."""
        return [name for name in self.case["results"] if self.measured(name, measure)]

    def peer(self, measure: str) -> str | None:
        """The faster of the peer's solvers."""
        return self.faster(PEER, measure)

    def faster(self, prefix: str, measure: str) -> str | None:
        """The faster of the candidates whose names begin so."""
        found = [name for name in self.names(measure) if name.startswith(prefix)]
        return min(found, key=lambda name: self.summary(name, measure).median, default=None)

    def engine(self, name: str) -> str:
        """The candidate's name, and for `auto` what it chose."""
        chosen = self.case["results"].get(name, {}).get("about", {}).get("engine", name)
        return f"`{name}`" if chosen == name else f"`{name}` (`{chosen}`)"


def load(folder: Path) -> dict[str, CaseRecord]:
    """All cases of all runs in a folder; the run written last has the word.

    Raises:
        FileNotFoundError: There is no run.
    """
    files = sorted(file for file in folder.glob("*.json") if file.name not in OTHERS)
    if not files:
        raise FileNotFoundError(f"No run in {folder}; make one with: python benchmarks/run.py")
    runs = sorted((json.loads(file.read_text()) for file in files), key=lambda r: r["written"])
    found = {}
    for run in runs:
        about = {name: value for name, value in run.items() if name != "cases"}
        found |= {case["id"]: CaseRecord(case, about) for case in run["cases"]}
    return found


def load_other(folder: Path, name: str) -> dict[str, Any] | None:
    """What a script beside `run.py` measured, or None."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None
