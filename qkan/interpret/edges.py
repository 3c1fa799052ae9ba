"""The edges of a model one by one: what each adds to its output, and with which parameters."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.functional import amplitude, expand_groups
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import unwrapped
from qkan.simulators import expectation

from .importance import edge_outputs as edge_outputs


def exact_layers(model: nn.Module, what: str) -> list[QKANLayer]:
    """Copies of the layers of a `QKAN` or a `QKANLayer`, in double precision on the CPU.

    Raises:
        QKANError: Any other model, or a parameter that is not finite; the message names the layer.
    """
    model = unwrapped(model)
    if not isinstance(model, QKAN | QKANLayer):
        raise QKANError(
            f"{what}: the model is {type(model).__name__}; pass a QKAN or a QKANLayer, such as "
            "the one inside it."
        )
    layers = [model] if isinstance(model, QKANLayer) else list(model.layers)
    for number, layer in enumerate(layers):
        for name, value in layer.state_dict().items():
            if not value.isfinite().all():
                raise QKANError(
                    f"{what}: layers.{number}.{name} has values that are not finite; "
                    "go back to parameters from before the training diverged."
                )
    exact = nn.ModuleList(copy.deepcopy(layers)).cpu().double().requires_grad_(False)
    return [layer for layer in exact if isinstance(layer, QKANLayer)]


def check_inputs(model: nn.Module, x: Tensor, what: str) -> Tensor:
    """Data x (…, i) as (b, i) in double precision on the CPU.

    Raises:
        QKANError: No tensor of real floats, no sample, another width, or values not finite.
    """
    wanted = exact_layers(model, what)[0].in_features
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"{what}: x is {found}; pass a torch tensor of real floats (b, {wanted}).")
    if x.ndim < 1 or x.shape[-1] != wanted or not x.numel():
        raise QKANError(
            f"{what}: x has shape {tuple(x.shape)}; pass at least one sample, (b, {wanted})."
        )
    flat = x.detach().reshape(-1, wanted).cpu().double()
    bad = (~flat.isfinite()).nonzero()
    if len(bad):
        raise QKANError(
            f"{what}: x is not finite at sample {int(bad[0, 0])}, input {int(bad[0, 1])}, so "
            "layers.0 cannot be evaluated; clean the data."
        )
    return flat


def spread_points(model: nn.Module) -> Tensor:
    """Points (500, i) over a model's input range, or over ±π/2 without one, always the same."""
    model, low, high = unwrapped(model), -math.pi / 2, math.pi / 2
    if isinstance(model, QKAN) and model.input_range is not None:
        low, high = model.input_range
    inputs = exact_layers(model, "spread_points")[0].in_features
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(500, inputs, generator=generator, dtype=torch.float64)


def node_values(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What every layer is given, and at the end the output: (b, widths[n]) each, double precision.

    The first one is x itself, in the user's units, before `input_range` maps it.
    """
    values, seen = [x], map_input(model, x)
    for layer in exact_layers(model, "node_values"):
        seen = layer(seen)
        values.append(seen)
    return values


def map_input(model: nn.Module, x: Tensor) -> Tensor:
    """X as the first layer sees it."""
    model = unwrapped(model)
    return model.map_input(x) if isinstance(model, QKAN) else x


def bias_of(layer: QKANLayer) -> Tensor:
    """(o,), zeros without a bias."""
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()


def edge_parameters(layer: QKANLayer) -> tuple[Tensor, Tensor, Tensor]:
    """Theta (o, i, k), scale and shift (o, i, u) of every edge, groups spread."""
    edges = (layer.out_features, layer.in_features)
    theta, scale, shift = (t.detach() for t in (layer.theta, layer.scale, layer.shift))
    if layer.group is not None:
        theta, scale, shift = (
            expand_groups(t, layer.in_features).expand(*edges, t.shape[-1])
            for t in (theta, scale, shift)
        )
    return theta, scale, shift


def edge_weights(layer: QKANLayer) -> tuple[Tensor, Tensor]:
    """Weight and base weight (o, i) as they act, mask included."""
    weight = layer.weight.detach() * layer.mask
    if layer.base_weight is None:
        return weight, torch.zeros_like(weight)
    return weight, layer.base_weight.detach() * layer.mask


def activations(layer: QKANLayer, x: Tensor) -> Tensor:
    """Readout of φ on every edge, (b, o, i), for x (b, i) as the layer sees it."""
    values = expectation(layer.circuit, x, *edge_parameters(layer))
    return amplitude(values) if layer.readout == "amplitude" else values
