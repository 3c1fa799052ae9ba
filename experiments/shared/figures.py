"""The demo's figures: learned activations with their circuit, a fit, and a confusion matrix.

Colours are Okabe and Ito's, which people with colour-blindness tell apart; maps are viridis, and
purple-orange where the sign matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from qkan import QKAN, Circuit, QKANLayer, expectation

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#6b6b6b"
FILLS = {"data": "#cfe3f3", "trainable": "#fbe3b3", "fixed": "#e9e9e9"}
ROLES = {
    "fixed": "fixed gate",
    "trainable": "trained angle θ",
    "data": "data, trained scale w and shift b",
}
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class Map:
    """A regression on a square grid: x and y (n,), the two others (n, n)."""

    x: np.ndarray
    y: np.ndarray
    target: np.ndarray
    prediction: np.ndarray


def save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return path


def activations(model: QKAN, x: Tensor, path: Path, *, names: Sequence[str]) -> Path:
    """All learned activations of a network with one hidden layer and one output.

    Args:
        model: Of widths [i, h, 1].
        x: (b, i) the data, which sets the range of every panel.
        path: Where the PNG goes.
        names: Of the inputs.
    """
    first, second = model.layers
    inputs, unit = _edge_inputs(model, x)
    hidden = first(inputs).detach()
    rows, columns = first.in_features + 1, first.out_features
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(2.1 * columns, 1.7 * rows + 2.2), layout="constrained")
        top, below = figure.subfigures(2, 1, height_ratios=[1.9, 1.7 * rows + 0.3])
        edge = _parameters(first, 0, 0)
        draw_circuit(top.subplots(), first.circuit, edge, f"{names[0]} → h₁")
        axes = below.subplots(rows, columns, sharey=True)
        _heading(
            below,
            f"The {len(first.weight) * rows} activations it became. Line: φ over the range of "
            "inputs that the edge sees.\nGrey: how those inputs are distributed. "
            "The edge's output is weight · φ, plus a trained multiple of silu.",
        )
        for j in range(columns):
            for i, name in enumerate(names):
                _panel(axes[i, j], first, j, i, inputs[:, i], (name, f"h{_sub(j + 1)}"))
                axes[i, j].set_xlabel(f"{name}{unit}")
            _panel(axes[-1, j], second, 0, j, hidden[:, j], (f"h{_sub(j + 1)}", "output"))
        for row in axes:
            row[0].set_ylabel("φ = ⟨Z⟩")
        return save(figure, path)


def _edge_inputs(model: QKAN, x: Tensor) -> tuple[Tensor, str]:
    """What the first layer is given, and how to name it."""
    return model.map_input(x), "" if model.input_range is None else ", scaled to ±π/2"


def _heading(figure: Any, text: str) -> None:
    figure.suptitle(text, x=0.004, ha="left", fontsize=9.5)


def _panel(
    ax: Axes, layer: QKANLayer, o: int, i: int, seen: Tensor, names: tuple[str, str]
) -> None:
    """One edge: φ over the range of its inputs, and where they lie."""
    low, high = seen.min().item(), seen.max().item()
    grid = torch.linspace(low, high, 200, dtype=seen.dtype)
    ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
    density, edges = np.histogram(seen.numpy(), bins=30, range=(low, high))
    height = -1.12 + 0.45 * density / density.max()
    ax.fill_between(edges, -1.12, [*height, height[-1]], step="post", color="#dcdcdc", linewidth=0)
    ax.plot(grid, _phi(layer, o, i, grid), color=BLUE, linewidth=1.8)
    ax.set(xlim=(low, high), ylim=(-1.12, 1.12), yticks=(-1, 0, 1), xlabel=names[0])
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    weight = _signed(layer.weight[o, i].item())
    ax.set_title(f"{names[0]} → {names[1]},  weight {weight}")


@torch.no_grad()
def _phi(layer: QKANLayer, o: int, i: int, grid: Tensor) -> np.ndarray:
    theta, scale, shift = _parameters(layer, o, i)
    values = expectation(
        layer.circuit, grid[:, None], theta[None, None], scale[None, None], shift[None, None]
    )
    return values.flatten().numpy()


def _parameters(layer: QKANLayer, o: int, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """One edge's theta (k,), scale (u,) and shift (u,)."""
    return tuple(t[o, i].detach() for t in (layer.theta, layer.scale, layer.shift))


def draw_circuit(
    ax: Axes, circuit: Circuit, edge: tuple[Tensor, Tensor, Tensor], name: str
) -> None:
    """The circuit as boxes on a wire, one edge's trained values under them."""
    gates = circuit.gates
    kinds = [_kind(gate) for gate in gates]
    widths = [1.75 if kind == "data" else 1.0 if kind == "trainable" else 0.7 for kind in kinds]
    gap = 0.28
    end = sum(widths) + gap * (len(gates) + 1)
    ax.plot([0, end], [0, 0], color="black", linewidth=1, zorder=1)
    ax.text(-0.1, 0, "|0⟩", ha="right", va="center", fontsize=11)
    ax.text(end + 0.1, 0, f"⟨{circuit.observable}⟩", ha="left", va="center", fontsize=11)
    left = gap
    for gate, kind, width in zip(gates, kinds, widths, strict=True):
        box = FancyBboxPatch(
            (left, -0.5), width, 1.0, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=FILLS[kind], edgecolor=GREY, linewidth=0.8, zorder=2,
        )  # fmt: skip
        ax.add_patch(box)
        middle = left + width / 2
        ax.text(middle, 0.02, _label(gate), ha="center", va="center", fontsize=9, zorder=3)
        ax.text(middle, -0.68, _value(gate, edge), ha="center", va="top", fontsize=7.5, color=GREY)
        left += width + gap
    ax.text(-0.1, -0.68, f"{name}:", ha="right", va="top", fontsize=7.5, color=GREY)
    ax.set(xlim=(-1.1, end + 0.9), ylim=(-1.1, 1.2))
    ax.axis("off")
    _heading(
        ax.figure,
        "The circuit on every edge, in time order. Under it one edge's trained values, in radians.",
    )
    handles = [
        plt.Rectangle((0, 0), 1, 1, facecolor=FILLS[kind], edgecolor=GREY, label=text)
        for kind, text in ROLES.items()
    ]
    ax.legend(handles=handles, loc="upper left", ncols=3, borderpad=0, fontsize=8.5)


def _kind(gate: Any) -> str:
    return {"Encoding": "data", "Theta": "trainable"}.get(type(gate.angle).__name__, "fixed")


def _label(gate: Any) -> str:
    """The gate's name over its angle, indices lowered."""
    if gate.angle is None:
        return gate.name
    lowered = "".join(_sub(int(c)) if c.isdigit() else c for c in gate.angle.label)
    return f"{gate.name[0]}{gate.name[1].lower()}\n{lowered.replace('·', '').replace('+', ' + ')}"


def _value(gate: Any, edge: tuple[Tensor, Tensor, Tensor]) -> str:
    theta, scale, shift = edge
    if _kind(gate) == "trainable":
        return _signed(theta[gate.angle.index].item(), plus="")
    if _kind(gate) == "data":
        w, b = scale[gate.angle.index].item(), shift[gate.angle.index].item()
        return f"{_signed(w, plus='')} x {_signed(b, plus='+ ', minus='− ')}"
    return ""


def _signed(value: float, *, plus: str = "+", minus: str = "−") -> str:
    return f"{plus if value >= 0 else minus}{abs(value):.2f}"


def _sub(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))


def fit(
    surface: Map,
    losses: Sequence[Sequence[float]],
    shown: int,
    path: Path,
    *,
    labels: dict[str, str],
) -> Path:
    """Target, prediction and their difference over the square; the loss of every run.

    Args:
        surface: Of the shown run.
        losses: Training loss of every run after each step.
        shown: Which of them the maps show.
        path: Where the PNG goes.
        labels: Under "formula", "shown" and "all".
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.2), layout="constrained")
        low, high = surface.target.min(), surface.target.max()
        error = surface.prediction - surface.target
        # a spike at a corner must not hide the rest
        bound = np.quantile(np.abs(error), 0.99)
        maps = (
            (labels["formula"], surface.target, "viridis", low, high, "f"),
            (f"QKAN, {labels['shown']}", surface.prediction, "viridis", low, high, "f̂"),
            (
                f"error f̂ − f, at most {np.abs(error).max():.2g}",
                error,
                "PuOr",
                -bound,
                bound,
                "f̂ − f",
            ),
        )
        for ax, (title, values, colours, bottom, top, unit) in zip(axes, maps, strict=False):
            image = ax.pcolormesh(
                surface.x, surface.y, values, cmap=colours, vmin=bottom, vmax=top,
                shading="gouraud", rasterized=True,
            )  # fmt: skip
            extend = "both" if colours == "PuOr" else "neither"
            bar = figure.colorbar(image, ax=ax, label=unit, extend=extend, shrink=0.85)
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(6, steps=[1, 2, 5, 10])
            ax.set(title=title, xlabel="x", ylabel="y", aspect="equal", xticks=(-1, 0, 1))
            ax.set_yticks((-1, 0, 1))
        _losses(axes[3], losses, shown, labels)
        return save(figure, path)


def _losses(
    ax: Axes, losses: Sequence[Sequence[float]], shown: int, labels: dict[str, str]
) -> None:
    others = [run for n, run in enumerate(losses) if n != shown]
    for n, run in enumerate(others):
        label = labels["all"] if n == 0 else None
        ax.plot(range(1, len(run) + 1), run, color="#bbbbbb", linewidth=0.9, label=label)
    steps = range(1, len(losses[shown]) + 1)
    ax.plot(steps, losses[shown], color=BLUE, linewidth=2, label=labels["shown"])
    ax.set(yscale="log", xlabel="LBFGS step (20 iterations each)", ylabel="MSE")
    ax.set(title="training loss", box_aspect=1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")


def digits(
    images: np.ndarray, truth: np.ndarray, predicted: np.ndarray, path: Path, *, title: str
) -> Path:
    """The confusion matrix of a test part, beside misclassified digits.

    Args:
        images: (b, 8, 8).
        truth: (b,) classes.
        predicted: (b,) classes.
        path: Where the PNG goes.
        title: Over the matrix.
    """
    wrong = np.flatnonzero(truth != predicted)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(11.5, 5.2), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
        _confusion(left.subplots(), truth, predicted, title)
        shown = min(len(wrong), 20)
        heading = f"all {shown}" if shown == len(wrong) else f"the first {shown} of {len(wrong)}"
        right.suptitle(f"Misclassified: {heading}", fontsize=9)
        axes = right.subplots(4, 5)
        for ax in axes.flat[shown:]:
            ax.axis("off")
        for ax, n in zip(axes.flat, wrong[:shown], strict=False):
            ax.imshow(images[n], cmap="gray_r")
            ax.set(xticks=(), yticks=())
            ax.spines[:].set(visible=True, color="#bbbbbb")
            ax.set_title(f"{truth[n]}, read as {predicted[n]}", fontsize=8)
        return save(figure, path)


def _confusion(ax: Axes, truth: np.ndarray, predicted: np.ndarray, title: str) -> None:
    classes = int(max(truth.max(), predicted.max())) + 1
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # the root shows single errors beside a diagonal near 1
    ax.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=math.sqrt(1.0))
    for row, column in np.argwhere(counts):
        dark = shares[row, column] > 0.4
        ax.text(column, row, counts[row, column], ha="center", va="center",
                color="white" if dark else "black")  # fmt: skip
    ax.set(xticks=range(classes), yticks=range(classes), xlabel="predicted", ylabel="true digit")
    ax.set_title(title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def device(
    x: Sequence[float],
    exact: Sequence[float],
    runs: Sequence[dict[str, Any]],
    path: Path,
    *,
    title: str,
) -> Path:
    """Measured curves with error bars beside the exact one, and below them their errors.

    Args:
        x: (n,) inputs.
        exact: (n,) the function.
        runs: Each with title, values and stderr (n,).
        path: Where the PNG goes.
        title: Of the figure.
    """
    looks = ((ORANGE, "v"), (BLUE, "o"), (GREEN, "s"))
    with plt.rc_context(STYLE):
        figure, (top, below) = plt.subplots(
            2, 1, figsize=(7.2, 5.6), sharex=True, height_ratios=(1.6, 1), layout="constrained"
        )
        top.plot(x, exact, color="black", linewidth=1, label="exact function", zorder=1)
        below.axhline(0, color="black", linewidth=1, zorder=1)
        for run, (colour, marker) in zip(runs, looks, strict=False):
            style = {
                "color": colour, "marker": marker, "markersize": 3.5, "linestyle": "none",
                "elinewidth": 0.9, "capsize": 1.5,
            }  # fmt: skip
            label = f"{run['title']}: rms error {run['rms_error']:.3f}"
            top.errorbar(x, run["values"], run["stderr"], label=label, **style)
            errors = np.subtract(run["values"], exact)
            below.errorbar(x, errors, run["stderr"], **style)
        top.set_ylabel("output")
        top.legend(loc="upper left")
        below.set_ylabel("output − exact")
        below.set_xlabel("x  (bars: one standard error)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        return save(figure, path)
