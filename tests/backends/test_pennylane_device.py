"""`qkan.packed`, a PennyLane device on our backends, and `PennyLaneBackend`, the reverse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pennylane as qml
import pytest
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_close
from device_models import network, run
from exact_backend import ExactBackend
from pennylane.exceptions import DeviceError, WireError

from qkan import BackendError, PennyLaneBackend, QiskitBackend, on_device, qnode, resume
from qkan.backends import Task
from qkan.circuits import ansatz, to_pennylane
from qkan.simulators import expectation, expectation_of, simulate

Values = tuple[Any, ...]


def everything(x: Any, y: Any) -> Values:
    """All gates and measurements that the device has, on three wires."""
    qml.RX(x, "a")
    qml.Rot(x, y, 0.3, wires="b")
    qml.U3(0.1, y, x, wires="c")
    for gate in (qml.S, qml.T, qml.SX, qml.Y, qml.X, qml.Z, qml.Hadamard):
        gate("a")
        qml.adjoint(gate)("b")
    qml.RY(y, "a")
    qml.PhaseShift(y, "c")
    qml.Identity("c")
    qml.QubitUnitary(np.array([[0.6, 0.8j], [0.8j, 0.6]]), wires="c")
    tilted = 0.3 * qml.X("a") - 0.4 * qml.Y("a") + qml.Z("a") + 1.5 * qml.I("a")
    hermitian = qml.Hermitian(np.array([[1, 2j], [-2j, 0.5]]), "c")
    return (
        qml.expval(tilted + qml.Z("b") @ qml.X("c")),
        qml.var(qml.X("a") - 2 * qml.Z("b")),
        qml.var(qml.Y("a") @ qml.Hadamard("c")),
        qml.probs(wires=["c", "a"]),
        qml.expval(hermitian),
        qml.expval(qml.Projector([1], "b")),
        qml.expval(-qml.Z("a")),
        qml.expval(qml.I("a")),
        qml.expval(qml.Z("idle")),
    )


SHAPE = Shape(3, 2, 2)
WIRES = ["a", "b", "c", "idle"]
ANGLES = {"numbers": (0.3, 0.7), "one broadcast": (np.array([0.1, 0.2, 0.9]), 0.7)}


def packed(**options: Any) -> Any:
    return qml.device("qkan.packed", **options)


@pytest.mark.parametrize("name", ANGLES)
def test_it_computes_what_default_qubit_does(name: str) -> None:
    found = qml.QNode(everything, packed(wires=WIRES))(*ANGLES[name])
    wanted = qml.QNode(everything, qml.device("default.qubit", wires=WIRES))(*ANGLES[name])
    for k, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        theirs = np.broadcast_to(theirs, np.shape(mine))
        assert_close(torch.as_tensor(mine), torch.as_tensor(theirs.copy()), f"measurement {k}")


def test_shots_are_drawn() -> None:
    node = qml.QNode(everything, packed(wires=WIRES, seed=0))
    exact = node(np.full(500, 0.3), 0.7)
    drawn = qml.set_shots(node, 1000)(np.full(500, 0.3), 0.7)
    for k in (4, 5, 6):
        spread = np.std(drawn[k])
        assert 0 < spread < 0.1
        assert abs(np.mean(drawn[k] - exact[k])) < 5 * spread / 500**0.5 + 1e-3
    z = exact[6]
    assert np.std(drawn[6]) == pytest.approx(np.sqrt((1 - z[0] ** 2) / 1000), rel=0.15)
    assert np.allclose(np.sum(drawn[3], -1), 1)


def test_the_seed_rules_the_draws() -> None:
    def draw(seed: int | None) -> list[float]:
        node = qml.set_shots(qml.QNode(everything, packed(wires=WIRES, seed=seed)), 100)
        return [float(node(0.3, 0.7)[0]) for _ in range(2)]

    assert draw(1) == draw(1) != draw(2)
    assert len({*draw(None), *draw(1)}) == 4


def test_several_numbers_of_shots() -> None:
    node = qml.set_shots(qml.QNode(everything, packed(wires=WIRES)), [100, (200, 2)])
    found = node(*ANGLES["one broadcast"])
    assert len(found) == 3 and all(np.shape(part[3]) == (3, 4) for part in found)


# ---- jobs


def test_all_tapes_of_a_gradient_are_rows_of_one_job() -> None:
    backend = QiskitBackend("fake_sherbrooke", emulator="closed_form", seed=0, shots=4000)
    device = packed(wires=1, backend=backend)
    assert device.shots.total_shots == 4000
    circuit = CIRCUITS["pz3"]
    x, theta, scale, shift = (t[:1] for t in problem(circuit, SHAPE).inputs)
    node = qml.QNode(to_pennylane(circuit), device, diff_method="parameter-shift")
    values = node(x[0, 0], theta[0, 0], scale[0, 0], shift[0, 0])
    assert len(device.jobs) == 1
    (grad,) = torch.autograd.grad(values, theta)
    assert len(device.jobs) == 2
    exact = expectation(circuit, x[:, :1], theta[:, :1], scale[:, :1], shift[:, :1], engine="torch")
    (wanted,) = torch.autograd.grad(exact.sum(), theta)
    assert float((grad - wanted).abs().max()) < 5 * (1 / 8000) ** 0.5


def test_a_node_of_many_edges_is_one_job_with_its_gradient() -> None:
    backend = QiskitBackend("fake_torino", emulator="closed_form", seed=0, shots=2000)
    device = packed(backend=backend)
    circuit = CIRCUITS["own"]
    given = problem(circuit, SHAPE)
    found = qnode(circuit, device)(*given.inputs)
    found.sum().backward()
    assert len(device.jobs) == 1
    exact = expectation(circuit, *given.inputs, engine="torch").detach()
    assert float((found.detach() - exact).abs().max()) < 6 * 2000**-0.5


def test_a_backend_by_name() -> None:
    device = qml.device("qkan.packed", wires=1, backend="aer")
    assert device.shots.total_shots == device.backend.shots == 4096


def test_shots_that_are_not_the_backends_are_refused() -> None:
    device = packed(wires=1, backend=ExactBackend(shots=100))
    node = qml.QNode(to_pennylane(ansatz("pz", 1)), device)
    assert -1 <= float(node(0.1, np.zeros(4))) <= 1
    for shots, text in ((50, "50"), (None, "no")):
        with pytest.raises(BackendError, match=f"A tape has {text} shots, but exact takes 100"):
            qml.set_shots(node, shots)(0.1, np.zeros(4))
    with pytest.raises(BackendError, match="seed=1: exact makes its own draws"):
        packed(backend=ExactBackend(), seed=1)


def test_values_that_a_failed_job_did_not_bring_are_an_error() -> None:
    device = packed(wires=1, backend=ExactBackend(shots=100, fail={0: [1]}))
    node = qml.QNode(to_pennylane(ansatz("pz", 1)), device)
    with pytest.raises(BackendError, match="1 of 3 values did not come back from exact"):
        node(np.zeros(3), np.zeros(4))
    assert len(device.jobs) == 1


# ---- what it does not declare


def entangled() -> Any:
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    ("function", "shots", "error", "message"),
    [
        (entangled, None, DeviceError, r"Operator CNOT.* not supported with qkan\.packed"),
        (lambda: qml.sample(wires=0), 10, DeviceError, "not accepted with finite shots"),
        (lambda: qml.counts(wires=0), 10, DeviceError, "supported are expval, var, and probs"),
        (lambda: qml.state(), None, DeviceError, "not accepted for analytic simulation"),
        (lambda: qml.probs(op=qml.X(0)), None, DeviceError, "probs in the basis of Z"),
        (lambda: qml.expval(qml.Z(7)), None, WireError, "wires"),
    ],
    ids=["entangled", "sample", "counts", "state", "another basis", "wire"],
)
def test_what_it_cannot_do_is_refused(
    function: Callable[[], Any], shots: int | None, error: type[Exception], message: str
) -> None:
    node = qml.QNode(function, packed(wires=2), shots=shots)
    with pytest.raises(error, match=message):
        node()


SUITE = """
import sys, pytest
from pennylane.devices.tests import get_device_tests
folder = get_device_tests()
for shots in ("None", "20000"):
    pytest.main([
        folder, "--device=qkan.packed", f"--shots={shots}", "--device-kwargs", "seed=0",
        "--skip-ops", f"--ignore={folder}/test_templates.py", "--tb=no", "-q",
        f"--junit-xml={shots}.xml", "-p", "no:flaky", "-p", "no:cacheprovider",
    ])
"""


@pytest.mark.full
def test_pennylanes_device_tests(tmp_path: Path) -> None:
    """Whatever fails lacks a gate on two wires, which the device does not declare."""
    subprocess.run([sys.executable, "-c", SUITE], cwd=tmp_path, check=True, capture_output=True)
    for shots in ("None", "20000"):
        root = ElementTree.parse(tmp_path / f"{shots}.xml").getroot()
        cases = list(root.iter("testcase"))
        passed = [case for case in cases if all(part.tag == "properties" for part in case)]
        bad = [part for case in cases for part in case if part.tag in ("failure", "error")]
        texts = [part.get("message", "") for part in bad]
        assert all("Operator CNOT" in text and "not supported" in text for text in texts), texts
        assert len(passed) >= 130 and len(bad) <= 16


# ---- a PennyLane device as a backend


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "default.mixed"])
def test_values_lie_within_their_bars(name: str) -> None:
    backend = PennyLaneBackend(qml.device(name, wires=4, seed=1), shots=1000)
    angles = np.random.default_rng(0).uniform(-3, 3, (60, len(CIRCUITS["own"].parametric_gates)))
    z, stderr = backend.measure(CIRCUITS["own"], angles)
    pull = (z - expectation_of(CIRCUITS["own"], simulate(CIRCUITS["own"], angles))) / stderr
    assert 0.75 < pull.std() < 1.25 and abs(pull).max() < 4.5


def test_rows_are_packed_on_the_wires_and_tasks_of_any_circuit_go_together() -> None:
    device = qml.device("qkan.packed", wires=["a", "b", "c"], seed=0)
    backend = PennyLaneBackend(device, shots=2000, width=2, layout=[2, 0], mitigation="none")
    assert repr(backend) == "PennyLaneBackend('qkan.packed', shots=2000, width=2)"
    tasks = [
        Task(CIRCUITS[name], np.full((n, len(CIRCUITS[name].parametric_gates)), 0.4))
        for name, n in (("pz3", 5), ("bare", 1), ("px1", 2))
    ]
    with backend.open() as opened, qml.Tracker(device) as tracker:
        found = opened.measure(tasks)
        assert len(opened.jobs) == 1
    assert tracker.totals["batches"] == 1
    assert {int(q) for one in found for q in one.qubit} == {0, 2}
    for task, one in zip(tasks, found, strict=True):
        exact = expectation_of(task.circuit, simulate(task.circuit, task.angles))
        assert (np.abs(one.z - exact) < 5 * one.stderr).all()


def test_models_run_and_train_on_it(tmp_path: Path) -> None:
    model, x = network([2, 2, 1]), torch.rand(6, 2, dtype=torch.float64)
    backend = PennyLaneBackend(qml.device("default.qubit", wires=4, seed=3), shots=500)
    result = run(model, x, backend, store=tmp_path)
    with torch.no_grad():
        assert ((result.values - model(x)).abs() < 5 * result.stderr).all()
    again = resume(tmp_path, backend, progress=False)
    assert torch.equal(again.values, result.values)
    with on_device(model, backend) as device:
        device(x).sum().backward()
    assert len(device.jobs) == 2 and model.layers[0].theta.grad is not None


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(BackendError, match="There is no PennyLane device 'nothing'"):
        PennyLaneBackend("nothing")
    with pytest.raises(BackendError, match="not a PennyLane device; pass a name"):
        PennyLaneBackend(3)
    with pytest.raises(BackendError, match="width=9: only 8 qubits"):
        PennyLaneBackend(width=9)
