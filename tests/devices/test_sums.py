"""Sums of many measured values are right, and so are their bars: thousands of draws of each."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from selection import selection
from torch import Tensor

from qkan import QKAN, QiskitBackend, run, tabulate
from qkan.backends import Task
from qkan.backends.closed_form import ClosedFormProvider
from qkan.backends.qiskit.local import ideal_calibration
from qkan.circuits import RX, RY, Circuit, Encoding
from qkan.simulators import expectation_of, simulate

REPEATS = 2000


def summing(edges: int, observable: str = "Z") -> QKAN:
    """A layer whose output is the sum of ⟨M⟩ of all edges, each at its own input."""
    turn = Circuit((RX(Encoding(0)),), observable)
    model = QKAN(
        [edges, 1], ansatz=turn, base=None, bias=False, encoding=(1.0,), reps=1, engine="torch",
        dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        model.layers[0].weight.fill_(1.0)
    return model


def reader(shots: int, mitigation: str, p: float = 0.0, q: float = 0.0) -> QiskitBackend:
    ideal = ideal_calibration("reader", 127)
    fault = dataclasses.replace(ideal, p=ideal.p + p, q=ideal.q + q)
    return QiskitBackend(
        "reader", provider=ClosedFormProvider(fault), shots=shots, mitigation=mitigation, seed=1,
        max_error=1.0, job_seconds=1e5,
    )  # fmt: skip


def pulls(backend: QiskitBackend, model: QKAN, x: Tensor, repeats: int = REPEATS) -> Tensor:
    """(value - truth)/bar of the output for many repeats of one sample."""
    with torch.no_grad():
        wanted = model(x)
    found = run(model, x.expand(repeats, -1), backend, progress=False)
    return ((found.values - wanted) / found.stderr).flatten()


@pytest.mark.parametrize(
    ("edges", "shots", "z"),
    [(16, 100, 0.5), (256, 100, 0.5), (1024, 100, 0.5), (16, 1000, 0.5), (256, 1000, 0.5),
     (1024, 1000, 0.5), (16, 1000, 0.9), (256, 100, 0.95)],
)  # fmt: skip
def test_sums_of_one_sign_are_unbiased_and_their_bars_hold(
    edges: int, shots: int, z: float
) -> None:
    assert edges * shots * (1 - z) / 2 >= 20
    x = torch.full((1, edges), math.acos(z), dtype=torch.float64)
    pull = torch.cat([
        pulls(reader(shots, "none"), summing(edges), sign * x + shift, REPEATS // 2)
        for sign, shift in ((1, 0.0), (-1, math.pi))
    ])  # fmt: skip
    assert len(pull) >= 2000
    # of both signs, so that what shrinks values would show in each half
    for half in pull.chunk(2):
        assert abs(float(half.mean())) < 0.1, half.mean()
    assert 0.85 < float(pull.std()) < 1.15, pull.std()


@pytest.mark.parametrize("edges", [16, 256, 1024])
def test_sums_near_a_pole_have_bars_that_are_neither_0_nor_those_of_single_values(
    edges: int,
) -> None:
    # Σ N p = 24 shots that read 1 among all edges together
    x = torch.full((1, edges), math.acos(1 - 2 * 24 / (1000 * edges)), dtype=torch.float64)
    pull = pulls(reader(1000, "none"), summing(edges), x)
    assert 0.85 < float(pull.std()) < 1.15, pull.std()
    at_pole = run(summing(edges), 0 * x, reader(1000, "none"), progress=False)
    assert float(at_pole.values) == edges and 1e-3 < float(at_pole.stderr) < 1e-2


@pytest.mark.parametrize("observable", selection(["X", "Y", "Z"], chosen=["Y"]))
def test_mitigated_sums_are_unbiased_too(observable: str, edges: int = 256) -> None:
    """The calibration's error is shared, and its reciprocal is biased unless that is corrected."""
    turn = Circuit((RX(Encoding(0)),), observable) if observable != "X" else Circuit(
        (RY(Encoding(0)),), observable
    )  # fmt: skip
    angles = np.linspace(0.3, 1.2, edges)[:, None]
    wanted = expectation_of(turn, simulate(turn, angles)).sum()
    pull = []
    with reader(100, "readout", 0.02, 0.05).open() as opened:
        for _ in range(400):
            (found,) = opened.measure([Task(turn, angles)])
            relative = np.array([found.calibration_error[q] for q in found.qubit])
            shared = np.bincount(found.qubit, found.z * relative)
            pull.append((found.z.sum() - wanted) / math.hypot(
                math.sqrt(found.shot_variance.sum()), np.linalg.norm(shared)
            ))  # fmt: skip
    assert abs(np.mean(pull)) < 0.1 and 0.85 < np.std(pull) < 1.15


@pytest.mark.parametrize("observable", ["X", "Y", "Z"])
def test_every_observable_sums_up_rightly(observable: str) -> None:
    x = torch.linspace(0.3, 1.2, 64, dtype=torch.float64)[None]
    pull = pulls(reader(400, "none"), summing(64, observable), x)
    assert 0.85 < float(pull.std()) < 1.15 and abs(float(pull.mean())) < 0.1


def test_sums_of_a_table_are_right() -> None:
    model, x = summing(64), torch.full((1, 64), 1.0, dtype=torch.float64)
    spread = torch.cat([x - 0.9, x, x + 0.9])
    with torch.no_grad():
        wanted = model(x)
    pull = []
    for seed in range(60):
        backend = QiskitBackend(
            "aer", emulator="closed_form", shots=100, mitigation="none", seed=seed
        )
        found = tabulate(model, spread, backend, points=5)(x)
        pull.append(float((found.values - wanted) / found.stderr))
    assert abs(np.mean(pull)) < 0.4 and 0.75 < np.std(pull) < 1.3
