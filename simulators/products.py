"""What `fourier` and `chebyshev` share: a layer as one matrix product, features times coefficients.

Every edge is evaluated at a few nodes, a fixed linear map turns node values into coefficients, and
each sample only enters through features of its inputs. All in plain torch here: any device, any
dtype, derivatives of any order, and a graph of plain operators for compilers and exporters.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .bloch import TorchEngine
from .engine import Request


def values_at(
    request: Request, nodes: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """φ of every edge at the nodes.

    Args:
        request: Names the program.
        nodes: (n,) shared by all inputs, or (n, i).
        theta: (o, i, k).
        scale: (o, i, u), or (u,).
        shift: (o, i, u).

    Returns:
        (n, o, i).
    """
    x = nodes if nodes.ndim == 2 else nodes[:, None].expand(-1, request.in_features)
    return TorchEngine().edges(request, x, theta, scale, shift)


def contract(features: Tensor, coefficients: Tensor, weight: Tensor | None) -> Tensor:
    """Coefficients times features, summed over what is not asked for.

    Args:
        features: (b, i, f).
        coefficients: (f, o, i).
        weight: (o, i), or None for the value of each edge.

    Returns:
        (b, o), or (b, o, i) without weight.
    """
    if weight is None:
        return torch.einsum("bif,foi->boi", features, coefficients)
    rows = (coefficients * weight).permute(2, 0, 1).flatten(0, 1)
    return features.flatten(1) @ rows


def harmonics(x: Tensor, count: int) -> Tensor:
    """Cos kx and sin kx for k = 1 … count by angle addition, (b, i) → (b, i, 1 + 2·count).

    One sine and cosine an input; the first feature is 1.
    """
    cosine, sine = [x.cos()], [x.sin()]
    for k in range(2, count + 1):
        half, rest = k // 2 - 1, k - k // 2 - 1
        cosine.append(cosine[half] * cosine[rest] - sine[half] * sine[rest])
        sine.append(sine[half] * cosine[rest] + cosine[half] * sine[rest])
    one = 0 * cosine[0] + 1
    return torch.stack([one, *(f for pair in zip(cosine, sine, strict=True) for f in pair)], -1)


def chebyshev_features(t: Tensor, count: int) -> Tensor:
    """T_k(t) for k = 0 … count - 1 by the three-term recurrence, (b, i) → (b, i, count)."""
    features = [0 * t + 1, t]
    while len(features) < count:
        features.append(2 * t * features[-1] - features[-2])
    return torch.stack(features[:count], -1)


@functools.lru_cache(maxsize=256)
def fourier_map(count: int) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Equispaced nodes and the discrete Fourier transform for harmonics 0 … count.

    Returns:
        The 2·count + 1 nodes x_n, and the matrix from values at them to the coefficients of
        `harmonics`, exact for trigonometric polynomials of that degree.
    """
    n = 2 * count + 1
    nodes = [2 * math.pi * j / n for j in range(n)]
    rows = [tuple([1 / n] * n)]
    for k in range(1, count + 1):
        rows.append(tuple(2 / n * math.cos(2 * math.pi * (k * j % n) / n) for j in range(n)))
        rows.append(tuple(2 / n * math.sin(2 * math.pi * (k * j % n) / n) for j in range(n)))
    return tuple(nodes), tuple(rows)


@functools.lru_cache(maxsize=256)
def chebyshev_map(count: int) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Chebyshev nodes in (-1, 1) and the cosine transform to the coefficients of T_0 … T_{count-1}."""
    angles = [math.pi * (j + 0.5) / count for j in range(count)]
    rows = [
        tuple((1 if k == 0 else 2) / count * math.cos(k * angle) for angle in angles)
        for k in range(count)
    ]
    return tuple(math.cos(angle) for angle in angles), tuple(rows)


def bessel_tail(degree: int, argument: float) -> float:
    """A bound on the error of a Chebyshev series cut after `degree`: 2 Σ_{k>degree} |J_k(argument)|.

    From e^{iωx} = Σ i^k (2-δ_k0) J_k(ωL) T_k(x/L) on |x| ≤ L, with |J_k(z)| ≤ (z/2)^k / k!, for an
    activation that is band-limited by ω and bounded by 1; argument = ωL.
    """
    half = argument / 2
    total = 0.0
    for k in range(degree + 1, degree + 200):
        log_term = k * math.log(half) - math.lgamma(k + 1) if half > 0 else -math.inf
        term = math.exp(min(log_term, 50.0))
        total += term
        if k > argument and term < 1e-3 * total * 1e-9 + 1e-300:
            break
    return 2 * total
