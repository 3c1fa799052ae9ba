"""This package's layer, with the engine named in the options."""

from __future__ import annotations

from typing import Any

import torch

from .subject import Arrays, Subject, Unavailable, leaf_gradients, tensors


class _Own(torch.nn.Module):
    """A layer as a function of parameters, of which each sample has theta, scale and shift."""

    def __init__(self, state: dict[str, torch.Tensor], **options: Any) -> None:
        super().__init__()
        self.options = options
        for name, tensor in state.items():
            self.register_parameter(name, torch.nn.Parameter(tensor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import qkan

        return qkan.qkan_layer(x, **dict(self.named_parameters()), **self.options)


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
    program, fixed = layer.program, layer.fixed_scale
    if case["own"]:
        layer = _Own(state, program=program, fixed_scale=fixed, engine=engine)
    else:
        layer.load_state_dict({**state, "mask": layer.mask})
    request = Request(
        program, case["batch"], case["out_features"], case["in_features"], layer.theta.dtype,
        device=torch.device(options.get("device", "cpu")), fixed_scale=fixed,
        batched_theta=case["own"],
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
