"""Which qubits are used, and what happens when they turn out to be bad."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fake_service import FakeService, service_backend
from stores import records

from qkan.backends import BackendError, Calibration, QiskitBackend, Task, predicted_error
from qkan.backends.closed_form import ClosedFormProvider
from qkan.backends.layout import chosen_layout
from qkan.backends.options import make_options
from qkan.backends.provider import Job
from qkan.backends.qiskit.local import ideal_calibration
from qkan.circuits import RX, Circuit, Encoding

TURN = Circuit([RX(Encoding(0))])


def manila(**changes: object) -> Calibration:
    """Five qubits, each with its own fault."""
    ideal = ideal_calibration("five", 5)
    p = np.array([0.01, 0.02, np.nan, 0.3, 0.005])
    return dataclasses.replace(ideal, p=p, q=p, **changes)


def test_the_layout_ranks_by_what_hurts() -> None:
    calibration = manila(faulty=frozenset({4}))
    assert chosen_layout(calibration, make_options({}), None) == (0, 1)
    assert chosen_layout(manila(), make_options({"max_error": 0.5}), None) == (4, 0, 1, 3)
    assert chosen_layout(manila(), make_options({"layout": [1, 0]}), None) == (1, 0)
    assert chosen_layout(manila(), make_options({"width": 2}), 2, without={4}) == (0, 1)
    error = predicted_error(manila())
    assert np.isnan(error[2]) and error[0] == pytest.approx(0.02 / np.sqrt(3))


def test_a_device_that_says_nothing_keeps_its_order() -> None:
    missing = np.full(3, np.nan)
    silent = Calibration("silent", None, np.arange(3), *[missing] * 6)
    assert silent.is_missing and np.isnan(silent.age_hours)
    assert chosen_layout(silent, make_options({}), None) == (0, 1, 2)
    with pytest.raises(BackendError, match="lacks data for emulating qubit 0"):
        backend = QiskitBackend("silent", provider=ClosedFormProvider(silent))
        backend.measure(TURN, np.zeros((1, 1)))


def test_layouts_that_will_not_do() -> None:
    for layout, message in (([3], "qubit 3 has a predicted error of 0.346"),
                            ([2], "qubit 2 has a predicted error of nan"),
                            ([4], "qubit 4 is out of order")):  # fmt: skip
        options = {"layout": layout}
        with pytest.raises(BackendError, match=message):
            chosen_layout(manila(faulty=frozenset({4})), make_options(options), None)
        forced = make_options({**options, "force": True})
        assert chosen_layout(manila(), forced, None) == tuple(layout)
    with pytest.raises(BackendError, match="2 qubits of five are within"):
        chosen_layout(manila(faulty=frozenset({4})), make_options({}), 3)
    with pytest.raises(BackendError, match="No qubit of five"):
        chosen_layout(manila(), make_options({"max_error": 1e-4}), None)
    with pytest.raises(BackendError, match="No usable qubit is left"):
        chosen_layout(manila(), make_options({}), None, without={0, 1, 4})


def test_spacing_leaves_neighbours_out() -> None:
    ideal = ideal_calibration("line", 7)
    p = np.array([0.01, 0.001, 0.02, 0.03, 0.004, 0.005, 0.006])
    calibration = dataclasses.replace(ideal, p=p, q=p)
    line = [(k, k + 1) for k in range(6)]
    for spacing, wanted in ((0, 7), (1, 7), (2, 3), (3, 2)):
        options = make_options({"spacing": spacing})
        found = chosen_layout(calibration, options, None, line)
        assert len(found) == wanted
        gaps = [abs(a - b) for a in found for b in found if a != b]
        assert found[0] == 1 and min(gaps) >= max(spacing, 1)


def test_a_dead_qubit_is_dropped_and_its_rows_run_elsewhere(tmp_path: Path) -> None:
    service = FakeService(readout={0: (0.5, 0.5)})
    backend = service_backend(service, shots=4000, layout=[0, 1, 2], width=2)
    z = np.linspace(-0.9, 0.9, 9)
    for _ in range(2):
        with backend.open(tmp_path) as run:
            (found,) = run.measure([Task(TURN, np.arccos(z)[:, None])])
    assert set(found.qubit) == {1, 2}
    assert (np.abs(found.z - z) < 5 * found.stderr).all()
    assert 0 not in found.calibration_error
    assert any("Qubits [0]" in note for note in run.notes)
    assert len(service.jobs_by_id) == 2


def test_no_qubit_left_is_an_error(tmp_path: Path) -> None:
    service = FakeService(readout={0: (0.5, 0.5)})
    with service_backend(service, layout=[0]).open(tmp_path) as run:
        with pytest.raises(BackendError, match="No usable qubit is left"):
            run.measure([Task(TURN, np.zeros((2, 1)))])


class Drifting(ClosedFormProvider):
    """A device that is calibrated anew while a run is on its way."""

    def __init__(self, calibrations: list[Calibration]) -> None:
        super().__init__(calibrations[0])
        self.calibrations = calibrations
        self.refreshed = 0

    def calibration(self, refresh: bool = False) -> Calibration:
        if refresh:
            self.refreshed += 1
            self._calibration = dataclasses.replace(
                self.calibrations[min(self.refreshed, len(self.calibrations) - 1)],
                fetched=datetime.now(UTC),
            )
        return self._calibration

    def submit(self, job: Job) -> str:
        # an hour passes with each job
        old = self._calibration.fetched or datetime.now(UTC)
        identity = super().submit(job)
        self._calibration = dataclasses.replace(self._calibration, fetched=old - timedelta(hours=2))
        return identity


def test_a_changed_calibration_ranks_the_qubits_again(tmp_path: Path) -> None:
    ideal = ideal_calibration("drifts", 3)
    errors = np.array([[0.001, 0.002, 0.003], [0.3, 0.002, 0.001]])
    before, after = (dataclasses.replace(ideal, p=p, q=p) for p in errors)
    provider = Drifting([dataclasses.replace(before, fetched=datetime.now(UTC)), after])
    backend = QiskitBackend(
        "drifts",
        provider=provider,
        width=1,
        shots=1000,
        job_seconds=2.0 + 0.00035 * 2001,
        max_pending=1,
    )
    z = np.linspace(-0.8, 0.8, 4)
    with backend.open(tmp_path) as run:
        (found,) = run.measure([Task(TURN, np.arccos(z)[:, None])])
    assert provider.refreshed >= 1
    assert found.qubit[0] == 0 and set(found.qubit[1:]) == {2}
    assert any("ranked again" in note for note in run.notes)
    assert [kind for kind, _ in records(tmp_path)].count("calibration") == 2
