"""PennyLane: the exported circuit and `qnode` compute what the engines compute."""

from __future__ import annotations

import math
from typing import Any

import pennylane as qml
import pytest
import torch
from cases import CIRCUITS, SHAPES, TILTED, problem
from compare import assert_close
from pennylane import numpy as pnp
from pennylane_cases import DOUBLE, Function, assert_as_the_engine, gradients, node_of
from torch import Tensor

from qkan import BackendError, QKANError, qnode
from qkan.circuits import (
    RX,
    Circuit,
    CircuitError,
    Encoding,
    ansatz,
    pennylane_observable,
    to_pennylane,
)
from qkan.simulators import expectation

# ---- values and gradients


@pytest.mark.parametrize("name", CIRCUITS)
def test_backprop_through_the_exported_function(name: str) -> None:
    circuit = CIRCUITS[name]
    node = node_of(circuit, diff_method="backprop")
    assert_as_the_engine(circuit, node, problem(circuit, SHAPES[0]))


@pytest.mark.parametrize("device", ["default.qubit", "qkan.packed"])
@pytest.mark.parametrize("name", CIRCUITS)
def test_parameter_shift_of_a_node(name: str, device: str) -> None:
    circuit = CIRCUITS[name]
    node = qnode(circuit, device, diff_method="parameter-shift")
    assert_as_the_engine(circuit, node, problem(circuit, SHAPES[0]))


@pytest.mark.parametrize("name", ["pz1", "px1", "mixed", "pz-X"])
def test_the_adjoint_method(name: str) -> None:
    circuit, given = CIRCUITS[name], problem(CIRCUITS[name], SHAPES[3])
    assert_as_the_engine(circuit, node_of(circuit, diff_method="adjoint"), given)
    assert_as_the_engine(circuit, qnode(circuit, diff_method="adjoint"), given)


def test_a_tilted_observable_by_the_adjoint_method() -> None:
    circuit = ansatz("rpz", 1).with_observable(TILTED)
    node = qnode(circuit, "lightning.qubit", diff_method="parameter-shift")
    given = problem(circuit, SHAPES[1])
    assert_as_the_engine(circuit, node, given)
    assert_as_the_engine(circuit, qnode(circuit, diff_method="adjoint"), given)


def test_best_is_backprop_where_the_device_can() -> None:
    circuit = ansatz("pz", 1)
    assert not qnode(circuit).shifts
    assert qnode(circuit, shots=10).shifts
    assert qnode(circuit, "lightning.qubit").shifts
    assert qnode(circuit, "qkan.packed").shifts
    given = problem(circuit, SHAPES[0])
    assert_as_the_engine(circuit, qnode(circuit), given)


@pytest.mark.parametrize("name", ["px3", "own"])
def test_autograds_arrays(name: str) -> None:
    circuit = CIRCUITS[name]
    given = problem(circuit, SHAPES[0])
    arrays = [pnp.array(t.detach().numpy(), requires_grad=True) for t in given.inputs]
    node = node_of(circuit, diff_method="backprop")
    found = qml.grad(lambda *a: pnp.sum(node(*a) ** 2))(*arrays)
    wanted = gradients(expectation(circuit, *given.inputs, engine="torch"), given.inputs)
    for name_, mine, theirs in zip(("x", "theta", "scale", "shift"), found, wanted, strict=True):
        assert_close(torch.as_tensor(mine), theirs, name_)


def test_second_derivatives_by_backprop() -> None:
    circuit = CIRCUITS["pz3"]
    x = torch.tensor([0.3, -0.8], dtype=DOUBLE, requires_grad=True)
    theta = torch.linspace(-1, 1, 8, dtype=DOUBLE).reshape(1, 1, 8)

    def second(function: Function) -> Tensor:
        (first,) = torch.autograd.grad(function(x[:, None], theta).sum(), x, create_graph=True)
        return torch.autograd.grad(first.sum(), x)[0]

    def engine(x: Tensor, theta: Tensor) -> Tensor:
        return expectation(circuit, x, theta, engine="torch")

    assert_close(second(qnode(circuit)), second(engine), "second derivative")
    with pytest.raises(QKANError, match="first derivatives only"):
        second(qnode(circuit, diff_method="parameter-shift"))


# ---- arguments


@pytest.mark.parametrize("options", [{}, {"diff_method": "parameter-shift"}], ids=str)
def test_a_single_circuit_takes_x_of_any_shape(options: dict[str, Any]) -> None:
    circuit = CIRCUITS["own"]
    given = problem(circuit, SHAPES[1])
    theta, scale, shift = (t[0, 0] for t in given.inputs[1:])
    node = qnode(circuit, **options)
    for shape in ((), (1,), (4,), (2, 3)):
        x = torch.linspace(-1, 1, math.prod(shape), dtype=DOUBLE).reshape(shape).requires_grad_()
        wanted = expectation(circuit, x.reshape(-1, 1), *given.inputs[1:], engine="torch")
        found = node(x, theta, scale, shift)
        assert_close(found, wanted.reshape(shape), f"values of {shape}")
        mine, theirs = (gradients(v, (x,))[0] for v in (found, wanted))
        assert_close(mine, theirs, f"gradient of {shape}")


@pytest.mark.parametrize("scale", [None, "ternary", (1.0, 2.5)])
def test_scales_by_name_and_number(scale: Any) -> None:
    circuit = ansatz("rpz", 2)
    x, theta, *_ = problem(circuit, SHAPES[0]).inputs

    def wanted() -> Tensor:
        return expectation(circuit, x, theta, scale, engine="torch")

    for node in (qnode(circuit), qnode(circuit, diff_method="parameter-shift")):
        assert_close(node(x, theta, scale), wanted(), "values")
        pairs = (gradients(v, (x, theta)) for v in (node(x, theta, scale), wanted()))
        for mine, theirs in zip(*pairs, strict=True):
            assert_close(mine, theirs, "gradient")


def test_parameters_of_each_samples_own() -> None:
    circuit = ansatz("pz", 1)
    given = problem(circuit, SHAPES[0])
    theta = torch.randn(7, 3, 5, 4, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    wanted = expectation(circuit, given.x, theta, engine="torch")
    for node in (qnode(circuit), qnode(circuit, diff_method="parameter-shift")):
        assert_close(node(given.x, theta), wanted, "values")


def test_no_values_at_all() -> None:
    circuit = ansatz("pz", 1)
    theta = torch.zeros(2, 3, 4, requires_grad=True)
    for node in (qnode(circuit), qnode(circuit, shots=5)):
        found = node(torch.zeros(0, 3), theta)
        assert found.shape == (0, 2, 3)
        found.sum().backward()
        assert theta.grad is not None and not theta.grad.any()


def test_the_gates_alone_and_any_wire() -> None:
    circuit = ansatz("mix", 1).with_observable(TILTED)
    gates = to_pennylane(circuit, measure=False)

    @qml.qnode(qml.device("default.qubit", wires=["a", "b"]))
    def both(x: float, theta: list[float]) -> Any:
        gates(x, theta, wires="b")
        return qml.expval(pennylane_observable(circuit, "b")), qml.expval(qml.Z("a"))

    found, idle = both(0.4, [0.1, 0.2, 0.3, 0.4])
    theta = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=DOUBLE).reshape(1, 1, 4)
    wanted = expectation(circuit, torch.tensor([0.4], dtype=DOUBLE), theta, engine="torch")
    assert float(found) == pytest.approx(wanted.item(), abs=1e-10) and float(idle) == 1


@pytest.mark.parametrize("options", [{}, {"diff_method": "parameter-shift"}], ids=str)
def test_an_arccos_is_clamped_and_flat_from_one_on(options: dict[str, Any]) -> None:
    circuit = ansatz("px", 1)
    x = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0, math.inf], dtype=DOUBLE, requires_grad=True)
    theta = torch.tensor([0.3, 0.2], dtype=DOUBLE)
    found = qnode(circuit, **options)(x, theta)
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert_close(found[1:4:2], found[[0, 4]], "clamped")
    assert_close(found[4], found[5], "infinity")
    assert grad[2] != 0 and not grad[[0, 1, 3, 4, 5]].any()


def test_nan_stays_nan() -> None:
    x = torch.tensor([0.1, math.nan], dtype=DOUBLE)
    for name in ("px", "pz"):
        circuit = ansatz(name, 1)
        theta = torch.full((circuit.num_theta,), 0.3, dtype=DOUBLE)
        for node in (qnode(circuit), qnode(circuit, diff_method="parameter-shift")):
            assert node(x, theta).isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("x", "theta", "more", "message"),
    [
        ((5, 3), (2, 4, 4), {}, r"theta \(2, 4, 4\); wanted"),
        ((5, 3), (2, 3, 5), {}, r"theta \(2, 3, 5\); wanted .*\(o, i, 4\) with the same i"),
        ((5, 3), (3, 4), {}, r"theta \(3, 4\); wanted"),
        ((), (2, 3, 4), {}, r"x has shape \(\) and theta"),
        (
            (5, 3),
            (2, 3, 4),
            {"scale": (2, 3, 2)},
            r"scale has shape \(2, 3, 2\); wanted \(2, 3, 1\)",
        ),
        ((5, 3), (2, 3, 4), {"shift": (3, 1)}, r"shift has shape \(3, 1\); wanted \(2, 3, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(
    x: tuple[int, ...], theta: tuple[int, ...], more: dict[str, tuple[int, ...]], message: str
) -> None:
    given = {name: torch.zeros(shape) for name, shape in more.items()}
    for function in (node_of(ansatz("pz", 1)), qnode(ansatz("pz", 1))):
        with pytest.raises(CircuitError, match=message):
            function(torch.zeros(x), torch.zeros(theta), **given)


def test_a_device_that_is_none() -> None:
    circuit = ansatz("pz", 1)
    with pytest.raises(BackendError, match=r"There is no PennyLane device 'default\.qbit'"):
        qnode(circuit, "default.qbit")
    with pytest.raises(BackendError, match="3 is not a PennyLane device"):
        qnode(circuit, 3)
    with pytest.raises(QKANError, match="one number of shots"):
        qnode(circuit, shots=[10, 20])  # type: ignore[arg-type]


# ---- what PennyLane cannot do by itself


def test_parameter_shift_of_a_broadcast_node_needs_splitting() -> None:
    circuit = CIRCUITS["px1"]
    given = problem(circuit, SHAPES[3])
    node = node_of(circuit, diff_method="parameter-shift")
    with pytest.raises(NotImplementedError, match="broadcast"):
        node(*given.inputs).sum().backward()
    assert_as_the_engine(circuit, qml.transforms.broadcast_expand(node), given)


def test_shots_by_our_own_shifts() -> None:
    circuit = CIRCUITS["pz3"]
    given = problem(circuit, SHAPES[0])
    theta = given.theta
    exact = expectation(circuit, *given.inputs, engine="torch")
    wanted = torch.autograd.grad(exact.sum(), theta)[0]
    device = qml.device("default.qubit", wires=1, seed=1)
    with qml.Tracker(device) as tracker:
        found = qnode(circuit, device, shots=2000)(*given.inputs)
    assert tracker.totals["batches"] == 1
    pull = ((found - exact) / ((1 - exact**2) / 2000).sqrt()).detach()
    assert 0.8 < float(pull.std()) < 1.2
    (grad,) = torch.autograd.grad(found.sum(), theta)
    # each of a theta's 7 samples has a slope of variance below 1/(2·2000)
    pull = (grad - wanted) / math.sqrt(7 / 4000)
    assert float(pull.abs().max()) < 5 and 0.5 < float(pull.std()) < 1.1


def test_without_gradients_nothing_is_shifted() -> None:
    circuit = CIRCUITS["pz3"]
    x, theta, scale, shift = (t.detach() for t in problem(circuit, SHAPES[0]).inputs)

    def rows(theta: Tensor, x: Tensor) -> int:
        device = qml.device("qkan.packed", wires=1)
        with qml.Tracker(device) as tracker:
            qnode(circuit, device)(x, theta, scale, shift)
        return int(tracker.totals["executions"]) // (7 * 3 * 5)

    assert rows(theta, x) == 1
    assert rows(theta.requires_grad_(), x) == 17
    # three of the eight rotations turn with x
    assert rows(theta.detach(), x.requires_grad_()) == 7


@pytest.mark.parametrize("name", ["pz1", "own", "pz-X"])
def test_the_tape_is_the_circuit_gate_for_gate(name: str) -> None:
    circuit = CIRCUITS[name]
    given = [t.detach() for t in problem(circuit, SHAPES[0]).inputs]
    tape = qml.workflow.construct_tape(node_of(circuit))(*given)
    names = {"H": "Hadamard", "X": "PauliX", "Z": "PauliZ"}
    wanted = [names.get(gate.name, gate.name) for gate in circuit.gates]
    assert [operation.name for operation in tape.operations] == wanted
    assert len(tape.measurements) == 1


def test_the_observable_of_every_kind() -> None:
    for observable, text in (("X", "X('w')"), ("Y", "Y('w')"), ("Z", "Z('w')")):
        circuit = Circuit([RX(Encoding(0))], observable=observable)
        assert repr(pennylane_observable(circuit, "w")) == text
    tilted = pennylane_observable(Circuit([RX(Encoding(0))], observable=(0.6, 0.0, -0.8)))
    assert tilted.pauli_rep == 0.6 * qml.X(0).pauli_rep - 0.8 * qml.Z(0).pauli_rep
