"""The case's layer around any way to get ⟨Z⟩ of many single-qubit circuits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .subject import Arrays, Subject, leaf_gradients, tensors

Expectations = Callable[[Tensor, Tensor], Tensor]
"""theta (n, k) and encoded inputs (n, u), one circuit a row → ⟨Z⟩ (n,), differentiable."""


def layer(case: dict[str, Any], arrays: Arrays, expectations: Expectations) -> Subject:
    """A subject whose edges are all evaluated by one call of `expectations`."""
    values = tensors(arrays, case["dtype"])
    del values["x"]
    fixed = () if case["encoding"] == "trainable" else ("scale", "shift")
    leaves = {name: v.requires_grad_() for name, v in values.items() if name not in fixed}

    def call(x: Tensor) -> Tensor:
        encoded = values["scale"] * x[:, None, :, None] + values["shift"]
        theta = values["theta"].expand(len(x), *values["theta"].shape)
        z = expectations(theta.flatten(0, 2), encoded.flatten(0, 2)).reshape(encoded.shape[:3])
        base = F.linear(F.silu(x), values["base_weight"], values["bias"])
        return (z.to(x.dtype) * values["weight"]).sum(-1) + base

    parameters = list(leaves.values())
    return Subject(call, parameters, values["theta"], lambda: leaf_gradients(leaves))


def columns(theta: Tensor, encoded: Tensor) -> tuple[Tensor, ...]:
    """The angles of pz in time order, one tensor (n,) a rotation: RZ RY RZ(e), …, RZ RY."""
    found: list[Tensor] = []
    for u in range(encoded.shape[1]):
        found += [theta[:, 2 * u], theta[:, 2 * u + 1], encoded[:, u]]
    return (*found, theta[:, -2], theta[:, -1])


def axes(reps: int) -> list[str]:
    """The axes of the rotations in `columns`, which follow a Hadamard gate."""
    return ["Z", "Y", "Z"] * reps + ["Z", "Y"]


def stacked(theta: Tensor, encoded: Tensor) -> Tensor:
    """The angles of `columns` side by side, (n, 3u + 2)."""
    return torch.stack(columns(theta, encoded), dim=1)
