"""Propagate the errors of measured activations to the outputs of a model.

Every measured value z_e has an error of its own, and shares the calibration error of its qubit with
all values that were measured on that qubit together, in one layer or several. With the total
derivative J_e = ∂out/∂z_e,

    Cov(out) = Σ_e J_e J_eᵀ shot_e² + Σ_q r_q² (Σ_{e on q} J_e z_e)(Σ_{e on q} J_e z_e)ᵀ,

which is the closed form of the recursion Σ_{l+1} = diag(own) + J Σ_l Jᵀ from layer to layer. The
correlations of hidden values are included everywhere. J is computed by the simulator at the
measured inputs, to first order. Letters: n rows, e edges in use, b samples, q qubits, s measured
values behind one estimate (1 for a measured value, the points of a table for an interpolated one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qkan.backends import Measurement
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.functional import amplitude
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import evaluating

from .checks import check_circuits
from .layer_circuits import Evaluate, LayerCircuits, overriding_activations


@dataclass(frozen=True, eq=False)
class EdgeEstimates:
    """Estimates of the values of a layer's circuits, with their errors.

    Attributes:
        circuits: The circuits whose values are estimated.
        z: (n, e) estimates, NaN where no value came back.
        stderr: (n, e) standard errors from all causes.
        variance: (n, e) unbiased estimates of the variance that is independent from value to value;
            0 where all shots agreed.
        cautious: (n, e) cautious estimates of that variance, for a single value.
        parts: (n, e, s) the contribution of each measured value to z.
        qubit: (n or 1, e, s) the physical qubit of each measured value, or -1 if there is none.
        calibration_error: The relative standard error of the contraction, by physical qubit.
        call: The number of the call that measured them; within a call, the values of one qubit
            share its calibration error.
    """

    circuits: LayerCircuits
    z: Tensor
    stderr: Tensor
    variance: Tensor
    cautious: Tensor
    parts: Tensor
    qubit: Tensor
    calibration_error: Mapping[int, float]
    call: int = 0

    @classmethod
    def measured(
        cls,
        circuits: LayerCircuits,
        found: Measurement | None,
        rows: Tensor | None = None,
        call: int = 0,
    ) -> EdgeEstimates:
        """Build estimates from a measurement of the circuits, or of some of their rows (n,)."""
        shape, device = circuits.x.shape, circuits.x.device
        rows = torch.ones(shape[0], dtype=torch.bool, device=device) if rows is None else rows

        def full(name: str, missing: float, dtype: torch.dtype) -> Tensor:
            whole = torch.full(shape, missing, dtype=dtype, device=device)
            values = getattr(found, name, None)
            if values is not None:
                whole[rows] = torch.as_tensor(values, dtype=dtype, device=device)
            return whole

        names = ("z", "stderr", "shot_stderr", "shot_variance")
        z, stderr, shot, variance = (full(name, torch.nan, torch.double) for name in names)
        if getattr(found, "shot_variance", None) is None:
            variance = shot**2
        qubit = full("qubit", -1, torch.long)
        errors: Mapping[int, float] = {} if found is None else found.calibration_error
        parts = (z.unsqueeze(-1), qubit.unsqueeze(-1))
        return cls(circuits, z, stderr, variance, shot**2, *parts, errors, call)

    def own_variance(self, slope: Tensor) -> Tensor:
        """Return the variance (n,) of Σ_e slope·z from the independent errors, for slope (n, e).

        The unbiased variances are added, since a sum of cautious ones, which are made for single
        values, would be too large. But the result is at least the largest cautious variance of a
        part of the sum, since the unbiased variances are all 0 if all shots agree.
        """
        if not slope.shape[-1]:
            return slope.sum(-1)
        total = (slope**2 * self.variance).sum(-1)
        return torch.maximum(total, (slope**2 * self.cautious).amax(-1))

    def add_shared(self, slope: Tensor, samples: Tensor, totals: Tensor) -> None:
        """Add Σ slope·part·r over the values of each qubit to `totals` (b, q) of the samples."""
        if not self.calibration_error:
            return
        relative = slope.new_zeros(totals.shape[1])
        for number, error in self.calibration_error.items():
            relative[number] = error
        # values without a qubit are NaN anyway
        qubit = self.qubit.clamp(min=0)
        columns = samples[:, None, None] * totals.shape[1] + qubit
        moved = slope.unsqueeze(-1) * self.parts * relative[qubit]
        totals.view(-1).index_add_(0, columns.flatten(), moved.flatten())


class Followed(NamedTuple):
    """Estimates in a forward pass, with the tensor for their values and the leaf to derive by."""

    estimates: EdgeEstimates
    value: Tensor
    leaf: Tensor
    samples: Tensor
    """(n,) the sample of each row."""


class ErrorPropagation:
    """The estimates of one forward pass, and the effect of their errors on its output.

    Args:
        samples: The number of parts of the input that do not influence each other.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._followed: list[Followed] = []

    def follow(
        self, estimates: EdgeEstimates, value: Tensor, circuits: LayerCircuits | None = None
    ) -> Tensor:
        """Return the readout of `value` (n, e), which depends on the estimates' errors and on x.

        At its poles the slope of the amplitude readout is of no use, so the secant over one
        standard error to either side replaces it. `circuits` are the circuits of this call, by
        default those that were measured.
        """
        circuits = estimates.circuits if circuits is None else circuits
        leaf = torch.zeros_like(value, requires_grad=True)
        samples = sample_of_row(estimates.circuits, self._samples)
        self._followed.append(Followed(estimates, value, leaf, samples))
        moved = leaf
        if circuits.x.requires_grad:
            simulated = circuits.simulate().to(value)
            moved = moved + (simulated - simulated.detach())
        if circuits.layer.readout == "z":
            return value + moved
        kept, error = value.clamp(-1, 1), estimates.stderr.clamp(min=1e-12)
        high, low = (kept + error).clamp(max=1), (kept - error).clamp(min=-1)
        return amplitude(kept) + (amplitude(high) - amplitude(low)) / (high - low) * moved

    def stderr(self, out: Tensor) -> Tensor:
        """Return the standard errors of `out`, in its shape and dtype."""
        variance = self._by_sample(torch.zeros_like(out, dtype=torch.double))
        known = [found.estimates.calibration_error for found in self._followed]
        width = 1 + max((qubit for errors in known for qubit in errors), default=0)
        calls = {found.estimates.call for found in self._followed}
        for column, slopes in self._slopes(out):
            totals = {call: variance.new_zeros(self._samples, width) for call in calls}
            for (estimates, _, _, samples), slope in slopes:
                variance[:, column].index_add_(0, samples, estimates.own_variance(slope))
                estimates.add_shared(slope, samples, totals[estimates.call])
            for total in totals.values():
                variance[:, column] += (total**2).sum(1)
        return variance.sqrt().reshape(out.shape).to(out.dtype)

    def corrected(self, out: Tensor) -> Tensor:
        """Return out + Σ_e ∂out/∂z·(z - value), the output for the estimates to first order."""
        total = self._by_sample(out.detach().double().clone())
        for column, slopes in self._slopes(out):
            for (estimates, value, _, samples), slope in slopes:
                moved = (slope * (estimates.z - value)).sum(-1)
                total[:, column].index_add_(0, samples, moved)
        return total.reshape(out.shape).to(out.dtype)

    def _slopes(self, out: Tensor) -> Iterator[tuple[int, list[tuple[Followed, Tensor]]]]:
        """Yield ∂out/∂z for all estimates that affect an output, for each output of a sample."""
        columns, leaves = self._by_sample(out), [found.leaf for found in self._followed]
        for column in range(columns.shape[1] if out.requires_grad else 0):
            slopes = torch.autograd.grad(
                columns[:, column].sum(), leaves, retain_graph=True, allow_unused=True
            )
            pairs = zip(self._followed, slopes, strict=True)
            yield column, [(found, slope) for found, slope in pairs if slope is not None]

    def _by_sample(self, out: Tensor) -> Tensor:
        """Reshape to (b, outputs of a sample), even if there is no sample."""
        return out.reshape(self._samples, out.numel() // self._samples if self._samples else 0)


Read = Callable[[LayerCircuits, Tensor], EdgeEstimates]
"""A function of a layer's circuits and a mask (n,) of the rows to measure: the estimates."""


def measured_forward(model: nn.Module, x: Tensor, read: Read) -> tuple[Tensor, Tensor]:
    """Return the outputs of a forward pass with activations from `read`, and their standard errors.

    A sample with a missing value has NaN outputs, and is not measured any further.
    """
    samples = samples_of(model, x)
    errors, lost = ErrorPropagation(samples), set[int]()

    def activate(circuits: LayerCircuits) -> Tensor:
        place = sample_of_row(circuits, samples)
        missing = torch.isin(place, place.new_tensor(sorted(lost)))
        check_circuits(circuits, missing)
        estimates = read(circuits, ~missing)
        lost.update(place[estimates.z.isnan().any(-1)].tolist())
        return errors.follow(estimates, estimates.z)

    with recording(model, activate):
        out = model(x.detach().clone())
        return out.detach(), errors.stderr(out)


@contextmanager
def recording(model: nn.Module, activate: Evaluate) -> Iterator[None]:
    """Record a forward pass with given activations by autograd, in evaluation mode.

    Errors are propagated by derivatives, so autograd is on even if the caller turned it off.
    """
    with (
        overriding_activations(model, activate, number_calls=True),
        evaluating(model),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


def samples_of(model: nn.Module, x: Tensor) -> int:
    """Return the number of independent parts of x: rows for a row of layers, else len(x)."""
    alone = isinstance(model, QKAN | QKANLayer | DARUAN)
    return x.shape[:-1].numel() if alone or x.ndim == 1 else x.shape[0]


def sample_of_row(circuits: LayerCircuits, samples: int) -> Tensor:
    """Return the sample (n,) to which each row of a layer's call belongs."""
    rows = circuits.inputs.shape[0]
    if samples and rows % samples:
        raise QKANError(
            f"Layer {circuits.name} was called with {rows} rows for {samples} samples, so it is "
            "not known which row belongs to which sample; keep the samples as the first axis, and "
            "do not mix them in the model."
        )
    return torch.arange(rows, device=circuits.inputs.device) // max(rows // max(samples, 1), 1)
