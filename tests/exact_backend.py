"""A small backend of the real contract: exact circuits, binomial shots, errors as one chooses.

Every value is drawn from its circuit's closed form, so thousands of them cost milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qkan.backends import Backend, BackendError, Calibration, Cost, Measurement, Run, Task
from qkan.circuits import shot_estimate
from qkan.simulators import expectation_of, simulate


@dataclass(eq=False)
class ExactBackend(Backend):
    """Values go to qubits 0, 1, … `width`-1 in turn, `share` of them at a time.

    Args:
        shots: Shots a value; 0 gives exact values without an error.
        seed: Of the draws.
        calibration_error: Relative error of every qubit's contraction, drawn anew each call.
        readout: P(1|0) and P(0|1) that nobody corrects.
        before: Called with the number of a call of `measure` before it runs; may raise.
        fail: Numbers of calls of which a part is lost, with the lost values' flat numbers.
    """

    shots: int = 1024
    seed: int = 0
    width: int = 8
    share: int = 1
    calibration_error: float = 0.0
    readout: tuple[float, float] = (0.0, 0.0)
    before: Callable[[int], None] | None = None
    fail: Mapping[int, Sequence[int]] = field(default_factory=dict)
    name: str = "exact"
    measured: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.contraction = np.ones(self.width)

    def cost(self, values: int) -> Cost:
        rows = -(-values // self.width)
        return Cost(rows, 1, rows * self.shots, 2 + 3.5e-4 * rows * self.shots, None, self.width)

    def open(self, store: Path | str | None = None, about: Mapping[str, Any] | None = None) -> Run:
        return ExactRun(self, None if store is None else Path(store), dict(about or {}))

    def calibration(self) -> Calibration:
        p, q = (np.full(self.width, value) for value in self.readout)
        zero, one = np.zeros(self.width), np.ones(self.width)
        return Calibration(self.name, None, np.arange(self.width), p, q, zero, zero, one, one)

    def calibrate(self) -> None:
        self.contraction = 1 + self.calibration_error * self.rng.normal(size=self.width)

    def draw(self, task: Task) -> Measurement:
        exact = expectation_of(task.circuit, simulate(task.circuit, task.angles))
        qubit = np.arange(exact.size).reshape(exact.shape) // self.share % self.width
        p, q = self.readout
        z = (1 - p - q) * exact + q - p
        if self.shots:
            ones = self.rng.binomial(self.shots, np.clip((1 - z) / 2, 0, 1))
            z, shot = shot_estimate(ones.astype(float), self.shots)
        else:
            shot = np.zeros_like(z)
        z = z * self.contraction[qubit]
        stderr = np.sqrt(shot**2 + (z * self.calibration_error) ** 2)
        errors = dict.fromkeys(range(self.width), self.calibration_error)
        return Measurement(z, stderr, shot, qubit, errors if self.calibration_error else {})


class ExactRun(Run):
    """Each call's results in a file of the store, named by what was asked."""

    def __init__(self, backend: ExactBackend, path: Path | None, about: dict[str, Any]) -> None:
        self.backend, self.path, self.calls, self.closed = backend, path, 0, False
        self._jobs: list[str] = []
        self._device = backend
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            kept = path / "about.json"
            if kept.exists() and json.loads(kept.read_text()) != about:
                raise BackendError(f"{path} is another run's.")
            kept.write_text(json.dumps(about))

    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        assert tasks and all(task.angles.size for task in tasks), "an empty job"
        assert all(np.isfinite(task.angles).all() for task in tasks)
        key = hashlib.sha256(b"".join(task.angles.tobytes() for task in tasks)).hexdigest()[:12]
        file = None if self.path is None else self.path / f"{key}.npz"
        self._jobs.append(f"job-{key}")
        if file is not None and file.exists():
            return self._read(file, len(tasks))
        if self._device.before is not None:
            self._device.before(self.calls)
        self._device.calibrate()
        self._device.measured.extend(tasks)
        found = [self._device.draw(task) for task in tasks]
        lost = self._device.fail.get(self.calls, ())
        self.calls += 1
        if lost:
            for values in (found[0].z, found[0].stderr, found[0].shot_stderr):
                values.reshape(-1)[list(lost)] = np.nan
        elif file is not None:
            np.savez(
                file,
                **{
                    f"{name}{k}": getattr(m, name)
                    for k, m in enumerate(found)
                    for name in ("z", "stderr", "shot_stderr", "qubit")
                },
            )
        return found

    def _read(self, file: Path, count: int) -> list[Measurement]:
        errors = dict.fromkeys(range(self._device.width), self._device.calibration_error)
        with np.load(file) as data:
            return [
                Measurement(
                    data[f"z{k}"], data[f"stderr{k}"], data[f"shot_stderr{k}"], data[f"qubit{k}"],
                    errors if self._device.calibration_error else {},
                )
                for k in range(count)
            ]  # fmt: skip

    @property
    def jobs(self) -> tuple[str, ...]:
        return tuple(self._jobs)

    @property
    def seconds(self) -> float:
        return 2.0 * len(self._jobs)

    def status(self) -> dict[str, str]:
        return dict.fromkeys(self._jobs, "done")

    def cancel(self) -> tuple[str, ...]:
        return self.jobs

    def close(self) -> None:
        self.closed = True
