"""The edges as PennyLane circuits on one wire, broadcast over samples and edges."""

from __future__ import annotations

from typing import Any

import pennylane as qml
from torch import Tensor

from .circuits import axes, columns, layer
from .subject import Arrays, Subject


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    device = qml.device(options["device"], wires=1)
    gates = {"Y": qml.RY, "Z": qml.RZ}
    order = axes(case["reps"])

    @qml.qnode(device, interface="torch", diff_method=options["diff"])
    def circuit(*angles: Tensor) -> Any:
        qml.Hadamard(0)
        for axis, angle in zip(order, angles, strict=True):
            gates[axis](angle, wires=0)
        return qml.expval(qml.PauliZ(0))

    subject = layer(case, arrays, lambda theta, encoded: circuit(*columns(theta, encoded)))
    subject.about = dict(options)
    return subject
