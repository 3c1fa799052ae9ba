"""`estimate`: the cost of a run, before anything is submitted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from qkan._options import check_choice
from qkan.backends import Backend, BackendError, Cost
from qkan.errors import QKANError

from .checks import checked_circuits
from .layer_circuits import LayerCircuits
from .named import as_backend
from .parameter_shift import trained_rotations

MODES = ("sequential", "teacher_forced")
"""The modes of a run: layers get the measured outputs of earlier layers, or simulated ones."""


GRADIENTS = ("parameter-shift", "hybrid")
"""The methods by which `on_device` differentiates."""


@dataclass(frozen=True)
class StagePlan:
    """The cost of one submission.

    Attributes:
        name: The name of the measured layer, or "all layers".
        values: The number of circuits with bound angles that are measured.
        cost: The cost that the backend estimates.
    """

    name: str
    values: int
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """The estimated cost of a run; `print` shows it as a table.

    Attributes:
        backend: The device's name.
        shots: The number of shots for each value.
        stages: The submissions, one after the other.
        dry_seconds: The time that the service said it would bill, if it was asked.
    """

    backend: str
    shots: int
    stages: tuple[StagePlan, ...]
    dry_seconds: float | None = None

    @property
    def values(self) -> int:
        """The number of circuits with bound angles that are measured."""
        return sum(stage.values for stage in self.stages)

    @property
    def rows(self) -> int:
        """The number of rows, which are sets of angles; each measures many values at once."""
        return sum(stage.cost.rows for stage in self.stages)

    @property
    def jobs(self) -> int:
        """The number of jobs that enter the device's queue."""
        return sum(stage.cost.jobs for stage in self.stages)

    @property
    def executions(self) -> int:
        """The total number of shots: rows × shots."""
        return sum(stage.cost.executions for stage in self.stages)

    @property
    def seconds(self) -> float:
        """The estimated time on the device that is billed."""
        return sum(stage.cost.seconds for stage in self.stages)

    @property
    def seconds_left(self) -> float | None:
        """The seconds left of the budget before the run; None on an emulator."""
        known = (stage.cost.seconds_left for stage in self.stages)
        return min((left for left in known if left is not None), default=None)

    @property
    def account_seconds_left(self) -> float | None:
        """The seconds left on the account's instance before the run; None without a limit."""
        known = (stage.cost.account_seconds_left for stage in self.stages)
        return min((left for left in known if left is not None), default=None)

    def require_time(self) -> None:
        """Raise unless the account has the time that the run takes."""
        left = self.account_seconds_left
        if left is not None and self.seconds > left:
            raise BackendError(
                f"The run would take about {self.seconds:.3g} s on {self.backend}, but {left:.3g} "
                "s are left on the account's instance; nothing was submitted. Use fewer shots or "
                "samples, another instance, or wait until it has time again."
            )

    def __str__(self) -> str:
        header = ("layer", "values", "rows", "jobs", "executions", "seconds")
        lines = [(s.name, s.values, *(getattr(s.cost, name) for name in header[2:]))
                 for s in self.stages]  # fmt: skip
        total = ("in all", *(getattr(self, name) for name in header[1:]))
        table = [tuple(map(_show, line)) for line in (header, *lines, total)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in table
        ]
        return "\n".join([self._headline(), *text, *self._remarks()])

    def _headline(self) -> str:
        width = max((stage.cost.width for stage in self.stages), default=0)
        parts = [self.backend, f"{self.shots} shots a value"]
        if width:
            parts.append(f"{width} qubits at once")
        if self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.3g} s of budget left")
        if self.account_seconds_left is not None:
            parts.append(f"{self.account_seconds_left:.3g} s left on the account's instance")
        return ", ".join(parts)

    def _remarks(self) -> list[str]:
        """The remarks below the table: the cost on the whole chip, and limits that are exceeded."""
        found = []
        chips = [stage.cost.chip for stage in self.stages if stage.cost.chip is not None]
        if chips:
            rows, jobs, executions, seconds = (
                _show(sum(getattr(chip, name) for chip in chips))
                for name in ("rows", "jobs", "executions", "seconds")
            )
            found.append(
                f"on all {chips[0].width} usable qubits of the chip: {rows} rows, {jobs} jobs, "
                f"{executions} executions, {seconds} seconds"
            )
        if self.dry_seconds is not None:
            found.append(f"the service's dry run: {self.dry_seconds:.3g} seconds")
        for left, what in (
            (self.seconds_left, "of the budget"),
            (self.account_seconds_left, "on the account's instance"),
        ):
            if left is not None and self.seconds > left:
                found.append(f"does not fit: {left:.3g} s are left {what}")
        return found


def estimate(
    model: nn.Module,
    x: Tensor,
    backend: Backend | str,
    *,
    mode: str = "sequential",
    gradient: str | None = None,
    points: int = 33,
    dry_run: bool = False,
) -> Plan:
    """Estimate what measuring a model on inputs costs; nothing is submitted.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        x: (…, in) inputs.
        backend: The device, or its name.
        mode: As in `run`, or "tabulate" for edge tables.
        gradient: None for a run; "parameter-shift" or "hybrid" for one training step of
            `on_device` on this batch.
        points: As in `tabulate`.
        dry_run: Whether to ask the service what it would bill, which IBM offers on its paid plans
            by a mock of the device. Not for tables and training.

    Returns:
        The plan, with one submission for each layer in mode "sequential", and one in all otherwise.

    Raises:
        QKANError: The model has no circuits, a value is NaN or infinite (the message names it), or
            the mode is unknown.
    """
    check_choice("mode", mode, (*MODES, "tabulate"))
    check_choice("gradient", gradient, (None, *GRADIENTS))
    backend = as_backend(backend)
    recorded = checked_circuits(model, x, idle=gradient is not None)
    calls = [circuits for circuits in recorded if circuits.values]
    if mode == "tabulate":
        layers = {id(c.layer): (c.name, points * len(c.edges)) for c in calls}
        parts = [*layers.values()]
    else:
        parts = [(c.name, c.values * _values_of_each(c, gradient)) for c in calls]
    if mode != "sequential":
        values = sum(number for _, number in parts)
        parts = [("all layers", values)] if values else []
    plans = [StagePlan(name, number, backend.cost(number)) for name, number in parts]
    dry = None
    if dry_run:
        if mode == "tabulate" or gradient is not None:
            raise QKANError(
                "dry_run=True only works for a run; leave out mode='tabulate' and gradient."
            )
        tasks = [circuits.task() for circuits in calls]
        submissions = [tasks] if mode != "sequential" else [[task] for task in tasks]
        answers = [backend.dry_run(submission) for submission in submissions]
        dry = None if None in answers else sum(s for s in answers if s is not None)
    return Plan(backend.name, backend.shots, tuple(plans), dry)


def _values_of_each(circuits: LayerCircuits, gradient: str | None) -> int:
    """The number of measurements of each circuit: one, and two for each shift."""
    shifted = gradient == "parameter-shift"
    return 1 + 2 * len(trained_rotations(circuits.circuit, circuits.layer.circuit)) * shifted


def _show(cell: object) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
