"""Checks before anything is submitted, with messages that name values which are not finite."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.layer import QKANLayer

from .layer_circuits import LayerCircuits, quantum_layers, record

_EDGES = ("theta", "scale", "shift", "weight", "base_weight", "mask")
_SUBMITTED = "nothing was submitted. Use a model from before the training diverged."


def checked_circuits(model: nn.Module, x: Tensor, *, idle: bool = False) -> list[LayerCircuits]:
    """Return the circuits of all layer calls of a simulated forward pass; `idle` as in `record`."""
    check_model(model)
    check_input(x)
    calls, _ = record(model, x, idle=idle)
    for circuits in calls:
        check_circuits(circuits)
    return calls


def check_model(model: nn.Module) -> None:
    """Raise unless the model has circuits, is not recurrent, and has finite parameters only."""
    quantum_layers(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase) and hasattr(module, "gates"):
            raise QKANError(
                f"{name or 'The model'} is a {type(module).__name__}, whose circuits depend on "
                "those of the step before, so a device would need a job for every step. Nothing "
                "was submitted; evaluate such a model on a simulator."
            )
        own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for kind, value in own:
            if value.is_meta:
                raise QKANError(
                    f"{name}.{kind}".lstrip(".")
                    + " is on the device 'meta' and has no values to measure; load the model's "
                    "parameters first."
                )
            if value.is_floating_point() and not value.isfinite().all():
                raise QKANError(_bad_value(name, module, kind, value))


def _bad_value(name: str, module: nn.Module, kind: str, value: Tensor) -> str:
    place = (~value.isfinite()).nonzero()[0].tolist()
    activation = isinstance(module, DARUAN)
    known = (*_EDGES, "amplitude") if activation else _EDGES
    if not isinstance(module, QKANLayer | DARUAN) or kind not in known:
        path = f"{name}.{kind}".lstrip(".")
        return f"{path} has a value that is NaN or infinite; {_SUBMITTED}"
    if activation or (module.group is not None and kind in ("theta", "scale", "shift")):
        where = f"group {place[0]}"
    else:
        where = f"the edge of output {place[0]}, input {place[1]}"
    layer = name or type(module).__name__
    return f"Layer {layer}: {kind} of {where} is {value[tuple(place)].item()}; {_SUBMITTED}"


def check_input(x: Tensor) -> None:
    """Raise unless x is a finite real tensor."""
    if isinstance(x, Tensor) and x.layout != torch.strided:
        raise QKANError(f"The input has the layout {x.layout}; pass x.to_dense().")
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim == 0:
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"The input is {found}; pass a torch tensor (…, in) of real floats.")
    if not x.shape[-1]:
        raise QKANError(
            f"The input has the shape {tuple(x.shape)}, without features; pass (…, in)."
        )
    if x.is_meta:
        raise QKANError("The input is on the device 'meta' and has no values; pass its data.")
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise QKANError(
            f"The input of sample {', '.join(map(str, place[:-1])) or 0}, feature {place[-1]} is "
            f"{x[tuple(place)].item()} ({len(bad)} such values in all); nothing was submitted. "
            "Leave such samples out or fill them in."
        )


def check_circuits(circuits: LayerCircuits, excused: Tensor | None = None) -> None:
    """Raise unless the circuits of a layer's call are finite, except in the rows `excused` (n,)."""
    for kind in ("theta", "scale", "shift"):
        lost = (~getattr(circuits, kind).isfinite()).any(-1).nonzero()
        if len(lost):
            edge = circuits.edge(int(lost[0]))
            raise QKANError(f"{edge}: {kind} is NaN or infinite; {_SUBMITTED}")
    bad = ~circuits.inputs.isfinite()
    if excused is not None:
        bad &= ~excused[:, None]
    if bad.any():
        row, column = bad.nonzero()[0].tolist()
        raise QKANError(
            f"Layer {circuits.name}: for sample {row}, input {column} is "
            f"{circuits.inputs[row, column].item()}; no circuit of this layer was submitted. Check "
            "the layers before it."
        )


def folder_of(store: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that `store=` names."""
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike):
        raise QKANError(f"The run's directory was given as {store!r:.80}; pass its path.")
    folder = Path(store)
    if folder.exists() and not folder.is_dir():
        raise QKANError(
            f"store={str(store)!r} is a file: a run keeps several files in a folder of its own. "
            "Name a folder that does not exist yet, or the folder of the run to continue."
        )
    return folder
