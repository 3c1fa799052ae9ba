"""This package's layer, with the engine named in the options."""

from __future__ import annotations

from typing import Any

import torch

from .subject import Arrays, Subject, Unavailable, leaf_gradients, tensors


def build(case: dict[str, Any], arrays: Arrays, options: dict[str, Any]) -> Subject:
    import qkan
    from qkan.simulators import Request, explain

    engine = options["engine"]
    if engine not in ("auto", *qkan.engines()):
        raise Unavailable(f"this checkout has no engine {engine!r}: {', '.join(qkan.engines())}")
    dtype = options.get("dtype", case["dtype"])
    layer = qkan.QKANLayer(
        case["in_features"], case["out_features"], ansatz=case["ansatz"], reps=case["reps"],
        encoding=case["encoding"], engine=engine, dtype=getattr(torch, dtype),
    )  # fmt: skip
    state = {name: value for name, value in tensors(arrays, dtype).items() if name != "x"}
    layer.load_state_dict({**state, "mask": layer.mask})
    request = Request(
        layer.program, case["batch"], layer.out_features, layer.in_features, layer.theta.dtype,
        device=torch.device(options.get("device", "cpu")), fixed_scale=layer.fixed_scale,
    )  # fmt: skip
    verdict = explain(request)
    refused = dict(verdict.verdicts).get(engine, "")
    if refused.startswith("refuses"):
        raise Unavailable(f"engine {engine!r} {refused}")
    leaves = dict(layer.named_parameters())
    return Subject(
        layer, list(leaves.values()), layer.theta, lambda: leaf_gradients(leaves), layer,
        {"engine": verdict.engine if engine == "auto" else engine},
    )  # fmt: skip
