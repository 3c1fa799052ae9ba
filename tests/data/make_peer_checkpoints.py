"""Write checkpoints of the package qkan 0.2.3 with the outputs that it computes from them.

It installs under the same import name as this package, so it needs an environment of its own:

    python -m venv peer
    peer/bin/pip install qkan==0.2.3 matplotlib safetensors
    peer/bin/python tests/data/make_peer_checkpoints.py

`peer_checkpoints.json` has the arguments that qkan knows, with their defaults, and one case a line:
its id and the arguments the model was built with.
`peer_checkpoints.safetensors` has, for each id, the state_dict, inputs `x`, and the outputs: `y` in
float32 as qkan ships, `y64` of the same parameters in float64. `real` ships in bfloat16: there `y`
is what qkan computes when told to use complex64, `shipped` what it does unasked.
"""

from __future__ import annotations

import inspect
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

import qkan

FOLDER = Path(__file__).parent
NETWORK: dict[str, Any] = {"width": [3, 2, 1], "reps": 2}


def cases() -> list[dict[str, Any]]:
    """Every ansatz, preacts, readout and group on two layers; then one option at a time."""
    groups = (-1, 1, 2)
    grid = [
        {**NETWORK, "ansatz": ansatz, "preact_trainable": trained, "fast_measure": fast, "group": g}
        for ansatz, trained, fast, g in itertools.product(
            ("pz_encoding", "rpz_encoding", "real", "px_encoding", "mix"),
            (True, False), (True, False), groups,
        )
        if trained or ansatz != "px_encoding"
    ]  # fmt: skip
    trained = {"postact_weight_trainable": True, "postact_bias_trainable": True}
    full = {**NETWORK, **trained, "preact_trainable": True, "ba_trainable": True}
    layer = {"in_dim": 3, "out_dim": 2}
    return [
        *({**case, **(trained if n % 2 else {})} for n, case in enumerate(grid)),
        {"width": [2, 1]},
        {**full, "p_dim": 2},
        {**full, "p_dim": 2, "group": 2, "ansatz": "rpz"},
        {**full, "fast_measure": False, "reps": 4, "solver": "cutn"},
        {**full, "fast_measure": False, "reps": 4, "solver": "cutn", "ansatz": "real"},
        {**full, "group": 5, "ansatz": "px"},
        {**NETWORK, "preact_init": True},
        {**NETWORK, "preact_init": True, "ansatz": "rpz", "fast_measure": False},
        *({**full, "base_activation": base} for base in ("gelu", "relu", "tanh")),
        layer,
        {**layer, "group": [1, 3], "fast_measure": False},
        {**layer, "group": [2, 3], "preact_trainable": True, "ansatz": "mix"},
    ]


def build(config: dict[str, Any], dtype: torch.dtype, compute: torch.dtype | None) -> nn.Module:
    """The peer's model; `compute` None leaves its choice of precision alone."""
    options = dict(config)
    if isinstance(options.get("group"), list):
        options["group"] = tuple(options["group"])
    made = qkan.QKAN if "width" in options else qkan.QKANLayer
    model = made(**options, p_dtype=dtype)
    for part in model.modules():
        if compute is not None and isinstance(part, qkan.QKANLayer):
            # the argument c_dtype is overruled where the ansatz is "real"
            part.c_dtype = compute
            part._needs_dtype_cast = compute != dtype
    return model


def fill(model: nn.Module, config: dict[str, Any], prune: bool, g: torch.Generator) -> None:
    """Values as after training: random where the peer trains, and its start elsewhere."""
    # arccos needs |scale·x + shift| ≤ 1
    arccos = str(config.get("ansatz")).startswith("px")
    sizes = {
        "preacts_weight": (0.1, 0.2) if arccos else (0.4, 1.0),
        "preacts_bias": (0.1, 0.0) if arccos else (0.5, 0.0),
        "postact_weights": (0.3, 1.0), "postact_bias": (0.3, 0.0), "base_weight": (0.3, 0.0),
    }  # fmt: skip
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=g)
            kind = name.rsplit(".", 1)[-1]
            if kind == "theta":
                value.copy_(noise * 1.5)
            elif kind == "mask":
                value.view(-1)[:1] = 0.0 if prune else 1.0
            elif value.requires_grad:
                size, start = sizes[kind]
                value.copy_(noise * size + start)


def record(config: dict[str, Any], number: int) -> dict[str, Tensor]:
    """State, inputs and outputs of one case."""
    torch.manual_seed(number)
    g = torch.Generator().manual_seed(number)
    plain = build(config, torch.float32, torch.complex64)
    inputs = config.get("in_dim", config.get("width", [0])[0])
    for _ in range(1000):
        fill(plain, config, number % 3 == 1, g)
        x = torch.randn(4, inputs, generator=g).clamp(-1.5, 1.5)
        if is_well_conditioned(plain, x):
            break
    else:
        raise RuntimeError(f"no well conditioned draw of {config}")
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    exact = build(config, torch.float64, torch.complex128)
    models = {"y": plain, "y64": exact}
    if config.get("ansatz") == "real":
        models["shipped"] = build(config, torch.float32, None)
    found = {"x": x}
    for name, model in models.items():
        model.load_state_dict(state)
        found[name] = model(x.to(next(model.parameters()).dtype)).detach()
    return {**state, **found}


def is_well_conditioned(model: nn.Module, x: Tensor) -> bool:
    """Outputs that are finite and vary, no edge near a pole, where |α| - |β| has infinite slope."""
    nearest = [1.0]
    measure = qkan.StateVector.measure_z

    def watch(self: Any, fast_measure: bool = True) -> Tensor:
        nearest.append(float(self.state.detach().abs().min()))
        return measure(self, fast_measure)

    qkan.StateVector.measure_z = watch
    try:
        y = model(x).detach()
    finally:
        qkan.StateVector.measure_z = measure
    return bool(y.isfinite().all()) and float(y.std(0).min()) > 0.01 and min(nearest) > 0.04


def main() -> None:
    assert qkan.__version__ == "0.2.3", qkan.__version__
    tensors, listed = {}, {}
    for number, config in enumerate(cases()):
        for name, value in record(config, number).items():
            tensors[f"{number}/{name}"] = value.contiguous()
        listed[str(number)] = config
    target = FOLDER / "peer_checkpoints.safetensors"
    target.unlink(missing_ok=True)
    target.write_bytes(save(tensors))
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(case)}" for key, case in listed.items())
    (FOLDER / "peer_checkpoints.json").write_text(
        f'{{\n"arguments": {json.dumps(arguments())},\n"cases": {{\n{lines}\n}}\n}}\n'
    )


def arguments() -> dict[str, dict[str, Any]]:
    """The peer's arguments and their defaults, as JSON values, by class."""
    return {
        made.__name__: {
            name: p.default if isinstance(p.default, str | int | float | None) else "required"
            for name, p in inspect.signature(made).parameters.items()
            if p.kind is not p.VAR_KEYWORD and not isinstance(p.default, torch.dtype)
        }
        for made in (qkan.QKAN, qkan.QKANLayer)
    }


if __name__ == "__main__":
    main()
