"""Models on Qiskit's devices: fakes in closed form, the real primitive once, a service that fails.

What is tested of devices in other files with the exact backend holds here with the real one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_service import FakeService, service_backend
from qiskit_aer import AerSimulator
from torch import Tensor, nn

from qkan import (
    QKAN,
    BackendError,
    QiskitBackend,
    QKANError,
    cancel,
    device_noise,
    estimate,
    fit,
    noisy,
    on_device,
    resume,
    tabulate,
)
from qkan import run as run_loudly

run = functools.partial(run_loudly, progress=False)


def emulator(**options: Any) -> QiskitBackend:
    given: dict[str, Any] = {"emulator": "closed_form", "seed": 0, "shots": 4096, **options}
    return QiskitBackend("fake_sherbrooke", **given)


def network(widths: list[int], **options: Any) -> QKAN:
    generator = torch.Generator().manual_seed(0)
    return QKAN(widths, engine="torch", generator=generator, dtype=torch.float64, **options)


def inputs(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(rows, columns, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize("mode", ["sequential", "teacher_forced"])
@pytest.mark.parametrize("compiled", ["faithful", "fused"])
def test_mitigated_values_lie_within_their_bars(mode: str, compiled: str) -> None:
    model, x = network([2, 3, 1]), inputs(300, 2)
    result = run(model, x, emulator(mode=compiled), mode=mode)
    with torch.no_grad():
        pull = (result.values - model(x)) / result.stderr
    assert 0.85 < float(pull.std()) < 1.2 and result.complete
    assert len(result.jobs) == (2 if mode == "sequential" else 1)


def test_other_ansatze_and_readouts_run_too() -> None:
    x = inputs(20, 2)
    for options in ({"ansatz": "px"}, {"group": 1}, {"readout": "amplitude"}, {"ansatz": "mix"}):
        model = network([2, 2], **options)
        result = run(model, x, emulator())
        with torch.no_grad():
            assert ((result.values - model(x)).abs() < 5 * result.stderr).all(), options


def test_the_runtimes_primitive_on_aer() -> None:
    model, x = network([2, 1]), inputs(3, 2)
    backend = QiskitBackend("fake_manila", shots=1000, seed=0)
    result = run(model, x, backend)
    with torch.no_grad():
        assert ((result.values - model(x)).abs() < 5 * result.stderr).all()


def test_a_run_goes_on_from_its_directory_alone(tmp_path: Path) -> None:
    model, x = network([2, 3, 1]), inputs(5, 2)
    result = run(model, x, emulator(width=7), store=tmp_path / "run")
    again = resume(tmp_path / "run", progress=False)
    assert torch.equal(again.values, result.values) and again.jobs == result.jobs
    named = resume(tmp_path / "run", "fake_sherbrooke", progress=False)
    assert torch.equal(named.stderr, result.stderr)
    assert cancel(tmp_path / "run") == ()
    with pytest.raises(
        QKANError, match="belongs to fake_sherbrooke, but the backend is fake_torino"
    ):
        resume(tmp_path / "run", "fake_torino")


def test_a_backend_without_a_name_of_its_own_is_passed_again(tmp_path: Path) -> None:
    model, x = network([2, 1]), inputs(3, 2)
    backend = QiskitBackend(AerSimulator(), shots=100, seed=0)
    result = run(model, x, backend, store=tmp_path)
    with pytest.raises(QKANError, match="pass the backend itself"):
        resume(tmp_path)
    assert torch.equal(resume(tmp_path, backend, progress=False).values, result.values)


def test_rounding_elsewhere_pays_nothing_twice(tmp_path: Path) -> None:
    """A process that computes a hidden layer's inputs to other last bits gets what is paid for."""
    model, x = nn.Sequential(nn.Linear(2, 2).double(), network([2, 2, 1])), inputs(5, 2)
    result = run(model, x, emulator(), store=tmp_path)

    class Rounded(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 + 1e-12)

    Rounded.__qualname__ = "Linear"
    other = Rounded(2, 2).double()
    other.load_state_dict(model[0].state_dict())
    again = resume(tmp_path, model=nn.Sequential(other, model[1]), progress=False)
    assert again.jobs == result.jobs
    assert torch.allclose(again.values, result.values, atol=1e-9)


# ---- a device that bills


def test_the_plan_of_a_device_that_bills_shows_the_budget() -> None:
    backend = service_backend(FakeService(), budget_seconds=60.0)
    plan = estimate(network([2, 2, 1]), inputs(5, 2), backend)
    assert plan.seconds_left == 60 and "60 s of budget left" in str(plan)


def test_a_budget_that_ends_midway_is_never_passed(tmp_path: Path) -> None:
    service, (model, x) = FakeService(), (network([2, 2, 1]), inputs(5, 2))
    short = service_backend(service, budget_seconds=5.0)
    partial = run(model, x, short, store=tmp_path)
    assert partial.missing.all() and len(partial.jobs) == 1 and service.billed <= 5
    assert any("budget" in note for note in partial.notes)
    assert f"qkan.resume('{tmp_path}')" in partial.notes[-1]
    rich = service_backend(service, budget_seconds=50.0)
    whole = resume(tmp_path, rich, progress=False)
    assert whole.complete and len(service.jobs_by_id) == 2, "the first layer is paid once"
    with pytest.raises(BackendError, match="budget"):
        run(model, x, service_backend(FakeService(), budget_seconds=2.0), store=tmp_path / "new")


def test_a_job_that_fails_for_good_leaves_a_mask_and_is_tried_again(tmp_path: Path) -> None:
    # small jobs, so that one layer takes several
    service = FakeService(outcomes=["failed"])
    options = {"retries": 0, "job_seconds": 2.3, "mitigation": "none"}
    model, x = network([2, 2]), inputs(40, 2)
    partial = run(model, x, service_backend(service, **options), store=tmp_path)
    lost = partial.missing.any(1)
    assert 0 < int(lost.sum()) < 40 and not partial.complete
    assert partial.values[~lost].isfinite().all() and partial.stderr[~lost].isfinite().all()
    before = len(service.jobs_by_id)
    whole = resume(partial, service_backend(service, **options), progress=False)
    assert whole.complete and len(service.jobs_by_id) == before + 1


def test_a_submission_that_timed_out_is_adopted(tmp_path: Path) -> None:
    service = FakeService(submissions=["timeout accepted"])
    result = run(network([2, 1]), inputs(3, 2), service_backend(service), store=tmp_path)
    assert result.complete and len(service.jobs_by_id) == 1


# ---- training and tables


def test_parameter_shift_agrees_with_autograd_within_shots() -> None:
    model, x = network([2, 1]), inputs(6, 2)
    theta = model.layers[0].theta
    wanted = torch.autograd.grad(model(x).sum(), theta)[0]
    with on_device(model, emulator(shots=20_000)):
        found = torch.autograd.grad(model(x).sum(), theta)[0]
    # six samples of a slope whose two ends have a standard error near 1/√shots each
    scale = float(model.layers[0].weight.detach().abs().max()) * (6 / 2 / 20_000) ** 0.5
    assert float((found - wanted).abs().max()) < 6 * scale


def test_two_layers_train_on_a_noisy_device() -> None:
    model, x = network([2, 2, 1]), inputs(16, 2)
    y = torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2
    with torch.no_grad():
        before = float(nn.functional.mse_loss(model(x), y))
    with on_device(model, emulator(mitigation="none")):
        fit(model, (x, y), optimizer="adam", lr=0.1, steps=25, progress=False)
        with torch.no_grad():
            after = float(nn.functional.mse_loss(model(x), y))
    assert after < 0.25 * before


def test_tables_on_a_device() -> None:
    model, x = network([2, 3, 1]), inputs(200, 2)
    tables = tabulate(model, x, emulator(), points=17)
    result = tables(x)
    with torch.no_grad():
        within = (result.values - model(x)).abs() <= 2 * result.stderr
    assert float(within.double().mean()) > 0.7 and len(tables.jobs) == 1


def test_the_noise_in_closed_form_is_the_devices() -> None:
    model, x = network([3, 2], base=None, bias=False), inputs(400, 3)
    raw = emulator(mitigation="none", shots=20_000)
    result = run(model, x, raw)
    qubits = raw.layout
    with noisy(model, device_noise(raw, qubits=qubits)), torch.no_grad():
        expected = model(x)
    with torch.no_grad():
        ideal = model(x)
    rms = lambda wanted: float(((result.values - wanted) ** 2).mean().sqrt())  # noqa: E731
    assert rms(expected) < 0.8 * rms(ideal)
    assert device_noise(emulator()).p == 0.0 and device_noise(raw).p > 0
