"""A figure that a notebook shows; imported where one is drawn, for it needs matplotlib."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A matplotlib `Figure` that is shown as a cell's last line, with or without pyplot."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """Write it as matplotlib does, on its own background rather than that of a style."""
        super().savefig(*args, **{"facecolor": self.get_facecolor(), **options})

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.savefig(file, format="png")
            return file.getvalue()
