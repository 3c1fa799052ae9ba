"""How the errors of measured activations reach the outputs of a model.

Every measured value z_e carries an error of its own and shares its qubit's calibration error with
all values of that qubit that were measured together, in one layer or several. With
J_e = ∂out/∂z_e through everything behind it,

    Cov(out) = Σ_e J_e J_eᵀ shot_e² + Σ_q r_q² (Σ_{e on q} J_e z_e)(Σ_{e on q} J_e z_e)ᵀ,

the closed form of Σ_{l+1} = diag(own) + J Σ_l Jᵀ carried from layer to layer. Hidden values are
correlated; no diagonal is taken anywhere. J comes from the simulator at the measured inputs, to
first order. Letters: n rows, e edges in use, b samples, q qubits, s measured values behind one
estimate (1 where it was measured itself, the points of a table where it was interpolated).
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
    """Estimates of the values of a layer's circuits, and what errors they carry.

    Attributes:
        circuits: The circuits whose values are estimated.
        z: (n, e) estimates, NaN where nothing came back.
        stderr: (n, e) standard errors of all causes.
        variance: (n, e) the variance that is independent from value to value, estimated without
            bias; 0 where all shots agreed.
        cautious: (n, e) that variance as it holds for a single value.
        parts: (n, e, s) what each measured value contributes to z.
        qubit: (n or 1, e, s) the physical qubit of each measured value, -1 where there is none.
        calibration_error: Relative standard error of the contraction, by physical qubit.
        call: Number of the call that measured them: one qubit's values share its calibration
            error within a call.
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
        """From a measurement of the circuits, or of some of their rows (n,), the others missing."""
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
        """(n,) the variance of Σ_e slope·z from the errors of each value's own, slope (n, e).

        The unbiased variances add up rightly, where the cautious ones, each of which holds for a
        single value, would exceed the truth. The largest part of the sum by its cautious variance
        is the least that the sum may have: where all shots of all values agree there is nothing
        unbiased to add.
        """
        if not slope.shape[-1]:
            return slope.sum(-1)
        total = (slope**2 * self.variance).sum(-1)
        return torch.maximum(total, (slope**2 * self.cautious).amax(-1))

    def add_shared(self, slope: Tensor, samples: Tensor, totals: Tensor) -> None:
        """Add Σ slope·part·r over the values of each qubit to each sample's `totals` (b, q)."""
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
    """Estimates in a forward pass: what stands for their values, and a leaf to derive by."""

    estimates: EdgeEstimates
    value: Tensor
    leaf: Tensor
    samples: Tensor
    """(n,) the sample of each row."""


class ErrorPropagation:
    """The estimates of one forward pass, and what their errors do to its output.

    Args:
        samples: How many parts of the input have no influence on each other.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._followed: list[Followed] = []

    def follow(
        self, estimates: EdgeEstimates, value: Tensor, circuits: LayerCircuits | None = None
    ) -> Tensor:
        """The readout of `value` (n, e), which moves with the estimates' errors and with x.

        The amplitude readout has no slope of use at its poles: there it moves by its secant over
        one standard error either way. `circuits` are those of the estimates as they are called
        this time, by default as they were measured.
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
        """Standard errors of `out`, shaped like it and in its dtype."""
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
        """Out + Σ_e ∂out/∂z·(z - value): what the estimates give, to first order."""
        total = self._by_sample(out.detach().double().clone())
        for column, slopes in self._slopes(out):
            for (estimates, value, _, samples), slope in slopes:
                moved = (slope * (estimates.z - value)).sum(-1)
                total[:, column].index_add_(0, samples, moved)
        return total.reshape(out.shape).to(out.dtype)

    def _slopes(self, out: Tensor) -> Iterator[tuple[int, list[tuple[Followed, Tensor]]]]:
        """For each output of a sample: ∂out/∂z for all estimates that reach it."""
        columns, leaves = self._by_sample(out), [found.leaf for found in self._followed]
        for column in range(columns.shape[1] if out.requires_grad else 0):
            slopes = torch.autograd.grad(
                columns[:, column].sum(), leaves, retain_graph=True, allow_unused=True
            )
            pairs = zip(self._followed, slopes, strict=True)
            yield column, [(found, slope) for found, slope in pairs if slope is not None]

    def _by_sample(self, out: Tensor) -> Tensor:
        """(b, outputs of a sample): one row a sample, also where there is none."""
        return out.reshape(self._samples, out.numel() // self._samples if self._samples else 0)


Read = Callable[[LayerCircuits, Tensor], EdgeEstimates]
"""From the circuits of a layer's call and the rows (n,) to measure, bools, to their estimates."""


def measured_forward(model: nn.Module, x: Tensor, read: Read) -> tuple[Tensor, Tensor]:
    """The outputs of a forward pass whose activations `read` gives, and their standard errors.

    Samples with a missing value end as NaN, and are not read any further.
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
    """One forward pass of given activations, in evaluation mode and recorded by autograd.

    Errors are carried by autograd's slopes, whatever the caller turned off.
    """
    with (
        overriding_activations(model, activate, number_calls=True),
        evaluating(model),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


def samples_of(model: nn.Module, x: Tensor) -> int:
    """Parts of x without influence on each other: rows for layers alone, else x's first size."""
    alone = isinstance(model, QKAN | QKANLayer | DARUAN)
    return x.shape[:-1].numel() if alone or x.ndim == 1 else x.shape[0]


def sample_of_row(circuits: LayerCircuits, samples: int) -> Tensor:
    """(n,) the sample that each row of a layer's call belongs to."""
    rows = circuits.inputs.shape[0]
    if samples and rows % samples:
        raise QKANError(
            f"Layer {circuits.name} was called with {rows} rows for {samples} samples, so which "
            "row belongs to which sample is not known; keep samples first and apart in the model."
        )
    return torch.arange(rows, device=circuits.inputs.device) // max(rows // max(samples, 1), 1)
