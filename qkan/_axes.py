"""Axes of a new figure, for results that draw themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .circuits import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(count: int = 1) -> Axes:
    """Return the first of `count` axes side by side in a new figure, in the current style.

    Raises:
        ImportError: matplotlib is not installed; the message says how to install it.
    """
    pyplot: Any = require("matplotlib.pyplot", "plot")
    size = pyplot.rcParams["figure.figsize"]
    wide = (max(1.0, 0.8 * count) * size[0], size[1])
    figure = pyplot.figure(figsize=wide, layout="constrained")
    axes: list[Axes] = [figure.add_subplot(1, max(1, count), n + 1) for n in range(max(1, count))]
    return axes[0]
