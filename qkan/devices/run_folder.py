"""The run's directory, which keeps the model and its inputs for `resume`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from qkan._files import write_whole
from qkan._kinds import kind_of
from qkan.backends import Backend, BackendError, Measurement, Run, Task
from qkan.backends.store import from_bytes, to_bytes
from qkan.errors import QKANError
from qkan.io.files import load, save
from qkan.nn.activation import DARUAN
from qkan.nn.layer import QKANLayer
from qkan.training.checkpoint import model_tensors

_MODEL, _INPUTS, _RUN = "model.safetensors", "inputs.safetensors", "run.json"


def about(model: nn.Module, x: Tensor, mode: str) -> dict[str, Any]:
    """Return what identifies a run: digests of the model and of its inputs, and the mode."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        own = isinstance(module, QKANLayer | DARUAN)
        options = module.config() if own else module.extra_repr()
        digest.update(f"{name} {type(module).__qualname__} {json.dumps(options)}\n".encode())
    for name, tensor in {**model_tensors(model), "x": x}.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # numpy lacks some of torch's dtypes, but it can hold their bytes
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(plain.numpy().tobytes())
    kind = type(model).__qualname__
    return {"model": kind, "inputs": [*x.shape], "digest": digest.hexdigest()[:32], "mode": mode}


def keep(folder: Path, model: nn.Module, x: Tensor, backend: Backend, mode: str) -> None:
    """Write the files that `resume` needs into a run's directory, unless they exist."""
    if (folder / _RUN).exists():
        return
    write_whole(folder / _INPUTS, save_tensors({"x": x.detach().cpu().contiguous()}))
    if kind_of(model) is not None:
        # a base that is a function cannot be saved; `resume` then asks for the model
        with suppress(QKANError):
            save(model, folder / _MODEL)
    run = {"about": about(model, x, mode), "backend": backend.describe()}
    write_whole(folder / _RUN, json.dumps(run, indent=1).encode())


def read(folder: Path) -> tuple[dict[str, Any], Tensor, nn.Module | None]:
    """Return the description of a run, its inputs, and its model if `save` knows its kind."""
    if not (folder / _RUN).is_file():
        found = "has no run.json" if folder.is_dir() else "does not exist"
        raise QKANError(
            f"{folder} {found}; pass the folder of a run, which `qkan submit` names and Python has "
            "as result.path."
        )
    try:
        run = json.loads((folder / _RUN).read_bytes())
        x = load_tensors((folder / _INPUTS).read_bytes())["x"]
        known = {"mode", "model", "inputs", "digest"} <= set(run["about"])
        known = known and {"name", "options"} <= set(run["backend"])
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise QKANError(f"{folder} is not a complete run ({error}); run it again.") from error
    if not known or not isinstance(run["backend"]["options"], dict | None):
        raise QKANError(
            f"{folder / _RUN} was edited or damaged, or a newer version of qkan wrote it; update "
            "qkan, or run the model again in another directory."
        )
    path = folder / _MODEL
    return run, x, load(path) if path.exists() else None


def measure(run: Run, tasks: Sequence[Task], call: int = 0) -> list[Measurement]:
    """Measure tasks at the angles that the run keeps for this call, if it keeps any.

    A process that resumes the run may round differently, with other threads or on another machine,
    but values that were paid for are only found again by equal bits.
    """
    if run.path is None:
        return run.measure(tasks)
    name = f"angles-{call}.npz"
    content = to_bytes({f"arr_{k}": task.angles for k, task in enumerate(tasks)})
    try:
        angles = list(from_bytes(run.keep(name, content), str(run.path / name)).values())
    except BackendError as error:
        raise QKANError(str(error)) from None
    same = len(angles) == len(tasks) and all(
        old.shape == task.angles.shape and np.allclose(old, task.angles, atol=1e-3)
        for old, task in zip(angles, tasks, strict=True)
    )
    if not same:
        raise QKANError(f"{run.path / name} has the angles of another run; use another directory.")
    return run.measure([replace(t, angles=a) for t, a in zip(tasks, angles, strict=True)])
