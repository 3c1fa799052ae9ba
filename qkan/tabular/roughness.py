"""The roughness of a network's activations, which `alpha` of the estimators penalises."""

from __future__ import annotations

import torch
from torch import Tensor

from qkan.interpret.edges import edge_outputs
from qkan.nn.network import QKAN

REACH = 2.5
"""The slopes are measured for standardised inputs within ±2.5."""

NODES = 16


def roughness(model: QKAN) -> Tensor:
    """Return the mean squared slope of every edge's function, summed over all edges.

    An edge adds f(x) = weight·φ(x) + base_weight·base(x) to its output. The mean of f′² over
    ±`REACH`, from differences between `NODES` points, is the penalty of a ridge regression for a
    linear f, and Σ k²·|c_k|² for a Fourier series: a harmonic counts by the square of its
    frequency.

    Returns:
        A scalar, differentiable in all parameters.
    """
    like = next(model.parameters())
    points = torch.linspace(-REACH, REACH, NODES, dtype=like.dtype, device=like.device)
    total = like.new_zeros(())
    for layer in model.rows:
        values = edge_outputs(layer, points[:, None].expand(-1, layer.in_features))
        slopes = values.diff(dim=0) * ((NODES - 1) / (2 * REACH))
        total = total + slopes.square().mean(0).sum()
    return total
