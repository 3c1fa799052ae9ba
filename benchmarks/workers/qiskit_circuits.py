"""The edges as rows of one qiskit-machine-learning EstimatorQNN behind a TorchConnector."""

from __future__ import annotations

from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN

from .circuits import axes, layer, stacked
from .subject import Arrays, Subject


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    """All angles enter as inputs: one call evaluates all edges, with parameters of their own."""
    order = axes(case["reps"])
    angles = ParameterVector("a", len(order))
    circuit = QuantumCircuit(1)
    circuit.h(0)
    for axis, angle in zip(order, angles, strict=True):
        getattr(circuit, f"r{axis.lower()}")(angle, 0)
    network = EstimatorQNN(
        circuit=circuit, observables=SparsePauliOp("Z"), input_params=list(angles),
        weight_params=[], input_gradients=True,
    )  # fmt: skip
    connector = TorchConnector(network)
    return layer(case, arrays, lambda theta, encoded: connector(stacked(theta, encoded))[:, 0])
