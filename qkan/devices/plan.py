"""`estimate`: what a run costs, before anything is submitted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from qkan.backends import Backend, Cost
from qkan.errors import QKANError

from .checks import check_input, check_model, check_stage
from .shift import shifted_gates
from .stage import Stage, record

MODES = ("sequential", "teacher_forced")
"""How a run feeds the layers: with the measured outputs before them, or with the simulator's."""


GRADIENTS = ("parameter-shift", "hybrid")
"""How `on_device` differentiates."""


@dataclass(frozen=True)
class StagePlan:
    """The cost of one submission.

    Attributes:
        name: The layer that is measured, or all of them.
        values: Circuits with bound angles.
        cost: What the backend says of that many.
    """

    name: str
    values: int
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """What a run costs; `print` it.

    Attributes:
        backend: The device's name.
        shots: Shots a value.
        stages: What is submitted, one after the other.
    """

    backend: str
    shots: int
    stages: tuple[StagePlan, ...]

    @property
    def values(self) -> int:
        """Circuits with bound angles."""
        return sum(stage.values for stage in self.stages)

    @property
    def rows(self) -> int:
        """Bound parameter sets, each measuring many values at once."""
        return sum(stage.cost.rows for stage in self.stages)

    @property
    def jobs(self) -> int:
        """Jobs in the device's queue."""
        return sum(stage.cost.jobs for stage in self.stages)

    @property
    def executions(self) -> int:
        """Rows × shots."""
        return sum(stage.cost.executions for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Estimated time on the device that is billed."""
        return sum(stage.cost.seconds for stage in self.stages)

    @property
    def seconds_left(self) -> float | None:
        """Of the budget, before the run; None on an emulator."""
        return min(
            (s.cost.seconds_left for s in self.stages if s.cost.seconds_left is not None),
            default=None,
        )

    def __str__(self) -> str:
        header = ("layer", "values", "rows", "jobs", "executions", "seconds")
        lines = [(s.name, s.values, *_figures(s.cost)) for s in self.stages]
        total = ("in all", self.values, self.rows, self.jobs, self.executions, self.seconds)
        table = [tuple(map(_show, line)) for line in (header, *lines, total)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in table
        ]
        left = "" if self.seconds_left is None else f", {self.seconds_left:.3g} s of budget left"
        return "\n".join([f"{self.backend}, {self.shots} shots a value{left}", *text])


def estimate(
    model: nn.Module,
    x: Tensor,
    backend: Backend,
    *,
    mode: str = "sequential",
    gradient: str | None = None,
    points: int = 33,
) -> Plan:
    """Say what measuring a model on inputs costs; nothing is submitted.

    Args:
        model: Any module with `QKANLayer`s in it.
        x: (…, in) inputs.
        backend: The device.
        mode: As in `run`, or "tabulate" for edge tables.
        gradient: None for a run; "parameter-shift" or "hybrid" for one training step of
            `on_device` on this batch.
        points: As in `tabulate`.

    Returns:
        The plan: a submission for each layer, or one for all of them but in mode "sequential".

    Raises:
        QKANError: A model without circuits, a NaN or an infinity (named), an unknown mode.
    """
    if mode not in (*MODES, "tabulate"):
        raise QKANError(f"mode={mode!r}; wanted {', '.join(map(repr, MODES))} or 'tabulate'.")
    if gradient not in (None, *GRADIENTS):
        raise QKANError(f"gradient={gradient!r}; wanted {' or '.join(map(repr, GRADIENTS))}.")
    check_model(model)
    check_input(x)
    stages, _ = record(model, x)
    for stage in stages:
        check_stage(stage)
    if mode == "tabulate":
        layers = {id(stage.layer): (stage.name, points * len(stage.edges)) for stage in stages}
        parts = list(layers.values())
    else:
        parts = [(stage.name, stage.values * _sets(stage, gradient)) for stage in stages]
    if mode != "sequential":
        parts = [("all layers", sum(values for _, values in parts))]
    plans = [StagePlan(name, n, backend.cost(n)) for name, n in parts if n]
    return Plan(backend.name, backend.shots, tuple(plans))


def _sets(stage: Stage, gradient: str | None) -> int:
    """How often each value is measured."""
    if gradient == "parameter-shift":
        return 1 + 2 * len(shifted_gates(stage.layer.circuit))
    return 1


def _figures(cost: Cost) -> tuple[int, int, int, float]:
    return cost.rows, cost.jobs, cost.executions, cost.seconds


def _show(cell: object) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
