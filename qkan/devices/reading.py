"""`Reading`: what a device said of a stage, with its errors, and how they reach the output.

Every measured value z_e carries an error of its own and shares its qubit's calibration error with
all values of that qubit that were measured together, in one layer or several. With
J_e = ∂out/∂z_e through everything behind it,

    Cov(out) = Σ_e J_e J_eᵀ shot_e² + Σ_q r_q² (Σ_{e on q} J_e z_e)(Σ_{e on q} J_e z_e)ᵀ,

the closed form of Σ_{l+1} = diag(own) + J Σ_l Jᵀ carried from layer to layer. Hidden values are
correlated; no diagonal is taken anywhere. J comes from the simulator at the measured inputs, to
first order. Letters: n rows, e edges in use, m outputs of a sample, q qubits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qkan.backends import Measurement
from qkan.nn.functional import amplitude

from .checks import sample_of_row
from .stage import Stage


class Source(Protocol):
    """Values of a stage and their errors; `Reading` says what the names mean."""

    @property
    def stage(self) -> Stage:
        """Where."""

    @property
    def z(self) -> Tensor:
        """(n, e) estimates, NaN where missing."""

    @property
    def stderr(self) -> Tensor:
        """(n, e) standard errors of all causes."""

    @property
    def call(self) -> int:
        """The call that measured it."""

    @property
    def calibration_error(self) -> Mapping[int, float]:
        """By physical qubit."""

    def own(self, slope: Tensor) -> Tensor:
        """(n,) variance from errors of the values' own, for slopes (n, e) of one output."""

    def shared(self, slope: Tensor, samples: Tensor, totals: Tensor) -> None:
        """Add what each qubit's shared error does to each sample's output to `totals` (b, q)."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Measured values of a stage; NaN where nothing came back.

    Attributes:
        stage: What was measured.
        z: (n, e) estimates.
        stderr: (n, e) standard errors of all causes.
        shot_stderr: (n, e) the part that is independent from value to value.
        shot_variance: (n, e) its square, estimated without bias; 0 where all shots agreed.
        qubit: (n, e) physical qubits, -1 where none measured it.
        calibration_error: Relative standard error of the contraction by physical qubit.
        call: Number of the call that measured it: one qubit's values share that error within it.
    """

    stage: Stage
    z: Tensor
    stderr: Tensor
    shot_stderr: Tensor
    shot_variance: Tensor
    qubit: Tensor
    calibration_error: Mapping[int, float]
    call: int = 0

    @classmethod
    def of(
        cls, stage: Stage, found: Measurement | None, rows: Tensor | None = None, call: int = 0
    ) -> Reading:
        """From a measurement of the stage, or of some of its rows (n,) with the others missing."""
        shape, device = stage.x.shape, stage.x.device
        rows = torch.ones(shape[0], dtype=torch.bool, device=device) if rows is None else rows

        def full(values: object, missing: float, dtype: torch.dtype) -> Tensor:
            whole = torch.full(shape, missing, dtype=dtype, device=device)
            if values is not None:
                whole[rows] = torch.as_tensor(values, dtype=dtype, device=device)
            return whole

        z, stderr, shot_stderr, shot_variance = (
            full(getattr(found, name, None), torch.nan, torch.double)
            for name in ("z", "stderr", "shot_stderr", "shot_variance")
        )
        if getattr(found, "shot_variance", None) is None:
            shot_variance = shot_stderr**2
        qubit = full(getattr(found, "qubit", None), -1, torch.long)
        if found is None:
            return cls(stage, z, stderr, shot_stderr, shot_variance, qubit, {})
        errors = found.calibration_error
        return cls(stage, z, stderr, shot_stderr, shot_variance, qubit, errors, call)

    def own(self, slope: Tensor) -> Tensor:
        """(n,) the variance of Σ_e slope·z from shots."""
        return variance_of_sum(slope, self.shot_variance, self.shot_stderr**2)

    def shared(self, slope: Tensor, samples: Tensor, totals: Tensor) -> None:
        """Add Σ_e slope·z·r over the values of each qubit to `totals` (b, q)."""
        if not self.calibration_error:
            return
        relative = slope.new_zeros(totals.shape[1])
        for number, error in self.calibration_error.items():
            relative[number] = error
        # values without a qubit are NaN anyway
        qubit = self.qubit.clamp(min=0)
        columns = samples[:, None] * totals.shape[1] + qubit
        moved = slope * self.z * relative[qubit]
        totals.view(-1).index_add_(0, columns.flatten(), moved.flatten())


def variance_of_sum(slope: Tensor, unbiased: Tensor, cautious: Tensor) -> Tensor:
    """The variance of Σ_e slope·z, (n,), from two variances of each value z, (n, e).

    The unbiased ones add up rightly, where the cautious ones, each of which holds for a single
    value, would exceed the truth. The largest part of the sum by its cautious one is the least that
    the sum may have, for where all shots of all values agree there is nothing unbiased to add.
    """
    if not slope.shape[-1]:
        return slope.sum(-1)
    total = (slope**2 * unbiased).sum(-1)
    return torch.maximum(total, (slope**2 * cautious).amax(-1))


class Tracked:
    """The sources of one forward pass, each on a leaf of the autograd graph to derive by."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._leaves: list[Tensor] = []
        self._values: list[Tensor] = []

    def follow(self, source: Source, value: Tensor, stage: Stage | None = None) -> Tensor:
        """The readout of `value` (n, e), which moves with the source's errors and with x.

        The amplitude readout has no slope of use at its poles: there it moves by its secant over
        one standard error either way. `stage` is the source's own, as it is called this time.
        """
        stage = source.stage if stage is None else stage
        leaf = torch.zeros_like(value, requires_grad=True)
        self.sources.append(source)
        self._leaves.append(leaf)
        self._values.append(value)
        moved = leaf
        if stage.x.requires_grad:
            simulated = stage.simulate().to(value)
            moved = moved + (simulated - simulated.detach())
        if stage.layer.readout == "z":
            return value + moved
        kept, error = value.clamp(-1, 1), source.stderr.clamp(min=1e-12)
        high, low = (kept + error).clamp(max=1), (kept - error).clamp(min=-1)
        return amplitude(kept) + (amplitude(high) - amplitude(low)) / (high - low) * moved

    def slopes(self, out: Tensor, samples: int) -> Iterator[tuple[Tensor | None, ...]]:
        """∂out/∂z for each source, one output of a sample after the other."""
        columns = _by_sample(out, samples)
        for column in range(columns.shape[1] if out.requires_grad else 0):
            yield torch.autograd.grad(
                columns[:, column].sum(), self._leaves, retain_graph=True, allow_unused=True
            )

    def stderr(self, out: Tensor, samples: int) -> Tensor:
        """Standard errors of `out`, shaped like it, in double precision."""
        variance = _by_sample(torch.zeros_like(out, dtype=torch.double), samples)
        places = [sample_of_row(source.stage, samples) for source in self.sources]
        width = 1 + max((q for s in self.sources for q in s.calibration_error), default=0)
        calls = {source.call for source in self.sources}
        for column, slopes in enumerate(self.slopes(out, samples)):
            totals = {call: variance.new_zeros(samples, width) for call in calls}
            for source, slope, place in zip(self.sources, slopes, places, strict=True):
                if slope is not None:
                    variance[:, column].index_add_(0, place, source.own(slope))
                    source.shared(slope, place, totals[source.call])
            for total in totals.values():
                variance[:, column] += (total**2).sum(1)
        return variance.sqrt().reshape(out.shape)

    def corrected(self, out: Tensor, samples: int) -> Tensor:
        """Out + Σ_e ∂out/∂z·(z - value): what the sources' z give, to first order."""
        total = _by_sample(out.detach().double().clone(), samples)
        for column, slopes in enumerate(self.slopes(out, samples)):
            for source, slope, value in zip(self.sources, slopes, self._values, strict=True):
                if slope is not None:
                    moved = (slope * (source.z - value)).sum(-1)
                    total[:, column].index_add_(0, sample_of_row(source.stage, samples), moved)
        return total.reshape(out.shape)


def _by_sample(out: Tensor, samples: int) -> Tensor:
    """(b, m): one row a sample, also where there is none."""
    return out.reshape(samples, out.numel() // samples if samples else 0)
