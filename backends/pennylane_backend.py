"""`PennyLaneBackend`: any PennyLane device that has shots, measured as every backend is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qkan.circuits import require

from .calibration import Calibration
from .errors import BackendError
from .immediate import ImmediateProvider
from .provider import Counts, Job, Pub
from .qiskit_backend import QiskitBackend

WIRES = 8
"""Wires in use of a device that names none; a simulator's cost is exponential in them."""


class PennyLaneBackend(QiskitBackend):
    """A PennyLane device as a backend: `qkan.run`, `on_device` and all others take it.

    Values are packed into rows of `width` wires and run as on every backend, by the pulses SX, X
    and RZ; each row set is one broadcast tape. Draws, their seed and the noise are the device's
    own affair: `qml.device(…, seed=…)`.

    Args:
        device: A `qml.devices.Device`, or a name such as "default.qubit" to be made with 8 wires.
        shots: Shots a value.
        width: Wires to use at once; None takes 8, or all of a device of fewer.
        layout: Which wires to use, by position in the device's, the first ones when None.
        mitigation: "readout" or "none", as in `Options`.
        store: Folder for the directories of runs, or None to keep nothing.

    Raises:
        BackendError: No such device, or a wrong option.
        ImportError: PennyLane is absent; the extra "pennylane" installs it.

    Example:
        >>> import numpy as np
        >>> from qkan.backends import PennyLaneBackend
        >>> from qkan.circuits import RX, Circuit, Encoding
        >>> backend = PennyLaneBackend("default.qubit", shots=1000, mitigation="none")
        >>> z, stderr = backend.measure(Circuit([RX(Encoding(0))]), np.array([[0.0], [np.pi]]))
        >>> z.round(2), bool((stderr > 0).all())
        (array([ 1., -1.]), True)
    """

    def __init__(
        self,
        device: Any = "default.qubit",
        *,
        shots: int = 4096,
        width: int | None = None,
        layout: Sequence[int] | None = None,
        mitigation: str | None = "readout",
        store: Path | str | None = None,
    ) -> None:
        provider = PennyLaneProvider(pennylane_device(device, WIRES))
        super().__init__(
            provider.name, provider=provider, shots=shots, width=width, layout=layout,
            mitigation=mitigation, store=store,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"PennyLaneBackend({self.name!r}, shots={self.shots}, width={self.width})"


class PennyLaneProvider(ImmediateProvider):
    """Runs each job at once on a PennyLane device.

    Args:
        device: A `qml.devices.Device`.
    """

    default_width = WIRES

    def __init__(self, device: Any) -> None:
        self._device = device
        self._wires = list(range(WIRES)) if device.wires is None else device.wires.tolist()
        # PennyLane's devices say nothing of errors
        p, q, error, seconds, t1, t2 = np.full((6, len(self._wires)), np.nan)
        numbers = np.arange(len(self._wires))
        super().__init__(Calibration(device.name, None, numbers, p, q, error, seconds, t1, t2))

    def count(self, job: Job) -> list[Counts]:
        """Run one broadcast tape a PUB and count."""
        qml = require("pennylane", "pennylane")
        wires = [self._wires[qubit] for qubit in job.layout]
        tapes = [
            qml.tape.QuantumScript(
                [step for k, wire in enumerate(wires) for step in _operations(qml, pub, k, wire)],
                [qml.probs(wires=wire) for wire in wires],
                shots=job.shots,
            )
            for pub in job.pubs
        ]
        found = qml.execute(tapes, self._device, diff_method=None)
        return [_ones(result, len(wires), job.shots) for result in found]


def _operations(qml: Any, pub: Pub, column: int, wire: Any) -> list[Any]:
    """What one wire of a PUB does."""
    gates = {"sx": qml.SX, "x": qml.PauliX, "rz": qml.RZ, "rx": qml.RX}
    return [
        gates[pulse.name](wires=wire)
        if pulse.name in ("sx", "x")
        else gates[pulse.name](
            pulse.angle if pulse.slot is None else pub.turns[:, column, pulse.slot], wires=wire
        )
        for pulse in pub.sequence.pulses
    ]


def _ones(result: Any, width: int, shots: int) -> Counts:
    """From the frequencies (r, 2) of each wire to counts (r, w); devices drop an r of 1."""
    columns = result if width > 1 else (result,)
    frequency = np.stack([np.asarray(column).reshape(-1, 2)[:, 1] for column in columns], -1)
    ones: Counts = np.rint(frequency * shots).astype(np.int64)
    return ones


def pennylane_device(device: Any, wires: int) -> Any:
    """A PennyLane device, made with that many wires where it is given by name.

    Raises:
        BackendError: No such device.
    """
    qml = require("pennylane", "pennylane")
    if isinstance(device, str):
        try:
            return qml.device(device, wires=wires)
        except qml.exceptions.DeviceError as error:
            raise BackendError(f"No PennyLane device {device!r}: {error}") from error
    if not isinstance(device, qml.devices.Device):
        raise BackendError(
            f"{device!r:.80} is no PennyLane device: pass a name such as 'default.qubit', or what "
            "qml.device(…) returns."
        )
    return device
