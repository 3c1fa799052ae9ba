"""`expectation` and `simulate`: shapes, shots, noise, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from qkan.circuits import Circuit, Encoding, Gate, Theta, ansatz, lower
from qkan.simulators import (
    Channel,
    Noise,
    Request,
    SimulatorError,
    amplitude_damping,
    depolarizing,
    expectation,
    expectation_of,
    explain,
    phase_damping,
    select,
    simulate,
    thermal_relaxation,
)

DOUBLE = torch.float64


def test_leading_dimensions_pass_through() -> None:
    circuit = ansatz("pz", 2)
    p = problem(circuit, Shape(12, 3, 5))
    flat = expectation(circuit, *p.inputs)
    x = p.x.reshape(3, 2, 2, 5)
    assert_close(expectation(circuit, x, *p.inputs[1:]), flat.reshape(3, 2, 2, 3, 5), "value")
    assert_close(expectation(circuit, p.x[0], *p.inputs[1:]), flat[0], "one sample")


def test_parameters_of_each_sample_own() -> None:
    circuit = ansatz("pz", 2)
    x = torch.randn(4, 5, dtype=DOUBLE)
    theta = torch.randn(4, 3, 5, circuit.num_theta, dtype=DOUBLE)
    each = torch.stack([expectation(circuit, x[b], theta[b]) for b in range(4)])
    assert_close(expectation(circuit, x, theta), each, "value")


def test_the_default_is_the_linear_encoding_without_shift() -> None:
    circuit = ansatz("mix", 2)
    p = problem(circuit, Shape(3, 2, 2))
    one, zero = torch.ones_like(p.scale), torch.zeros_like(p.shift)
    wanted = expectation(circuit, p.x, p.theta, one, zero)
    assert_close(expectation(circuit, p.x, p.theta), wanted, "default")
    assert_close(expectation(circuit, p.x, p.theta, "linear"), wanted, "by name")
    assert_close(expectation(circuit, p.x, p.theta, (1, 1)), wanted, "by numbers")


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(sorted(CIRCUITS)), seed=st.integers(0, 10**6))
def test_an_expectation_value_is_within_one(name: str, seed: int) -> None:
    p = problem(CIRCUITS[name], Shape(5, 2, 3), seed)
    assert expectation(CIRCUITS[name], *p.inputs).abs().max() <= 1 + 1e-12


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(["pz", "rpz", "real", "mix"]), seed=st.integers(0, 10**6))
def test_fixed_encodings_have_the_period_two_pi(name: str, seed: int) -> None:
    circuit = ansatz(name, 3)
    p = problem(circuit, Shape(5, 2, 3), seed)
    for encoding in ("linear", "ternary"):
        here = expectation(circuit, p.x, p.theta, encoding, p.shift)
        there = expectation(circuit, p.x + 2 * math.pi, p.theta, encoding, p.shift)
        assert_close(there, here, encoding)


def test_edges_are_independent() -> None:
    circuit = ansatz("pz", 2)
    p = problem(circuit, Shape(3, 2, 4))
    before = expectation(circuit, *p.inputs)
    x = p.x.detach().clone()
    x[:, 1] += 1.0
    after = expectation(circuit, x, *p.inputs[1:])
    changed = (before != after).any(0)
    assert changed[:, 1].all() and not changed[:, [0, 2, 3]].any()


def test_shots_have_the_right_mean_and_spread() -> None:
    circuit = ansatz("pz", 2)
    p = problem(circuit, Shape(40, 5, 10))
    exact = expectation(circuit, *p.inputs).detach()
    shots = 2000
    found = expectation(circuit, *p.inputs, shots=shots, generator=torch.Generator().manual_seed(7))
    inner = exact.abs() < 0.99
    z = ((found - exact) / ((1 - exact**2) / shots).sqrt())[inner]
    assert abs(float(z.mean())) < 4 / math.sqrt(z.numel())
    assert abs(float(z.std()) - 1) < 4 / math.sqrt(2 * z.numel())
    again = expectation(circuit, *p.inputs, shots=shots, generator=torch.Generator().manual_seed(7))
    assert torch.equal(found, again) and not found.requires_grad


PAULI = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0 + 0j, -1.0]),
}


def noisy_by_kraus(circuit: Circuit, angles: np.ndarray, kraus: list[np.ndarray]) -> float:
    """⟨M⟩ from a density matrix with Kraus operators after each gate, the slow way."""
    rho = np.diag([1.0 + 0j, 0.0])
    values = iter(angles)
    for gate in circuit.gates:
        matrix = _matrix(gate, values)
        rho = matrix @ rho @ matrix.conj().T
        rho = sum(k @ rho @ k.conj().T for k in kraus)
    observable = sum(n * PAULI[a] for n, a in zip(circuit.observable_vector, "XYZ", strict=True))
    return float(np.trace(rho @ observable).real)


def _matrix(gate: Gate, values: object) -> np.ndarray:
    if gate.angle is None:
        hadamard = (PAULI["X"] + PAULI["Z"]) / math.sqrt(2)
        return {"H": hadamard, "X": PAULI["X"], "Z": PAULI["Z"]}[gate.name]
    free = isinstance(gate.angle, Theta | Encoding)
    a = next(values) if free else gate.angle.value  # type: ignore[call-overload]
    return math.cos(a / 2) * PAULI["I"] - 1j * math.sin(a / 2) * PAULI[gate.name[1]]


def _relaxation(t1: float, t2: float, time: float) -> list[np.ndarray]:
    """Amplitude damping, then the phase damping that is left, as Kraus operators."""
    gamma = 1 - math.exp(-time / t1)
    lam = 1 - math.exp(-2 * time / t2) / (1 - gamma)
    damping = [np.diag([1, math.sqrt(1 - gamma)]), np.array([[0, math.sqrt(gamma)], [0, 0]])]
    phase = [np.diag([1, math.sqrt(1 - lam)]), np.diag([0, math.sqrt(lam)])]
    return [p @ d for p in phase for d in damping]


CHANNELS: dict[str, tuple[Channel, list[np.ndarray]]] = {
    "depolarizing": (
        depolarizing(0.12),
        [math.sqrt(1 - 0.09) * PAULI["I"], *(math.sqrt(0.03) * PAULI[a] for a in "XYZ")],
    ),
    "amplitude damping": (
        amplitude_damping(0.2),
        [np.diag([1, math.sqrt(0.8)]), np.array([[0, math.sqrt(0.2)], [0, 0]])],
    ),
    "phase damping": (
        phase_damping(0.3),
        [np.diag([1, math.sqrt(0.7)]), np.diag([0, math.sqrt(0.3)])],
    ),
    "thermal relaxation": (thermal_relaxation(50.0, 70.0, 8.0), _relaxation(50.0, 70.0, 8.0)),
}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("name", ["pz1", "real3", "own", "mixed"])
def test_noise_equals_the_density_matrix(name: str, channel: str) -> None:
    circuit = CIRCUITS[name]
    p = problem(circuit, Shape(3, 1, 1))
    affine, kraus = CHANNELS[channel]
    found = expectation(circuit, *p.inputs, noise=Noise(affine)).detach()
    theta, scale, shift = (t.detach().numpy()[0, 0] for t in (p.theta, p.scale, p.shift))
    for b, x in enumerate(p.x.detach().numpy()[:, 0]):
        angles = []
        for gate in circuit.parametric_gates:
            u = gate.angle.index
            if isinstance(gate.angle, Theta):
                angles.append(theta[u])
            else:
                e = scale[u] * x + shift[u]
                angles.append(math.acos(min(1.0, max(-1.0, e))) if gate.angle.arccos else e)
        assert abs(float(found[b]) - noisy_by_kraus(circuit, np.array(angles), kraus)) < 1e-12


def test_noise_composes_reads_out_and_is_differentiable() -> None:
    circuit = ansatz("pz", 1)
    p = problem(circuit, Shape(3, 2, 2))
    exact = expectation(circuit, *p.inputs)
    assert_close(expectation(circuit, *p.inputs, noise=Noise()), exact, "no noise")
    found = expectation(circuit, *p.inputs, noise=Noise(readout=(0.02, 0.05)))
    assert_close(found, 0.93 * exact + 0.03, "readout")
    both = amplitude_damping(0.1).then(depolarizing(0.2))
    only = expectation(circuit, *p.inputs, noise=Noise({"RZ": both}))
    assert not torch.allclose(only, exact)
    gamma = torch.tensor(0.1, dtype=DOUBLE, requires_grad=True)
    torch.autograd.gradcheck(
        lambda g: expectation(circuit, *p.inputs, noise=Noise(amplitude_damping(g))), gamma
    )


def test_amplitudes_of_torch_and_numpy_agree_and_have_norm_one() -> None:
    for circuit in CIRCUITS.values():
        angles = torch.randn(4, 3, len(circuit.parametric_gates), dtype=DOUBLE, requires_grad=True)
        state = simulate(circuit, angles)
        assert state.shape == (4, 3, 2) and state.dtype == torch.complex128
        assert_close(state.abs().square().sum(-1), torch.ones(4, 3), "norm")
        plain = simulate(circuit, angles.detach().numpy())
        assert np.abs(plain - state.detach().numpy()).max() < 1e-14
    assert simulate(ansatz("pz"), torch.zeros(11)).dtype == torch.complex64
    circuit = CIRCUITS["own"]
    angles = torch.randn(2, len(circuit.parametric_gates), dtype=DOUBLE, requires_grad=True)
    torch.autograd.gradcheck(lambda a: expectation_of(circuit, simulate(circuit, a)), angles)


def test_explain_names_every_engine_and_marks_the_choice() -> None:
    request = Request(lower(ansatz("pz")), 64, 8, 8)
    said = explain(request)
    assert f"→ {said.engine}" in str(said)
    assert {name for name, _ in said.verdicts} == set(__import__("qkan").engines())
    assert select("auto", request).name == said.engine


def wrong_calls() -> dict[str, tuple[object, str]]:
    circuit = ansatz("pz", 2)
    x, theta = torch.zeros(3, 4), torch.zeros(2, 4, 6)
    call = expectation
    return {
        "theta slots": (lambda: call(circuit, x, torch.zeros(2, 4, 5)), r"theta \(o, i, 6\)"),
        "inputs": (lambda: call(circuit, torch.zeros(3, 5), theta), "with the same i"),
        "integers": (lambda: call(circuit, x.long(), theta), "x is torch.int64"),
        "complex": (lambda: call(circuit, x, theta.cfloat()), "theta is torch.complex64"),
        "numpy": (lambda: call(circuit, np.zeros((3, 4)), theta), "pass a torch tensor"),
        "dtypes": (lambda: call(circuit, x.double(), theta), "convert one of them"),
        "scale": (lambda: call(circuit, x, theta, torch.ones(2, 4, 3)), r"wanted \(2, 4, 2\)"),
        "shift": (lambda: call(circuit, x, theta, None, torch.ones(4, 2)), "shift"),
        "engine": (lambda: call(circuit, x, theta, engine="torhc"), "Did you mean 'torch'"),
        "shots": (lambda: call(circuit, x, theta, shots=0), "shots=0"),
        "fractional shots": (lambda: call(circuit, x, theta, shots=1.5), "shots=1.5"),
        "noise by engine": (
            lambda: call(circuit, x, theta, engine="reference", noise=Noise()), "pure states only",
        ),
        "batched by engine": (
            lambda: call(circuit, x, torch.zeros(3, 2, 4, 6), engine="reference"), "per sample",
        ),
        "probability": (lambda: depolarizing(1.2), "from 0 to 1"),
        "relaxation": (lambda: thermal_relaxation(1.0, 3.0, 0.1), "at most 2·t1"),
        "gate of noise": (lambda: Noise({"CX": depolarizing(0.1)}), "no such gates"),
        "angles": (lambda: simulate(circuit, torch.zeros(3, 7)), r"pass \(…, 8\)"),
        "angle type": (lambda: simulate(circuit, [0.0] * 8), "numpy, torch or CuPy"),
        "angle dtype": (lambda: simulate(circuit, torch.zeros(8, dtype=torch.long)), "real floats"),
    }  # fmt: skip


@pytest.mark.parametrize("case", wrong_calls())
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, message = wrong_calls()[case]
    with pytest.raises(SimulatorError, match=message):
        call()  # type: ignore[operator]
