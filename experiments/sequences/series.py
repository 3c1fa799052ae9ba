"""The series of the studies, cut into windows in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import jv
from shared.data import data_folder
from torch import Tensor

SOURCES = {
    "sunspots_monthly.csv": "the monthly mean total sunspot number of WDC-SILSO, Royal Observatory "
    "of Belgium, Brussels (CC BY-NC 4.0), as in the repository MatthewPeng57/Gated-QKAN-FWP: "
    "columns index, date, number",
    "jaynes_cummings.csv": "a simulated trace of MatthewPeng57/Gated-QKAN-FWP, one number a line",
    "transmon.csv": "a simulated trace of MatthewPeng57/Gated-QKAN-FWP, one number a line",
}
"""The files that a user fetches, and what they are."""


@dataclass(frozen=True)
class Windows:
    """Inputs (n, t) and what follows them (n, horizon), in units of the series."""

    x: Tensor
    y: Tensor

    def rows(self, part: range) -> Windows:
        chosen = slice(part.start, part.stop)
        return Windows(self.x[chosen], self.y[chosen])


@dataclass(frozen=True)
class Task:
    """A series to forecast.

    Attributes:
        train: Windows to train on.
        validation: Windows that choose the best moment of a training.
        test: Windows that are looked at once.
        low: What is subtracted from the series before a model sees it.
        unit: What it is divided by after that.
    """

    train: Windows
    validation: Windows
    test: Windows
    low: float
    unit: float


def file_of(name: str) -> Path:
    """The path of a file that a user has fetched."""
    path = data_folder() / name
    if not path.exists():
        raise SystemExit(f"{path} is missing: {SOURCES[name]}. QKAN_DATA may name another folder.")
    return path


def sunspots() -> np.ndarray:
    """Monthly numbers, 1749 to January 2021."""
    return np.loadtxt(file_of("sunspots_monthly.csv"), delimiter=",", skiprows=1, usecols=2)


def traces() -> dict[str, np.ndarray]:
    """The three series whose next step is asked for, 3,000 steps each."""
    return {
        "Jaynes-Cummings": np.loadtxt(file_of("jaynes_cummings.csv")),
        "transmon": np.loadtxt(file_of("transmon.csv")),
        "Bessel J₂": jv(2, np.linspace(0, 300, 3000)),
    }


def task(values: np.ndarray, length: int, horizon: int, *, whole: bool = False) -> Task:
    """Cut a series into windows, the first 80 % to train, then 10 % and 10 %.

    A window is left out of a part if it forecasts a time that the next part forecasts too. The
    values are scaled to [0, 1] by the least and the largest one that the training windows see.

    Args:
        values: (n,).
        length: Steps that a model sees.
        horizon: Steps that it forecasts.
        whole: Whether to do as the published study does: no window is left out, and the scale is
            that of the whole series, the test part included.
    """
    n = len(values) - length - horizon + 1
    first, second = int(0.8 * n), int(0.8 * n) + int(0.1 * n)
    gap = 0 if whole else horizon - 1
    parts = range(first - gap), range(first, second - gap), range(second, n)
    if min(map(len, parts)) < 1:
        raise ValueError(f"{len(values)} values are too few for windows of {length} + {horizon}.")
    seen = values if whole else values[: parts[0].stop - 1 + length + horizon]
    cut = torch.tensor(values, dtype=torch.float32).unfold(0, length + horizon, 1)
    windows = Windows(cut[:, :length], cut[:, length:])
    low, high = float(seen.min()), float(seen.max())
    return Task(*(windows.rows(part) for part in parts), low, high - low)
