"""`save` and `load`: a model in one safetensors file that any process can read.

The file's tensors are the state_dict. One entry of its metadata is JSON with the format, the
version of the package, the kind of model and its `config()`; a circuit stands there as its gates.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from qkan._options import factory_of
from qkan.errors import QKANError
from qkan.hybrid.experts import QKANExperts
from qkan.nn.attention import QKANAttention
from qkan.nn.conv import QKANConv2d
from qkan.nn.hqkan import HQKAN
from qkan.nn.kan import KAN, KANLayer
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import unwrapped
from qkan.tabular.table_model import TableModel

FORMAT = 1
"""Of the files that `save` writes; `load` reads this one and all before."""


KINDS: dict[str, type[Any]] = {
    "QKAN": QKAN, "QKANLayer": QKANLayer, "KAN": KAN, "KANLayer": KANLayer, "HQKAN": HQKAN,
    "QKANConv2d": QKANConv2d, "QKANAttention": QKANAttention, "QKANExperts": QKANExperts,
    "TableModel": TableModel,
}  # fmt: skip
"""The classes that `save` and `load` know. A module class joins here by having `config()`, which
returns JSON values, and a classmethod `from_config(config, **factory)` that builds from them."""

_KEY = "qkan"
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# what building from an edited config or assigning edited tensors can raise
_MISFITS = (
    ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model, its options and its circuit to one safetensors file.

    The file appears whole or not at all, and an older one of that name stays until then. It holds
    no code: a circuit of your own travels as its gates. Tied parameters come back equal, no longer
    tied; which parameters were frozen is not kept.

    Args:
        model: A model of a class in `KINDS`, itself and no subclass, on any device, of any dtype.
        path: Where; the folder must exist. ".safetensors" is the usual ending.

    Raises:
        QKANError: Another kind of model; a parameter that is NaN, infinite or on "meta"; a layer
            that was replaced or reparametrized; no such folder.

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
    from qkan import __version__

    model = unwrapped(model)
    kind = _kind_of(model)
    try:
        described: Any = model
        config = described.config()
        tensors = {name: _copy(name, value) for name, value in model.state_dict().items()}
        # what could not be loaded must not be written
        _rebuild(kind, config, tensors)
    except _MISFITS as error:
        raise QKANError(f"save: this {kind} would not load again: {error}") from error
    header = {"format": FORMAT, "version": __version__, "kind": kind, "config": config}
    write_whole(Path(path), to_bytes(tensors, metadata={_KEY: json.dumps(header, allow_nan=False)}))


def load(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Read a model that `save` wrote; its outputs are the same to the last bit.

    Nothing is unpickled and no text is evaluated, so a file from a stranger runs no code. An ansatz
    of your own need not be registered; where it is, the loaded circuit can also be extended.

    Args:
        path: The file.
        device: Where the model goes; torch's default device when None.
        dtype: Of all parameters, a real float; as saved when None.

    Returns:
        The model, of the class that was saved, with every parameter trainable.

    Raises:
        QKANError: No such file; a file cut short or written by something else; a newer format;
            a description that does not fit the tensors; a parameter that is NaN or infinite.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise QKANError(f"load: dtype={dtype}; a model has real floats, such as torch.float32.")
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


def _kind_of(model: object) -> str:
    kinds: dict[type[Any], str] = {cls: name for name, cls in KINDS.items()}
    if type(model) in kinds:
        return kinds[type(model)]
    asked = f"save: a {type(model).__name__} is none of {', '.join(KINDS)}. "
    if not isinstance(model, nn.Module):
        raise QKANError(asked + "Pass the model, save(model, path).")
    inner = [(name, type(part)) for name, part in model.named_modules() if type(part) in kinds]
    hint = "Save its weights with torch.save(model.state_dict(), path)"
    if inner:
        name, cls = inner[0]
        hint += f", or the {kinds[cls]} inside it with save(model.get_submodule({name!r}), path)"
    raise QKANError(f"{asked}{hint}.")


def _copy(name: str, value: Tensor) -> Tensor:
    if value.is_meta:
        raise QKANError(f"{name} is on the device 'meta' and has no values; use model.to_empty.")
    # safetensors takes neither shared nor strided memory
    return value.detach().to("cpu", copy=True).contiguous()


def _rebuild(kind: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """The model of that description whose parameters are these tensors themselves."""
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    # on "meta" the start draws no random numbers and takes no memory
    model: nn.Module = KINDS[kind].from_config(config, device="meta")
    model.load_state_dict(tensors, assign=True)
    return model


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _DTYPES:
        raise QKANError(f"{name} is {tensor.dtype}; a model has real floats of 16 to 64 bits.")
    bad = tensor.numel() - int(tensor.isfinite().sum())
    if bad:
        raise QKANError(
            f"{name} has {bad} values of {tensor.numel()} that are NaN or infinite; "
            "go back to a model from before the training diverged."
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, in a folder that exists."""
    target = path.resolve()
    if target.is_dir() or not target.parent.is_dir():
        wrong = "is a folder" if target.is_dir() else "is in a folder that does not exist"
        raise QKANError(f"save: {path} {wrong}; pass the name of a file in an existing folder.")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file, the tensors in memory of their own."""
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
            f"load: {path} is no complete safetensors file ({error}). It was cut short, so copy "
            "it again; or torch.save wrote it, so build the model and use load_state_dict."
        ) from error


def _header(path: Path, metadata: dict[str, str], names: list[str]) -> dict[str, Any]:
    from qkan import __version__

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
