"""`torch.nn.Linear` of the same shape: what a layer without activations costs."""

from __future__ import annotations

from typing import Any

import torch

from .subject import Arrays, Subject


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    dtype = getattr(torch, case["dtype"])
    layer = torch.nn.Linear(case["in_features"], case["out_features"], dtype=dtype)
    return Subject(layer, list(layer.parameters()), layer.weight, module=layer)
