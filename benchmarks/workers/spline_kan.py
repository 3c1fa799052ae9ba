"""pykan's spline layer of the same shape: another function at the same place in a network."""

from __future__ import annotations

from typing import Any

import torch
from kan import KAN

from .subject import Arrays, Subject


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    model = KAN(
        width=[case["in_features"], case["out_features"]], grid=options["grid"],
        k=options["degree"], auto_save=False, seed=0,
    )  # fmt: skip
    # its own switch for speed: no symbolic branch, no stored activations
    model.speed()
    parameters = [p for p in model.parameters() if p.requires_grad]
    layer = model.act_fun[0]
    return Subject(model, parameters, layer.coef, module=torch.nn.ModuleList([layer]))
