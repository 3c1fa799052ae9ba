"""A figure that a notebook shows; imported only for drawing, since it needs matplotlib."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A matplotlib `Figure` that a notebook shows as a cell's last line, even without pyplot."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """Write the figure as matplotlib does, but with its own background instead of a style's."""
        super().savefig(*args, **{"facecolor": self.get_facecolor(), **options})

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.savefig(file, format="png")
            return file.getvalue()
