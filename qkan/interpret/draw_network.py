"""Draw a network from bottom to top: nodes, and on every edge its activation in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#6b6b6b", "#222222"
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42,
    # dark lines on white, whatever style is set around this function
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), "white"),
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color",
         "ytick.color", "xtick.labelcolor", "ytick.labelcolor", "legend.labelcolor"), INK,
    ),
}  # fmt: skip
_LEVEL = 2.3
"""The distance in inches from one row of nodes to the next."""
_MARGIN = 0.55
_LETTER = 0.085
"""The largest width of a letter in inches."""
_LONGEST = 24
"""The most letters of a name that are shown."""
_FINE = 12
"""The most boxes in a row that have numbers on their axes."""
_MANY = 20
"""With more nodes in a row than this, only those with an edge get a name."""


@dataclass(frozen=True)
class Curve:
    """One edge to draw.

    Attributes:
        output: The node o that it leads to.
        input: The node i that it comes from.
        importance: Its score.
        x: (n,) positions in the units of its input node.
        y: (n,) outputs of the edge.
        label: The name of the elementary form that fits it, or "".
    """

    output: int
    input: int
    importance: float
    x: Tensor
    y: Tensor
    label: str = ""


@dataclass(frozen=True)
class Level:
    """One layer to draw.

    Attributes:
        inputs: The number of nodes below.
        outputs: The number of nodes above.
        edges: The edges that are not pruned, the most important first.
        most: The number of edges that are shown.
    """

    inputs: int
    outputs: int
    edges: Sequence[Curve]
    most: int

    @property
    def shown(self) -> Sequence[Curve]:
        """The edges that are shown."""
        return self.edges[: self.most]

    def note(self, number: int) -> str:
        """A note that says how many edges of layer `number` are not shown, or ""."""
        if len(self.edges) <= self.most:
            return ""
        total = sum(edge.importance for edge in self.edges)
        share = sum(edge.importance for edge in self.shown) / total if total > 0 else 0.0
        return (
            f"layer {number}: the {self.most} most important of {len(self.edges)} edges, "
            f"{share:.0%} of the importance"
        )


@dataclass(frozen=True)
class _Names:
    """The names of a row of nodes in the form in which they are written.

    Attributes:
        texts: The names, long ones shortened.
        upright: Whether they are written vertically, because they are wider than the nodes are
            apart.
        room: The room that they need beyond the nodes, in inches.
    """

    texts: Sequence[str]
    upright: bool
    room: float

    @classmethod
    def fitting(cls, names: Sequence[str], apart: float) -> _Names:
        """Return the names of nodes that are `apart` inches apart."""
        texts = [n if len(n) <= _LONGEST else n[: _LONGEST - 1] + "…" for n in names]
        # the length of a name in LaTeX says nothing about its width
        longest = max([len(text) for text in texts if not text.startswith("$")], default=1)
        upright = longest * _LETTER > apart or len(names) > _MANY
        return cls(texts, upright, max(_MARGIN, 0.3 + longest * _LETTER) if upright else _MARGIN)


def draw_network(
    figure_class: Any,
    levels: Sequence[Level],
    names: tuple[Sequence[str], Sequence[str]],
    title: str,
) -> Any:
    """Draw all levels in one new figure.

    Args:
        figure_class: matplotlib's `Figure`.
        levels: The layers, the first one first.
        names: The names of the inputs and of the outputs.
        title: The text above the network, or "".
    """
    most = max(len(level.shown) for level in levels)
    nodes = [levels[0].inputs, *(level.outputs for level in levels)]
    width = min(15.0, max(5.0, 1.3 * most + 1, 0.22 * max(nodes) + 1))
    note = "; ".join(filter(None, (level.note(n) for n, level in enumerate(levels))))
    below, above = (_Names.fitting(row, (width - 1) / len(row)) for row in names)
    floors = [below.room + n * _LEVEL for n in range(len(nodes))]
    height = floors[-1] + above.room + 0.35 * bool(title) + 0.25 * bool(note)
    figure = figure_class(figsize=(width, height))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, width), ylim=(0, height))
    canvas.axis("off")
    rows = [_places(count, width) for count in nodes]
    used: list[set[int]] = [set() for _ in nodes]
    for n, level in enumerate(levels):
        _draw_level(figure, canvas, level, (floors[n], rows[n], rows[n + 1]))
        used[n] |= {curve.input for curve in level.shown}
        used[n + 1] |= {curve.output for curve in level.shown}
    for row, y, with_edge in zip(rows, floors, used, strict=True):
        size = 6 if len(row) < 30 else 3.5
        for place, x in enumerate(row):
            colour = INK if place in with_edge else "#c8c8c8"
            canvas.plot([x], [y], "o", color=colour, markersize=size, zorder=4)
    _write_names(canvas, below, rows[0], floors[0] - 0.16, "top", used[0])
    _write_names(canvas, above, rows[-1], floors[-1] + 0.16, "bottom", used[-1])
    centred = {"ha": "center", "va": "center"}
    if title:
        canvas.text(width / 2, height - 0.25, title, fontsize=12, **centred)
    if note:
        y = height - 0.18 - 0.38 * bool(title)
        canvas.text(width / 2, y, note, fontsize=8, color=GREY, **centred)
    return figure


def _places(count: int, width: float) -> list[float]:
    """The positions of `count` things in a row."""
    room = width - 2 * 0.5
    return [0.5 + room * (n + 0.5) / count for n in range(count)]


def _draw_level(
    figure: Any, canvas: Any, level: Level, between: tuple[float, Sequence[float], Sequence[float]]
) -> None:
    """Draw the boxes of one layer and their lines.

    Args:
        figure: The figure for the boxes.
        canvas: Its axes in inches, for the lines.
        level: The layer.
        between: The height of the nodes below, their positions, and those of the nodes above.
    """
    width, height = figure.get_size_inches()
    floor, below, above = between
    curves = sorted(level.shown, key=lambda c: (below[c.input] + above[c.output], c.input))
    if not curves:
        return
    size = min(0.9, 0.72 * (width - 1) / len(curves))
    top = max(curve.importance for curve in curves)
    middle = floor + _LEVEL / 2
    for place, curve in zip(_places(len(curves), width), curves, strict=True):
        strength = (curve.importance / top) ** 0.5 if top > 0 else 1.0
        alpha = 0.12 + 0.88 * strength
        line = {"color": INK, "linewidth": 1.1, "alpha": alpha, "zorder": 1}
        canvas.plot([below[curve.input], place], [floor, middle - size / 2], **line)
        canvas.plot([place, above[curve.output]], [middle + size / 2, floor + _LEVEL], **line)
        left, bottom = (place - size / 2) / width, (middle - size / 2) / height
        ax = figure.add_axes((left, bottom, size / width, size / height), zorder=3)
        _draw_box(ax, curve, alpha, fine=len(curves) <= _FINE)


def _draw_box(ax: Any, curve: Curve, alpha: float, *, fine: bool) -> None:
    """Draw one activation, with numbers if there is room for them."""
    ax.plot(curve.x, curve.y, color=BLUE, alpha=alpha, linewidth=1.6 if fine else 1.0)
    low, high = float(curve.x[0]), float(curve.x[-1])
    bottom, top = float(curve.y.min()), float(curve.y.max())
    # the second term keeps a constant flat, so that its rounding is not magnified
    room = 0.12 * (top - bottom) + 1e-6 * max(1.0, abs(top), abs(bottom))
    ax.set(xlim=(low, high), ylim=(bottom - room, top + room))
    for spine in ax.spines.values():
        spine.set(visible=True, color=GREY, alpha=alpha, linewidth=0.8)
    ax.patch.set(facecolor="white")
    if curve.label:
        ax.set_title(curve.label, fontsize=9, color=ORANGE, pad=3, loc="left")
    if not fine:
        ax.set(xticks=(), yticks=())
        return
    ax.set_xticks((low, high), (short(low), short(high)))
    ax.set_yticks((bottom, top), (short(bottom), short(top)))
    ax.tick_params(length=0, labelsize=6, pad=1.5, labelcolor=GREY)
    left, right = ax.get_xticklabels()
    left.set_ha("left")
    right.set_ha("right")
    for label in (left, right, *ax.get_yticklabels()):
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})


def _write_names(
    canvas: Any, names: _Names, row: Sequence[float], y: float, side: str, used: set[int]
) -> None:
    """Write the names of a row of nodes; in a long row only of those with an edge."""
    style = {"fontsize": 9, "rotation": 90} if names.upright else {"fontsize": 11}
    for place, (x, name) in enumerate(zip(row, names.texts, strict=True)):
        if place in used or len(row) <= _MANY:
            canvas.text(x, y, name, ha="center", va=side, **style)


def short(value: float) -> str:
    """A number in two or three characters where possible, with a minus sign of typography."""
    if 100 <= abs(value) < 1e5:
        return f"{value:.0f}".replace("-", "−")
    text = f"{value:.2g}" if abs(value) >= 0.005 or value == 0 else f"{value:.0e}"
    return text.replace("e-0", "e-").replace("-", "−")


def grid_of(values: Tensor, points: int = 160) -> Tensor:
    """Return (points, i) positions over the range of each node's values (b, i)."""
    low, high = values.aminmax(dim=0)
    room = (high == low) * (0.5 + 0.01 * low.abs())
    share = torch.linspace(0, 1, points, dtype=values.dtype).unsqueeze(-1)
    return (low - room) + share * (high - low + 2 * room)
