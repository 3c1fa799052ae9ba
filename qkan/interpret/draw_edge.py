"""Draw one edge: its circuit with values, its spectrum, its path on the Bloch sphere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from qkan.circuits import Circuit, Encoding, Gate, Theta, require
from qkan.circuits.draw import role

from .draw_network import BLUE, GREY, INK, ORANGE, short

_ROLES = {
    "data": ("data, with scale w and shift b", "#cfe3f3"),
    "trainable": ("trained angle θ", "#fbe3b3"),
    "fixed": ("fixed gate", "#e9e9e9"),
}
"""The kinds of angles that a gate may have, with a label and a colour for each."""
_SHORT_NAME = 8
"""The most letters of an input's name that are written beside a point."""
_ROW = 8
"""The number of gates in a row."""
_APART, _DOWN = 1.55, -1.9
"""The distances from one gate to the next, and from one row to the next."""


def draw_circuit(
    figure_class: Any, circuit: Circuit, edge: tuple[Tensor, Tensor, Tensor], title: str
) -> Any:
    """Draw the circuit as boxes on a wire, in rows, with the edge's trained values under them."""
    patches = require("matplotlib.patches", "plot")
    last_row, last_column = divmod(len(circuit.gates) - 1, _ROW)
    figure = figure_class(figsize=(10.5, 1.25 * (last_row + 1) + 0.9), layout="constrained")
    ax = figure.add_subplot()
    ax.axis("off")
    rounded = {"boxstyle": "round,pad=0,rounding_size=0.12", "edgecolor": GREY, "linewidth": 0.8}
    for n, gate in enumerate(circuit.gates):
        row, column = divmod(n, _ROW)
        x, y, fill = _APART * column, _DOWN * row, _ROLES[role(gate)][1]
        ax.plot([x - 0.2, x + 1.35], [y, y], color=INK, linewidth=1, zorder=1)
        box = patches.FancyBboxPatch((x, y - 0.5), 1.2, 1.0, facecolor=fill, zorder=2, **rounded)
        ax.add_patch(box)
        label, value = gate_texts(gate, edge)
        ax.text(x + 0.6, y, label, ha="center", va="center", fontsize=9, zorder=3)
        ax.text(x + 0.6, y - 0.62, value, ha="center", va="top", fontsize=8, color=GREY)
    ax.text(-0.3, 0, "|0⟩", ha="right", va="center", fontsize=12)
    measured = circuit.draw()._measured()
    end = (_APART * last_column + 1.45, _DOWN * last_row)
    ax.text(*end, measured, ha="left", va="center", fontsize=12)
    right = _APART * min(len(circuit.gates), _ROW) + 0.05 * len(measured) + 0.3
    ax.set(xlim=(-0.8, max(right, 6)), ylim=(_DOWN * last_row - 1.0, 1.0))
    key = [
        patches.Rectangle((0, 0), 1, 1, facecolor=fill, edgecolor=GREY, label=text)
        for text, fill in _ROLES.values()
    ]
    ax.legend(handles=key, loc="upper left", ncols=3, frameon=False, fontsize=8.5)
    figure.suptitle(f"{title}: gates in time order, values in radians", fontsize=10)
    return figure


def gate_texts(gate: Gate, edge: tuple[Tensor, Tensor, Tensor]) -> tuple[str, str]:
    """The text in a gate's box, and the values below it."""
    theta, scale, shift = (value.tolist() for value in edge)
    if gate.angle is None:
        return gate.name, ""
    label = gate.angle.label
    if isinstance(gate.angle, Theta | Encoding):
        label = label.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
    label = f"{gate.name}\n{label.replace('·', '')}"
    if isinstance(gate.angle, Theta):
        return label, _two_decimals(theta[gate.angle.index])
    if isinstance(gate.angle, Encoding):
        w, b = scale[gate.angle.index], shift[gate.angle.index]
        sign = "+" if b >= 0 else "−"
        return label, f"{_two_decimals(w)} x {sign} {_two_decimals(abs(b))}"
    return label, ""


def _two_decimals(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def draw_spectrum(
    figure_class: Any, series: tuple[np.ndarray, np.ndarray, np.ndarray], unit: str, title: str
) -> Any:
    """Draw the amplitude of every frequency with its cosine and its sine coefficient."""
    k, a, b = series
    amplitude = np.hypot(a, b)
    figure = figure_class(figsize=(7.2, 3.2), layout="constrained")
    ax = figure.add_subplot()
    ax.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    ax.vlines(k, 0, amplitude, color="#bbbbbb", linewidth=5, zorder=1)
    ax.plot(k, a, "o", color=BLUE, markersize=5, label="cosine coefficient")
    ax.plot(k, b, "D", color=ORANGE, markersize=4.5, label="sine coefficient")
    ax.plot([], [], color="#bbbbbb", linewidth=5, label="amplitude √(a² + b²)")
    highest = float(k.max(initial=0))
    room = 0.05 * max(highest, 1e-3)
    ax.set(xlim=(-room, highest + room), xlabel=f"angular frequency{unit}")
    ax.set(ylabel="coefficient of φ", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8.5)
    return figure


def draw_bloch(
    figure_class: Any,
    path: np.ndarray,
    x: np.ndarray,
    axis: tuple[float, float, float],
    text: tuple[str, str],
) -> Any:
    """Draw the path of the final Bloch vector on its sphere as x runs over its range.

    Args:
        figure_class: matplotlib's `Figure`.
        path: (n, 3) Bloch vectors.
        x: (n,) inputs, in the user's units.
        axis: The observable.
        text: The title, and the name of the input.
    """
    figure = figure_class(figsize=(5.8, 4.8), layout="constrained")
    ax = figure.add_subplot(projection="3d", computed_zorder=False)
    _sphere(ax)
    steps = np.stack([path[:-1], path[1:]], axis=1)
    lines = require("mpl_toolkits.mplot3d.art3d", "plot").Line3DCollection(
        steps, cmap="viridis", array=(x[:-1] + x[1:]) / 2, linewidth=3, zorder=5
    )
    ax.add_collection3d(lines, autolim=False)
    # a long name would cover the sphere, and the colour bar has it too
    named = f"{text[1]} = " if len(text[1]) <= _SHORT_NAME else ""
    # one label is above and one below, because a path may be closed
    for n, marker, side in ((0, "o", "bottom"), (-1, "s", "top")):
        ax.scatter(*path[n], color=INK, marker=marker, s=34, depthshade=False, zorder=6)
        label = f"  {named}{short(float(x[n]))}"
        ax.text(*(1.1 * path[n]), label, va=side, fontsize=8, zorder=7)
    ax.quiver(0, 0, 0, *axis, color=ORANGE, linewidth=2, arrow_length_ratio=0.12, zorder=4)
    ax.text(*(0.6 * np.array(axis)), "  ⟨M⟩", color=ORANGE, fontsize=10, zorder=7)
    figure.colorbar(lines, ax=ax, shrink=0.6, label=text[1], pad=0.02).outline.set_visible(False)
    ax.set_title(text[0], fontsize=10)
    return figure


def _sphere(ax: Any) -> None:
    """Draw a unit sphere of fine lines, its axes named."""
    turn = np.linspace(0, 2 * np.pi, 73)
    circle = {"color": "#d0d0d0", "linewidth": 0.7, "zorder": 1}
    for height in (-0.5, 0.0, 0.5):
        radius = math.sqrt(1 - height**2)
        ax.plot(radius * np.cos(turn), radius * np.sin(turn), height, **circle)
    for angle in np.arange(4) * np.pi / 4:
        flat = np.cos(turn)
        ax.plot(flat * np.cos(angle), flat * np.sin(angle), np.sin(turn), **circle)
    for n, name in enumerate("xyz"):
        end = np.eye(3)[n]
        ax.plot(*np.stack([-end, end]).T, color="#b0b0b0", linewidth=0.8, linestyle=":", zorder=1)
        ax.text(*(1.12 * end), name, fontsize=9, color=GREY, ha="center", va="center")
    ax.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8))
    ax.set_box_aspect((1, 1, 1))
    ax.view_init(elev=22, azim=35)
    ax.set_axis_off()
