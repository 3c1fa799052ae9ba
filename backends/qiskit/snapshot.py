"""Read a `Calibration` from a Qiskit backend; missing entries are NaN."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qkan.backends.calibration import Calibration
from qkan.circuits import require


def snapshot(device: Any) -> Calibration:
    """Read the target and, if there are any, the properties of a device.

    The target has gate errors, durations, T1 and T2; only the properties have separate values for
    the two readout errors. Without properties, both are the target's readout error.

    Args:
        device: A Qiskit `BackendV2`.
    """
    target = device.target
    qubits = np.arange(target.num_qubits)
    properties = device.properties() if hasattr(device, "properties") else None
    p, q = np.array([_readout(target, properties, qubit) for qubit in qubits]).T
    sx_error, sx_seconds = np.array([_instruction(target, "sx", qubit) for qubit in qubits]).T
    x_error, x_seconds = np.array([_instruction(target, "x", qubit) for qubit in qubits]).T
    t1, t2 = np.array([_relaxation(target, qubit) for qubit in qubits]).T
    return Calibration(
        device.name, _taken(properties), qubits, p, q, sx_error, sx_seconds, t1, t2,
        x_error, x_seconds, _faulty(target, properties), datetime.now(UTC),
    )  # fmt: skip


def _known(value: Any) -> float:
    return math.nan if value is None else float(value)


def _relaxation(target: Any, qubit: int) -> tuple[float, float]:
    properties = target.qubit_properties
    if properties is None or properties[qubit] is None:
        return math.nan, math.nan
    return _known(properties[qubit].t1), _known(properties[qubit].t2)


def _instruction(target: Any, name: str, qubit: int) -> tuple[float, float]:
    """Error and duration of an instruction."""
    if name not in target.operation_names:
        return math.nan, math.nan
    found = (target[name] or {}).get((int(qubit),))
    return (math.nan, math.nan) if found is None else (_known(found.error), _known(found.duration))


def _readout(target: Any, properties: Any, qubit: int) -> tuple[float, float]:
    """Return P(1|0) and P(0|1)."""
    if properties is not None:
        found = properties.qubit_property(int(qubit))
        if "prob_meas1_prep0" in found and "prob_meas0_prep1" in found:
            return float(found["prob_meas1_prep0"][0]), float(found["prob_meas0_prep1"][0])
    error, _ = _instruction(target, "measure", qubit)
    return error, error


def _faulty(target: Any, properties: Any) -> frozenset[int]:
    found = set() if properties is None else {int(q) for q in properties.faulty_qubits()}
    # IBM marks a broken gate by an error of 1
    for name in ("sx", "measure"):
        if name in target.operation_names:
            found |= {q[0] for q, data in (target[name] or {}).items()
                      if q is not None and data is not None and data.error is not None
                      and data.error >= 1}  # fmt: skip
    return frozenset(found)


def _taken(properties: Any) -> datetime | None:
    date: datetime | None = None if properties is None else properties.last_update_date
    if date is not None and date.tzinfo is None:
        return date.replace(tzinfo=UTC)
    return date


def fake_classes() -> dict[str, Any]:
    """Return the runtime's fake devices by class name without "Fake", in lower case."""
    module = require("qiskit_ibm_runtime.fake_provider", "qiskit")
    return {
        name.removeprefix("Fake").lower(): getattr(module, name)
        for name in dir(module)
        if name.startswith("Fake") and not name.startswith("FakeProvider")
    }
