"""How a layer starts: the second moment of its activations under the start distribution."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from qkan.circuits import Program
from qkan.simulators import edge_values

from .functional import amplitude

_POINTS = 1 << 14


@contextlib.contextmanager
def real_numbers() -> Iterator[None]:
    """A context whose tensors are on the CPU and real, even where a layer is built of fake ones."""
    with _disable_current_modes(), torch.no_grad(), torch.device("cpu"):
        yield


@functools.lru_cache(maxsize=256)
def second_moment(program: Program, scale: tuple[float, ...], readout: str) -> float:
    """E φ² for x ~ N(0, 1), theta ~ U(-π/2, π/2), shift 0, by a quasi-Monte Carlo quadrature.

    The points are the additive recurrence of the generalised golden ratio (R_d sequence): fixed,
    so that equal options start from equal weights; the error is a few 1e-3.
    """
    dimensions = program.num_theta + 1
    points = _additive_recurrence(_POINTS, dimensions)
    with real_numbers():
        x = torch.erfinv(2 * torch.from_numpy(points[:, :1]) - 1) * math.sqrt(2)
        theta = (torch.from_numpy(points[:, 1:]) - 0.5) * math.pi
        scales = torch.tensor(scale, dtype=torch.float64)
        values = edge_values(program, x, theta[:, None, None, :], scales, torch.zeros_like(scales))
        values = amplitude(values) if readout == "amplitude" else values
        return float(values.square().mean())


def _additive_recurrence(points: int, dimensions: int) -> np.ndarray:
    """(points, dimensions) quasi-random numbers in (0, 1)."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.arange(1, points + 1)[:, None] * steps) % 1.0
