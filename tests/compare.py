"""The one comparison of the suite: it asserts, and it says where and by how much."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = 1e-10


def assert_close(found: Tensor, wanted: Tensor, what: str, tolerance: float = EXACT) -> None:
    """Shapes equal, NaN in the same places, errors below tolerance·(1 + |wanted|) elsewhere."""
    assert found.shape == wanted.shape, f"{what}: shape {found.shape}, wanted {wanted.shape}"
    found, wanted = found.detach().double(), wanted.detach().double()
    nan = wanted.isnan()
    assert torch.equal(found.isnan(), nan), f"{what}: NaN in other places than wanted"
    error = ((found - wanted).abs() / (1 + wanted.abs()))[~nan]
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= tolerance, f"{what}: off by {worst:.3g}, allowed {tolerance:.3g}"


def assert_as_exact_as(
    found: Tensor, plain: Tensor, exact: Tensor, slack: float, what: str
) -> None:
    """The error against `exact` is at most twice that of the plain implementation, plus slack."""
    assert found.shape == exact.shape, f"{what}: shape {found.shape}, wanted {exact.shape}"
    if not exact.numel():
        return
    error, floor = ((t.detach().double() - exact).abs().max() for t in (found, plain))
    assert error <= 2 * floor + slack, f"{what}: off by {error:.3g}, plain by {floor:.3g}"
