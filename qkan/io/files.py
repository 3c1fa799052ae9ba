"""`save` and `load`: write a model to one safetensors file, and read it in any process.

The file's tensors are the state_dict. One entry of its metadata is JSON with the format, the
version of the package, the kind of model and its `config()`; a circuit is written as its gates.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from qkan._files import write_whole
from qkan._kinds import KINDS, class_of, kind_of
from qkan._options import factory_of
from qkan._version import __version__
from qkan.errors import QKANError
from qkan.nn.watch import unwrapped

FORMAT = 1
"""The format of the files that `save` writes; `load` reads this one and all earlier ones."""

_KEY = "qkan"
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# the exceptions that building from an edited config or assigning edited tensors can raise
_MISFITS = (
    ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model, its options and its circuit to one safetensors file.

    The file is written as a whole or not at all, and an older file of that name is only replaced at
    the end. It contains no code: a circuit of your own is written as its gates. After loading, tied
    parameters are equal but no longer tied, and no parameter is frozen.

    Args:
        model: An instance of one of the classes that `load` reads, not of a subclass, on any
            device, of any dtype.
        path: The file, usually with the ending ".safetensors"; its folder must exist.

    Raises:
        QKANError: The model is of another kind; a parameter is NaN, infinite or on "meta"; a layer
            was replaced or reparametrised; the folder does not exist.

    Example:
        >>> import tempfile
        >>> from qkan import QKAN, load, save
        >>> model = QKAN([2, 5, 1], ansatz="rpz")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, f"{folder}/model.safetensors")
        ...     loaded = load(f"{folder}/model.safetensors")
        >>> loaded.config() == model.config()
        True
    """
    model = unwrapped(model)
    kind = _require_kind(model)
    try:
        described: Any = model
        config = described.config()
        tensors = {name: _copy(name, value) for name, value in model.state_dict().items()}
        # a model that could not be loaded must not be written
        _rebuild(kind, config, tensors)
    except _MISFITS as error:
        raise QKANError(
            f"save: this {kind} could not be loaded again, so it was not written: {error}"
        ) from error
    header = {"format": FORMAT, "version": __version__, "kind": kind, "config": config}
    write_whole(Path(path), to_bytes(tensors, metadata={_KEY: json.dumps(header, allow_nan=False)}))


def load(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Read a model that `save` wrote; its outputs are the same to the last bit.

    Nothing is unpickled and no text is evaluated, so a file from a stranger cannot run code. An
    ansatz of your own need not be registered; if it is, the loaded circuit can also be extended.

    Args:
        path: The file.
        device: The model's device; torch's default device when None.
        dtype: The floating-point dtype of all parameters; as saved when None.

    Returns:
        The model, of the class that was saved, with every parameter trainable.

    Raises:
        QKANError: There is no such file; it is truncated or was written by something else; its
            format is newer; its description does not fit its tensors; a parameter is NaN or
            infinite.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise QKANError(
            f"load: dtype={dtype}; wanted a real floating-point dtype, such as torch.float32."
        )
    factory_of(device, dtype)
    path = Path(path)
    header, tensors = _read(path)
    try:
        model = _rebuild(header["kind"], header["config"], tensors)
    except _MISFITS as error:
        raise QKANError(
            f"{path}: its description and its tensors do not make a {header['kind']}, so the file "
            f"was edited or damaged; take another copy. Found: {error}"
        ) from error
    return model.to(torch.get_default_device() if device is None else device, dtype)


def _require_kind(model: object) -> str:
    kind = kind_of(model)
    if kind is not None:
        return kind
    asked = f"save: a {type(model).__name__} is none of {', '.join(KINDS)}. "
    if not isinstance(model, nn.Module):
        raise QKANError(asked + "Pass the model, save(model, path).")
    hint = "Save its weights with torch.save(model.state_dict(), path)"
    for name, part in model.named_modules():
        if inner := kind_of(part):
            hint += f", or the {inner} inside it with save(model.get_submodule({name!r}), path)"
            break
    raise QKANError(f"{asked}{hint}.")


def _copy(name: str, value: Tensor) -> Tensor:
    if value.is_meta:
        raise QKANError(f"{name} is on the device 'meta' and has no values; use model.to_empty.")
    # safetensors takes neither shared nor strided memory
    return value.detach().to("cpu", copy=True).contiguous()


def _rebuild(kind: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """Build the described model with these tensors themselves, not copies, as its parameters."""
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    # on "meta", initial values draw no random numbers and take no memory
    model: nn.Module = class_of(kind).from_config(config, device="meta")
    model.load_state_dict(tensors, assign=True)
    return model


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _DTYPES:
        raise QKANError(f"{name} is {tensor.dtype}; wanted real floats of 16 to 64 bits.")
    bad = tensor.numel() - int(tensor.isfinite().sum())
    if bad:
        raise QKANError(
            f"{name} has {bad} values of {tensor.numel()} that are NaN or infinite; use a model "
            "from before the training diverged."
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and the tensors of a file; the tensors are copied from the mapped file."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise QKANError(f"load: {path} {found}; pass the file that save wrote.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
            header = _header(path, file.metadata() or {}, names)
            return header, {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError) as error:
        raise QKANError(
            f"load: {path} is not a complete safetensors file ({error}). If it is truncated, copy "
            "it again; if torch.save wrote it, build the model and use load_state_dict."
        ) from error


def _header(path: Path, metadata: dict[str, str], names: list[str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise QKANError(
            f"load: {path} holds tensors ({', '.join(names[:3])}, …) without the description that "
            "save writes. For bare weights build the model and use load_state_dict; for a "
            "checkpoint of qkan 0.2.3 use from_qkan(state_dict, config)."
        )
    try:
        header = json.loads(metadata[_KEY])
    except (ValueError, RecursionError):
        header = None
    kinds = {"format": int, "version": str, "kind": str, "config": dict}
    if not isinstance(header, dict) or any(
        not isinstance(header.get(name), kind) for name, kind in kinds.items()
    ):
        raise QKANError(
            f"load: the description in {path} is not JSON with {', '.join(kinds)}, so the file "
            f"was edited or damaged; take another copy. Found: {metadata[_KEY]:.80}"
        )
    if header["format"] > FORMAT or header["kind"] not in KINDS:
        raise QKANError(
            f"load: {path} holds a {header['kind']} in format {header['format']}, written by "
            f"version {header['version']}. This is version {__version__}, which reads "
            f"{', '.join(KINDS)} up to format {FORMAT}; upgrade with pip install -U qkan-hybrid."
        )
    return header
