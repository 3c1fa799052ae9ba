"""`PennyLaneLayer` beside a TorchLayer, the dtypes of devices, and life without PennyLane."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pennylane as qml
import pytest
import torch
from cases import CIRCUITS, SHAPES, problem
from compare import assert_close
from pennylane_cases import DOUBLE, assert_as_the_engine, gradients, node_of
from torch import Tensor, nn

from qkan import PennyLaneLayer, QKANError, QKANLayer, qnode
from qkan.circuits import ansatz, pennylane_observable, to_pennylane
from qkan.simulators import expectation

# ---- the layer

LAYERS: dict[str, dict[str, Any]] = {
    "default": {},
    "px": {"ansatz": "px"},
    "own circuit": {"ansatz": CIRCUITS["own"]},
    "binary": {"ansatz": "rpz", "encoding": "binary"},
    "group": {"group": 1, "base": None},
    "amplitude": {"readout": "amplitude", "bias": False},
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_computes_what_a_qkan_layer_does(name: str) -> None:
    options = {**LAYERS[name], "dtype": DOUBLE, "generator": torch.Generator().manual_seed(0)}
    mine, theirs = PennyLaneLayer(2, 3, **options), QKANLayer(2, 3, **options, engine="torch")
    mine.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(4, 1, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    found, wanted = mine(x), theirs(x)
    assert_close(found, wanted, "values")
    pairs = zip(
        gradients(found, tuple(mine.parameters())),
        gradients(wanted, tuple(theirs.parameters())),
        strict=True,
    )
    for (parameter, _), (a, b) in zip(mine.named_parameters(), pairs, strict=True):
        assert_close(a, b, parameter)


def test_the_layer_trains_beside_a_torch_layer() -> None:
    device = qml.device("default.qubit", wires=2)

    @qml.qnode(device)
    def entangled(inputs: Tensor, weights: Tensor) -> Any:
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(weights, wires=range(2))
        return [qml.expval(qml.Z(wire)) for wire in range(2)]

    torch.manual_seed(0)
    model = nn.Sequential(
        PennyLaneLayer(3, 2, quantum_device=device, reps=1),
        qml.qnn.TorchLayer(entangled, {"weights": (1, 2)}),
        PennyLaneLayer(2, 1, quantum_device="qkan.packed", reps=1),
    )
    assert "quantum_device='qkan.packed'" in repr(model)
    x = torch.rand(8, 3)
    y = x.prod(-1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_a_torch_layer_made_of_the_circuit() -> None:
    """Every edge on a wire of its own, broadcast over the samples."""
    circuit, (b, o, i) = ansatz("pz", 1), (4, 3, 2)
    gates = to_pennylane(circuit, measure=False)

    @qml.qnode(qml.device("qkan.packed", wires=o * i))
    def edges(inputs: Tensor, theta: Tensor) -> Any:
        for e in range(o * i):
            gates(inputs[..., e % i], theta[e // i, e % i], wires=e)
        return [qml.expval(pennylane_observable(circuit, e)) for e in range(o * i)]

    layer = qml.qnn.TorchLayer(edges, {"theta": (o, i, circuit.num_theta)})
    x = torch.rand(b, i)
    wanted = expectation(circuit, x, layer.theta.detach(), engine="torch")
    with torch.no_grad():
        found = layer(x)
    assert_close(found.reshape(wanted.shape), wanted, "values", 1e-5)


def test_a_copied_layer_is_its_own() -> None:
    layer = PennyLaneLayer(2, 1, reps=1, dtype=DOUBLE)
    other, x = copy.deepcopy(layer), torch.rand(3, 2, dtype=DOUBLE)
    with torch.no_grad():
        layer.theta += 1
    assert not torch.allclose(other(x), layer(x))


def test_the_layer_has_no_engine() -> None:
    with pytest.raises(QKANError, match=r"engine='numba': the circuits .* run on its"):
        PennyLaneLayer(2, 1, engine="numba")


# ---- precision


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("options", [{}, {"diff_method": "parameter-shift"}], ids=str)
def test_single_precision_stays_single(options: dict[str, Any]) -> None:
    circuit = CIRCUITS["pz3"]
    given = problem(circuit, SHAPES[0], dtype=torch.float32)
    found = qnode(circuit, **options)(*given.inputs)
    wanted = expectation(circuit, *given.inputs, engine="torch")
    assert found.dtype == torch.float32
    assert_close(found, wanted, "values", 1e-5)
    pairs = zip(gradients(found, given.inputs), gradients(wanted, given.inputs), strict=True)
    for mine, theirs in pairs:
        assert mine.dtype == torch.float32
        assert_close(mine, theirs, "gradient", 1e-4)


def test_default_qubit_answers_single_precision_in_double() -> None:
    circuit = ansatz("pz", 1)
    given = problem(circuit, SHAPES[0], dtype=torch.float32)
    assert node_of(circuit, diff_method="backprop")(*given.inputs).dtype == DOUBLE


def test_lightnings_adjoint_would_lose_digits() -> None:
    circuit = ansatz("pz", 1)
    given = problem(circuit, SHAPES[1])
    assert node_of(circuit, "lightning.qubit")(*given.inputs).dtype == torch.float32
    with pytest.raises(QKANError, match="returned float32 for angles in float64"):
        qnode(circuit, "lightning.qubit", diff_method="adjoint")(*given.inputs)


def test_lightnings_adjoint_in_double(double_by_default: None) -> None:
    circuit = ansatz("pz", 1)
    node = qnode(circuit, "lightning.qubit", diff_method="adjoint")
    assert_as_the_engine(circuit, node, problem(circuit, SHAPES[3]))


def test_mixed_precision_is_refused() -> None:
    node, theta = qnode(ansatz("pz", 1)), torch.zeros(2, 3, 4)
    with pytest.raises(QKANError, match=r"x is torch\.float64, but theta is torch\.float32"):
        node(torch.zeros(5, 3, dtype=DOUBLE), theta)
    with pytest.raises(QKANError, match=r"x is torch\.int64; pass a torch tensor of real floats"):
        node(torch.zeros(5, 3, dtype=torch.int64), theta)
    with pytest.raises(QKANError, match="shift is float"):
        node(torch.zeros(5, 3), theta, None, 0.5)


# ---- without PennyLane


def test_it_is_needed_only_where_it_is_used() -> None:
    code = """
import sys
sys.modules["pennylane"] = None
import torch, qkan
from qkan.circuits import ansatz, pennylane_observable, to_pennylane
circuit = ansatz("pz")
calls = [
    lambda: to_pennylane(circuit), lambda: pennylane_observable(circuit),
    lambda: qkan.qnode(circuit), lambda: qkan.PennyLaneLayer(2, 1),
    lambda: qkan.PennyLaneBackend(), lambda: __import__("qkan.backends.pennylane.packed_device"),
]
for call in calls:
    try:
        call()
    except ImportError as error:
        assert 'pip install "qkan-hybrid[pennylane]"' in str(error), error
    else:
        raise AssertionError(call)
qkan.QKAN([2, 1], engine="torch")(torch.rand(3, 2)).sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
