"""`DeviceResult`: outputs measured on a device, with standard errors and their cost."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkan._axes import new_axes
from qkan.errors import QKANError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class EdgeCheck:
    """Measured and simulated activations of one layer, both at the simulator's inputs.

    Attributes:
        layer: The name of the layer.
        simulated: (n, o, i) ⟨M⟩ of the simulator; 0 on pruned edges. With groups o is 1.
        measured: (n, o, i) ⟨M⟩ of the device; NaN for missing values.
        stderr: (n, o, i) standard errors of the measured values.
    """

    layer: str
    simulated: Tensor
    measured: Tensor
    stderr: Tensor

    @property
    def z_score(self) -> Tensor:
        """(o, i) Σ_n (measured - simulated)/stderr / √n, a standard normal if the device is
        correct.

        It is 0 on pruned edges, and NaN where a value is missing.
        """
        score: Tensor = self._scores().sum(0) / max(self.measured.shape[0], 1) ** 0.5
        return score

    @property
    def rms(self) -> Tensor:
        """(o, i) root mean square over n of (measured - simulated)/stderr, 1 if that is correct."""
        return (self._scores() ** 2).mean(0).sqrt()

    def _scores(self) -> Tensor:
        difference = self.measured - self.simulated
        return torch.where(difference == 0, 0.0, difference / self.stderr)

    def __repr__(self) -> str:
        return f"EdgeCheck({self})"

    def __str__(self) -> str:
        worst = self.z_score.abs().nan_to_num(-1.0)
        o, i = divmod(int(worst.argmax()), worst.shape[1])
        return (
            f"layer {self.layer}: {worst.numel()} edges, rms of the z-scores "
            f"{float(self.rms.nanmean()):.2f}, largest edge (output {o}, input {i}) "
            f"{float(self.z_score[o, i]):+.1f}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class DeviceResult:
    """The outputs of a model for some inputs, measured on a device.

    Attributes:
        values: (…, o) outputs in the model's dtype; NaN if a job failed permanently.
        stderr: (…, o) standard errors from shots and calibration, propagated through all layers.
        backend: The device's name.
        shots: The number of shots for each value.
        jobs: The ids of its jobs, in order.
        seconds: The billed time on the device.
        mode: "sequential" or "teacher_forced".
        path: The run's directory, for `resume` and `cancel`; None if nothing was kept.
        edges: With "teacher_forced", one check for each layer.
        notes: Deviations from the plan, and how to continue if values are missing.
    """

    values: Tensor
    stderr: Tensor
    backend: str
    shots: int
    jobs: tuple[str, ...]
    seconds: float
    mode: str
    path: Path | None = None
    edges: tuple[EdgeCheck, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    @property
    def missing(self) -> Tensor:
        """(…, o), True where a value is missing."""
        return self.values.isnan()

    @property
    def complete(self) -> bool:
        """Whether every value is there."""
        return not bool(self.missing.any())

    def __repr__(self) -> str:
        known = self.stderr[~self.missing]
        error = f", median stderr {float(known.median()):.2g}" if known.numel() else ""
        lacks = "" if self.complete else f", {int(self.missing.sum())} missing"
        return (
            f"DeviceResult({tuple(self.values.shape)} from {self.backend}, {self.shots} shots, "
            f"{len(self.jobs)} jobs, {self.seconds:.3g} s{error}{lacks})"
        )

    def plot(
        self, x: Tensor | None = None, *, expected: Tensor | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the outputs with their standard errors, each output in its own colour.

        Args:
            x: (…) one number for each sample as the horizontal axis, such as an input; None counts
                samples.
            expected: (…, o) values to draw as crosses, such as the simulator's outputs.
            ax: The axes to draw on; those of a new figure when None.

        Returns:
            The axes.

        Raises:
            QKANError: x or expected has another size.
            ImportError: matplotlib is not installed; the message says how to install it.
        """
        values, errors = _columns(self.values), _columns(self.stderr)
        at = torch.arange(len(values)) if x is None else x.detach().cpu().double().flatten()
        beside = None if expected is None else expected.detach().cpu().double()
        if len(at) != len(values) or (beside is not None and beside.numel() != values.numel()):
            raise QKANError(
                f"plot: the result has {len(values)} samples with {values.shape[1]} outputs; pass "
                "x with one number for each sample, and expected with the size of the values."
            )
        ax = new_axes() if ax is None else ax
        for o, (column, error) in enumerate(zip(values.T.numpy(), errors.T.numpy(), strict=True)):
            label = f"output {o}" if values.shape[1] > 1 else self.backend
            drawn = ax.errorbar(
                at.numpy(), column, error, fmt="o", markersize=4, capsize=2, label=label
            )
            if beside is not None:
                wanted = beside.reshape(values.shape)[:, o].numpy()
                colour = drawn[0].get_color()
                ax.plot(at.numpy(), wanted, "x", color=colour, label=f"{label}, expected")
        ax.set(xlabel="sample" if x is None else "x", ylabel="output and standard error")
        ax.legend()
        return ax

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a line for each sample: its outputs, their standard errors, and the ids of the
        jobs.

        Missing values are left empty. Leading dimensions are flattened.
        """
        values, errors = (_columns(part).T.tolist() for part in (self.values, self.stderr))
        columns = {f"y{k}": column for k, column in enumerate(values)}
        columns |= {f"y{k}_stderr": column for k, column in enumerate(errors)}
        write_columns(columns, self, path)


def write_columns(
    columns: Mapping[str, Sequence[Any]], result: DeviceResult, path: str | os.PathLike[str]
) -> None:
    """Write a line for each sample, with the device and its jobs; None and NaN are left empty."""
    jobs = ";".join(result.jobs)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", *columns, "backend", "jobs"])
        for sample, row in enumerate(zip(*columns.values(), strict=True)):
            cells = (None if value != value else value for value in row)
            writer.writerow([sample, *cells, result.backend, jobs])


def _columns(outputs: Tensor) -> Tensor:
    """Return (samples, o) in double precision on the CPU, with leading dimensions flattened."""
    return outputs.detach().cpu().double().reshape(-1, outputs.shape[-1])
