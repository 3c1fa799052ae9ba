"""Warn of data for which a model's layers are not made: inputs beyond a period, large spreads.

Each layer is judged by its own input, unless something that is trained comes before it, since
training can change that input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qkan.errors import AliasingWarning, ScaleWarning, warn
from qkan.nn.activation import DARUAN
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN, no_range_warnings
from qkan.nn.watch import evaluating, on_layer_input, unwrapped
from qkan.simulators import has_values

from .batches import Pair

_ROWS, _NUMBERS = 4096, 1 << 20
"""The largest numbers of rows, and of values in them, that are examined before training."""

_ALIASED = 1e-3
_TURNS, _FAR = 8.0, 100.0
"""Spread and mean of trained encodings' angles, in radians, above which a warning is given."""


def some_rows(pair: Pair) -> Pair:
    """Return evenly spaced rows of the data, few enough to run the model on."""
    x, y = pair
    wanted = max(1, min(_ROWS, _NUMBERS * len(x) // max(x.numel(), 1)))
    step = max(1, -(-len(x) // wanted))
    return x[::step], y[::step]


def warn_of_inputs(model: nn.Module, x: Tensor, role: str) -> Tensor | None:
    """Run the model on some rows of the data, and warn of inputs for which layers are not made.

    The model runs in evaluation mode, on the simulator, and is not changed.

    Args:
        model: Any module.
        x: Rows of the data.
        role: "training" or "validation".

    Returns:
        The model's output, or None for a model without a `QKANLayer`, which is not run.
    """
    model = unwrapped(model)
    if not any(isinstance(module, QKANLayer) for module in model.modules()):
        return None
    seen: dict[str, tuple[QKANLayer, list[Tensor]]] = {}

    def keep(name: str, layer: QKANLayer, rows: Tensor) -> None:
        # an input that depends on a trained parameter has a graph; inside vmap it has no values
        if not rows.requires_grad and has_values(rows):
            seen.setdefault(name, (layer, []))[1].append(rows)

    with on_layer_input(model, keep):
        out = simulated(model, x)
    for name, (layer, rows) in seen.items():
        ranged = _range_of(model, layer)
        if layer.fixed_scale is not None:
            _warn_aliasing(layer, torch.cat(rows), ranged, role)
        elif not layer.circuit.uses_arccos:
            _warn_spread(name or type(model).__name__, layer, torch.cat(rows), ranged, role)
    return out.detach() if isinstance(out, Tensor) else None


def simulated(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's output in evaluation mode, on the simulator, without changing it."""
    device = next(model.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    with evaluating(model), _on_simulator(model), no_range_warnings(), torch.enable_grad():
        with torch.random.fork_rng(cuda):
            out: Tensor = unwrapped(model)(x.detach().to(device))
    return out


@contextmanager
def _on_simulator(model: nn.Module) -> Iterator[None]:
    """Use the simulator in place of a device while this lasts, since shots cost."""
    lent = {
        layer: layer.__dict__.pop("activations")
        for layer in model.modules()
        if isinstance(layer, QKANLayer | DARUAN) and "activations" in layer.__dict__
    }
    try:
        yield
    finally:
        for layer, activations in lent.items():
            layer.activations = activations


def _range_of(model: nn.Module, layer: QKANLayer) -> tuple[float, float]:
    """Return the range of the data that a layer sees as [-π/2, π/2]."""
    for module in model.modules():
        row: Any = module
        if isinstance(module, QKAN) and row.layers[0] is layer and module.input_range is not None:
            return module.input_range
    return -math.pi / 2, math.pi / 2


def _as_given(values: Tensor, ranged: tuple[float, float]) -> Tensor:
    """Return the values of a layer's input as they were before `input_range` was mapped."""
    low, high = ranged
    return values * ((high - low) / math.pi) + (low + high) / 2


def _remedy(x: Tensor, ranged: tuple[float, float]) -> str:
    low, high = (value.item() for value in _as_given(x, ranged).aminmax())
    return f"Build QKAN(…, input_range=({low:.4g}, {high:.4g})), or rescale x"


def _warn_aliasing(layer: QKANLayer, x: Tensor, ranged: tuple[float, float], role: str) -> None:
    """Warn if a fixed encoding has a period that its inputs exceed."""
    assert layer.fixed_scale is not None
    scales = [abs(scale) for scale in layer.fixed_scale]
    if layer.circuit.uses_arccos or not any(scales) or not all(s.is_integer() for s in scales):
        return
    # frequencies are sums of scales, so the period follows from their common divisor
    half = math.pi / math.gcd(*map(int, scales))
    beyond = (x.abs() > half * (1 + 1e-6)).double().mean().item()
    if beyond > _ALIASED:
        warn(
            f"{100 * beyond:.3g} % of the {role} inputs reach the first layer beyond "
            f"±{half:.4g}, and its encoding {layer.encoding!r} has the period {2 * half:.4g}: the "
            f"activations cannot tell such inputs from others. {_remedy(x, ranged)}.",
            AliasingWarning,
        )


def _warn_spread(
    name: str, layer: QKANLayer, x: Tensor, ranged: tuple[float, float], role: str
) -> None:
    """Warn if the angles of trained encodings have a large spread, or a mean far from 0."""
    scale = layer.scale.detach().abs().double().mean().item()
    x = x.double()
    spread, mean = scale * x.std(0, correction=0), scale * x.mean(0).abs()
    worst = int(torch.maximum(spread / _TURNS, mean / _FAR).argmax())
    if spread[worst] <= _TURNS and mean[worst] <= _FAR:
        return
    given = _as_given(x[:, worst], ranged)
    warn(
        f"Layer {name}: input {worst} of the {role} data has the mean {given.mean().item():.4g} "
        f"and the spread {given.std(correction=0).item():.4g}, where the encoding makes angles of "
        f"{spread[worst].item():.3g} radians: the activations oscillate between the samples and "
        f"overfit. {_remedy(x, ranged)}, (x - x.mean(0)) / x.std(0).",
        ScaleWarning,
    )
