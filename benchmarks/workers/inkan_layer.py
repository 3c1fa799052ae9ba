"""inkan's layer of cubic splines as one matrix product: another function of the same shape."""

from __future__ import annotations

from typing import Any

from inkan import KANLayer

from .subject import Arrays, Subject


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    # the case asks for float32, which is what its constructor makes
    layer = KANLayer(
        case["in_features"], case["out_features"], grid_size=options["grid"],
        basis_mode=options["mode"],
    )  # fmt: skip
    return Subject(layer, list(layer.parameters()), layer.weight, module=layer)
