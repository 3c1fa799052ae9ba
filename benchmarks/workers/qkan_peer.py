"""The layer of the package qkan 0.2.3, which installs under this package's import name."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from .subject import Arrays, Subject, Unavailable, tensors


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    if not options["opt_einsum"]:
        sys.modules["opt_einsum"] = None  # type: ignore[assignment]
    import qkan

    if case["ansatz"] != "pz":
        raise Unavailable(f"its {case['ansatz']!r} is not mapped here")
    dtype = getattr(torch, case["dtype"])
    o, i = case["out_features"], case["in_features"]
    layer = qkan.QKANLayer(
        i, o, reps=case["reps"], solver=options["solver"], ansatz="pz_encoding",
        fast_measure=False, preact_trainable=case["encoding"] == "trainable",
        postact_weight_trainable=True, postact_bias_trainable=True, base_activation="silu",
        ba_trainable=True, p_dtype=dtype,
        c_dtype=torch.complex128 if dtype == torch.float64 else torch.complex64,
    )  # fmt: skip
    layer.load_state_dict(imported(tensors(arrays, case["dtype"]), layer.mask))
    leaves = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    return Subject(
        layer, list(leaves.values()), layer.theta, lambda: exported(leaves), layer,
        {"solver": options["solver"], "opt_einsum": options["opt_einsum"]},
    )  # fmt: skip


def imported(s: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """This package's parameters under the peer's names: it adds its bias before the weight."""
    o, i, u = s["scale"].shape
    return {
        "theta": s["theta"].reshape(o, i, u + 1, 2),
        "preacts_weight": s["scale"],
        "preacts_bias": s["shift"],
        "base_weight": s["base_weight"],
        "postact_weights": s["weight"],
        "postact_bias": s["bias"][:, None] / (i * s["weight"]),
        "mask": torch.ones_like(mask),
    }


def exported(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The peer's gradients in this package's parameters.

    With y_o = Σ_i w(φ + p): ∂/∂bias_o = Σ_b g, which is (∂/∂p)/w for every i, and the weight's
    gradient Σ_b g φ is the peer's less p·Σ_b g.
    """
    found = {ours: leaves[theirs].grad for ours, theirs in NAMES.items() if theirs in leaves}
    weight, p = leaves["postact_weights"], leaves["postact_bias"]
    upstream = p.grad / weight.detach()
    found["theta"] = found["theta"].flatten(2)
    found["weight"] = weight.grad - p.detach() * upstream
    found["bias"] = upstream.mean(1)
    return found


NAMES = {
    "theta": "theta",
    "scale": "preacts_weight",
    "shift": "preacts_bias",
    "base_weight": "base_weight",
}
