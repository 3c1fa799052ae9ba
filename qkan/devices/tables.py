"""`tabulate`: measure every edge at a few points once, then evaluate any number of inputs.

An edge is a trigonometric polynomial φ(x) = c_0 + √2 Σ_ω (a_ω cos ωx + b_ω sin ωx) whose
frequencies are known from its circuit and scales, so the coefficients follow from measured points
by least squares. With trained scales some frequencies nearly coincide, so small singular values of
the fit are truncated. |φ| ≤ 1 implies Σ c² ≤ 1, which bounds the average size of the truncated
part. Letters: n inputs, e edges in use, m points, c coefficients, q qubits.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from qkan._options import check_size
from qkan.backends import Backend
from qkan.circuits import Circuit
from qkan.errors import QKANError

from .checks import check_input, checked_circuits, folder_of
from .error_propagation import EdgeEstimates, measured_forward
from .layer_circuits import LayerCircuits, quantum_layers
from .named import as_backend
from .result import DeviceResult
from .run import resumable
from .run_folder import about, measure

_CHUNK = 4_000_000
_ROUNDING = 1e-10


def tabulate(
    model: nn.Module,
    x: Tensor,
    backend: Backend | str,
    *,
    points: int = 33,
    margin: float = 0.1,
    store: str | os.PathLike[str] | None = None,
) -> EdgeTables:
    """Measure every edge of a model on a grid, with all layers in one submission.

    The grid of an input consists of the Chebyshev points of the range that it has over `x` on the
    simulator, widened on both sides. The cost is points × edges values, however many inputs are
    evaluated afterwards; `run` costs more than that from a few hundred inputs on, for a small
    network.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        x: (…, in) inputs that show the expected ranges.
        backend: The device.
        points: Number m of points for each edge; with fewer points than coefficients the standard
            errors are larger.
        margin: By how much a range is widened on each side, as a fraction of the range.
        store: The run's directory; the same call with the same directory continues a run that has
            stopped.

    Returns:
        The tables; `tables(x)` returns a `DeviceResult` at once, for any x within the ranges.

    Raises:
        QKANError: An encoding is an arccos, which has no finite spectrum; a value is NaN or
            infinite (the message names it); points or margin are wrong.

    Example:
        >>> import torch
        >>> from qkan import QKAN, QiskitBackend, tabulate
        >>> backend = QiskitBackend("aer", emulator="closed_form", seed=0)
        >>> x = torch.linspace(-1, 1, 100).unsqueeze(-1)
        >>> tables = tabulate(QKAN([1, 1]), x, backend)
        >>> tables(x).values.shape
        torch.Size([100, 1])
    """
    points = check_size("points", points, least=2)
    if not isinstance(margin, Real) or not 0 <= margin < 100:
        raise QKANError(f"margin={margin!r}; wanted a fraction of the range, such as 0.1.")
    backend = as_backend(backend)
    _refuse_arccos(model)
    recorded = checked_circuits(model, x)
    if not x.numel():
        raise QKANError(
            "tabulate: x has no sample; pass samples that show the ranges of the inputs."
        )
    by_layer: dict[int, list[LayerCircuits]] = {}
    for circuits in recorded:
        by_layer.setdefault(id(circuits.layer), []).append(circuits)
    grids = [_grid(calls, points, margin) for calls in by_layer.values() if calls[0].values]
    described = {**about(model, x, "tabulate"), "points": points, "margin": margin}
    kept, again = folder_of(store), "the same tabulate(…, store={!r})"
    with backend.open(kept, described) as run, resumable(run, again):
        found = measure(run, [grid.task() for grid in grids]) if grids else []
        tables = {
            id(grid.layer): LayerTable.fit(EdgeEstimates.measured(grid, values))
            for grid, values in zip(grids, found, strict=True)
        }
        return EdgeTables(model, backend.name, backend.shots, tables, run.jobs, run.seconds)


@dataclass(frozen=True, eq=False)
class LayerTable:
    """The measured edges of one layer, and the fit to them.

    Attributes:
        grid: The measured values and their errors, with the m points as rows.
        frequencies: (e, f) frequencies, padded with NaN.
        solve: (e, c, m) matrices from measured values to coefficients.
        kept: (e, c, k) orthonormal directions that the points determine; 0 for truncated ones.
    """

    grid: EdgeEstimates
    frequencies: Tensor
    solve: Tensor
    kept: Tensor

    @classmethod
    def fit(cls, grid: EdgeEstimates) -> LayerTable:
        """Fit each edge by least squares, without the directions that noise would determine."""
        circuits = grid.circuits.detached()
        frequencies = _frequencies(circuits)
        known = ~grid.z.isnan()
        features = _features(circuits.x, frequencies).transpose(0, 1) * known.T[..., None]
        noise = torch.where(known, grid.stderr, 0).square().sum(0) / known.sum(0).clamp(min=1)
        count = _coefficients(frequencies)
        u, s, vh = torch.linalg.svd(features, full_matrices=False)
        # compare a direction's noise, σ²/s², with its average size under |φ| ≤ 1, 1/c
        kept = s > (noise.clamp(min=_ROUNDING**2) * count).sqrt()[:, None]
        inverse = torch.where(kept, 1 / torch.where(kept, s, 1.0), 0.0)
        directions = vh.transpose(1, 2) * kept[:, None]
        solve = directions * inverse[:, None] @ u.transpose(1, 2)
        return cls(grid, frequencies, solve, directions)

    def read(self, circuits: LayerCircuits) -> EdgeEstimates:
        """Return estimates at the inputs of a layer's call, with errors of points and truncation.

        Raises:
            QKANError: An input is outside the measured range, or edges were trained since.
        """
        self._require_same(circuits)
        self._require_measured(circuits)
        features = _features(circuits.detached().x, self.frequencies)
        weights = torch.einsum("nec,ecm->nem", features, self.solve)
        decided = torch.einsum("nec,eck->nek", features, self.kept).square().sum(-1)
        lost = (features.square().sum(-1) - decided).clamp(min=0)
        bias = lost / _coefficients(self.frequencies)
        grid, known = self.grid, ~self.grid.z.isnan()

        def carried(variance: Tensor) -> Tensor:
            return (weights**2 * torch.where(known, variance, 0.0).T).sum(-1) + bias

        parts = weights * torch.where(known, grid.z, 0.0).T
        z = torch.where(known.any(0), parts.sum(-1), torch.nan)
        return EdgeEstimates(
            circuits, z, carried(grid.stderr**2).sqrt(), carried(grid.variance),
            carried(grid.cautious), parts, grid.qubit[..., 0].T[None], grid.calibration_error,
            grid.call,
        )  # fmt: skip

    def _require_same(self, circuits: LayerCircuits) -> None:
        ours, theirs = self.grid.circuits, circuits.detached()
        names = ("theta", "scale", "shift", "edges")
        if not all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in names):
            raise QKANError(
                f"Layer {circuits.name}: the angles, the mask, or the set of amplitudes that are 0 "
                "changed after the measurement; tabulate the model again."
            )

    def _require_measured(self, circuits: LayerCircuits) -> None:
        low, high = self.grid.circuits.inputs.aminmax(dim=0)
        slack = 1e-9 * (high - low)
        outside = (circuits.inputs < low - slack) | (circuits.inputs > high + slack)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise QKANError(
                f"Layer {circuits.name}: for sample {row}, input {column} is "
                f"{circuits.inputs[row, column].item():.6g}, but its edges were measured on "
                f"[{low[column].item():.6g}, {high[column].item():.6g}]. Tabulate with inputs that "
                "reach further, or with a larger margin."
            )


@dataclass(frozen=True, eq=False)
class EdgeTables:
    """A model whose edges were measured once; call it with inputs to get its outputs.

    Attributes:
        model: The model, which must not be trained after the measurement.
        backend: The device's name.
        shots: The number of shots for each value.
        tables: The tables by the `id` of their layers.
        jobs: The ids of its jobs.
        seconds: The billed time on the device.
    """

    model: nn.Module
    backend: str
    shots: int
    tables: Mapping[int, LayerTable]
    jobs: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        return (
            f"EdgeTables({len(self.tables)} layers of a {type(self.model).__name__} on "
            f"{self.backend}, {self.shots} shots, {len(self.jobs)} jobs, {self.seconds:.3g} s)"
        )

    def __call__(self, x: Tensor) -> DeviceResult:
        """Return the model's outputs at x (…, in) with standard errors; nothing is submitted.

        Raises:
            QKANError: An input of a layer is outside the measured range; the message names layer
                and sample.
        """
        check_input(x)
        sizes = [table.solve.numel() // table.solve.shape[-1] for table in self.tables.values()]
        rows = max(1, _CHUNK // max(sizes, default=1))
        parts = x.split(rows) if x.ndim > 1 and len(x) else [x]
        found = [measured_forward(self.model, part, self._read) for part in parts]
        values, stderr = (torch.cat(t) if x.ndim > 1 else t[0] for t in zip(*found, strict=True))
        return DeviceResult(
            values, stderr, self.backend, self.shots, self.jobs, self.seconds, "tabulate"
        )

    def _read(self, circuits: LayerCircuits, rows: Tensor) -> EdgeEstimates:
        table = self.tables.get(id(circuits.layer))
        if table is not None:
            return table.read(circuits)
        if circuits.values:
            raise QKANError(
                f"Layer {circuits.name} had no circuit in use when the model was measured, and has "
                f"{len(circuits.edges)} now; tabulate the model again."
            )
        return EdgeEstimates.measured(circuits, None)


def _refuse_arccos(model: nn.Module) -> None:
    for name, layer in quantum_layers(model).items():
        if layer.circuit.uses_arccos:
            raise QKANError(
                f"Layer {name} encodes x through an arccos, so its activations have no finite "
                "frequency spectrum and do not follow from a few points; use run."
            )


def _grid(calls: list[LayerCircuits], points: int, margin: float) -> LayerCircuits:
    """Return a layer's circuits at the Chebyshev points of its inputs' ranges over all calls."""
    widths = sorted({circuits.inputs.shape[-1] for circuits in calls})
    if len(widths) > 1:
        raise QKANError(
            f"Activation {calls[0].name} is called with {' and '.join(map(str, widths))} features, "
            "so the ranges of its inputs are not defined; use run, or a separate DARUAN for each "
            "place."
        )
    seen = torch.cat([circuits.inputs for circuits in calls]).detach().double()
    low, high = seen.aminmax(dim=0)
    # an input that never changes still gets a range, since on a device it does change
    half = (high - low) / 2 + margin * (high - low).clamp(min=0.1)
    angles = torch.pi * torch.arange(points, dtype=torch.double, device=seen.device) / (points - 1)
    inputs = (low + high) / 2 + half * angles.cos()[:, None]
    first = calls[0].detached()
    return replace(first, inputs=inputs, x=inputs[:, first.edges % widths[0]])


def _frequencies(circuits: LayerCircuits) -> Tensor:
    """Return the frequencies (e, f) of each edge, including 0, padded with NaN."""
    circuit, fixed = circuits.circuit, circuits.layer.fixed_scale
    scales = circuits.scale.cpu().tolist()
    rows = [_spectrum(circuit, fixed or tuple(scale)) for scale in scales]
    width = max(map(len, rows), default=1)
    padded = [[*row, *[torch.nan] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.double, device=circuits.x.device).reshape(-1, width)


@functools.lru_cache(maxsize=4096)
def _spectrum(circuit: Circuit, scale: tuple[float, ...]) -> tuple[float, ...]:
    found: Any = circuit.spectrum(scale)
    return (0.0, *(float(k) for k in found if k))


def _coefficients(frequencies: Tensor) -> Tensor:
    """Return the number of coefficients (e,) of each edge."""
    return 2.0 * (~frequencies.isnan()).sum(-1) - 1


def _features(x: Tensor, frequencies: Tensor) -> Tensor:
    """Return (n, e, c): 1, then √2·cos ωx and √2·sin ωx; 0 for padding."""
    angles = x[..., None] * frequencies[:, 1:]
    waves = 2**0.5 * torch.cat([angles.cos(), angles.sin()], -1).nan_to_num(0.0)
    return torch.cat([torch.ones_like(x)[..., None], waves], -1)
