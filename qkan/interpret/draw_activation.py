"""Draw the curves of an activation: its base, the part of its circuits, and their sum."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .draw_network import BLUE, GREY, ORANGE

_COLUMNS = 4


def draw_activation(
    figure_class: Any, curves: tuple[Tensor, Tensor, Tensor], shown: int, amplitudes: list[float]
) -> Any:
    """Draw each group's base, added part and sum over its inputs.

    Args:
        figure_class: matplotlib's `Figure`.
        curves: Inputs, base and sum, (n, g) each.
        shown: The number of groups that are drawn.
        amplitudes: The amplitude of every group.
    """
    x, base, whole = (values.numpy() for values in curves)
    columns = min(_COLUMNS, shown)
    rows = math.ceil(shown / columns)
    size = (max(2.6 * columns, 4.4), 2.3 * rows + 0.6)
    figure = figure_class(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[shown:]:
        ax.axis("off")
    for g, ax in enumerate(axes[:shown]):
        ax.plot(x[:, g], base[:, g], color=GREY, linestyle="--", linewidth=1, label="base")
        ax.plot(x[:, g], whole[:, g] - base[:, g], color=ORANGE, linewidth=1, label="circuit")
        ax.plot(x[:, g], whole[:, g], color=BLUE, linewidth=1.8, label="sum")
        title = "" if len(amplitudes) == 1 else f"Group {g}, "
        ax.set_title(f"{title}amplitude {amplitudes[g]:.3g}".replace("-", "−"), fontsize=9)
    left_out = len(amplitudes) - shown
    text = f"{left_out} more groups are not drawn" if left_out else ""
    figure.supxlabel("input of the activation", fontsize=9)
    figure.suptitle(text, fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    return figure
