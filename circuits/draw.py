"""Draw a circuit as a line of boxes: as text in a terminal and as HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .gates import Encoding, Gate, Theta

_COLOURS = {"data": "#c6dbef", "trainable": "#fdd0a2", "fixed": "#eeeeee"}


class Drawing:
    """A drawing of a circuit, which `print` and notebooks show.

    Example:
        >>> from qkan.circuits import ansatz
        >>> print(ansatz("rpz", reps=1).draw())
             ┌───┐ ┌────────┐ ┌─────────────┐ ┌────────┐
        |0⟩ ─┤ H ├─┤ RY(θ0) ├─┤ RZ(w0·x+b0) ├─┤ RY(θ1) ├─ ⟨Z⟩
             └───┘ └────────┘ └─────────────┘ └────────┘
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        observables: Sequence[str | tuple[float, float, float]],
        width: int = 100,
    ) -> None:
        """Draw gates and their observables in rows of at most `width` characters."""
        self.gates, self.observables, self.width = gates, observables, width

    def __str__(self) -> str:
        rows = self._rows()
        return "\n".join(self._row(row, n == 0, n == len(rows) - 1) for n, row in enumerate(rows))

    __repr__ = __str__

    def _rows(self) -> list[list[str]]:
        """The labels of the gates, broken into rows that fit the width."""
        rows: list[list[str]] = [[]]
        used = 0
        for gate in self.gates:
            if rows[-1] and used + len(gate.label) + 5 > self.width - 12:
                rows.append([])
                used = 0
            rows[-1].append(gate.label)
            used += len(gate.label) + 5
        return rows

    def _row(self, labels: list[str], first: bool, last: bool) -> str:
        start, end = ("|0⟩" if first else "  …"), (self._measured() if last else "…")
        top = " ".join("┌" + "─" * (len(label) + 2) + "┐" for label in labels)
        middle = "─".join(f"┤ {label} ├" for label in labels)
        bottom = " ".join("└" + "─" * (len(label) + 2) + "┘" for label in labels)
        return f"     {top}\n{start} ─{middle}─ {end}\n     {bottom}"

    def _measured(self) -> str:
        return " ".join(map(_expectation, self.observables))

    def _repr_html_(self) -> str:
        boxes = " ".join(
            f'<span style="background:{_COLOURS[role(gate)]};color:#222;border:1px solid #888;'
            f'border-radius:4px;padding:2px 6px">{html.escape(gate.label)}</span>'
            for gate in self.gates
        )
        measured = html.escape(self._measured())
        return f'<div style="font-family:monospace;line-height:2.4">|0⟩ {boxes} {measured}</div>'


def _expectation(observable: str | tuple[float, float, float]) -> str:
    if isinstance(observable, str):
        return f"⟨{observable}⟩"
    terms = zip(observable, "XYZ", strict=True)
    return "⟨" + " + ".join(f"{value:.3g}{axis}" for value, axis in terms if value) + "⟩"


def role(gate: Gate) -> str:
    """Return what a gate's angle depends on: "data", "trainable" or "fixed"."""
    if isinstance(gate.angle, Encoding):
        return "data"
    return "trainable" if isinstance(gate.angle, Theta) else "fixed"
