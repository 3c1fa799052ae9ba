"""Read and write spline KANs in the formats of pykan 0.2.8 and efficient-kan, without either."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.splines import SplineKAN, SplineLayer

_PYKAN_BASES = {"silu": "silu", "identity": "identity", "zero": None}


def pykan_state_dict(kan: SplineKAN) -> dict[str, Tensor]:
    """Return the state_dict of the `kan.MultKAN` of the same widths, grid and degree."""
    state: dict[str, Tensor] = {}
    for n, layer in enumerate(kan.rows):
        i, o = layer.in_features, layer.out_features
        coef = layer.coef.detach()
        ones, zeros = coef.new_ones(o), coef.new_zeros(o)
        base = coef.new_zeros(o, i) if layer.base_weight is None else layer.base_weight.detach()
        state |= {
            f"node_bias_{n}": layer.bias.detach().clone(),
            f"node_scale_{n}": ones,
            f"subnode_bias_{n}": zeros,
            f"subnode_scale_{n}": ones.clone(),
            f"act_fun.{n}.grid": layer.grid.clone(),
            f"act_fun.{n}.coef": coef.transpose(0, 1).contiguous(),
            f"act_fun.{n}.mask": coef.new_ones(i, o),
            f"act_fun.{n}.scale_base": base.T.contiguous(),
            f"act_fun.{n}.scale_sp": coef.new_ones(i, o),
            f"symbolic_fun.{n}.mask": coef.new_zeros(o, i),
            f"symbolic_fun.{n}.affine": coef.new_zeros(o, i, 4),
        }
    return state


def save_pykan(kan: SplineKAN, path: str | Path) -> Path:
    """Write the files of `kan.MultKAN.loadckpt(path)`: path_config.yml, path_state,
    path_cache_data.

    pykan computes in torch's default dtype; set it to float64 before loading to keep all digits.

    Raises:
        QKANError: The layers have different sizes of grids, degrees or base activations.
    """
    rows = kan.rows
    kinds = {(layer.coef.shape[2] - layer.degree, layer.degree, layer.base) for layer in rows}
    if len(kinds) > 1:
        raise QKANError(
            f"save_pykan: the layers have (grid, degree, base) {sorted(kinds, key=str)}, but a "
            "pykan model has the same in all layers."
        )
    grid, degree, base = kinds.pop()
    config: dict[str, Any] = {
        "width": [[width, 0] for width in kan.widths],
        "grid": grid,
        "k": degree,
        "mult_arity": 2,
        "base_fun_name": base or "zero",
        "symbolic_enabled": True,
        "affine_trainable": False,
        "grid_eps": 0.02,
        "grid_range": [-1, 1],
        "sp_trainable": True,
        "sb_trainable": True,
        "state_id": 0,
        "auto_save": False,
        "ckpt_path": "./model",
        "round": 0,
        "device": "cpu",
    }
    for n, layer in enumerate(rows):
        names = [["0"] * layer.in_features for _ in range(layer.out_features)]
        config[f"symbolic.funs_name.{n}"] = names
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # pykan reads YAML, and JSON is YAML
    _beside(path, "_config.yml").write_text(json.dumps(config, indent=1) + "\n")
    torch.save(
        {name: v.cpu() for name, v in pykan_state_dict(kan).items()}, _beside(path, "_state")
    )
    torch.save(None, _beside(path, "_cache_data"))
    return path


def efficient_state_dict(kan: SplineKAN) -> dict[str, Tensor]:
    """Return the state_dict of the efficient-kan `KAN` of the same widths, grid and degree.

    efficient-kan has no biases. Each bias is added to the splines of its node, which add up to 1
    in their domain.

    Raises:
        QKANError: The base activation is another one than silu.
    """
    state: dict[str, Tensor] = {}
    for n, layer in enumerate(kan.rows):
        if layer.base not in ("silu", None):
            raise QKANError(
                f"efficient_state_dict: the base activation is {layer.base!r}, but efficient-kan "
                "has silu only."
            )
        coef = layer.coef.detach()
        base = torch.zeros_like(coef[..., 0]) if layer.base_weight is None else layer.base_weight
        state |= {
            f"layers.{n}.grid": layer.grid.clone(),
            f"layers.{n}.base_weight": base.detach().clone(),
            f"layers.{n}.spline_weight": coef
            + layer.bias.detach()[:, None, None] / layer.in_features,
            f"layers.{n}.spline_scaler": torch.ones_like(coef[..., 0]),
        }
    return state


def read_kan(source: SplineKAN | nn.Module | Mapping[str, Tensor] | str | Path) -> SplineKAN:
    """Return a spline KAN from a pykan model or checkpoint, or an efficient-kan model.

    Args:
        source: A pykan model; the path given to its `saveckpt`; an efficient-kan model; a
            state_dict of either, whose base activation is then taken to be silu; a `SplineKAN`.

    Raises:
        QKANError: The source is of another kind, or has multiplication nodes, symbolic edges, or a
            base activation that is neither silu, identity nor zero.
    """
    if isinstance(source, SplineKAN):
        return source
    if isinstance(source, str | Path):
        return _read_checkpoint(Path(source))
    if isinstance(source, nn.Module):
        name = getattr(source, "base_fun_name", "silu")
        return _from_state(source.state_dict(), name)
    if isinstance(source, Mapping):
        return _from_state(source, "silu")
    raise QKANError(
        f"read_kan: the source is a {type(source).__name__}; pass a pykan model or the path of its "
        "checkpoint, an efficient-kan model, or a state_dict."
    )


def _read_checkpoint(path: Path) -> SplineKAN:
    config, state = _beside(path, "_config.yml"), _beside(path, "_state")
    if not config.exists() or not state.exists():
        raise QKANError(
            f"read_kan: {config} or {state} does not exist; pass the path that was passed to "
            "saveckpt."
        )
    found = re.search(r"^\W*base_fun_name\W*:\W*(\w+)", config.read_text(), re.MULTILINE)
    return _from_state(
        torch.load(state, map_location="cpu", weights_only=True), found[1] if found else "?"
    )


def _from_state(state: Mapping[str, Tensor], base: str) -> SplineKAN:
    if base not in _PYKAN_BASES:
        raise QKANError(
            f"read_kan: the base activation is {base!r}; known are {', '.join(_PYKAN_BASES)}."
        )
    if "act_fun.0.coef" in state:
        build = _pykan_layer
        count = sum(name.endswith(".coef") for name in state)
    elif "layers.0.spline_weight" in state:
        build = _efficient_layer
        count = sum(name.endswith(".spline_weight") for name in state)
    else:
        raise QKANError(
            "read_kan: there is neither act_fun.0.coef nor layers.0.spline_weight among "
            f"{[*state][:5]} …; pass a state_dict of pykan or efficient-kan."
        )
    return SplineKAN([build(state, n, _PYKAN_BASES[base]) for n in range(count)])


def _pykan_layer(state: Mapping[str, Tensor], n: int, base: str | None) -> SplineLayer:
    def part(name: str) -> Tensor:
        return state[f"act_fun.{n}.{name}"].detach()

    if state[f"symbolic_fun.{n}.mask"].any():
        raise QKANError(f"read_kan: layer {n} has symbolic edges; pass a model without them.")
    scale, bias = state[f"node_scale_{n}"].detach(), state[f"node_bias_{n}"].detach()
    inner, offset = state[f"subnode_scale_{n}"].detach(), state[f"subnode_bias_{n}"].detach()
    if len(scale) != len(inner):
        raise QKANError(
            f"read_kan: layer {n} has multiplication nodes, but a QKAN has sums only; pass a model "
            "without them."
        )
    mask = part("mask").T * (scale * inner)[:, None]
    coef = part("coef").transpose(0, 1) * (part("scale_sp").T * mask)[..., None]
    weight = None if base is None else part("scale_base").T * mask
    return SplineLayer(part("grid"), coef, weight, scale * offset + bias, base=base)


def _efficient_layer(state: Mapping[str, Tensor], n: int, base: str | None) -> SplineLayer:
    coef = state[f"layers.{n}.spline_weight"]
    scaler = state.get(f"layers.{n}.spline_scaler")
    coef = coef if scaler is None else coef * scaler[..., None]
    return SplineLayer(state[f"layers.{n}.grid"], coef, state[f"layers.{n}.base_weight"], base=base)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
