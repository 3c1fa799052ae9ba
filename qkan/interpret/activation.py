"""Inspect a `DARUAN`: the layer with its circuits, the range of its inputs, its formula."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.circuits import fourier_series, require, to_sympy
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN, base_values
from qkan.nn.gates import is_gate, lstm_gates
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import unwrapped
from qkan.simulators.base_activations import BASE_ACTIVATIONS
from qkan.simulators.recurrent import GATES

from .edges import check_finite
from .formula import EdgeFormula, Formula

_REACH = (-4.0, 4.0)
"""The range of inputs if no data are given."""
_MODULES: dict[type[nn.Module], str] = {
    nn.SiLU: "silu",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Identity: "identity",
}
_POINTS = 200


def exact_activation(model: nn.Module, what: str) -> DARUAN | None:
    """Return a copy of a `DARUAN` in double precision on the CPU, or None for another model.

    Raises:
        QKANError: A parameter is not finite.
    """
    model = unwrapped(model)
    if not isinstance(model, DARUAN):
        return None
    check_finite(model, what)
    return copy.deepcopy(model).cpu().double().requires_grad_(False)


def layer_of(activation: DARUAN) -> QKANLayer:
    """Return a layer with one output, and one input for the circuit of each group."""
    layer = QKANLayer(
        activation.group, 1, ansatz=activation.circuit, encoding=activation.encoding, base=None,
        dtype=activation.theta.dtype, reps=activation.circuit.num_encodings,
    )  # fmt: skip
    with torch.no_grad():
        for name in ("theta", "scale", "shift"):
            getattr(layer, name).copy_(getattr(activation, name).unsqueeze(0))
        layer.weight.copy_(activation.amplitude.unsqueeze(0))
    return layer


def spans(activation: DARUAN, x: Tensor | None, what: str) -> Tensor:
    """Return the least and the largest input of each group, (2, g); ±4 if no data are given.

    Raises:
        QKANError: The data are empty, not finite, or of another width or dtype.
    """
    g = activation.group
    if x is None:
        return torch.tensor(_REACH, dtype=torch.float64)[:, None].expand(2, g)
    width = activation.features
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"{what}: x is {found}; pass a torch tensor of real floats.")
    if not x.numel() or (width is not None and x.shape[-1:] != (width,)):
        raise QKANError(
            f"{what}: x has shape {tuple(x.shape)}; pass at least one sample, (…, {width or 'f'})."
        )
    flat = x.detach().cpu().double()
    flat = flat.reshape(-1, 1) if width is None else flat.reshape(-1, width)
    if not flat.isfinite().all():
        raise QKANError(
            f"{what}: x has values that are not finite; leave such samples out or fill them in."
        )
    low, high = flat.aminmax(dim=0)
    owner = torch.arange(flat.shape[1]) * g // flat.shape[1]
    groups = [(low[owner == n].min(), high[owner == n].max()) for n in range(g)]
    ends = torch.tensor(groups, dtype=torch.float64).T
    # an input that never changes gets a small range around its value
    room = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    return ends + room * (ends[0] == ends[1])


def curves(activation: DARUAN, ranges: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, base and activation of every group over its range, (n, g) each."""
    share = torch.linspace(0, 1, _POINTS, dtype=torch.float64)[:, None]
    x = ranges[0] + share * (ranges[1] - ranges[0])
    bare = copy.deepcopy(activation)
    bare.features = bare.group  # one feature for each group
    bare.eval()
    with torch.no_grad():
        whole = bare(x)
        nn.init.zeros_(bare.amplitude)
        return x, bare(x), whole


def activation_formula(
    activation: DARUAN, x: Tensor | None, digits: int | None, name: str
) -> Formula:
    """Return the activation of every group as a function of one input, exact or rounded."""
    sympy = require("sympy", "symbolic")
    from .edge_formula import Range, number, rounded

    t = sympy.Symbol(name, real=True)
    ranges = spans(activation, x, "symbolic")
    nodes, edges, bound = [], [], 0.0
    base = None if is_gate(activation) else _base(activation, t)
    reach = float(ranges.abs().max())
    for g in range(activation.group):
        theta, scale, shift = (
            getattr(activation, name)[g].numpy() for name in ("theta", "scale", "shift")
        )
        amplitude, lost = float(activation.amplitude[g]), 0.0
        known = _gate_base(activation, g, t) if base is None else base
        if activation.circuit.uses_arccos:
            kind = "closed form"
            added = number(amplitude) * to_sympy(
                activation.circuit, x=t, theta=theta.tolist(), scale=scale.tolist(),
                shift=shift.tolist(), clamp=True,
            )  # fmt: skip
        else:
            kind = "series"
            terms = np.stack(fourier_series(activation.circuit, theta, scale, shift), -1)
            terms[:, 1:] *= amplitude
            terms, lost = rounded(terms, digits, Range(0.0, reach))
            added = sympy.Add(*(
                number(a) * sympy.cos(number(k) * t) + number(b if k else 0.0)
                * sympy.sin(number(k) * t) for k, a, b in terms.tolist()
            ))  # fmt: skip
        symbol = sympy.Symbol("y" if activation.group == 1 else f"y_{g + 1}", real=True)
        nodes.append((symbol, known + added))
        edges.append(EdgeFormula(0, g, 0, kind, known + added, bound=lost))
        bound = max(bound, lost)
    formula = Formula((t,), [nodes], edges, bound)
    grid = torch.linspace(float(ranges.min()), float(ranges.max()), _POINTS, dtype=torch.float64)
    wide = grid[:, None].expand(-1, activation.group)
    _, _, whole = curves(activation, torch.stack([wide[0], wide[-1]]))
    formula.measure(grid[:, None].numpy(), whole.numpy())
    return formula


def _gate_base(activation: DARUAN, g: int, t: Any) -> Any:
    """What a group of the gates of a recurrent cell begins as: a sigmoid, or tanh for the third."""
    sympy = require("sympy", "symbolic")
    gates = GATES["LSTM" if activation.base is lstm_gates else "GRU"]
    third = g * gates // activation.group == 2
    return sympy.tanh(t) if third else 1 / (1 + sympy.exp(-t))


def _base(activation: DARUAN, t: Any) -> Any:
    """The base as an expression; a base without a known formula is a function of its own name."""
    sympy = require("sympy", "symbolic")
    base = activation.base
    if base is None:
        return sympy.Integer(0)
    name = base if isinstance(base, str) else None
    if isinstance(base, nn.Module):
        name = _MODULES.get(type(base))
    if isinstance(base, nn.GELU) and base.approximate == "none":
        name = "gelu"
    if name == "relu2":
        return sympy.Max(0, t) ** 2
    if isinstance(name, str):
        return BASE_ACTIVATIONS[name].formula(sympy, t)

    def values(inputs: Any) -> Any:
        array = torch.as_tensor(np.asarray(inputs, dtype=np.float64))
        with torch.no_grad():
            return base_values(base, array).numpy()

    called = getattr(base, "__name__", type(base).__name__)
    named = require("sympy.utilities.lambdify", "symbolic").implemented_function(called, values)
    return named(t)
