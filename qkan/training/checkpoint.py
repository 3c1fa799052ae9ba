"""`Checkpoint`: the file from which a training run resumes exactly."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qkan._files import replacing
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer

_FORMAT = "qkan-fit-1"


class Checkpoint:
    """A file with the state of a `fit` or a `distill_ffn`, which is always replaced as a whole.

    A reader finds the old state or the new one, and never a part of either. The file is read with
    `weights_only=True`, so that no code in it is run.

    Args:
        path: The file.

    Raises:
        QKANError: The path is a folder, or its folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._checked = False
        self._due = 0.0
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise QKANError(f"checkpoint={str(self.path)!r}; wanted a file in an existing folder.")

    @property
    def due(self) -> bool:
        """Whether to write now: at first always, later so that writing takes 5 % of the time."""
        return time.monotonic() >= self._due

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, or None if there is no file."""
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        # a damaged file can raise almost any exception
        except Exception as error:
            raise QKANError(
                f"{self.path} cannot be read: it is truncated or not a checkpoint. Delete it to "
                f"start anew. ({type(error).__name__}: {error})"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise QKANError(
                f"{self.path} is not a checkpoint of this version's fit; name another file."
            )
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Replace the file."""
        begin = time.monotonic()
        content = {"format": _FORMAT, **content}
        if not self._checked:
            _check_readable(content)
            self._checked = True
        with replacing(self.path, self.path.with_name(f"{self.path.name}.tmp")) as file:
            torch.save(content, file)
        now = time.monotonic()
        self._due = now + max(1.0, 20 * (now - begin))

    def compare(self, content: dict[str, Any], arguments: dict[str, str], steps: int) -> None:
        """Raise `QKANError` unless the file's run had these arguments and took at most `steps`."""
        saved, taken = content["arguments"], content["state"]["steps"]
        names = [name for name in arguments if saved.get(name) != arguments[name]]
        if names:
            lines = [f"  {name}: {saved.get(name)} there, {arguments[name]} here" for name in names]
            raise QKANError(
                f"{self.path} belongs to another run:\n" + "\n".join(lines) + "\n"
                "Pass the same arguments, or another path."
            )
        if taken > steps:
            raise QKANError(
                f"steps={steps}, but the run in {self.path} has already taken {taken} steps. Pass "
                "as many or more, or another path."
            )


def describe_model(model: nn.Module) -> str:
    """Identify a model by a digest of its modules, their options and the tensors' shapes."""
    lines = []
    for name, module in model.named_modules():
        lines.append(f"{name} {type(module).__qualname__} {module.extra_repr()}")
        if isinstance(module, QKANLayer):
            lines.append(json.dumps(module.config(), sort_keys=True))
    for name, tensor in model_tensors(model).items():
        trainable = "trainable" if tensor.requires_grad else "fixed"
        lines.append(f"{name} {tuple(tensor.shape)} {tensor.dtype} {trainable}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    count = sum(p.numel() for p in model.parameters())
    return f"{type(model).__qualname__} of {count} parameters, sha256 {digest}"


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, including those that a state_dict leaves out."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def load_tensors(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Copy the values of `model_tensors` into the model, in place."""
    for name, tensor in model_tensors(model).items():
        tensor.copy_(values[name])


def copied(value: Any) -> Any:
    """Copy the state of an optimizer or a scheduler, much faster than `copy.deepcopy`."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (dict, list, tuple):
        items = value.items() if isinstance(value, dict) else value
        return type(value)(map(copied, items))
    plain = isinstance(value, int | float | str | None)
    return value if plain else copy.deepcopy(value)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's global generators that a model on this device uses."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states that `rng_state` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _check_readable(content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
        buffer.seek(0)
        torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:
        raise QKANError(
            "The state of the optimizer or the scheduler cannot be kept in a checkpoint: it holds "
            f"more than tensors and plain values. Leave checkpoint out. ({error})"
        ) from error
