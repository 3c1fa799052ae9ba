"""The closed-form noisy device against Aer, and the error bars against thousands of draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from cases import CIRCUITS
from compare import assert_close
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.fake_provider import FakeSherbrooke, FakeTorino
from selection import selection
from torch import Tensor

from qkan.backends import QiskitBackend, Task
from qkan.backends.closed_form import ClosedFormProvider
from qkan.backends.qiskit.local import AerNoise, ideal_calibration
from qkan.backends.qiskit.snapshot import snapshot
from qkan.backends.qiskit.templates import Templates
from qkan.backends.statistics import Contraction, contractions
from qkan.circuits import FUSED, RX, Circuit, Encoding, ansatz, fused_turns, isa, isa_expectation

DEVICES = {"sherbrooke": FakeSherbrooke(), "torino": FakeTorino()}
TURN = Circuit([RX(Encoding(0))])


def aers_values(model: NoiseModel, bound: list[QuantumCircuit], layout: tuple[int, ...]) -> Tensor:
    """⟨Z⟩ of each circuit and qubit as Aer's density matrix and readout errors have it."""
    for circuit in bound:
        circuit.remove_final_measurements()
        for qubit in layout:
            circuit.save_density_matrix([circuit.qubits[qubit]], label=str(qubit))
    # one call: each converts the noise of the whole device
    result = AerSimulator(method="density_matrix", noise_model=model).run(bound).result()
    readout = {
        error["gate_qubits"][0][0]: np.array(error["probabilities"])
        for error in model.to_dict()["errors"]
        if error["type"] == "roerror"
    }
    values = np.empty((len(bound), len(layout)))
    for k, qubit in np.ndindex(values.shape):
        matrix = np.asarray(result.data(k)[str(layout[qubit])])
        zero, one = matrix.diagonal().real @ readout[layout[qubit]]
        values[k, qubit] = zero - one
    return torch.from_numpy(values)


@pytest.mark.parametrize("readout", selection(["symmetric", "asymmetric"], chosen=["asymmetric"]))
@pytest.mark.parametrize("name", DEVICES)
def test_the_closed_form_device_is_aers(name: str, readout: str) -> None:
    device = DEVICES[name]
    calibration = snapshot(device)
    rng = np.random.default_rng(1)
    layout = tuple(int(q) for q in rng.permutation(device.num_qubits)[:3])
    if readout == "symmetric":
        mean = (calibration.p + calibration.q) / 2
        calibration = dataclasses.replace(calibration, p=mean, q=mean)
        model = NoiseModel.from_backend(device)
    else:
        model = AerNoise(device, calibration).model(layout)
    noise = calibration.device_noise(layout)
    templates = Templates(device)
    bound, wanted = [], []
    for circuit in list(CIRCUITS.values())[readout == "symmetric" :: 3]:
        angles = rng.uniform(-4, 4, (3, len(circuit.parametric_gates)))
        for fused in (False, True):
            sequence = FUSED if fused else isa(circuit)
            turns = fused_turns(circuit, angles, np) if fused else sequence.turns(angles, np)
            bound.append(templates.get(sequence, layout).assign_parameters(turns.ravel()))
            wanted.append(isa_expectation(circuit, angles, np, noise, fused=fused))
    found = aers_values(model, bound, layout)
    assert_close(torch.from_numpy(np.array(wanted)), found, readout)


def test_what_is_submitted_has_the_pulses_that_were_counted() -> None:
    templates = Templates(DEVICES["torino"])
    for circuit in CIRCUITS.values():
        for sequence in (isa(circuit), FUSED):
            built = templates.get(sequence, (3, 90))
            assert built.count_ops().get("sx", 0) == 2 * sequence.count("sx")
            assert built.num_parameters == 2 * len(sequence.slots)
    assert templates.get(isa(ansatz("pz", 3)), (5,)).count_ops()["sx"] == 9
    assert templates.get(FUSED, (5,)).count_ops()["sx"] == 2


def reading_backend(p: float, q: float, **options: object) -> QiskitBackend:
    """A device whose only fault is its readout."""
    ideal = ideal_calibration("reader", 8)
    fault = dataclasses.replace(ideal, p=ideal.p + p, q=ideal.q + q)
    return QiskitBackend(
        "reader", provider=ClosedFormProvider(fault), **{"max_error": 1.0, **options}
    )


def measured(backend: QiskitBackend, z: np.ndarray, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors of z, (calls, v), each call calibrated anew."""
    angles = np.arccos(z)[:, None]
    found = []
    with backend.open() as run:
        for _ in range(calls):
            (one,) = run.measure([Task(TURN, angles)])
            found.append((one.z, one.stderr))
    estimates, stderr = np.array(found).transpose(1, 0, 2)
    return estimates, stderr


WAYS = {
    "raw": (0.0, 0.0, "none"),
    "mitigated": (0.02, 0.05, "readout"),
    "mitigated, nothing to mend": (0.0, 0.0, "readout"),
}


@pytest.mark.parametrize("way", WAYS)
def test_error_bars_are_right_away_from_the_poles(way: str) -> None:
    p, q, mitigation = WAYS[way]
    backend = reading_backend(p, q, mitigation=mitigation, seed=5)
    z = np.linspace(-0.975, 0.975, 64)
    assert (backend.shots * (1 - np.abs(z)) / 2 >= 50).all()
    estimates, stderr = measured(backend, z, 300)
    pull = (estimates - z) / stderr
    assert abs(pull.mean()) < 0.05
    assert abs(pull.std() - 1) < 0.05


@pytest.mark.parametrize("shots", [100, 4096])
@pytest.mark.parametrize("way", WAYS)
def test_error_bars_cover_at_the_poles(way: str, shots: int) -> None:
    p, q, mitigation = WAYS[way]
    backend = reading_backend(p, q, mitigation=mitigation, seed=6, shots=shots)
    expected_ones = np.array([0, 0.3, 1, 1.9, 2.5, 3, 4.7, 6.3, 9, 20])
    z = 1 - 2 * expected_ones / shots
    z = np.repeat(np.concatenate([z, -z]), 20)
    estimates, stderr = measured(backend, z, 150)
    assert (stderr > 0).all()
    inside = np.abs(estimates - z) <= 2 * stderr
    assert inside.reshape(150, 20, 20).mean((0, 2)).min() >= 0.93


def test_mitigation_reaches_the_shot_limit() -> None:
    """On the 8 best qubits of FakeSherbrooke, gates and calibration errors included."""
    backend = QiskitBackend("fake_sherbrooke", emulator="closed_form", width=8, seed=2)
    raw = QiskitBackend(
        "fake_sherbrooke", emulator="closed_form", width=8, seed=2, mitigation="none"
    )
    circuit = ansatz("pz", 3)
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (4000, len(circuit.parametric_gates)))
    z = isa_expectation(circuit, angles, np)
    limit = np.sqrt(np.mean((1 - z**2) / backend.shots))
    errors = [np.sqrt(np.mean((b.measure(circuit, angles)[0] - z) ** 2)) for b in (backend, raw)]
    assert errors[0] <= 1.3 * limit
    assert errors[1] > errors[0]


def test_mitigation_mends_a_bad_reader() -> None:
    backend = reading_backend(0.06, 0.12, seed=3)
    raw = reading_backend(0.06, 0.12, seed=3, mitigation="none")
    z = np.linspace(-1, 1, 400)
    limit = np.sqrt(np.mean((1 - z**2) / backend.shots))
    errors = [np.sqrt(np.mean((measured(b, z, 5)[0] - z) ** 2)) for b in (backend, raw)]
    assert errors[0] < 1.6 * limit < errors[1] / 3


def test_the_shared_error_is_the_calibrations() -> None:
    """Values of one qubit err together by z·r, and r is what the calibration says."""
    backend = reading_backend(0.1, 0.1, seed=4, shots=400, width=1)
    z = np.full(60, 0.9)
    with backend.open() as run:
        found = [run.measure([Task(TURN, np.arccos(z)[:, None])])[0] for _ in range(400)]
    means = np.array([one.z.mean() for one in found])
    shared = np.mean([0.9 * one.calibration_error[0] for one in found])
    own = np.mean([one.shot_stderr.mean() for one in found]) / np.sqrt(60)
    assert means.std() == pytest.approx(np.hypot(shared, own), rel=0.12)
    assert means.std() > 2 * own
    one = found[0]
    np.testing.assert_allclose(
        one.stderr, np.hypot(one.shot_stderr, one.z * one.calibration_error[0])
    )


def test_contractions_add_up_over_jobs() -> None:
    ones = np.array([[10, 40], [990, 900]])
    found = contractions([((3, 7), ones, 1000), ((7, 3), ones[:, ::-1], 1000)])
    assert found[3].value == pytest.approx(0.98, abs=2e-3)
    assert found[7].value == pytest.approx(0.86, abs=2e-3)
    single = contractions([((3, 7), ones, 1000)])
    assert found[7].stderr == pytest.approx(single[7].stderr / np.sqrt(2), rel=0.01)
    assert Contraction(0.05, 0.001).is_dead and Contraction(0.3, 0.1).is_dead
    assert not Contraction(0.3, 0.01).is_dead
