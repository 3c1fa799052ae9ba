"""`to_kan` and `from_kan`: convert circuits on the edges to splines, and back."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from qkan._options import check_layer_options, check_size
from qkan.circuits import Circuit
from qkan.errors import QKANError, ScaleWarning, warn
from qkan.interpret.edges import (
    activations,
    as_seen,
    bias_of,
    check_inputs,
    edge_angles,
    edge_outputs,
    edge_weights,
    exact_network,
    node_values,
)
from qkan.io.kan_files import read_kan
from qkan.nn.layer import LayerOptions, QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.splines import SPLINE_BASES, SplineKAN, SplineLayer, uniform_grid
from qkan.simulators import expectation
from qkan.training.lbfgs import LBFGS

_POINTS = 12
"""The number of points of a fit for each number that is fitted."""
_LEAST, _MOST, _PER_PERIOD = 5, 4096, 8
"""The least and the most intervals of a grid, and the number for a period of an activation."""
_LARGE = 0.02
"""A larger deviation from the model, as a share of an output's spread, gives a warning."""


def to_kan(
    model: nn.Module,
    x: Tensor,
    *,
    grid: int | None = None,
    degree: int = 3,
    margin: float = 0.01,
    adaptive: float = 0.0,
) -> SplineKAN:
    """Return a spline KAN with the same activations: a least-squares spline on every edge.

    This is the transfer to splines of arXiv 2509.14026. The result can be trained further with
    `fit`; `qkan.io.kan_files` writes files that pykan and efficient-kan load.

    Args:
        model: A `QKAN` or a `QKANLayer`.
        x: (…, i) data, which give the range and thus the grid of every node.
        grid: The number of intervals of every grid. The error of a smooth activation falls with its
            (degree + 1)-th power. None takes 5, or more for fast activations: 8 for each period of
            their highest frequency within the range of a node.
        degree: The degree of the splines.
        margin: How far the grids reach beyond the range of the data, as a share of that range.
        adaptive: From 0, for equidistant knots, to just below 1, for knots at the quantiles of the
            data.

    Returns:
        A `SplineKAN` in the dtype and on the device of the model. Its `deviation` is the root mean
        square of its difference from the model on x; a `ScaleWarning` is given if that is more than
        2 % of an output's spread. A base activation that all layers share and that spline KANs have
        (silu, identity) is kept with its weights. Otherwise, and in the first layer of a model with
        an `input_range`, it becomes part of the splines.

    Raises:
        QKANError: The model is of another kind, the data have another width, a value is not finite,
            or an option is out of its range.

    Example:
        >>> import torch
        >>> from qkan import QKAN, to_kan
        >>> _ = torch.manual_seed(0)
        >>> x = torch.rand(500, 2)
        >>> model = QKAN([2, 3, 1])
        >>> kan = to_kan(model, x, grid=12)
        >>> kan.deviation < 1e-3, (kan(x) - model(x)).abs().max().item() < 1e-3
        (True, True)
    """
    check_size("degree", degree)
    if grid is not None:
        check_size("grid", grid, "Or pass None.")
    if not 0 <= margin < math.inf:
        raise QKANError(f"margin={margin!r}; wanted a share of the range, 0 or more.")
    if not 0 <= adaptive < 1:
        raise QKANError(f"adaptive={adaptive!r}; wanted a share from 0 to below 1.")
    network = exact_network(model, "to_kan")
    layers, mapped = network.rows, network.input_range is not None
    values = node_values(network, check_inputs(network, x, "to_kan"))
    bases = {layer.base for layer in layers}
    shared = layers[0].base if len(bases) == 1 and bases <= set(SPLINE_BASES) else None
    if grid is None:
        seen = (as_seen(network, n, values[n]) for n in range(len(layers)))
        grid = max(map(_intervals, layers, seen))
    rows = []
    for n, layer in enumerate(layers):
        keep_base = shared is not None and not (mapped and n == 0)
        low, high = _domain(values[n], margin)
        knots = _moved(uniform_grid(low, high, grid, degree), values[n], degree, adaptive)
        points = _points(knots, degree, grid + degree)
        at = as_seen(network, n, points)
        weight, base_weight = edge_weights(layer)
        curves = weight * activations(layer, at) if keep_base else edge_outputs(layer, at)
        coef = _fitted(points, curves, knots, degree)
        kept_weight = base_weight if keep_base else torch.zeros_like(base_weight)
        rows.append(SplineLayer(knots, coef, kept_weight, bias_of(layer), base=shared))
    like = next(model.parameters())
    kan = SplineKAN(rows)
    _measure(kan, values, grid)
    return kan.to(like.device, like.dtype)


def _intervals(layer: QKANLayer, values: Tensor) -> int:
    """The number of intervals that resolve the fastest activation of a layer."""
    if layer.circuit.uses_arccos:
        # the activation is a polynomial of that degree, with roots at its ends
        return max(_LEAST, _PER_PERIOD * layer.circuit.num_encodings)
    low, high = values.aminmax(dim=0)
    highest = edge_angles(layer)[1].abs().sum(-1).amax(0)
    periods = (highest * (high - low)).max().item() / (2 * math.pi)
    return min(_MOST, max(_LEAST, math.ceil(_PER_PERIOD * periods)))


@torch.no_grad()
def _measure(kan: SplineKAN, values: list[Tensor], grid: int) -> None:
    """Set the deviation from the model's outputs on its inputs, and warn if it is large."""
    wanted = values[-1]
    error = (kan(values[0]) - wanted).square().mean(0).sqrt()
    kan.deviation = error.square().mean().sqrt().item()
    # for an output that does not vary, a share of its size takes the place of its spread
    spread = torch.maximum(wanted.std(0, correction=0), 1e-3 * wanted.abs().amax(0))
    share = error / spread.clamp_min(1e-12)
    if share.max() > _LARGE:
        o = int(share.argmax())
        warn(
            f"to_kan: output {o} of the spline KAN deviates from the model on x by "
            f"{error[o].item():.3g} (root mean square), {100 * share[o].item():.3g} % of its "
            f"spread, with grid={grid}. Pass a finer grid, such as grid={2 * grid}, or train it "
            "further: fit(kan, (x, model(x).detach())).",
            ScaleWarning,
        )


def _domain(values: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest point of each grid, a little beyond the range of values (b, i)."""
    low, high = values.aminmax(dim=0)
    room = margin * (high - low) + 1e-6 * (1 + low.abs() + high.abs())
    return low - room, high + room


def _moved(knots: Tensor, values: Tensor, degree: int, share: float) -> Tensor:
    """Move the inner knots by a share of the way to the quantiles of the values."""
    if share == 0:
        return knots
    inner = knots[:, degree + 1 : -degree - 1]
    levels = torch.linspace(0, 1, inner.shape[1] + 2, dtype=values.dtype)[1:-1]
    goal = values.quantile(levels, dim=0).T
    return torch.cat(
        [knots[:, : degree + 1], inner + share * (goal - inner), knots[:, -degree - 1 :]], 1
    )


def _points(knots: Tensor, degree: int, unknowns: int) -> Tensor:
    """Return (n, i) points spread over the domain of each grid, without its upper end."""
    share = torch.linspace(0, 1 - 1e-9, _POINTS * unknowns, dtype=knots.dtype)
    low, high = knots[:, degree], knots[:, -degree - 1]
    return low + share.unsqueeze(-1) * (high - low)


def _fitted(points: Tensor, curves: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Coefficients (o, i, n) of the least-squares splines through curves (n, o, i)."""
    from scipy.interpolate import make_lsq_spline

    found = [
        torch.from_numpy(
            make_lsq_spline(
                points[:, i].numpy(), curves[:, :, i].numpy(), knots[i].numpy(), degree
            ).c
        )
        for i in range(points.shape[1])
    ]
    return torch.stack(found).permute(2, 0, 1).contiguous()


def from_kan(
    kan: SplineKAN | nn.Module | Mapping[str, Tensor] | str | Path,
    *,
    starts: int = 8,
    steps: int = 20,
    **options: Unpack[LayerOptions],
) -> QKAN:
    """Return a QKAN that is fitted to each edge of a spline KAN by least squares.

    Every edge's weight·φ + constant is fitted to its spline from several random starts at once.
    Weight and constant are solved exactly for every trial of the angles, and the best start is
    kept. Base activation and biases are those of the KAN. A spline with kinks or noise needs more
    `reps`; afterwards `fit(model, (x, kan(x)))` fits all edges together.

    Args:
        kan: A `SplineKAN`, or anything that `qkan.io.kan_files.read_kan` reads: a pykan model, the
            path of its checkpoint, an efficient-kan model, or a state_dict of either.
        starts: The number of random starts of each edge.
        steps: The number of LBFGS steps for each layer.
        **options: The options of every `QKANLayer` except base, encoding, group, readout, bias and
            start.

    Returns:
        A QKAN of the same widths, in the dtype of the KAN unless an option says otherwise.

    Raises:
        QKANError: The argument is not a spline KAN, or an option is out of its range.

    Example:
        >>> import torch
        >>> from qkan import QKAN, from_kan, to_kan
        >>> _ = torch.manual_seed(0)
        >>> x = torch.rand(200, 1, dtype=torch.float64)
        >>> kan = to_kan(QKAN([1, 1], dtype=torch.float64), x, grid=10)
        >>> model = from_kan(kan, generator=torch.Generator().manual_seed(0))
        >>> (model(x) - kan(x)).abs().max().item() < 1e-3
        True
    """
    check_size("starts", starts)
    check_size("steps", steps)
    taken = {"base", "group", "readout", "bias", "encoding", "start"} & set(options)
    if taken:
        raise QKANError(
            f"from_kan: the options {sorted(taken)} follow from the KAN; leave them out."
        )
    check_layer_options("from_kan", options)
    rows = read_kan(kan).rows
    return QKAN.from_layers([_layer(row, starts, steps, options) for row in rows])


def _layer(row: SplineLayer, starts: int, steps: int, options: LayerOptions) -> QKANLayer:
    """A layer whose edges are fitted to those of a spline layer."""
    made: dict[str, Any] = {"dtype": row.coef.dtype, "device": row.coef.device, **options}
    layer = QKANLayer(row.in_features, row.out_features, base=row.base, **made)
    exact = copy.deepcopy(row).cpu().double()
    with torch.no_grad():
        points = _points(exact.grid, exact.degree, exact.coef.shape[2])
        curves = exact.splines(points)
    start = _start(layer.circuit, exact, starts, options.get("generator"))
    parameters, weight, offset = _fit_edges(layer.circuit, points, curves, start, steps)
    with torch.no_grad():
        values = zip((layer.theta, layer.scale, layer.shift), parameters, strict=True)
        for target, value in [*values, (layer.weight, weight)]:
            target.copy_(value)
        assert layer.bias is not None
        layer.bias.copy_(exact.bias + offset.sum(1))
        if layer.base_weight is not None and row.base_weight is not None:
            layer.base_weight.copy_(row.base_weight)
    return layer


def _start(
    circuit: Circuit, row: SplineLayer, starts: int, generator: torch.Generator | None
) -> list[Tensor]:
    """Draw theta (s·o, i, k), scale and shift (s·o, i, u), so that inputs fill half a period."""
    low, high = row.domain
    shape = (starts * row.out_features, row.in_features)

    def random(count: int) -> Tensor:
        return torch.rand(*shape, count, generator=generator, dtype=torch.float64)

    # an arccos needs its argument within ±1
    reach = 1.8 if circuit.uses_arccos else math.pi
    theta = (random(circuit.num_theta) - 0.5) * math.pi
    scale = (0.5 + random(circuit.num_encodings)) * (reach / (high - low)).unsqueeze(-1)
    return [theta, scale, -scale * ((low + high) / 2).unsqueeze(-1)]


def _fit_edges(
    circuit: Circuit, points: Tensor, curves: Tensor, start: list[Tensor], steps: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Fit a·φ + d to every edge from every start, and keep the best start of each.

    Args:
        circuit: The circuit of all edges.
        points: (n, i).
        curves: (n, o, i).
        start: Theta, scale and shift of s starts, (s·o, i, …).
        steps: The number of steps of LBFGS.

    Returns:
        Theta, scale and shift (o, i, …), a and d (o, i).
    """
    outs = curves.shape[1]
    wanted = curves.repeat(1, len(start[0]) // outs, 1)
    height = wanted.var(0, correction=0).clamp_min(1e-12)
    leaves = [value.requires_grad_() for value in start]
    optimizer = LBFGS(leaves)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (_project(circuit, points, wanted, leaves)[0] / height).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    with torch.no_grad():
        error, weight, offset = (
            v.unflatten(0, (-1, outs)) for v in _project(circuit, points, wanted, leaves)
        )
    best = torch.where(error.isfinite(), error, torch.inf).argmin(0, keepdim=True)

    def kept(value: Tensor) -> Tensor:
        index = best if value.ndim == 3 else best.unsqueeze(-1).expand(1, *value.shape[1:])
        return value.gather(0, index).squeeze(0)

    return [kept(v.detach().unflatten(0, (-1, outs))) for v in leaves], kept(weight), kept(offset)


def _project(
    circuit: Circuit, points: Tensor, wanted: Tensor, parameters: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean square error, a and d of the best a·φ + d on every edge (o, i)."""
    theta, scale, shift = parameters
    phi = expectation(circuit, points, theta, scale, shift)
    centred, goal = phi - phi.mean(0), wanted - wanted.mean(0)
    weight = (centred * goal).mean(0) / centred.square().mean(0).clamp_min(1e-12)
    offset = wanted.mean(0) - weight * phi.mean(0)
    return (weight * centred - goal).square().mean(0), weight, offset
