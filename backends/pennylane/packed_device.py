"""`qkan.packed`: a PennyLane device that runs all tapes of a batch as rows of one job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qkan.backends.backend import Backend, Floats, Task
from qkan.backends.errors import BackendError
from qkan.backends.qiskit.backend import QiskitBackend
from qkan.circuits import isa_expectation, require

from .tapes import GATES, OBSERVABLES, Tape, merged

qml: Any = require("pennylane", "pennylane")
preprocess = require("pennylane.devices.preprocess", "pennylane")
modifiers = require("pennylane.devices.modifiers", "pennylane")

MEASUREMENTS = ("ExpectationMP", "VarianceMP", "ProbabilityMP")


@modifiers.simulator_tracking
@modifiers.single_tape_support
class PackedDevice(qml.devices.Device):  # type: ignore[misc]
    """A PennyLane device for circuits without a gate on two wires, such as those of a QKAN.

    Every wire is then an independent qubit, so any number of wires, samples and shifted tapes
    becomes rows of packed single-qubit circuits: a batch of tapes, such as that of a
    parameter-shift gradient, is one job of the backend (or as few as possible), and a broadcast
    tape need not be split. An observable aX + bY + cZ of one wire is one measurement in its own
    basis.

    `qml.device("qkan.packed", wires=…, backend=…)` makes one. `pl-device-test --device=qkan.packed
    --shots=None --skip-ops` (or with a number of shots) runs PennyLane's own device tests; those
    that fail need a gate on two wires without declaring it.

    It measures `expval`, `var` and `probs` (in the basis of Z) of Pauli operators, their sums and
    products, `Hadamard`, `Hermitian` and `Projector`. A backend returns expectation values,
    possibly corrected by mitigation, and no single shots, so `sample` and `counts` are not
    supported; neither are gates on two wires. Gradients come from PennyLane's parameter shift,
    which refuses broadcast parameters: split those with `qml.transforms.broadcast_expand`, or use
    `qkan.qnode`.

    Args:
        wires: The number of wires, or their labels; None allows any wires.
        shots: As for every PennyLane device; `qml.set_shots` is the recommended way to set them.
        backend: The backend that runs the rows: a `Backend`, or a name that `QiskitBackend` knows.
            A tape with another number of shots than the backend is refused. With None, tapes
            without shots are computed exactly, and tapes with shots are drawn.
        seed: The seed of the draws, including those of an emulator given by name. A `Backend` has
            its own seed.

    Attributes:
        backend: The given backend, or None.
        jobs: The ids of the backend's jobs so far, in order.

    Raises:
        BackendError: There is no such backend; a tape has another number of shots than the backend;
            values are missing because of a failed job.

    Example:
        >>> import pennylane as qml
        >>> device = PackedDevice(wires=2)
        >>> @qml.qnode(device)
        ... def circuit(x):
        ...     qml.RX(x, wires=0)
        ...     qml.RY(x, wires=1)
        ...     return qml.expval(qml.Z(0) @ qml.X(1))
        >>> round(float(circuit(0.5)), 3)
        0.421
    """

    name = "qkan.packed"

    def __init__(
        self,
        wires: Any = None,
        shots: Any = None,
        *,
        backend: Backend | str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(wires=wires, shots=shots)
        if isinstance(backend, str):
            number = {} if shots is None else {"shots": shots}
            backend = QiskitBackend(backend, **number, seed=seed)
        elif backend is not None and seed is not None:
            raise BackendError(
                f"seed={seed}: {backend.name} makes its own draws; pass the seed to it."
            )
        if backend is not None and shots is None:
            self._shots = qml.measurements.Shots(backend.shots)
        self.backend = backend
        self.jobs: list[str] = []
        self._seed = seed
        self._samplers: dict[int, Backend] = {}

    def preprocess_transforms(self, execution_config: Any = None) -> Any:
        """Decompose to single-qubit gates and refuse what cannot be measured."""
        pipeline = require("pennylane.transforms.core", "pennylane").CompilePipeline()
        pipeline.add_transform(
            preprocess.decompose,
            stopping_condition=lambda operation: operation.name in GATES,
            skip_initial_state_prep=False,
            name=self.name,
        )
        pipeline.add_transform(preprocess.validate_device_wires, self.wires, name=self.name)
        pipeline.add_transform(qml.transform(_require_measurable))
        pipeline.add_transform(
            preprocess.validate_observables, stopping_condition=_observable, name=self.name
        )
        return pipeline

    def execute(self, circuits: Any, execution_config: Any = None) -> Any:
        """Run a batch of tapes together, in one job for each number of shots."""
        tapes = [Tape(script) for script in circuits]
        parts = [list(script.shots) or [None] for script in circuits]
        results: list[list[Any]] = [[None] * len(part) for part in parts]
        for shots in dict.fromkeys(n for part in parts for n in part):
            places = [
                (t, k) for t, part in enumerate(parts) for k, n in enumerate(part) if n == shots
            ]
            values = self._run([tapes[t] for t, _ in places], shots)
            for (t, k), value in zip(places, values, strict=True):
                results[t][k] = value
        return tuple(
            tuple(found) if script.shots.has_partitioned_shots else found[0]
            for found, script in zip(results, circuits, strict=True)
        )

    def _run(self, tapes: Sequence[Tape], shots: int | None) -> list[Any]:
        tasks, places = merged(task for tape in tapes for task in tape.tasks())
        values = self._measure(tasks, shots)
        z = iter([values[task][where].reshape(shape) for task, where, shape in places])
        return [tape.result([next(z) for _ in tape.factors]) for tape in tapes]

    def _measure(self, tasks: Sequence[Task], shots: int | None) -> list[Floats]:
        """Return the measured ⟨M⟩ of every value, an array (v,) for each task."""
        backend = self._backend_of(shots)
        if backend is None:
            return [isa_expectation(task.circuit, task.angles, np) for task in tasks]
        with backend.open() as run:
            values = [found.z for found in run.measure(tasks)]
        if backend is self.backend:
            self.jobs += run.jobs
        lost = sum(int(np.isnan(z).sum()) for z in values)
        if lost:
            raise BackendError(
                f"{lost} of {sum(z.size for z in values)} values did not come back from "
                f"{backend.name}, because a job failed. Execute again."
            )
        return values

    def _backend_of(self, shots: int | None) -> Backend | None:
        if self.backend is not None:
            if shots != self.backend.shots:
                raise BackendError(
                    f"A tape has {shots or 'no'} shots, but {self.backend.name} takes "
                    f"{self.backend.shots} for each value; leave the shots to the device, or pass "
                    "a backend with the same number."
                )
            return self.backend
        if shots is not None and shots not in self._samplers:
            self._samplers[shots] = QiskitBackend(
                "aer", shots=shots, emulator="closed_form", mitigation="none", seed=self._seed
            )
        return None if shots is None else self._samplers[shots]


def _require_measurable(tape: Any) -> tuple[Any, Any]:
    """Raise for a measurement other than `expval`, `var` or `probs`."""
    for measured in tape.measurements:
        kind = type(measured).__name__
        in_z = kind != "ProbabilityMP" or measured.obs is None
        if kind not in MEASUREMENTS or not in_z or measured.mv is not None:
            mode = "with finite shots" if tape.shots else "for analytic simulation"
            raise qml.exceptions.DeviceError(
                f"Measurement {measured} not accepted {mode} on {PackedDevice.name}: supported are "
                "expval, var, and probs in the basis of Z."
            )
    return (tape,), preprocess.null_postprocessing


def _observable(observable: Any) -> bool:
    if observable.name not in OBSERVABLES:
        return False
    inner = getattr(observable, "operands", None) or (
        [observable.base] if hasattr(observable, "base") else []
    )
    return all(map(_observable, inner))
