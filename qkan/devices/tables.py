"""`tabulate`: measure every edge on a few points once, then serve any number of inputs.

An edge is a trigonometric polynomial φ(x) = c_0 + √2 Σ_ω (a_ω cos ωx + b_ω sin ωx) whose
frequencies are known from its circuit and scales, so measured points give its coefficients by least
squares. Trained scales bring frequencies that nearly coincide: the fit is truncated in its singular
values. |φ| ≤ 1 means Σ c² ≤ 1, which says what a truncated direction can be worth at most on
average. Letters: n inputs, e edges in use, m points, c coefficients, q qubits.
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

from qkan.backends import Backend
from qkan.circuits import Circuit
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer

from .checks import check_input, check_model, check_stage, folder_of
from .named import as_backend
from .reading import Reading, variance_of_sum
from .result import DeviceResult
from .run import measure_forward, resumable
from .stage import Stage, quantum_layers, record
from .store import about, measure

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
    """Measure every edge of a model on a grid, all layers in one submission.

    The grid of an input are the Chebyshev points of the range that it has over `x` on the
    simulator, widened on both sides. It costs points × edges values, however many inputs are
    served afterwards; a few hundred inputs of a small network cost more than that in `run`.

    Args:
        model: Any module with `QKANLayer`s in it.
        x: (…, in) inputs that show what ranges to expect.
        backend: The device.
        points: Points m an edge; with fewer than coefficients the bars widen.
        margin: How much wider than found a range is measured, on each side, as a part of it.
        store: The run's directory: the same call with it again goes on where this one stopped.

    Returns:
        The tables: `tables(x)` gives a `DeviceResult` at once, for any x within the ranges.

    Raises:
        QKANError: An arccos encoding, which has no finite spectrum; a NaN or an infinity (named);
            points or margin that cannot be.

    Example:
        >>> import torch
        >>> from qkan import QKAN, QiskitBackend, tabulate
        >>> backend = QiskitBackend("aer", emulator="closed_form", seed=0)
        >>> x = torch.linspace(-1, 1, 100).unsqueeze(-1)
        >>> tables = tabulate(QKAN([1, 1]), x, backend)
        >>> tables(x).values.shape
        torch.Size([100, 1])
    """
    if not isinstance(points, int) or isinstance(points, bool) or points < 2:
        raise QKANError(f"points={points!r}: a whole number, 2 or more.")
    if not isinstance(margin, Real) or not 0 <= margin < 100:
        raise QKANError(f"margin={margin!r}: a part of the range, such as 0.1.")
    backend = as_backend(backend)
    check_model(model)
    _refuse_arccos(model)
    check_input(x)
    if not x.numel():
        raise QKANError("tabulate needs samples to know the ranges of the inputs; found none.")
    stages, _ = record(model, x)
    for stage in stages:
        check_stage(stage)
    grids = [_grid(found, points, margin) for found in _by_layer(stages) if found[0].values]
    described = {**about(model, x, "tabulate"), "points": points, "margin": margin}
    kept, again = folder_of(store), "the same tabulate(…, store={!r})"
    with backend.open(kept, described) as run, resumable(run, again):
        found = measure(run, [grid.task() for grid in grids]) if grids else []
        tables = {
            id(grid.layer): Table.fit(Reading.of(grid, values))
            for grid, values in zip(grids, found, strict=True)
        }
        return EdgeTables(model, backend.name, backend.shots, tables, run.jobs, run.seconds)


@dataclass(frozen=True, eq=False)
class Table:
    """The measured edges of one layer and what follows from them.

    Attributes:
        grid: (m points as rows) what was measured, and with what errors.
        frequencies: (e, f), padded with NaN.
        solve: (e, c, m) from measured values to coefficients.
        kept: (e, c, k) orthonormal directions that the points decide; 0 where truncated.
    """

    grid: Reading
    frequencies: Tensor
    solve: Tensor
    kept: Tensor

    @classmethod
    def fit(cls, grid: Reading) -> Table:
        """Least squares for each edge, directions dropped that noise would decide."""
        stage = grid.stage.detached()
        frequencies = _frequencies(stage)
        known = ~grid.z.isnan()
        features = _features(stage.x, frequencies).transpose(0, 1) * known.T[..., None]
        noise = torch.where(known, grid.stderr, 0).square().sum(0) / known.sum(0).clamp(min=1)
        count = _coefficients(frequencies)
        u, s, vh = torch.linalg.svd(features, full_matrices=False)
        # a direction's noise, σ²/s², against what |φ| ≤ 1 lets it be on average, 1/c
        kept = s > (noise.clamp(min=_ROUNDING**2) * count).sqrt()[:, None]
        inverse = torch.where(kept, 1 / torch.where(kept, s, 1.0), 0.0)
        directions = vh.transpose(1, 2) * kept[:, None]
        solve = directions * inverse[:, None] @ u.transpose(1, 2)
        return cls(grid, frequencies, solve, directions)

    def read(self, stage: Stage) -> TableReading:
        """Values and errors at a stage's inputs.

        Raises:
            QKANError: An input outside what was measured, or edges that were trained since.
        """
        self._require_same(stage)
        self._require_measured(stage)
        features = _features(stage.detached().x, self.frequencies)
        weights = torch.einsum("nec,ecm->nem", features, self.solve)
        decided = torch.einsum("nec,eck->nek", features, self.kept).square().sum(-1)
        lost = (features.square().sum(-1) - decided).clamp(min=0)
        bias = lost / _coefficients(self.frequencies)
        known = ~self.grid.z.isnan()
        nodes = torch.where(known, self.grid.z, 0.0).T
        shot = torch.where(known, self.grid.shot_stderr, 0.0).T
        total = torch.where(known, self.grid.stderr, 0.0).T
        own = ((weights * shot) ** 2).sum(-1) + bias
        unbiased = (weights**2 * torch.where(known, self.grid.shot_variance, 0.0).T).sum(-1) + bias
        stderr = (((weights * total) ** 2).sum(-1) + bias).sqrt()
        z = torch.where(known.any(0), (weights * nodes).sum(-1), torch.nan)
        return TableReading(stage, z, stderr, unbiased, own, weights * nodes, self.grid)

    def _require_same(self, stage: Stage) -> None:
        ours, theirs = self.grid.stage, stage.detached()
        names = ("theta", "scale", "shift", "edges")
        if not all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in names):
            raise QKANError(
                f"Layer {stage.name}: its angles or its mask changed after they were measured; "
                "tabulate the model again."
            )

    def _require_measured(self, stage: Stage) -> None:
        low, high = self.grid.stage.inputs.aminmax(dim=0)
        slack = 1e-9 * (high - low)
        outside = (stage.inputs < low - slack) | (stage.inputs > high + slack)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise QKANError(
                f"Layer {stage.name}: sample {row} reaches input {column} as "
                f"{stage.inputs[row, column].item():.6g}, and its edges were measured on "
                f"[{low[column].item():.6g}, {high[column].item():.6g}]. Tabulate with inputs that "
                "reach further, or with a larger margin."
            )


@dataclass(frozen=True, eq=False)
class TableReading:
    """Values of a stage from a table.

    Attributes:
        stage: Where.
        z: (n, e) estimates.
        stderr: (n, e) standard errors: leverage of all causes, and the truncation.
        variance: (n, e) what is independent from edge to edge, of which shots without bias.
        cautious: (n, e) the same as it holds for a single value.
        parts: (n, e, m) what each measured point contributes to z.
        grid: The measured points.
    """

    stage: Stage
    z: Tensor
    stderr: Tensor
    variance: Tensor
    cautious: Tensor
    parts: Tensor
    grid: Reading

    @property
    def call(self) -> int:
        """All points of all layers were measured together."""
        return self.grid.call

    @property
    def calibration_error(self) -> Mapping[int, float]:
        """As of the points."""
        return self.grid.calibration_error

    def own(self, slope: Tensor) -> Tensor:
        """(n,) the variance of Σ_e slope·z."""
        return variance_of_sum(slope, self.variance, self.cautious)

    def shared(self, slope: Tensor, samples: Tensor, totals: Tensor) -> None:
        """Add Σ slope·part·r over the points of each qubit to `totals` (b, q)."""
        if not self.calibration_error:
            return
        relative = slope.new_zeros(totals.shape[1])
        for number, error in self.calibration_error.items():
            relative[number] = error
        qubit = self.grid.qubit.T.clamp(min=0).flatten()
        moved = (slope[..., None] * self.parts).flatten(1) * relative[qubit]
        by_qubit = torch.zeros_like(totals[:1]).repeat(len(moved), 1).index_add_(1, qubit, moved)
        totals.index_add_(0, samples, by_qubit)


@dataclass(frozen=True, eq=False)
class EdgeTables:
    """A model whose edges were measured once; call it with inputs.

    Attributes:
        model: The model, as it was when it was measured.
        backend: The device's name.
        shots: Shots a value.
        tables: By the identity of the layer.
        jobs: Ids of the jobs behind it.
        seconds: Time on the device that was billed.
    """

    model: nn.Module
    backend: str
    shots: int
    tables: Mapping[int, Table]
    jobs: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        return (
            f"EdgeTables({len(self.tables)} layers of a {type(self.model).__name__} on "
            f"{self.backend}, {self.shots} shots, {len(self.jobs)} jobs, {self.seconds:.3g} s)"
        )

    def __call__(self, x: Tensor) -> DeviceResult:
        """The model's outputs at x (…, in) with standard errors; nothing is submitted.

        Raises:
            QKANError: An input of a layer outside what was measured: it names layer and sample.
        """
        check_input(x)
        sizes = [table.solve.numel() // table.solve.shape[-1] for table in self.tables.values()]
        rows = max(1, _CHUNK // max(sizes, default=1))
        parts = x.split(rows) if x.ndim > 1 and len(x) else [x]
        found = [measure_forward(self.model, part, self._read) for part in parts]
        values, stderr = (torch.cat(t) if x.ndim > 1 else t[0] for t in zip(*found, strict=True))
        return DeviceResult(
            values, stderr, self.backend, self.shots, self.jobs, self.seconds, "tabulate"
        )

    def _read(self, stage: Stage, rows: Tensor) -> TableReading | Reading:
        table = self.tables.get(id(stage.layer))
        return Reading.of(stage, None) if table is None else table.read(stage)


def _refuse_arccos(model: nn.Module) -> None:
    for name, layer in quantum_layers(model).items():
        if layer.circuit.uses_arccos:
            raise QKANError(
                f"Layer {name} encodes x through an arccos, so its activations have no finite "
                "frequency spectrum and a table cannot tell them from points; use run."
            )


def _by_layer(stages: list[Stage]) -> list[list[Stage]]:
    layers: dict[int, list[Stage]] = {}
    for stage in stages:
        layers.setdefault(id(stage.layer), []).append(stage)
    return list(layers.values())


def _grid(stages: list[Stage], points: int, margin: float) -> Stage:
    """A layer's stage with the Chebyshev points of its inputs' ranges for rows."""
    seen = torch.cat([stage.inputs for stage in stages]).detach().double()
    low, high = seen.aminmax(dim=0)
    # an input that never changes still gets a range, for what a device makes of it
    half = (high - low) / 2 + margin * (high - low).clamp(min=0.1)
    angles = torch.pi * torch.arange(points, dtype=torch.double, device=seen.device) / (points - 1)
    inputs = (low + high) / 2 + half * angles.cos()[:, None]
    first = stages[0].detached()
    return replace(first, inputs=inputs, x=inputs[:, first.edges % first.layer.in_features])


def _frequencies(stage: Stage) -> Tensor:
    """(e, f) frequencies of each edge, 0 among them, padded with NaN."""
    layer: QKANLayer = stage.layer
    fixed = layer.fixed_scale
    rows = [_spectrum(layer.circuit, fixed or tuple(scale)) for scale in stage.scale.cpu().tolist()]
    width = max(map(len, rows), default=1)
    padded = [[*row, *[torch.nan] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.double, device=stage.x.device).reshape(-1, width)


@functools.lru_cache(maxsize=4096)
def _spectrum(circuit: Circuit, scale: tuple[float, ...]) -> tuple[float, ...]:
    found: Any = circuit.spectrum(scale)
    return (0.0, *(float(k) for k in found if k))


def _coefficients(frequencies: Tensor) -> Tensor:
    """(e,) how many coefficients each edge has."""
    return 2.0 * (~frequencies.isnan()).sum(-1) - 1


def _features(x: Tensor, frequencies: Tensor) -> Tensor:
    """(n, e, c): 1, then √2·cos ωx and √2·sin ωx; 0 where a frequency is padding."""
    angles = x[..., None] * frequencies[:, 1:]
    waves = 2**0.5 * torch.cat([angles.cos(), angles.sin()], -1).nan_to_num(0.0)
    return torch.cat([torch.ones_like(x)[..., None], waves], -1)
