"""The two figures: where each candidate stands, and how time grows.

Colours are Okabe and Ito's, which people with colour-blindness tell apart; every candidate has a
marker of its own besides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from records import CaseRecord
from tables import SWEEPS, curve

Records = dict[str, CaseRecord]
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#6b6b6b",
)  # fmt: skip
LOOKS = {
    "qkan 0.2.3": (RED, "s"), "pykan": (PINK, "D"), "inkan": (PINK, "*"), "torch": (ORANGE, "v"),
    "numba": (SKY, "^"), "chebyshev": (GREEN, "<"), "fourier": (GREEN, ">"),
    "nn.Linear": (GREY, "x"), "auto": (BLUE, "o"),
}  # fmt: skip
"""Colour and marker of each candidate; drawn in this order, the last on top."""
LABELS = {
    "qkan 0.2.3": "qkan 0.2.3, its faster solver", "pykan": "pykan (splines)",
    "inkan": "inkan (splines), its faster mode",
    "torch": "engine torch", "numba": "engine numba", "chebyshev": "engine chebyshev",
    "fourier": "engine fourier", "nn.Linear": "nn.Linear (no activations)",
    "auto": "this package, auto",
}  # fmt: skip
ROWS = (
    "64-trainable", "64-linear", "256-normal", "256-linear", "1-trainable", "4-trainable",
)  # fmt: skip
MEASURES = {"forward": "forward", "step": "train step: forward and backward"}


def benchmark(records: Records, path: Path) -> Path | None:
    """Time a call of every candidate, one row a case; the ratio to the peer beside the row."""
    rows = [name for name in ROWS if name in records]
    if not rows:
        return None
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, 2, figsize=(10, 1.5 + 0.62 * len(rows)), sharey=True, layout="constrained"
        )
        for axis, (measure, title) in zip(axes, MEASURES.items(), strict=True):
            for y, name in enumerate(rows):
                _row(axis, records[name], measure, y)
            axis.set_title(title)
            _milliseconds(axis)
        axes[0].set_yticks(range(len(rows)), [_name(records[name]) for name in rows])
        axes[0].invert_yaxis()
        axes[0].set_ylim(len(rows) - 0.45, -0.6)
        _legend(figure, axes)
        figure.savefig(path)
        plt.close(figure)
    return path


def _row(axis: Axes, record: CaseRecord, measure: str, y: int) -> None:
    peer = record.peer(measure)
    faster = {"qkan 0.2.3": peer, "inkan": record.faster("inkan", measure)}
    found: dict[str, float] = {}
    for look in LOOKS:
        name = faster.get(look, look)
        if name is not None and record.measured(name, measure):
            found[look] = 1e3 * record.summary(name, measure).median
    for look, value in found.items():
        axis.plot(value, y, label=LABELS[look], **_marker(look))
    axis.axhline(y, color="#e4e4e4", linewidth=0.8, zorder=0)
    if "auto" in found and peer is not None:
        times = record.ratio(peer, "auto", measure).median
        _span(axis, y, (found["auto"], found["qkan 0.2.3"]), times, BLUE)
    if "auto" in found and "nn.Linear" in found:
        times = record.ratio("auto", "nn.Linear", measure).median
        _span(axis, y, (found["nn.Linear"], found["auto"]), times, GREY)


def _marker(look: str) -> dict[str, Any]:
    """How a candidate is drawn; `auto` is a ring around the engine that it chose."""
    colour, marker = LOOKS[look]
    found: dict[str, Any] = {
        "color": colour, "marker": marker, "linestyle": "none", "markersize": 7.5,
        "markeredgecolor": "white", "markeredgewidth": 0.7, "zorder": 3,
    }  # fmt: skip
    if look == "auto":
        found |= {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2, "zorder": 4}
    if look in ("auto", "nn.Linear"):
        found["markeredgecolor"] = colour
    if look == "nn.Linear":
        found["markeredgewidth"] = 2
    return found


def _span(axis: Axes, y: int, ends: tuple[float, float], times: float, colour: str) -> None:
    """A line from one candidate to another with their ratio above it."""
    axis.plot(ends, [y, y], color=colour, alpha=0.4, zorder=1)
    shown = f"{times:.0f}×" if times >= 10 else f"{times:.1f}×"
    axis.annotate(shown, (float(np.sqrt(ends[0] * ends[1])), y), (0, 7),
                  textcoords="offset points", ha="center", color=colour,
                  fontweight="bold")  # fmt: skip


def _name(record: CaseRecord) -> str:
    case = record.case
    shape = f"{case['batch']} × {case['in_features']} → {case['out_features']}"
    encoding = "trainable scales" if case["encoding"] == "trainable" else "linear encoding"
    return f"{shape}\n{encoding}"


def _milliseconds(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds (log scale; left is faster)")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_major_locator(LogLocator(numticks=12))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", color="#eeeeee", zorder=0)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_axisbelow(True)


def _legend(figure: plt.Figure, axes: np.ndarray) -> None:
    handles = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [label for label in reversed(LABELS.values()) if label in handles]
    figure.legend(
        [handles[label] for label in order], order, loc="outside lower center",
        ncols=4, handletextpad=0.3, columnspacing=1.4,
    )  # fmt: skip


CURVES = {
    ("auto", "trainable"): ("auto, trainable scales", BLUE, "o", "-"),
    ("numba", "trainable"): ("engine numba, trainable", SKY, "^", "-"),
    ("auto", "linear"): ("auto, linear encoding", GREEN, ">", "-"),
    ("torch", "trainable"): ("engine torch, trainable", ORANGE, "v", "-"),
    ("qkan cutn", "trainable"): ("qkan 0.2.3 (cutn), trainable", RED, "s", "-"),
}
AXES = {
    "batch": "samples", "edges": "edges, in × out", "reps": "repetitions",
    "reach": "largest |x|",
}  # fmt: skip
FIXED = {
    "batch": "64 → 64, r = 3", "edges": "1024 samples, r = 3", "reps": "1024 × 64 → 64",
    "reach": "1024 × 64 → 64, r = 3",
}  # fmt: skip


def growth(records: Records, path: Path) -> Path | None:
    """Train step time over batch, edges and repetitions, with guides of slope one."""
    if not any(record.case["kind"] == "growth" for record in records.values()):
        return None
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(12, 4.1), sharey=True, layout="constrained")
        for axis, (sweep, label) in zip(axes, SWEEPS.items(), strict=True):
            for (name, encoding), (text, colour, marker, line) in CURVES.items():
                sizes, seconds = curve(records, sweep, encoding, name)
                if not sizes:
                    continue
                values = 1e3 * np.array(seconds)
                axis.plot(sizes, values, line, marker=marker, color=colour, label=text,
                          markersize=6, markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
                _guide(axis, sizes, values)
            axis.set_title(f"{label}\n", fontsize=10)
            axis.text(0, 1.02, FIXED[sweep], transform=axis.transAxes, color=GREY)
            axis.set_xlabel(AXES[sweep])
            _logarithmic(axis, sweep)
        axes[0].set_ylabel("milliseconds a train step (log scale)")
        _legend_of_curves(figure, axes)
        figure.savefig(path)
        plt.close(figure)
    return path


def _guide(axis: Axes, sizes: list[float], values: np.ndarray) -> None:
    """A line of slope one that ends in a curve's last point."""
    guide = values[-1] * np.array(sizes) / sizes[-1]
    axis.plot(sizes, guide, ":", color="#9a9a9a", linewidth=1, zorder=0,
              label="linear growth, through the last point")  # fmt: skip


def _logarithmic(axis: Axes, sweep: str) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks = {"batch": [16, 64, 256, 1024, 4096], "edges": [64, 256, 1024, 4096, 16384],
             "reps": [1, 2, 4, 8, 16], "reach": [1, 2, 4, 8, 16]}[sweep]  # fmt: skip
    axis.set_xticks(ticks)
    axis.minorticks_off()
    axis.grid(color="#eeeeee")
    axis.set_axisbelow(True)


def _legend_of_curves(figure: plt.Figure, axes: np.ndarray) -> None:
    handles = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)


FIGURES: dict[str, Callable[[Records, Path], Path | None]] = {
    "benchmark": benchmark,
    "growth": growth,
}
"""The file names and what draws them."""
