"""One case from start to end: workers, gate, interleaved rounds.

Only one worker is active at a time; the others block on their stdin. CPU time that they use
nevertheless (a thread pool that spins while it waits) is measured and stored.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gate
import machine
import numpy as np
from candidates import CANDIDATES, TRUTH, Candidate
from cases import Case, arrays, gate_rows
from process import Refused, Worker
from samples import calls_for

Say = Callable[[str], None]
SETTLE = 0.05
"""Seconds before a turn in which the thread pools of the last one fall asleep."""
MEMORY_LIMIT = 12e9
MEMORY_GATE = 64
"""Samples of the gate where a whole batch does not fit into memory."""


@dataclass(frozen=True)
class Plan:
    """How long a case is measured.

    Attributes:
        rounds: Turns of each candidate in each measure.
        seconds: Length of a turn; a call that takes longer is a turn of its own.
        seed: Of the numbers.
        tolerance: Of the gate.
    """

    rounds: int = 9
    seconds: float = 0.6
    seed: int = 0
    tolerance: float = gate.TOLERANCE


@dataclass
class Session:
    """A case being measured; `run` returns what the JSON stores."""

    case: Case
    plan: Plan
    say: Say
    names: tuple[str, ...]
    process: type[Worker] = Worker
    workers: dict[str, Worker] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        before = machine.load()
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            self.scratch = Path(folder)
            self.arrays = self.scratch / "arrays.npz"
            np.savez(self.arrays, **arrays(self.case, self.plan.seed))
            try:
                if self.case.kind == "memory":
                    self._memory()
                else:
                    self._start()
                    self._gate()
                    for measure in self.case.measures:
                        self._rounds(measure)
            finally:
                for name in [*self.workers]:
                    self._end(name)
        after = machine.load()
        return {
            **self.case.describe(),
            "seconds": round(time.monotonic() - start, 1),
            "load_average": [before["average"], after["average"]],
            "stolen_cpu_seconds": round(after["stolen"] - before["stolen"], 2),
            "results": self.results,
        }

    def _start(self) -> None:
        """Start all workers, then wait for each: imports overlap, measurements never."""
        for name in self.names:
            self._try(name, lambda name=name: self._open(CANDIDATES[name]))
        for name in [*self.workers]:
            self._try(name, lambda name=name: self._greet(name))

    def _open(self, candidate: Candidate) -> None:
        self.results[candidate.name] = {"status": "measured", "note": candidate.note}
        self.workers[candidate.name] = self.process(candidate, self.case, self.arrays, self.scratch)

    def _greet(self, name: str) -> None:
        worker = self.workers[name]
        worker.hello = worker.receive()
        self.results[name] |= {
            "about": worker.hello["about"],
            "same_function": worker.candidate.same_function,
            "scaled": self.case.batch / worker.batch,
            "hello": worker.hello,
            "measures": {},
        }

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        """Do something with a candidate; one that refuses leaves the case, with its reason."""
        try:
            action()
        except Refused as reason:
            kept = {k: v for k, v in self.results.get(name, {}).items() if k in ("gate", "about")}
            self.results[name] = {"status": "left out", "reason": str(reason), **kept}
            self.say(f"    {name}: {reason}")
            self._end(name)

    def _end(self, name: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.close()

    def _gate(self) -> None:
        truths: dict[int, gate.Arrays] = {}
        for name, worker in [*self.workers.items()]:
            if worker.candidate.same_function:
                # what was too large to run is compared on a part of the batch
                skipped = "expected" in self.results[name].get("memory", {})
                batch = MEMORY_GATE if skipped else worker.batch
                if batch not in truths:
                    truths[batch] = self._truth(batch)
                self._try(name, lambda n=name, b=batch: self._judge(n, b, truths[b]))

    def _truth(self, batch: int) -> gate.Arrays:
        worker = self.process(TRUTH, self.case, self.arrays, self.scratch)
        try:
            worker.receive()
            return self._checked(worker, batch)
        except Refused as reason:
            raise RuntimeError(f"{self.case.id}: the float64 truth {reason}") from reason
        finally:
            worker.close()

    def _checked(self, worker: Worker, batch: int) -> gate.Arrays:
        path = self.scratch / "check.npz"
        rows = gate_rows(self.case, batch).tolist()
        worker.ask("check", rows=rows, path=str(path), batch=batch)
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def _judge(self, name: str, batch: int, truth: gate.Arrays) -> None:
        verdict = gate.judge(self._checked(self.workers[name], batch), truth, self.plan.tolerance)
        self.results[name]["gate"] = {k: float(f"{e:.3g}") for k, e in verdict.errors.items()}
        if not verdict.passed:
            raise Refused(f"fails the gate, so no figure: {verdict.reason}")

    def _rounds(self, measure: str) -> None:
        """A B A B …: each candidate once a round."""
        calls: dict[str, int] = {}
        for _ in range(self.plan.rounds):
            for name, worker in [*self.workers.items()]:
                # only engines of this checkout might keep coefficients
                if measure != "still" or not worker.candidate.environment:
                    self._try(name, lambda name=name: self._turn(name, measure, calls))

    def _turn(self, name: str, measure: str, calls: dict[str, int]) -> None:
        time.sleep(SETTLE)
        others = {n: w.cpu() for n, w in self.workers.items() if n != name}
        found = self._timed(self.workers[name], measure, calls)
        idle = sum(self.workers[n].cpu() - cpu for n, cpu in others.items())
        record = self.results[name]["measures"].setdefault(measure, {"rounds": [], "idle_cpu": 0.0})
        record["rounds"].append([float(f"{one:.4g}") for one in found])
        record["idle_cpu"] = round(record["idle_cpu"] + idle, 2)

    def _timed(self, worker: Worker, measure: str, calls: dict[str, int]) -> list[float]:
        """Seconds of a turn's calls; the first turn finds out how many there should be."""
        name, seconds = worker.candidate.name, self.plan.seconds

        def ask(calls: int, warm: int) -> list[float]:
            answer = worker.ask("time", measure=measure, calls=calls, warm=warm, most=2 * seconds)
            samples: list[float] = answer["samples"]
            return samples

        if name not in calls:
            # the gate has warmed it up
            first = ask(calls=1, warm=0)
            if first[0] >= seconds:
                calls[name] = 1
                return first
            calls[name] = calls_for(seconds, min(ask(calls=3, warm=1)))
        # a short call finds cold caches after the others' turns
        return ask(calls=calls[name], warm=min(3, calls[name] - 1))

    def _memory(self) -> None:
        """One candidate after the other, each alone in memory."""
        for name in self.names:
            self._try(name, lambda name=name: self._open(CANDIDATES[name]))
            if name in self.workers:
                self._try(name, lambda name=name: self._peak(name))
            self._end(name)

    def _peak(self, name: str) -> None:
        self._greet(name)
        batch = self.case.batch
        limit = min(MEMORY_LIMIT, 0.6 * machine.meminfo("MemAvailable"))
        batches = [batch // 64, batch // 32, batch]
        self.results[name]["memory"] = self.workers[name].ask(
            "memory", batches=batches, limit=limit
        )
        self._gate()
