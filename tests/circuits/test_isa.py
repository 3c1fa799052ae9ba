"""What a device really runs: the sequence, its closed form, its export to Qiskit and OpenQASM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CIRCUITS
from compare import assert_close
from qiskit import qasm3
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

from qkan.circuits import (
    FUSED,
    Circuit,
    CircuitError,
    DeviceNoise,
    ansatz,
    circuit_observable,
    fused_turns,
    isa,
    isa_expectation,
    pulse_noise,
    to_openqasm3,
    to_qiskit,
)
from qkan.simulators import depolarizing, thermal_relaxation
from qkan.simulators.reference import measure

WAYS = {"faithful": {}, "fused": {"fused": True}, "native rx": {"native_rx": True}}


def some_angles(circuit: Circuit, count: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-9, 9, (count, len(circuit.parametric_gates)))


def exact(circuit: Circuit, angles: np.ndarray) -> torch.Tensor:
    return torch.tensor([measure(circuit, row) for row in angles], dtype=torch.float64)


def some_noise(xp, like=float) -> DeviceNoise:
    error, seconds, t1, t2 = (like(v) for v in (4e-4, 6e-8, 2e-4, 1.1e-4))
    sx = pulse_noise(error, seconds, t1, t2, xp)
    x = pulse_noise(2 * error, seconds, t1, t2, xp)
    return DeviceNoise(sx, x, like(0.02), like(0.05))


def test_a_pulse_depolarises_and_then_relaxes() -> None:
    t1, t2, seconds, error = 2e-4, 1.1e-4, 6e-8, 4e-4
    relaxes = thermal_relaxation(t1, t2, seconds)
    fidelity = 0.5 + sum(relaxes.factor) / 6
    depolarises = depolarizing(2 * (error - (1 - fidelity)) / (2 * fidelity - 1))
    wanted, found = depolarises.then(relaxes), pulse_noise(error, seconds, t1, t2, np).channel
    assert np.allclose(found.factor, wanted.factor, rtol=1e-12)
    assert np.allclose(found.offset, wanted.offset, rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CIRCUITS)
def test_the_closed_form_is_the_circuit(name: str, way: str) -> None:
    circuit = CIRCUITS[name]
    angles = some_angles(circuit)
    wanted = exact(circuit, angles)
    found = isa_expectation(circuit, angles, np, **WAYS[way])
    assert_close(torch.from_numpy(found), wanted, "numpy")
    assert_close(
        isa_expectation(circuit, torch.tensor(angles), torch, **WAYS[way]), wanted, "torch"
    )


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_fused_angle_is_that_of_the_expectation_value(name: str) -> None:
    circuit = CIRCUITS[name]
    angles = some_angles(circuit)
    b = fused_turns(circuit, angles, np)
    assert b.shape == (7, 1)
    assert_close(torch.from_numpy(-np.cos(b[:, 0])), exact(circuit, angles), "-cos b", 1e-10)
    found = FUSED.expectation(b, np, some_noise(np))
    wanted = isa_expectation(circuit, angles, np, some_noise(np), fused=True)
    assert_close(torch.from_numpy(found), torch.from_numpy(wanted), "with noise", 1e-10)


@pytest.mark.parametrize("native_rx", [False, True])
@pytest.mark.parametrize("name", CIRCUITS)
def test_the_twin_has_the_opposite_value(name: str, native_rx: bool) -> None:
    circuit = CIRCUITS[name]
    sequence = isa(circuit, native_rx)
    angles = some_angles(circuit)
    turns = sequence.turns(angles, np)
    turns[..., sequence.flip] += np.pi
    found = torch.from_numpy(sequence.expectation(turns, np))
    assert_close(found, -exact(circuit, angles), "twin")


@pytest.mark.parametrize("name", CIRCUITS)
def test_twins_cancel_the_readout_and_the_last_relaxation(name: str) -> None:
    sequence = isa(CIRCUITS[name])
    turns = sequence.turns(some_angles(CIRCUITS[name]), np)
    flipped = turns.copy()
    flipped[..., sequence.flip] += np.pi
    noise = some_noise(np)
    half = (sequence.expectation(turns, np, noise) - sequence.expectation(flipped, np, noise)) / 2
    symmetric = DeviceNoise(noise.sx, noise.x, 0.035, 0.035)
    both = sequence.expectation(turns, np, symmetric)
    last = 0 if sequence.pulses[-1].name == "rx" else 0.93 * 2 * noise.sx.offset * 2
    assert np.abs(half - both).max() <= max(last, 1e-12)


def test_the_pulses_of_the_default_ansatz() -> None:
    for reps in (1, 2, 3, 5):
        sequence = isa(ansatz("pz", reps))
        assert sequence.count("sx") == 2 * (reps + 1) + 1
        assert sequence.count("x") == 0
    assert FUSED.count("sx") == 2
    assert isa(ansatz("pz", 3), native_rx=True).count("rx") == 4


def test_the_closed_form_is_differentiable_through_angles_and_noise() -> None:
    circuit = CIRCUITS["own"]

    def value(angles: torch.Tensor, error: torch.Tensor, t1: torch.Tensor) -> torch.Tensor:
        seconds, t2 = torch.tensor(3e-2).double(), torch.tensor(0.7).double()
        sx = pulse_noise(error, seconds, t1, t2, torch)
        noise = DeviceNoise(sx, sx, 0.01, 0.03)
        return isa_expectation(circuit, angles, torch, noise)

    leaves = (
        torch.tensor(some_angles(circuit, 3)),
        torch.tensor(0.05).double(),
        torch.tensor(0.8).double(),
    )
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(value, leaves)


def test_a_fused_gradient_is_finite_at_the_poles() -> None:
    circuit = ansatz("rpz", 1)
    angles = torch.tensor([[-np.pi / 2, 0.0, 0.0]], requires_grad=True)
    value = isa_expectation(circuit, angles, torch, some_noise(torch, torch.tensor), fused=True)
    value.sum().backward()
    assert torch.isfinite(angles.grad).all()


@pytest.mark.parametrize("name", CIRCUITS)
def test_qiskits_statevectors_agree(name: str) -> None:
    circuit = CIRCUITS[name]
    angles = some_angles(circuit, 3)
    wanted = exact(circuit, angles)
    pubs = [(to_qiskit(circuit, row), circuit_observable(circuit)) for row in angles]
    measured = [to_qiskit(circuit, row, measure=True).remove_final_measurements(inplace=False)
                for row in angles]  # fmt: skip
    pubs += [(built, SparsePauliOp("Z")) for built in measured]
    result = StatevectorEstimator(default_precision=0.0).run(pubs).result()
    found = torch.tensor([float(entry.data.evs) for entry in result], dtype=torch.float64)
    assert_close(found, wanted.repeat(2), "estimator")


@pytest.mark.parametrize("name", CIRCUITS)
def test_openqasm_reads_back(name: str) -> None:
    circuit = CIRCUITS[name]
    (row,) = some_angles(circuit, 1)
    parsed = qasm3.loads(to_openqasm3(circuit, row)).remove_final_measurements(inplace=False)
    parsed.save_density_matrix()
    simulator = AerSimulator(method="density_matrix")
    matrix = np.asarray(simulator.run(parsed).result().data()["density_matrix"])
    found = torch.tensor([(matrix[0, 0] - matrix[1, 1]).real])
    assert_close(found, exact(circuit, row[None]), "density matrix")


def test_parameters_are_named_after_their_slots() -> None:
    circuit = CIRCUITS["own"]
    built = to_qiskit(circuit)
    names = {parameter.name for parameter in built.parameters}
    assert names == {f"θ[{k}]" for k in range(3)} | {f"e[{u}]" for u in range(2)}
    assert "input float" in to_openqasm3(circuit)
    bound = built.assign_parameters(
        {p: 0.1 * (1 + p.index) * (-1 if p.name[0] == "e" else 1) for p in built.parameters}
    )
    slots = {"Theta": lambda k: 0.1 * (1 + k), "Encoding": lambda u: -0.1 * (1 + u)}
    angles = [slots[type(g.angle).__name__](g.angle.index) for g in circuit.parametric_gates]
    assert bound == to_qiskit(circuit, angles)


WRONG = {
    "short": (np.zeros(3), "shape"),
    "complex": (np.zeros(4) * 1j, "complex"),
    "nan": (np.array([0.0, np.nan, 0, 0]), "finite"),
    "text": (np.array(["a"] * 4), "dtype"),
}


@pytest.mark.parametrize("case", WRONG)
def test_angles_that_cannot_be_bound(case: str) -> None:
    angles, message = WRONG[case]
    circuit = ansatz("rpz", 1).extend(2).with_observable("Y")
    with pytest.raises(CircuitError, match=message):
        to_qiskit(circuit, angles if case == "short" else np.resize(angles, 5))
