"""A layer as one matrix product, features times coefficients, for `fourier` and `chebyshev`.

Every edge is evaluated at a few nodes, a fixed linear map turns these values into coefficients, and
samples enter only through features of their inputs. Here this is done by plain torch operators, for
any device and dtype, for derivatives of any order, and for graphs of compilers and exporters.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .bridge import run
from .call import LayerCall, LayerTensors, Request, layer_call
from .registry import get_engine, is_exporting


def values_at(
    request: Request, nodes: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """Return φ of every edge at the nodes.

    Args:
        request: The request with the program.
        nodes: (n,) for all inputs, or (n, i).
        theta: (o, i, k).
        scale: (o, i, u), or (u,).
        shift: (o, i, u).

    Returns:
        (n, o, i).
    """
    x = nodes if nodes.ndim == 2 else nodes[:, None].expand(-1, request.in_features)
    call = layer_call(request.program, LayerTensors(x, theta, scale, shift), request.fixed_scale)
    return edge_by_edge(call)


def edge_by_edge(call: LayerCall) -> Tensor:
    """Evaluate a call without a product: by CUDA kernels if possible, otherwise by operators."""
    cupy = get_engine("cupy")
    able = not is_exporting() and cupy.refuse(call.request) is None
    return run(cupy if able else get_engine("torch"), call)


def contract(features: Tensor, coefficients: Tensor, weight: Tensor | None) -> Tensor:
    """Return features times coefficients, summed over features and, with a weight, over inputs.

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
    """Return the features 1, cos kx and sin kx for k = 1 … count: (b, i) → (b, i, 1 + 2·count).

    One sine and one cosine are computed for each input; the others follow by angle addition.
    """
    cosine, sine = [x.cos()], [x.sin()]
    for k in range(2, count + 1):
        half, rest = k // 2 - 1, k - k // 2 - 1
        cosine.append(cosine[half] * cosine[rest] - sine[half] * sine[rest])
        sine.append(sine[half] * cosine[rest] + cosine[half] * sine[rest])
    one = 0 * cosine[0] + 1
    return torch.stack([one, *(f for pair in zip(cosine, sine, strict=True) for f in pair)], -1)


def chebyshev_features(t: Tensor, count: int) -> Tensor:
    """Return T_k(t) for k < count by the three-term recurrence: (b, i) → (b, i, count)."""
    features = [0 * t + 1, t]
    while len(features) < count:
        features.append(2 * t * features[-1] - features[-2])
    return torch.stack(features[:count], -1)


def fourier_map(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return equispaced nodes and the discrete Fourier transform for harmonics 0 … count.

    Returns:
        The n = 2·count + 1 nodes 2πj/n, and the (n, n) matrix from values at them to the
        coefficients of `harmonics`, exact for trigonometric polynomials of that degree. They are
        computed in float64, and returned in the dtype and on the device of `like`.
    """
    n = 2 * count + 1
    j = torch.arange(n, device=like.device)
    turn = 2 * math.pi / n
    # whole turns are removed while the product is still an exact integer
    angles = (j[1 : count + 1, None] * j % n).double() * turn
    pairs = torch.stack([angles.cos(), angles.sin()], 1).flatten(0, 1) * (2 / n)
    rows = torch.cat([torch.full_like(pairs[:1], 1 / n), pairs])
    return (j.double() * turn).to(like.dtype), rows.to(like.dtype)


def chebyshev_map(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return Chebyshev nodes in (-1, 1) and the transform to coefficients of T_0 … T_{count-1}.

    Returns:
        (count,) and (count, count), computed in float64, and in the dtype and on the device of
        `like`.
    """
    k = torch.arange(count, device=like.device).double()
    angles = math.pi * (k + 0.5) / count
    rows = (k[:, None] * angles).cos() * (2 / count)
    rows = torch.cat([rows[:1] / 2, rows[1:]])
    return angles.cos().to(like.dtype), rows.to(like.dtype)


def truncation_bound(degree: int, z: float) -> float:
    """Bound |φ - its interpolant of that degree at Chebyshev nodes| on |x - m| ≤ L, with z = Ω·L.

    φ is band-limited by Ω and bounded by 1 on the real line, so |φ(x + iy)| ≤ e^{Ω|y|} (Bernstein).
    On the ellipse of parameter ρ that bounds its Chebyshev coefficients by |a_k| ≤ 2 ρ^{-k} e^{z(ρ
    - 1/ρ)/2}, least at ρ = (k + √(k² - z²))/z; the interpolant errs by at most 2 Σ_{k > degree}
    |a_k|. Beyond degree z it falls faster than any power, like the Bessel functions J_k(z), whose
    sum it exceeds by little.
    """
    total, k = 0.0, degree + 1
    if k <= z:
        return math.inf
    while k < degree + 400:
        root = math.sqrt(k * k - z * z)
        term = 2 * math.exp(root - k * math.log((k + root) / z)) if z > 0 else 0.0
        total += term
        if term <= 1e-3 * total:
            break
        k += 1
    return 2 * total


@functools.lru_cache(maxsize=512)
def widest(degree: int, tolerance: float) -> float:
    """Return the largest z = Ω·L for which `truncation_bound` is within the tolerance."""
    low, high = 0.0, float(degree)
    for _ in range(60):
        middle = (low + high) / 2
        inside = truncation_bound(degree, middle) <= tolerance
        low, high = (middle, high) if inside else (low, middle)
    return low
