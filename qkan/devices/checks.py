"""What must be right before anything is submitted: finite parameters and inputs, by name."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN

from .stage import Stage, quantum_layers

_EDGES = ("theta", "scale", "shift", "weight", "base_weight", "mask")


def check_model(model: nn.Module) -> None:
    """Raise unless every parameter and buffer is finite.

    Raises:
        QKANError: No QKANLayer; a NaN or an infinity, named with its layer and edge; a model on
            the meta device.
    """
    layers = quantum_layers(model)
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_meta:
            raise QKANError(
                f"{name} is on the meta device and has no values to measure; load the model's "
                "parameters first."
            )
    for name, layer in layers.items():
        for kind in _EDGES:
            value = getattr(layer, kind)
            if value is not None and not value.isfinite().all():
                raise QKANError(_bad_parameter(name, layer, kind, value))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not value.isfinite().all():
            raise QKANError(f"{name} has a value that is NaN or infinite; {_SUBMITTED}")


_SUBMITTED = "nothing was submitted. Go back to a model from before the training diverged."


def _bad_parameter(name: str, layer: QKANLayer, kind: str, value: Tensor) -> str:
    place = (~value.isfinite()).nonzero()[0].tolist()
    found = value[tuple(place)].item()
    if layer.group is not None and kind in ("theta", "scale", "shift"):
        where = f"group {place[0]}"
    else:
        where = f"the edge of output {place[0]}, input {place[1]}"
    return f"Layer {name}: {kind} of {where} is {found}; {_SUBMITTED}"


def check_input(x: Tensor) -> None:
    """Raise unless x is a finite real tensor.

    Raises:
        QKANError: Another type, or a NaN or an infinity, named with its sample.
    """
    if isinstance(x, Tensor) and x.layout != torch.strided:
        raise QKANError(f"The input has the layout {x.layout}; pass x.to_dense().")
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim == 0:
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"The input is {found}; pass a torch tensor (…, in) of real floats.")
    if not x.shape[-1]:
        raise QKANError(f"The input has the shape {tuple(x.shape)}: no features; pass (…, in).")
    if x.is_meta:
        raise QKANError("The input is on the meta device and has no values; pass its data.")
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise QKANError(
            f"The input of sample {', '.join(map(str, place[:-1])) or 0}, feature {place[-1]} is "
            f"{x[tuple(place)].item()}, {len(bad)} such in all; nothing was submitted. "
            "Clean the data."
        )


def check_stage(stage: Stage, excused: Tensor | None = None) -> None:
    """Raise unless a stage is finite, apart from rows that are `excused`, (n,).

    Raises:
        QKANError: It names the layer, the edge, and for an input the sample.
    """
    for kind in ("theta", "scale", "shift"):
        lost = (~getattr(stage, kind).isfinite()).any(-1).nonzero()
        if len(lost):
            raise QKANError(f"{stage.edge(int(lost[0]))}: {kind} is NaN or infinite; {_SUBMITTED}")
    bad = ~stage.inputs.isfinite()
    if excused is not None:
        bad &= ~excused[:, None]
    if bad.any():
        row, column = bad.nonzero()[0].tolist()
        raise QKANError(
            f"Layer {stage.name}: sample {row} reaches input {column}, and so the edges from it, "
            f"as {stage.inputs[row, column].item()}; no circuit of this layer was submitted. "
            "Look at the layers before it."
        )


def samples_of(model: nn.Module, x: Tensor) -> int:
    """Parts of x without influence on each other: rows for layers alone, else x's first size."""
    alone = isinstance(model, QKAN | QKANLayer)
    return x.shape[:-1].numel() if alone or x.ndim == 1 else x.shape[0]


def sample_of_row(stage: Stage, samples: int) -> Tensor:
    """(n,) the sample that each row of a stage belongs to.

    Raises:
        QKANError: The layer's rows are no multiple of the samples.
    """
    rows = stage.inputs.shape[0]
    if samples and rows % samples:
        raise QKANError(
            f"Layer {stage.name} was called with {rows} rows for {samples} samples, so which row "
            "belongs to which sample is not known; keep samples first and apart in the model."
        )
    return torch.arange(rows, device=stage.inputs.device) // max(rows // max(samples, 1), 1)


def folder_of(store: str | os.PathLike[str] | None) -> Path | None:
    """The folder that `store=` names.

    Raises:
        QKANError: It is no path, or a file.
    """
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike):
        raise QKANError(f"The run's directory is {store!r:.80}; pass its path.")
    folder = Path(store)
    if folder.exists() and not folder.is_dir():
        raise QKANError(
            f"store={str(store)!r} is a file: a run keeps several in a folder of its own. Name one "
            "that does not exist yet, or the folder of the run to go on with."
        )
    return folder
