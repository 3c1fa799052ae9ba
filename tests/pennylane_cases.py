"""What the tests of the PennyLane door share: nodes, and the comparison with the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pennylane as qml
import torch
from cases import Problem
from compare import assert_close
from torch import Tensor

from qkan.circuits import Circuit, to_pennylane
from qkan.simulators import expectation

DOUBLE = torch.float64
Function = Callable[..., Tensor]


def gradients(values: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Of a sum of squares, so that they depend on the values; zeros where nothing depends."""
    found = torch.autograd.grad((values**2).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(inputs, found, strict=True)]


def assert_as_the_engine(circuit: Circuit, function: Function, given: Problem) -> None:
    wanted = expectation(circuit, *given.inputs, engine="torch")
    found = function(*given.inputs).reshape(wanted.shape)
    assert_close(found, wanted, "values")
    names = ("x", "theta", "scale", "shift")
    pairs = zip(gradients(found, given.inputs), gradients(wanted, given.inputs), strict=True)
    for name, (mine, theirs) in zip(names, pairs, strict=True):
        assert_close(mine, theirs, name)


def node_of(circuit: Circuit, device: Any = "default.qubit", **options: Any) -> Any:
    device = qml.device(device, wires=1) if isinstance(device, str) else device
    return qml.QNode(to_pennylane(circuit), device, **options)
