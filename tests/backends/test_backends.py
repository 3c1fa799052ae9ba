"""Packing, layout, names, inputs: what a backend promises before and after a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import qiskit_ibm_runtime
from cases import CIRCUITS
from fake_service import FakeService, readings, service_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qkan.backends import BackendError, QiskitBackend, Task
from qkan.backends.closed_form import ClosedFormProvider
from qkan.backends.packing import flatten, into_jobs, pack
from qkan.backends.provider import Job
from qkan.backends.qiskit import runtime
from qkan.backends.qiskit.local import ideal_calibration
from qkan.backends.qiskit.templates import Templates
from qkan.circuits import RX, Circuit, Encoding, ansatz, isa, isa_expectation

TURN = Circuit([RX(Encoding(0))])
SHOTS = 10_000


class Expected(ClosedFormProvider):
    """Counts what is expected instead of drawing: what it measures is exact but for rounding."""

    def draw(self, job: Job) -> list[np.ndarray]:
        noise = self._calibration.device_noise(job.layout)
        return [
            np.rint((1 - pub.sequence.expectation(pub.turns, np, noise)) / 2 * job.shots).astype(
                int
            )
            for pub in job.pubs
        ]


def expected_backend(qubits: int = 12, **options: object) -> QiskitBackend:
    provider = Expected(ideal_calibration("exact", qubits))
    return QiskitBackend(
        "exact", provider=provider, **{"shots": SHOTS, "mitigation": "none", **options}
    )


def some_tasks(seed: int = 0) -> list[Task]:
    rng = np.random.default_rng(seed)
    tasks = []
    for name, shape in (("pz3", (3, 2)), ("own", (5,)), ("unmoved", (2,)), ("pz3", (1, 1, 3))):
        circuit = CIRCUITS[name]
        angles = rng.uniform(-5, 5, (*shape, len(circuit.parametric_gates)))
        tasks.append(Task(circuit, angles, rng.uniform(0, 2, shape)))
    return tasks


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 5),
    st.sampled_from(["none", "readout"]),
    st.sampled_from(["faithful", "fused"]),
    st.booleans(),
)
def test_any_packing_gives_every_value_its_own(
    width: int, seed: int, mitigation: str, mode: str, few: bool
) -> None:
    layout = np.random.default_rng(seed).permutation(12).tolist()
    backend = expected_backend(
        width=width, layout=layout, mitigation=mitigation, mode=mode, shots=1000 if few else 9999,
        job_seconds=2.0 + 0.00035 * 60_000,
    )  # fmt: skip
    with backend.open() as run:
        found = run.measure(some_tasks(seed))
    for one, task in zip(found, some_tasks(seed), strict=True):
        wanted = isa_expectation(task.circuit, task.angles, np)
        assert one.z.shape == wanted.shape == one.stderr.shape == one.qubit.shape
        assert np.abs(one.z - wanted).max() < (8e-3 if few else 8e-4)
        assert set(one.qubit.ravel()) <= set(layout[:width])


def test_the_heaviest_values_are_on_the_best_qubits() -> None:
    weight = np.arange(10.0)
    backend = expected_backend(layout=[7, 3, 9, 1], width=4)
    with backend.open() as run:
        (found,) = run.measure([Task(TURN, np.zeros((10, 1)), weight)])
    np.testing.assert_array_equal(found.qubit, [1, 9, 9, 9, 3, 3, 3, 7, 7, 7])


def test_rows_are_filled_across_samples_and_edges() -> None:
    values = flatten([Task(TURN, np.zeros((3, 5, 1))), Task(TURN, np.zeros((2, 1)))])
    (block,) = pack(values, np.arange(17), width=4)
    assert block.value_index.shape == (5, 4)
    assert sorted(block.value_index.ravel()) == [-1, -1, -1, *range(17)]
    jobs = into_jobs([block], rows=2)
    assert [job[0].value_index.shape[0] for job in jobs] == [2, 2, 1]


def test_angles_are_reduced_and_cast() -> None:
    angles = np.array([[0.3], [0.3 + 2 * np.pi], [0.3 - 8e6 * np.pi]])
    (turns,) = flatten([Task(TURN, angles)]).turns
    assert ((turns >= 0) & (turns < 2 * np.pi)).all()
    np.testing.assert_allclose(turns, turns[:1].repeat(3, 0), atol=1e-8)
    backend = expected_backend()
    z, _ = backend.measure(TURN, np.float32([[0.25]]))
    assert z.dtype == np.float64 and abs(z[0] - np.cos(0.25)) < 2e-4


def test_nothing_to_measure_is_no_job() -> None:
    service = FakeService()
    backend = service_backend(service, store=None)
    with expected_backend().open() as run:
        assert run.measure([]) == []
        (found,) = run.measure([Task(TURN, np.zeros((0, 4, 1)))])
        assert found.z.shape == found.stderr.shape == (0, 4) and run.jobs == ()
    assert backend.cost(0).jobs == backend.cost(0).executions == backend.cost(0).seconds == 0
    assert not service.jobs_by_id


WRONG_TASKS = {
    "nan": (np.array([[0.1], [np.nan]]), 1.0, r"angle is nan at \(1,\), gate 0"),
    "inf": (np.array([[np.inf]]), 1.0, "angle is inf"),
    "huge": (np.array([[2e8]]), 1.0, "at most 1e"),
    "complex": (np.array([[1j]]), 1.0, "real number"),
    "text": (np.array([["a"]]), 1.0, "real number"),
    "shape": (np.zeros((4, 2)), 1.0, "1 parametric gates"),
    "flat": (np.array(0.3), 1.0, "1 parametric gates"),
    "weight": (np.zeros((4, 1)), np.array([1.0, 2.0]), "does not broadcast"),
    "negative weight": (np.zeros((4, 1)), -1.0, "0 or more"),
    "nan weight": (np.zeros((4, 1)), np.nan, "0 or more"),
}


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_tasks_that_cannot_be_measured(case: str, tmp_path: Path) -> None:
    angles, weight, message = WRONG_TASKS[case]
    service = FakeService()
    with service_backend(service).open(tmp_path) as run:
        with pytest.raises(BackendError, match=message):
            run.measure([Task(TURN, angles, weight)])
        with pytest.raises(BackendError, match="not a Circuit"):
            run.measure([Task("pz", angles)])  # type: ignore[arg-type]
    assert not service.jobs_by_id


WRONG_OPTIONS = {
    "no shots": ({"shots": 0}, "shots=0"),
    "negative shots": ({"shots": -5}, "shots=-5"),
    "fractional shots": ({"shots": 10.5}, "shots=10.5"),
    "true shots": ({"shots": True}, "shots=True"),
    "too many shots": ({"shots": 6_000_000}, "at most 1,250,000"),
    "misspelt": ({"mitigaton": "none"}, "Did you mean 'mitigation'"),
    "mitigation": ({"mitigation": "zne"}, "Known: none, readout"),
    "mode": ({"mode": "fuse"}, "Did you mean 'fused'"),
    "emulator": ({"emulator": "closed"}, "closed_form"),
    "width 0": ({"width": 0}, "width=0"),
    "width": ({"width": 99}, "32 qubits of aer are within"),
    "margin": ({"margin": 0.5}, "1 or more"),
    "budget": ({"budget_seconds": 0}, "above 0"),
    "execution": ({"execution": "sessions"}, "Did you mean 'session'"),
    "nan budget": ({"budget_seconds": float("nan")}, "finite"),
    "job time": ({"job_seconds": 2.1}, "not enough for one row"),
    "layout twice": ({"layout": [3, 4, 3]}, "qubit 3 occurs twice"),
    "layout outside": ({"layout": [3, 44]}, "no qubit 44"),
    "layout short": ({"layout": [3, 4], "width": 3}, "2 qubits, but 3"),
    "layout of halves": ({"layout": [0.5]}, "whole numbers"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_options_that_cannot_be_right(case: str) -> None:
    options, message = WRONG_OPTIONS[case]
    with pytest.raises(BackendError, match=message):
        QiskitBackend("aer", **{"emulator": "closed_form", **options})


def test_a_cost_of_something_else_than_a_number() -> None:
    for wrong in (-1, 2.5, True):
        with pytest.raises(BackendError, match="whole number"):
            expected_backend().cost(wrong)  # type: ignore[arg-type]


NAMES = {"FakeManilaV2": "fake_manila", "fake_manila": "fake_manila", "FakeManila": "fake_manila",
         "fake_manila_v2": "fake_manila", "aer": "aer"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_devices_by_name(name: str) -> None:
    backend = QiskitBackend(name, emulator="closed_form", max_error=0.5, seed=1)
    assert backend.name == NAMES[name]
    assert backend.width == (32 if name == "aer" else 5)
    z, stderr = backend.measure(TURN, np.zeros((3, 1)))
    assert (z > 0.9).all() and (stderr > 0).all()
    assert repr(backend).startswith(f"QiskitBackend({NAMES[name]!r}")


def test_devices_that_are_not_there() -> None:
    with pytest.raises(BackendError, match="Did you mean 'fake_sherbrooke'"):
        QiskitBackend("fake_sherbroke")
    with pytest.raises(BackendError, match="is not a device"):
        QiskitBackend(3)


def test_ibm_without_an_account_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_CHANNEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BackendError, match="save_account") as refusal:
        QiskitBackend("ibm_nowhere", budget_seconds=10, channel="local_nowhere")
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("name", ["least_busy", "ibm_manila"])
def test_a_device_of_the_account(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, asked = FakeService(), {}

    def connect(channel: str, instance: str) -> FakeService:
        asked.update(channel=channel, instance=instance)
        return service

    monkeypatch.setattr(qiskit_ibm_runtime, "QiskitRuntimeService", connect)
    monkeypatch.setattr(runtime, "sampler_class", lambda: service.sampler)
    backend = QiskitBackend(
        name, budget_seconds=20, instance="crn:mine", channel="ibm_cloud", max_error=0.5,
        store=tmp_path, poll_seconds=0.0,
    )  # fmt: skip
    assert asked == {"channel": "ibm_cloud", "instance": "crn:mine"}
    assert (backend.name, backend.provider.bills, backend.width) == ("fake_manila", True, 5)
    z, _ = backend.measure(TURN, np.zeros((3, 1)))
    assert (z > 0.9).all() and backend.seconds_left == pytest.approx(20 - service.billed)


@pytest.mark.parametrize("mode", ["faithful", "fused"])
def test_the_real_primitive_runs_a_fake_device(mode: str, tmp_path: Path) -> None:
    backend = QiskitBackend(FakeManilaV2(), width=3, shots=600, seed=4, mode=mode, max_error=0.5)
    circuit = ansatz("pz", 3)
    angles = np.random.default_rng(0).uniform(-3, 3, (20, len(circuit.parametric_gates)))
    wanted = isa_expectation(circuit, angles, np)
    with backend.open(tmp_path) as run:
        (found,) = run.measure([Task(circuit, angles)])
        # another circuit in the same run, and twice the same seed
        (other,) = run.measure([Task(TURN, np.zeros((2, 1)))])
    assert (np.abs(found.z - wanted) < 4.5 * found.stderr).all()
    assert (other.z > 0.8).all()
    again = QiskitBackend("FakeManilaV2", width=3, shots=600, seed=4, mode=mode, max_error=0.5)
    np.testing.assert_array_equal(again.measure(circuit, angles)[0], found.z)


@pytest.mark.parametrize(
    "device", [AerSimulator(), GenericBackendV2(3, seed=1)], ids=["aer", "generic"]
)
def test_any_backend_of_qiskits(device: object) -> None:
    backend = QiskitBackend(device, width=2, shots=500, seed=1, max_error=0.5)
    z = np.array([-0.7, 0.1, 0.8])
    found, stderr = backend.measure(TURN, np.arccos(z)[:, None])
    assert (np.abs(found - z) < 5 * stderr + 0.02).all()


def test_a_device_without_our_instructions() -> None:
    device = GenericBackendV2(2, basis_gates=["rx", "rz", "cx"], seed=1)
    with pytest.raises(BackendError, match="lacks the instructions"):
        QiskitBackend(device)


def test_the_template_runs_what_the_closed_form_says() -> None:
    device = FakeManilaV2()
    templates = Templates(device)
    for circuit in CIRCUITS.values():
        angles = np.random.default_rng(0).uniform(-4, 4, (6, len(circuit.parametric_gates)))
        values = flatten([Task(circuit, angles)])
        (block,) = pack(values, np.arange(6), width=3)
        turns = block.turns(values)
        built = templates.get(values.sequences[0], (4, 0, 2))
        found = 1 - 2 * readings(built, turns.reshape(2, -1), {})
        wanted = isa_expectation(circuit, angles, np)[block.value_index]
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_service_can_share_a_job_between_circuits(tmp_path: Path) -> None:
    service = FakeService()
    with service_backend(service, shots=2000).open(tmp_path) as run:
        found = run.measure(some_tasks())
    (job,) = service.jobs_by_id.values()
    assert len(job.pubs) == 4  # three circuits and the calibration
    for one, task in zip(found, some_tasks(), strict=True):
        wanted = isa_expectation(task.circuit, task.angles, np)
        assert (np.abs(one.z - wanted) < 5 * one.stderr).all()


def test_fractional_gates_are_one_pulse(tmp_path: Path) -> None:
    device = GenericBackendV2(3, basis_gates=["sx", "x", "rz", "rx", "cx"], seed=1)
    service = FakeService(device=device)
    circuit = CIRCUITS["own"]
    angles = np.random.default_rng(0).uniform(-4, 4, (7, len(circuit.parametric_gates)))
    backend = service_backend(service, shots=4000, use_fractional_gates=True)
    with backend.open(tmp_path) as run:
        (found,) = run.measure([Task(circuit, angles)])
    counted = service.results[0].pubs[0][0].count_ops()
    assert counted["rx"] == 3 * isa(circuit, native_rx=True).count("rx") > 0
    assert (np.abs(found.z - isa_expectation(circuit, angles, np)) < 5 * found.stderr).all()


def test_an_account_without_sessions_gets_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = []

    class Batch:
        def __init__(self, backend: object) -> None:
            self.closed = False
            opened.append(self)

        def close(self) -> None:
            self.closed = True

    def no_session(backend: object) -> None:
        raise qiskit_ibm_runtime.exceptions.IBMRuntimeError("No sessions on the open plan.")

    monkeypatch.setattr(qiskit_ibm_runtime, "Session", no_session)
    monkeypatch.setattr(qiskit_ibm_runtime, "Batch", Batch)
    service = FakeService()
    with service_backend(service, execution="session").open(tmp_path) as run:
        for _ in range(2):
            run.measure([Task(TURN, np.zeros((2, 1)))])
    assert [batch.closed for batch in opened] == [True]
    assert caplog.text.count("using a batch") == 1
    assert service.modes == opened * 2
