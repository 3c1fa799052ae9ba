"""Standard errors of a model's outputs agree with what thousands of draws show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from device_models import DOUBLE, MODELS, generator, inputs, network, run
from exact_backend import ExactBackend
from torch import Tensor, nn

from qkan import QKAN, QKANLayer

# ---- standard errors


def spread(
    model: nn.Module, x: Tensor, draws: int = 4000, mode: str = "sequential", **options: Any
) -> tuple[Tensor, Tensor]:
    """Sd over thousands of draws of one sample, and the predicted one."""
    result = run(model, x.expand(draws, -1), ExactBackend(**options), mode=mode)
    return result.values.std(0), (result.stderr**2).mean(0).sqrt()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_predicted_and_drawn_spread_agree_through_three_layers(seed: int) -> None:
    model = QKAN([2, 3, 3, 2], dtype=DOUBLE, generator=generator(seed), engine="torch")
    drawn, predicted = spread(model, inputs(1, 2), shots=100_000, width=7, seed=seed)
    assert ((predicted / drawn - 1).abs() < 0.05).all(), predicted / drawn


def test_hidden_values_are_correlated_and_a_diagonal_would_miss_it() -> None:
    """Two hidden units carry the same value and are then subtracted: its error cancels."""
    model = network([1, 1, 2, 1], base="identity")
    with torch.no_grad():
        for layer, base in ((model.layers[1], [[1.0], [1.0]]), (model.layers[2], [[1.0, -1.0]])):
            layer.base_weight.copy_(torch.tensor(base))
            layer.weight.mul_(1e-3)
    drawn, predicted = spread(model, inputs(1, 1), shots=1000)
    assert abs(predicted / drawn - 1) < 0.05
    hidden = run(model.layers[0], inputs(1, 1), ExactBackend(shots=1000)).stderr
    assert float(predicted) < 0.05 * float(hidden)


@pytest.mark.parametrize("mode", ["sequential", "teacher_forced"])
@pytest.mark.parametrize("share", [3, 9])
def test_the_calibrations_error_is_shared_by_what_was_measured_together(
    share: int, mode: str
) -> None:
    model = network([3, 3, 3, 3])
    # nine edges a layer: every sample has 9/share qubits of its own, the same in all layers
    options = {"width": 1500 * 9 // share, "share": share, "calibration_error": 0.005}
    drawn, predicted = spread(model, inputs(1, 3), 1500, mode, shots=0, **options)
    assert ((predicted / drawn - 1).abs() < 0.05).all(), predicted / drawn
    both, predicted = spread(model, inputs(1, 3), 1500, mode, shots=20_000, **options)
    assert ((predicted / both - 1).abs() < 0.05).all(), predicted / both
    assert (both > drawn).all()


@pytest.mark.parametrize("name", ["tokens", "group", "sequential", "own circuit"])
def test_predicted_and_drawn_spread_agree_in_any_model(name: str) -> None:
    model, shape = MODELS[name]
    x = inputs(1, *shape[1:]).expand(4000, *shape[1:])
    result = run(model, x, ExactBackend(shots=20_000))
    ratio = (result.stderr**2).mean(0).sqrt() / result.values.std(0)
    assert ((ratio - 1).abs() < 0.05).all(), ratio


def amplitude_layer(z: float) -> QKANLayer:
    """One edge whose activation is √((1+z)/2) - √((1-z)/2) of a constant z, weight 1."""
    layer = QKANLayer(1, 1, reps=1, ansatz="real", readout="amplitude", base=None, dtype=DOUBLE)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.scale.zero_()
        # X RY(t) Z turns |+⟩ so that ⟨Z⟩ = sin t at e = 0
        layer.theta.fill_(torch.asin(torch.tensor(z, dtype=DOUBLE)).item())
    return layer


@pytest.mark.parametrize("z", [0.0, 0.5, -0.9, 0.99, 1.0, -1.0])
def test_the_amplitudes_bar_is_widened_by_its_slope(z: float) -> None:
    layer, x = amplitude_layer(z), inputs(4000, 1)
    exact = layer(x[:1]).item()
    assert abs(exact) == pytest.approx(abs(((1 + z) / 2) ** 0.5 - ((1 - z) / 2) ** 0.5), abs=1e-9)
    result = run(layer, x, ExactBackend(shots=1000))
    within = ((result.values - exact).abs() <= 2 * result.stderr).double().mean()
    assert within >= 0.93
    if abs(z) < 0.95:
        ratio = (result.stderr**2).mean().sqrt() / result.values.std()
        assert abs(ratio - 1) < 0.05


# ---- teacher forcing verifies every edge


def test_teacher_forced_scores_are_standard_normal_on_a_right_device() -> None:
    model = network([3, 4, 2])
    result = run(model, inputs(200, 3), ExactBackend(shots=4000), mode="teacher_forced")
    scores = torch.cat([check.z_score.flatten() for check in result.edges])
    assert [check.layer for check in result.edges] == ["layers.0", "layers.1"]
    assert abs(float(scores.mean())) < 3 / 20**0.5 and 0.5 < float(scores.std()) < 1.6
    assert all(((check.rms - 1).abs() < 0.25).all() for check in result.edges)
    assert len(result.jobs) == 1 and "rms of the z-scores" in str(result.edges[0])
    with torch.no_grad():
        pull = (result.values - model(inputs(200, 3))) / result.stderr
    assert 0.9 < float(pull.std()) < 1.1


def test_teacher_forced_scores_show_a_faulty_device() -> None:
    backend = ExactBackend(shots=4000, readout=(0.05, 0.01))
    result = run(network([3, 4, 2]), inputs(200, 3), backend, mode="teacher_forced")
    assert all((check.z_score < -5).all() for check in result.edges)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("mode", ["sequential", "teacher_forced"])
def test_errors_are_carried_where_gradients_are_off(off: Any, mode: str) -> None:
    model, x = network([2, 3, 1]), inputs(5, 2)
    wanted = run(model, x, ExactBackend(), mode=mode)
    with off():
        found = run(model, x * 1.0, ExactBackend(), mode=mode)
    assert torch.equal(found.stderr, wanted.stderr) and torch.equal(found.values, wanted.values)
    assert (found.stderr > 0).all() and not found.values.requires_grad
