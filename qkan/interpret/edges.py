"""The edges of a model one by one: their parameters and their outputs.

Letters: b samples, o outputs, i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from qkan._options import check_one_observable
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.functional import BASES, amplitude, compute_dtype, expand_groups
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import reject_fast_weights, unwrapped
from qkan.simulators import expectation


def layers_by_name(model: nn.Module, what: str) -> dict[str, QKANLayer]:
    """Return the `QKANLayer`s in a model by name, each once.

    Raises:
        QKANError: There is none, or one belongs to a `FastWeightQKAN`; the message begins with
            `what`, the name of the caller.
    """
    reject_fast_weights(model, what)
    found = {name: part for name, part in model.named_modules() if isinstance(part, QKANLayer)}
    if not found:
        hint = ""
        if any(isinstance(part, DARUAN) for part in model.modules()):
            hint = (
                " A DARUAN has no edges, but one activation for each group of features. Use "
                "importance to see how much each adds, fold to make it faster, or plot."
            )
        raise QKANError(f"{what}: the {type(model).__name__} contains no QKANLayer.{hint}")
    return found


def check_single(model: nn.Module, what: str) -> None:
    """Raise a `QKANError` that names the layer if one reads several observables."""
    for name, layer in model.named_modules():
        if isinstance(layer, QKANLayer):
            check_one_observable(
                f"{what}: {name or type(layer).__name__}", layer.circuit,
                "Layers with one observable are needed: QKANLayer(…, observable='X') with the same "
                "options and the same state_dict computes that part of the outputs.",
            )  # fmt: skip


def check_finite(model: nn.Module, what: str) -> None:
    """Raise a `QKANError` that names the parameter unless all values of a model are finite."""
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise QKANError(
                f"{what}: {name} has values that are not finite; use parameters from before the "
                "training diverged."
            )


def _inside(model: nn.Module, what: str) -> str:
    """The end of a message that asks for another model: which there is inside of this one."""
    if isinstance(model, DARUAN):
        return "for a DARUAN has no edges that a spline could take the place of"
    kinds: tuple[type, ...] = (QKAN, QKANLayer) if what == "to_kan" else (QKAN, QKANLayer, DARUAN)
    for name, part in model.named_modules():
        if isinstance(part, kinds):
            return f"such as the {type(part).__name__} inside it, model.get_submodule({name!r})"
    return "of which there is none inside it"


def exact_network(model: nn.Module, what: str) -> QKAN:
    """Copy a `QKAN` or a `QKANLayer` as a `QKAN` in double precision on the CPU.

    Raises:
        QKANError: The model is another one, or a parameter is not finite; the message names it.
    """
    model = unwrapped(model)
    reject_fast_weights(model, what)
    if not isinstance(model, QKAN | QKANLayer):
        raise QKANError(
            f"{what}: the model is {type(model).__name__}; pass a QKAN or a QKANLayer, "
            f"{_inside(model, what)}."
        )
    check_single(model, what)
    layers = [model] if isinstance(model, QKANLayer) else model.rows
    low_high = model.input_range if isinstance(model, QKAN) else None
    network = QKAN.from_layers([*map(copy.deepcopy, layers)], input_range=low_high)
    check_finite(network, what)
    return network.cpu().double().requires_grad_(False)


def check_inputs(network: QKAN, x: Tensor, what: str) -> Tensor:
    """Return data x (…, i) as (b, i) in double precision on the CPU.

    Raises:
        QKANError: x is not a tensor of real floats, has no sample or another width, or is not
            finite.
    """
    wanted = network.widths[0]
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
            "layers.0 cannot be evaluated; leave such samples out or fill them in."
        )
    return flat


def spread_points(network: QKAN) -> Tensor:
    """Return (500, i) fixed points over the network's input range, or over ±π/2 without one."""
    low, high = network.input_range or (-math.pi / 2, math.pi / 2)
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(500, network.widths[0], generator=generator, dtype=torch.float64)
    return low + (high - low) * share


def node_values(network: QKAN, x: Tensor) -> list[Tensor]:
    """Return the inputs of every layer and, last, the outputs: (b, widths[n]) each.

    The first entry is x itself, in the user's units, before `input_range` maps it.
    """
    values = [x]
    for number, layer in enumerate(network.layers):
        values.append(layer(as_seen(network, number, values[-1])))
    return values


def as_seen(network: QKAN, number: int, values: Tensor) -> Tensor:
    """Return the inputs of a layer; those of the first layer are mapped by `input_range`."""
    return values if number else network.map_input(values)


def bias_of(layer: QKANLayer) -> Tensor:
    """Return the biases (o,), or zeros if the layer has none."""
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()


def edge_angles(layer: QKANLayer) -> tuple[Tensor, Tensor, Tensor]:
    """Return theta (o, i, k), scale and shift (o, i, u), differentiable; with groups o is 1."""
    if layer.group is None:
        return layer.theta, layer.scale, layer.shift
    theta, scale, shift = (
        expand_groups(value, layer.in_features) for value in (layer.theta, layer.scale, layer.shift)
    )
    return theta, scale, shift


def edge_parameters(layer: QKANLayer, output: int, input: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return theta (k,), scale and shift (u,) of one edge, detached."""
    # with groups the outputs share one row
    theta, scale, shift = (v.detach()[output % len(v), input] for v in edge_angles(layer))
    return theta, scale, shift


def edge_weights(layer: QKANLayer) -> tuple[Tensor, Tensor]:
    """Return weight and base weight (o, i) times the mask; base weights are 0 without a base."""
    weight = layer.weight.detach() * layer.mask
    if layer.base_weight is None:
        return weight, torch.zeros_like(weight)
    return weight, layer.base_weight.detach() * layer.mask


def activations(layer: QKANLayer, x: Tensor) -> Tensor:
    """Return the readout of φ on every edge for x (b, i), (b, o, i); with groups o is 1."""
    dtype = compute_dtype(layer.weight.dtype, layer.readout)
    values = expectation(layer.circuit, *(t.to(dtype) for t in (x, *edge_angles(layer))))
    return amplitude(values) if layer.readout == "amplitude" else values


def edge_outputs(layer: QKANLayer, x: Tensor) -> Tensor:
    """Return mask·(weight·φ + base_weight·base) of every edge, (b, o, i), for x (b, i).

    Their sum over i plus the bias is the layer's output. They are differentiable, and all of them
    are kept in memory.
    """
    values = layer.weight * activations(layer, x)
    if layer.base is not None and layer.base_weight is not None:
        x = x.to(compute_dtype(layer.weight.dtype, layer.readout))
        values = values + layer.base_weight * BASES[layer.base](x).unsqueeze(-2)
    return values * layer.mask


def chosen_outputs(layer: QKANLayer, x: Tensor, places: Tensor) -> Tensor:
    """Return the outputs (b, n) of n chosen edges for x (b, i), as `edge_outputs` computes them.

    Args:
        layer: The layer with the edges.
        x: The layer's input.
        places: (n, 2) output and input of each edge.
    """
    if not len(places):
        return x.new_zeros(len(x), 0)
    o, i = places.unbind(-1)
    angles = (value.detach()[o % len(value), i].unsqueeze(0) for value in edge_angles(layer))
    values = expectation(layer.circuit, x[:, i], *angles).squeeze(-2)
    values = amplitude(values) if layer.readout == "amplitude" else values
    weight, base_weight = (part[o, i] for part in edge_weights(layer))
    base = 0.0 if layer.base is None else base_weight * BASES[layer.base](x[:, i])
    return weight * values + base
