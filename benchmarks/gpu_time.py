"""The time that measurements on a borrowed card may take, and what its tests have found.

`make test-gpu && make bench-gpu` together end within `TOTAL` seconds.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session import Plan

TOTAL = 600.0
"""Seconds of the tests and the measurements together."""
RESERVE = 45.0
"""Seconds kept back for what is not measured: starting Python, the last part, writing."""
FEWEST = 3
"""Turns below which a median says too little."""
RECENT = 3600.0
"""Seconds after which a report of tests belongs to another visit."""
PAUSE = 0.1
"""Seconds before a turn."""
BEGIN = 20.0
"""Seconds until a part has imported and compiled what it measures."""


def test_report(file: Path) -> dict[str, Any] | None:
    """What the report of `make test-gpu` says; None where there is no recent one."""
    if not file.exists() or time.time() - file.stat().st_mtime > RECENT:
        return None
    suite = next(ElementTree.parse(file).iter("testsuite"))
    failed = [
        case.attrib["name"]
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    count = {name: int(suite.attrib[name]) for name in ("tests", "skipped")}
    return {**count, "failed": failed, "seconds": float(suite.attrib["time"])}


def left_by(tests: dict[str, Any] | None) -> float:
    """Seconds of `TOTAL` that the tests have left."""
    return TOTAL - RESERVE - (0.0 if tests is None else tests["seconds"])


@dataclass
class Clock:
    """How much time is left, and for how many turns.

    Attributes:
        seconds: From the start on.
        turns: Of one round, in all parts that are still to come.
    """

    seconds: float
    start: float = field(default_factory=time.monotonic)
    turns: int = 1

    def left(self) -> float:
        """Seconds until the end, below 0 after it."""
        return self.seconds - (time.monotonic() - self.start)

    def fitting(self, plan: Plan, turns: int) -> Plan | None:
        """The plan with as many rounds as a part has time for, or None where they are too few.

        Args:
            plan: With the rounds that are wanted.
            turns: Of a round of this part, which is then no longer to come.
        """
        share = self.left() * turns / max(self.turns, turns)
        self.turns -= turns
        rounds = int((share - BEGIN) / (turns * (plan.seconds + PAUSE)))
        if rounds < min(FEWEST, plan.rounds):
            return None
        return replace(plan, rounds=min(plan.rounds, rounds))
