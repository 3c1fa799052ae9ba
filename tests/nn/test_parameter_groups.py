"""`param_groups`: weight decay for weights, none for angles, biases and norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qkan import KAN, QKAN, QKANError, QKANLayer, param_groups


def test_param_groups_spare_angles_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), QKAN([2, 2]), QKAN([2, 1], group=2))
    model[0].weight.requires_grad_(False)
    decayed, spared = param_groups(model, 0.1, 0.2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {"weight", "base_weight"}
    assert {names[id(p)] for p in decayed["params"]}.isdisjoint({"0.weight", "1.weight"})
    kinds = {"theta", "scale", "shift", "bias", "weight"}
    assert {names[id(p)].split(".")[-1] for p in spared["params"]} == kinds
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.2, 0.0)
    assert decayed["lr"] == spared["lr"] == 0.1
    assert [len(g["params"]) for g in param_groups(nn.LayerNorm(2), 0.1)] == [2]


class Scaled(nn.Module):
    """A parametrisation with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gains * x


def _parametrised(layer: QKANLayer) -> None:
    for name in ("theta", "scale", "shift"):
        nn.utils.parametrize.register_parametrization(layer, name, Scaled())


def _normed(layer: QKANLayer) -> None:
    nn.utils.parametrizations.weight_norm(layer, "theta")


def _hooked(layer: QKANLayer) -> None:
    theta = layer.theta
    del layer.theta
    layer.register_parameter("free", nn.Parameter(theta.detach().clone()))
    layer.register_forward_pre_hook(lambda module, x: setattr(module, "theta", module.free.tanh()))
    layer(torch.zeros(1, 3))


@pytest.mark.parametrize("change", [_parametrised, _normed, _hooked])
def test_param_groups_spare_what_angles_are_made_of(change: Callable[[QKANLayer], None]) -> None:
    layer = QKANLayer(3, 2)
    change(layer)
    with torch.no_grad():
        decayed, spared = param_groups(layer, 0.1, 0.2)
    names = {id(parameter): name for name, parameter in layer.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"weight", "base_weight"}
    assert len(decayed["params"] + spared["params"]) == len(names)


def test_param_groups_spare_the_angles_of_circuits_among_other_edge_functions() -> None:
    model = KAN([3, 2], basis=["daruan", "fourier"])
    decayed = {id(p) for p in param_groups(model, 0.1)[0]["params"]}
    kept = [name for name, p in model.named_parameters() if id(p) not in decayed]
    angles = [f"layers.0.coefficients.0.{name}" for name in ("theta", "scale", "shift")]
    assert sorted(kept) == sorted([*angles, "layers.0.bias"])


@pytest.mark.parametrize(
    ("model", "rates", "said"),
    [
        (QKANLayer(3, 2).parameters(), (1e-3,), "the model is a generator; pass a module"),
        (QKANLayer(3, 2), (None,), "lr=None; wanted a finite number"),
        (QKANLayer(3, 2), ("1e-3",), "lr='1e-3'"),
        (QKANLayer(3, 2), (float("nan"),), "lr=nan"),
        (QKANLayer(3, 2), (1e-3, -0.1), "weight_decay=-0.1"),
        (QKANLayer(3, 2), (1e-3, None), "weight_decay=None"),
    ],
)
def test_rates_that_cannot_be_right_are_named(model: Any, rates: Any, said: str) -> None:
    with pytest.raises(QKANError, match=said):
        param_groups(model, *rates)
