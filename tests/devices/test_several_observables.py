"""Layers of several observables on devices: one job, a setting and standard errors for each."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from exact_backend import ExactBackend
from torch import nn

from qkan import QiskitBackend, QKANError, QKANLayer, estimate, on_device, resume, run, tabulate

EXACT: Any = functools.partial(ExactBackend, shots=0)
AXES = ("x", "y", "z")


def layer(**options: Any) -> QKANLayer:
    generator = torch.Generator().manual_seed(0)
    made = QKANLayer(3, 2, observable=AXES, generator=generator, dtype=torch.double, **options)
    with torch.no_grad():
        made.mask[0, 1] = 0
    return made


def inputs(rows: int) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1)).double()


MODELS: dict[str, nn.Module] = {
    "layer": layer(), "group": layer(group=2), "amplitude": layer(readout="amplitude"),
    "in a model": nn.Sequential(
        layer(), nn.Flatten(-2), QKANLayer(6, 2, observable=("z", (0.6, 0.8, 0.0))).double()
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["sequential", "teacher_forced"])
@pytest.mark.parametrize("name", MODELS)
def test_exact_measurements_are_the_simulators_values(name: str, mode: str) -> None:
    model, x = MODELS[name], inputs(4)
    result = run(model, x, EXACT(), mode=mode, progress=False)
    assert_close(result.values, model(x), "values")
    assert result.values.shape == model(x).shape and result.complete


def test_all_observables_are_one_circuit_in_one_job_and_are_counted() -> None:
    backend, x = ExactBackend(shots=500, width=8), inputs(7)
    plan = estimate(layer(), x, backend)
    assert plan.values == 7 * 5 * 3 and plan.jobs == 1
    run(layer(), x, backend, progress=False)
    assert [task.angles.shape[:-1] for task in backend.measured] == [(7, 15)]
    weights = backend.measured[0].weight.reshape(3, 5)
    assert (weights == weights[0]).all()
    # the turns before Z are no parameters, so that only the eight rotations are shifted
    shifted = estimate(layer(), x, backend, gradient="parameter-shift")
    assert shifted.values == 17 * plan.values
    with on_device(layer(), backend) as device:
        device(x)
    assert backend.measured[-1].angles.shape[:-1] == (17, 7, 15)


def test_every_observable_has_standard_errors_of_its_own() -> None:
    model, x = layer(base=None, bias=False), inputs(300)
    result = run(model, x, ExactBackend(shots=400, seed=3), progress=False)
    pulls = (result.values - model(x)) / result.stderr
    assert result.stderr.shape == (300, 2, 3)
    assert ((pulls.std(0) - 1).abs() < 0.15).all() and (pulls.mean(0).abs() < 5 / 300**0.5).all()
    # shots are of one setting only
    assert (torch.corrcoef(pulls[:, 0].T) - torch.eye(3)).abs().max() < 5 / 300**0.5


def test_gradients_by_parameter_shift_are_the_simulators() -> None:
    model, x = layer(), inputs(4).requires_grad_()
    names = ("theta", "scale", "shift", "weight")
    leaves = [x, *(getattr(model, name) for name in names)]
    wanted = torch.autograd.grad(model(x).square().sum(), leaves)
    with on_device(model, EXACT()) as device:
        found = torch.autograd.grad(device(x).square().sum(), leaves)
    for name, mine, theirs in zip(("x", *names), found, wanted, strict=True):
        assert_close(mine, theirs, name)


def test_runs_go_on_and_tables_are_read(tmp_path: Path) -> None:
    model, x = layer(), inputs(5)
    backend = QiskitBackend("aer", emulator="closed_form", shots=2000, seed=0)
    result = run(model, x, backend, store=tmp_path / "run", progress=False)
    again = resume(tmp_path / "run", backend, progress=False)
    assert torch.equal(result.values, again.values) and len(result.jobs) == 1
    tables = tabulate(model, x, backend)(x)
    assert ((tables.values - model(x)) / tables.stderr).abs().max() < 5


def test_messages_name_the_observable() -> None:
    model = layer()
    with torch.no_grad():
        model.theta[1, 2, 0] = torch.nan
    with pytest.raises(QKANError, match="output 1, input 2"):
        run(model, inputs(2), EXACT())
