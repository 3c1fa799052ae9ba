"""Write checkpoints of the package qkan 0.2.3 with the outputs that it computes from them.

It installs under the same import name as this package, so it needs an environment of its own:

    python -m venv peer
    peer/bin/pip install qkan==0.2.3 matplotlib safetensors
    peer/bin/python tests/data/make_peer_checkpoints.py

`peer_checkpoints.json` has one case a line: its id and the arguments the model was built with.
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

import qkan
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

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
    arccos = str(config.get("ansatz")).startswith("px")
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=g)
            kind = name.rsplit(".", 1)[-1]
            if kind == "theta":
                value.copy_(noise * 1.5)
            elif kind == "mask":
                value.copy_((torch.rand(value.shape, generator=g) < (0.7 if prune else 2)).float())
            elif value.requires_grad and kind == "preacts_weight":
                value.copy_(noise * 0.1 + 0.2 if arccos else noise * 0.4 + 1)
            elif value.requires_grad:
                value.copy_(noise * (0.1 if arccos else 0.5))


def record(config: dict[str, Any], number: int) -> dict[str, Tensor]:
    """State, inputs and outputs of one case."""
    g = torch.Generator().manual_seed(number)
    plain = build(config, torch.float32, torch.complex64)
    fill(plain, config, number % 3 == 1, g)
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    inputs = config.get("in_dim", config.get("width", [0])[0])
    x = torch.randn(4, inputs, generator=g).clamp(-1.5, 1.5)
    exact = build(config, torch.float64, torch.complex128)
    found = {"x": x}
    for name, model in (("y", plain), ("y64", exact)):
        model.load_state_dict(state)
        found[name] = model(x.to(next(model.parameters()).dtype)).detach()
    if config.get("ansatz") == "real":
        shipped = build(config, torch.float32, None)
        shipped.load_state_dict(state)
        found["shipped"] = shipped(x).detach()
    assert all(value.isfinite().all() for value in found.values()), config
    return {**state, **found}


def main() -> None:
    assert qkan.__version__ == "0.2.3", qkan.__version__
    tensors, listed = {}, {}
    for number, config in enumerate(cases()):
        for name, value in record(config, number).items():
            tensors[f"{number}/{name}"] = value.contiguous()
        listed[str(number)] = config
    save_file(tensors, FOLDER / "peer_checkpoints.safetensors")
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in listed.items())
    (FOLDER / "peer_checkpoints.json").write_text("{\n" + lines + "\n}\n")
    for made in (qkan.QKAN, qkan.QKANLayer):
        print(made.__name__, *list(inspect.signature(made).parameters))


if __name__ == "__main__":
    main()
