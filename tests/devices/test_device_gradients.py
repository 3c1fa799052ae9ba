"""Training on a device: the parameter shift equals autograd, counts its rows, and learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CIRCUITS, own_circuit
from compare import assert_close
from exact_backend import ExactBackend
from torch import Tensor, nn

from qkan import QKAN, Circuit, QKANError, QKANLayer, ansatz, estimate, fit, on_device
from qkan.circuits import RZ, Encoding, H, Theta
from qkan.devices.parameter_shift import shifted_rotations

DOUBLE = torch.float64


def exact() -> ExactBackend:
    return ExactBackend(shots=0)


def build(widths: list[int], **options: Any) -> QKAN:
    generator = torch.Generator().manual_seed(0)
    model = QKAN(widths, dtype=DOUBLE, generator=generator, engine="torch", **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter += 0.2 * noise
    return model


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    leaves = [x, *(p for p in model.parameters() if p.requires_grad)]
    loss = (model(x) ** 2).sum() + model(x).sin().sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [*found, loss.detach()]


def inputs(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    # some of them clamped by an arccos, one exactly at its edge
    x.view(-1)[0] = 1.0
    return x.requires_grad_()


OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"ansatz": circuit} for name, circuit in CIRCUITS.items()},
    "linear": {"encoding": "linear"},
    "ternary rpz": {"encoding": "ternary", "ansatz": "rpz"},
    "group": {"group": 1},
    "amplitude": {"readout": "amplitude"},
    "amplitude group": {"readout": "amplitude", "group": 1, "base": None},
    "no bias": {"bias": False, "base": "tanh"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("gradient", ["parameter-shift", "hybrid"])
def test_the_gradient_is_autograds(name: str, gradient: str) -> None:
    model, x = build([2, 2, 1], **OPTIONS[name]), inputs(3, 2)
    with torch.no_grad():
        model.layers[0].mask[1, 0] = 0
    wanted = gradients(model, x)
    with on_device(model, exact(), gradient=gradient):
        found = gradients(model, x)
    names = ["x", *(name for name, _ in model.named_parameters()), "loss"]
    for what, a, b in zip(names, found, wanted, strict=True):
        assert_close(a, b, what)


def test_the_gradient_reaches_through_the_rest_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), build([2, 2]), nn.LayerNorm(2)).double()
    x = inputs(3, 5, 4)
    wanted = gradients(model, x)
    with on_device(model, exact()):
        found = gradients(model, x)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, "gradient")


ROWS = {"pz": 8, "rpz": 7, "px": 6, "mix": 11, "real": 6}


@pytest.mark.parametrize("name", ROWS)
def test_merged_rotations_are_shifted_once(name: str) -> None:
    circuit, sets = ansatz(name, 3), 1 + 2 * len(shifted_rotations(ansatz(name, 3)))
    rotations = [r for r in build([1, 1], ansatz=circuit).layers[0].program.rotations]
    assert sets == 1 + 2 * sum(not r.is_constant for r in rotations) == 1 + 2 * ROWS[name]
    backend, model = exact(), build([3, 2], ansatz=circuit)
    with on_device(model, backend):
        model(inputs(5, 3)).sum().backward()
    assert [task.angles.shape[:3] for task in backend.measured] == [(sets, 5, 6)]
    plan = estimate(model, inputs(5, 3), backend, gradient="parameter-shift")
    assert plan.values == sets * 30
    assert estimate(model, inputs(5, 3), backend, gradient="hybrid").values == 30


def test_every_gate_that_is_shifted_turns_its_rotation() -> None:
    circuit = own_circuit()
    for rotation, gate in shifted_rotations(circuit):
        angle = circuit.parametric_gates[gate].angle
        if isinstance(angle, Theta):
            assert rotation.encoding is None and angle.index in rotation.thetas
        else:
            assert isinstance(angle, Encoding) and angle.index == rotation.encoding


def test_only_what_a_wanted_gradient_needs_is_shifted() -> None:
    def sets(model: nn.Module, x: Tensor) -> list[int]:
        backend = exact()
        with on_device(model, backend):
            model(x)
        return [task.angles.shape[0] for task in backend.measured]

    model, x = build([2, 1], encoding="linear"), inputs(3, 2).detach()
    assert sets(model, x) == [17]
    model.layers[0].theta.requires_grad_(False)
    assert sets(model, x) == [1]
    # the three rotations of x are all that its gradient needs
    assert sets(model, x.requires_grad_()) == [7]
    with torch.no_grad():
        assert sets(model, x) == [1]
    layers = build([2, 2, 1])
    for parameter in layers.layers[1].parameters():
        parameter.requires_grad_(False)
    assert sets(layers, x) == [17, 7]


def test_what_never_reaches_the_observable_has_the_gradient_zero() -> None:
    circuit = Circuit([H, RZ(Theta(0)), RZ(Encoding(0))])
    model, x = build([2, 1], ansatz=circuit, base=None), inputs(3, 2)
    assert shifted_rotations(circuit) == ()
    with on_device(model, exact()):
        grads = torch.autograd.grad(model(x).sum(), [x, model.layers[0].theta], allow_unused=True)
    assert all(g is None or not g.any() for g in grads)


def test_the_shots_noise_is_in_the_gradient_but_no_bias() -> None:
    model, x = build([2, 1]), inputs(2, 2).detach()
    wanted = torch.autograd.grad(model(x).sum(), [model.layers[0].theta])[0]
    with on_device(model, ExactBackend(shots=100)):
        many = x.repeat(4000, 1)
        found = torch.autograd.grad(model(many).sum() / 4000, [model.layers[0].theta])[0]
    difference = (found - wanted).abs().max()
    assert 0 < difference < 0.03


def test_second_derivatives_are_refused() -> None:
    model, x = build([1, 1]), inputs(2, 1)
    with on_device(model, exact()):
        with pytest.raises(QKANError, match="first derivatives only"):
            torch.autograd.grad(model(x).sum(), x, create_graph=True)


@pytest.mark.parametrize("gradient", ["parameter-shift", "hybrid"])
def test_a_network_of_two_layers_trains_on_a_noisy_device(gradient: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(24, 2, generator=generator) - 1
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    model = QKAN([2, 3, 1], generator=generator, engine="torch")
    with torch.no_grad():
        before = float(nn.functional.mse_loss(model(x), y))
    backend = ExactBackend(shots=2000, readout=(0.03, 0.01))
    with on_device(model, backend, gradient=gradient) as device:
        history = fit(model, (x, y), optimizer="adam", lr=0.05, steps=40, progress=False)
        assert len(device.jobs) == 80 and device.seconds > 0
        with torch.no_grad():
            after = float(nn.functional.mse_loss(device(x), y))
    assert len(history) == 40
    assert after < 0.1 * before


# ---- the context


def test_the_model_is_itself_again_afterwards() -> None:
    model, x = build([2, 2, 1]), inputs(3, 2)
    wanted = model(x)
    backend = ExactBackend(shots=10)
    device = on_device(model, backend)
    with pytest.raises(ZeroDivisionError), device:
        assert not torch.equal(device(x), wanted)
        raise ZeroDivisionError
    assert torch.equal(model(x), wanted) and not vars(model.layers[0]).get("activations")
    with device:
        assert not torch.equal(model(x), wanted)
    assert len(device.jobs) == 2, "still known afterwards"
    with pytest.raises(QKANError, match="use `with on_device"):
        device(x)
    for call in (lambda: on_device(model, backend)(x), lambda: on_device(model, backend).jobs):
        with pytest.raises(QKANError, match="use `with on_device"):
            call()


def test_bad_use_is_refused() -> None:
    model, x = build([2, 2, 1]), inputs(3, 2)
    with pytest.raises(QKANError, match="Known: hybrid, parameter-shift"):
        on_device(model, exact(), gradient="adjoint")
    with pytest.raises(QKANError, match="no QKANLayer"):
        on_device(nn.Linear(1, 1), exact())
    with on_device(model, exact()):
        with (
            pytest.raises(QKANError, match=r"layers\.0 are already computed"),
            on_device(model, exact()),
        ):
            pass
        with pytest.raises(QKANError, match=r"layers\.0: for sample 1, input 0"):
            model(torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], dtype=DOUBLE))
        with torch.no_grad():
            model.layers[1].theta[0, 1, 3] = torch.inf
        with pytest.raises(QKANError, match=r"layers\.1, the edge of output 0, input 1: theta"):
            model(x)


def test_values_that_did_not_come_back_stop_the_step() -> None:
    model = build([2, 1])
    with (
        on_device(model, ExactBackend(fail={1: [3, 5]})),
        pytest.raises(QKANError, match=r"layers\.0: 2 of 102 values did not come back"),
    ):
        with torch.no_grad():
            model(inputs(3, 2))
        model(inputs(3, 2))


def test_no_samples_are_no_job() -> None:
    backend = ExactBackend(before=lambda call: pytest.fail("a job was submitted"))
    layer = QKANLayer(3, 2)
    with on_device(layer, backend):
        out = layer(torch.zeros(0, 3))
        out.sum().backward()
    assert out.shape == (0, 2)
