"""`DARUAN`s on devices: values, standard errors, gradients, tables, and what is not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from device_models import DOUBLE, EXACT, activated, half_idle, inputs, network, run
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import DARUAN, QKANError, estimate, fit, noisy, on_device, resume, tabulate
from qkan.circuits import DeviceNoise, PulseNoise

PERFECT = DeviceNoise(PulseNoise(1.0, 1.0, 0.0), PulseNoise(1.0, 1.0, 0.0))


def plain(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    middle = activated(6, **{"group": 2, **options})
    return nn.Sequential(nn.Linear(3, 6), middle, nn.Linear(6, 2)).double()


def mixed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), activated(4, group=2, reps=2), network([4, 2]), nn.Linear(2, 1)
    ).double()


BOTH = {"plain": plain, "mixed": mixed}


@pytest.mark.parametrize("name", BOTH)
def test_exact_shots_give_the_simulators_values(name: str) -> None:
    model, x = BOTH[name](), inputs(9, 3)
    for mode in ("sequential", "teacher_forced"):
        assert_close(run(model, x, EXACT(), mode=mode).values, model(x).detach(), mode, 1e-9)
    tables = tabulate(model, inputs(60, 3, seed=4), EXACT(), margin=1.0)
    assert_close(tables(x).values, model(x).detach(), "tables", 1e-6)


@pytest.mark.parametrize("mode", ["sequential", "teacher_forced", "tabulate"])
@pytest.mark.parametrize("name", BOTH)
def test_the_standard_errors_are_those_of_shots(name: str, mode: str) -> None:
    model, pulls = BOTH[name](), []
    x = inputs(100 if mode == "tabulate" else 400, 3).clamp(-1, 1)
    wanted = model(x).detach()
    for seed in range(20 if mode == "tabulate" else 3):
        backend = ExactBackend(shots=4000, seed=seed, width=16)
        if mode == "tabulate":
            result = tabulate(model, x, backend)(x)
        else:
            result = run(model, x, backend, mode=mode)
        assert (result.stderr > 0).all()
        pulls.append((result.values - wanted) / result.stderr)
    pull = torch.cat(pulls)
    # the values of one table share its errors
    mean = 0.6 if mode == "tabulate" else 0.1
    assert abs(float(pull.mean())) < mean and 0.85 < float(pull.std()) < 1.15, pull.std()


def test_a_group_is_measured_at_each_of_its_inputs() -> None:
    backend, model = EXACT(), mixed()
    plan = estimate(model, inputs(5, 3), backend)
    assert [(stage.name, stage.values) for stage in plan.stages] == [
        ("1", 5 * 4), ("2.layers.0", 5 * 8),
    ]  # fmt: skip
    run(model, inputs(5, 3), backend)
    first = backend.measured[0]
    assert first.angles.shape[:2] == (5, 4)
    assert first.weight.tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])


def test_where_the_amplitude_is_zero_nothing_is_measured() -> None:
    backend, x = EXACT(before=lambda call: pytest.fail("a job was submitted")), inputs(4, 5)
    fresh = DARUAN(5, dtype=DOUBLE)
    result = run(fresh, x, backend)
    assert torch.equal(result.values, F.gelu(x)) and result.jobs == ()
    assert (result.stderr == 0).all()
    assert [stage.values for stage in estimate(half_idle(), x, backend).stages] == [4 * 3]
    tables = tabulate(fresh, x, backend)
    assert torch.equal(tables(x).values, F.gelu(x))
    nn.init.ones_(fresh.amplitude)
    with pytest.raises(QKANError, match=r"DARUAN had no circuit in use .* has 5 now"):
        tables(x)


@pytest.mark.parametrize("gradient", ["parameter-shift", "hybrid"])
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_gradients_on_a_device_are_autograds(gradient: str, start: float) -> None:
    model = nn.Sequential(
        nn.Linear(3, 4), DARUAN(4, group=2, reps=2, amplitude=start), nn.Linear(4, 1)
    ).double()
    x = inputs(5, 3).requires_grad_()

    def found() -> list[Tensor]:
        loss = (model(x) - x.sum(-1, keepdim=True)).square().sum()
        return [*torch.autograd.grad(loss, [x, *model.parameters()], allow_unused=True)]

    wanted = found()
    with on_device(model, EXACT(), gradient=gradient):
        measured = found()
    with noisy(model, PERFECT):
        closed = found()
    assert wanted[1 + [name for name, _ in model.named_parameters()].index("1.amplitude")].any()
    for names, a, b, c in zip(
        ["x", *dict(model.named_parameters())], measured, closed, wanted, strict=True
    ):
        assert_close(a, c, names, 1e-9)
        assert_close(b, c, names, 1e-6)


def test_training_on_a_device_moves_an_amplitude_from_zero() -> None:
    model = nn.Sequential(nn.Linear(1, 4), DARUAN(4, group=2), nn.Linear(4, 1)).double()
    x, backend = torch.linspace(-1, 1, 10, dtype=DOUBLE).unsqueeze(-1), ExactBackend()
    plan = estimate(model, x, backend, gradient="parameter-shift")
    with on_device(model, backend) as device:
        fit(model, (x, (5 * x).sin()), optimizer="adam", steps=2, progress=False)
    assert len(device.jobs) == 2 and plan.values == backend.measured[0].angles[..., 0].size
    assert model[1].amplitude.abs().min() > 0  # type: ignore[union-attr]


def test_a_run_goes_on_and_knows_its_activation(tmp_path: Path) -> None:
    model, x = plain(), inputs(4, 3)
    first = run(model, x, ExactBackend(), store=tmp_path / "a")

    def nothing(call: int) -> None:
        pytest.fail("measured twice")

    again = resume(tmp_path / "a", ExactBackend(before=nothing), model=model, progress=False)
    assert torch.equal(again.values, first.values)
    with pytest.raises(QKANError, match="pass the model with the parameters"):
        resume(tmp_path / "a", ExactBackend(), model=plain(base="silu"), progress=False)
    alone = activated(3)
    run(alone, x, ExactBackend(), store=tmp_path / "b")
    assert resume(tmp_path / "b", ExactBackend(before=nothing), progress=False).complete
    own = activated(3, base=nn.Softplus())
    run(own, x, ExactBackend(), store=tmp_path / "c")
    with pytest.raises(QKANError, match="pass resume"):
        resume(tmp_path / "c", ExactBackend(), progress=False)
    assert resume(tmp_path / "c", ExactBackend(before=nothing), model=own, progress=False).complete


def test_what_cannot_be_measured_is_named() -> None:
    x, backend = inputs(4, 3), EXACT(before=lambda call: pytest.fail("a job was submitted"))
    for kind in ("theta", "amplitude"):
        model = plain()
        with torch.no_grad():
            getattr(model[1], kind)[1] = torch.nan
        with pytest.raises(QKANError, match=f"Layer 1: {kind} of group 1 is nan; nothing"):
            run(model, x, backend)
    shared = DARUAN(None, amplitude=0.5, dtype=DOUBLE)
    model = nn.Sequential(shared, nn.Linear(3, 2).double(), shared)
    with pytest.raises(QKANError, match="Activation 0 is called with 2 and 3 features"):
        tabulate(model, x, backend)
    with pytest.raises(QKANError, match="encodes x through an arccos"):
        tabulate(plain(ansatz="px"), x, backend)
    with pytest.raises(QKANError, match="no QKANLayer and no DARUAN"):
        run(nn.Linear(3, 1), x, backend)
