"""`PennyLaneBackend`: any PennyLane device with shots as a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qkan.backends.calibration import Calibration
from qkan.backends.errors import BackendError
from qkan.backends.in_process import InProcessProvider
from qkan.backends.options import describe_options, make_options
from qkan.backends.packed import PackedBackend
from qkan.backends.provider import Counts, Job, Pub
from qkan.circuits import require

WIRES = 8
"""The number of wires for a device by name; a simulator's cost is exponential in it."""

_OPTIONS = ("shots", "width", "layout", "mitigation", "store")


class PennyLaneBackend(PackedBackend, kind="pennylane"):
    """A PennyLane device as a backend for `qkan.run`, `on_device` and all other functions.

    Values are packed into rows of `width` wires and run as on every backend, by the pulses SX, X
    and RZ; each set of rows is one broadcast tape. The device itself determines its draws, their
    seed and its noise: `qml.device(…, seed=…)`.

    Args:
        device: A `qml.devices.Device`, or a name such as "default.qubit", which is made with 8
            wires.
        shots: The number of shots for each value.
        width: The number of wires to use at once; None takes 8, or all wires of a smaller device.
        layout: The wires to use, by their positions among the device's wires; None takes the first
            ones.
        mitigation: "readout" or "none", as in `Options`.
        store: The folder for the directories of runs, or None to keep nothing.

    Raises:
        BackendError: There is no such device, or an option is wrong.
        ImportError: PennyLane is not installed; the extra "pennylane" installs it.

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
        given = {
            "shots": shots, "width": width, "layout": layout, "mitigation": mitigation,
            "store": store,
        }  # fmt: skip
        # only a device that was given by name can be made again, with a new seed
        self._made_by = device if isinstance(device, str) else None
        super().__init__(PennyLaneProvider(pennylane_device(device, WIRES)), make_options(given))

    def describe_options(self) -> dict[str, Any] | None:
        """Return the name of the device and the options, or None if a device object was passed."""
        if self._made_by is None:
            return None
        described = describe_options(self.options)
        return {"device": self._made_by, **{name: described[name] for name in _OPTIONS}}

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any], *, wait: bool) -> PennyLaneBackend:
        """Make the backend of a description; its jobs are never in a queue, so it need not wait."""
        return cls(**options)


class PennyLaneProvider(InProcessProvider):
    """Runs each job on a PennyLane device while it is submitted.

    Args:
        device: A `qml.devices.Device`.
    """

    default_width = WIRES

    def __init__(self, device: Any) -> None:
        self._device = device
        self._wires = list(range(WIRES)) if device.wires is None else device.wires.tolist()
        # PennyLane's devices say nothing about errors
        p, q, error, seconds, t1, t2 = np.full((6, len(self._wires)), np.nan)
        numbers = np.arange(len(self._wires))
        super().__init__(Calibration(device.name, None, numbers, p, q, error, seconds, t1, t2))

    def start(self, job: Job) -> Callable[[], list[Counts]]:
        """Run one broadcast tape for each PUB and count."""
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
        counts = [_ones(result, len(wires), job.shots) for result in found]
        return lambda: counts


def _operations(qml: Any, pub: Pub, column: int, wire: Any) -> list[Any]:
    """The operations of a PUB on one wire."""
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
    """Counts (r, w) from the frequencies (r, 2) of each wire; devices leave out an r of 1."""
    columns = result if width > 1 else (result,)
    frequency = np.stack([np.asarray(column).reshape(-1, 2)[:, 1] for column in columns], -1)
    ones: Counts = np.rint(frequency * shots).astype(np.int64)
    return ones


def pennylane_device(device: Any, wires: int) -> Any:
    """Return a PennyLane device; one given by name is made with that many wires.

    Raises:
        BackendError: There is no such device.
    """
    qml = require("pennylane", "pennylane")
    if isinstance(device, str):
        try:
            return qml.device(device, wires=wires)
        except qml.exceptions.DeviceError as error:
            raise BackendError(f"There is no PennyLane device {device!r}: {error}") from error
    if not isinstance(device, qml.devices.Device):
        raise BackendError(
            f"{device!r:.80} is not a PennyLane device; pass a name such as 'default.qubit', or "
            "the result of qml.device(…)."
        )
    return device
