"""`to_onnx`: write a trained model to an ONNX file of plain operators."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan._files import write_whole
from qkan.circuits import require
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import unwrapped

from .fold import fold

_LARGEST_FILE = 2**31 - 2**20
"""The most bytes of parameters in one file, since protobuf limits files to 2 GiB."""


def to_onnx(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    path: str | os.PathLike[str],
    *,
    dynamic: Sequence[int] = (0,),
) -> None:
    """Write a model to an ONNX file of standard operators, which any runtime can execute.

    A layer with fixed integer scales is folded first and becomes a few operators (`fold`). Any
    other layer is written as the rotations of the Bloch vector on every edge, and a `DARUAN` as its
    base and its waves. The model is exported in evaluation mode and is not changed. The file is
    written as a whole or not at all; parameters of more than 2 GB go to a second file beside it.

    Args:
        model: A module that maps tensors to tensors. For a transformers model, set
            `model.config.use_cache = False`, since its cache is not a tensor.
        example: The arguments for a call of the model: a tensor, or a tuple of tensors.
        path: The file, usually with the ending ".onnx".
        dynamic: Dimensions of the inputs that may have any size, such as (0, 1) for a batch of
            sequences.

    Raises:
        ImportError: The exporter's packages are not installed; the message says how to install
            them.
        QKANError: An example is not a tensor, or lacks a dimension that `dynamic` names; the folder
            of the path does not exist; an output is not a tensor, such as a cache.
    """
    require("onnxscript", "onnx")
    target = Path(path)
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise QKANError(f"to_onnx: {target} is not a file in an existing folder; pass such a path.")
    examples = example if isinstance(example, tuple) else (example,)
    sizes = tuple(_dynamic(value, dynamic) for value in examples)
    # the exporter would fix the size of a dimension of size 1
    wide = tuple(_widened(value, dynamic) for value in examples)
    ready = _plain(unwrapped(model))
    _check_output(ready, wide)
    with warnings.catch_warnings():
        # torch's exporter uses a class that torch has deprecated
        warnings.filterwarnings("ignore", "`isinstance.treespec", FutureWarning)
        program = torch.onnx.export(
            ready, wide, dynamo=True, dynamic_shapes=sizes, output_names=["y"], verbose=False
        )
    assert program is not None
    size = sum(tensor.nbytes for tensor in ready.state_dict().values())
    if size < _LARGEST_FILE:
        write_whole(target, program.model_proto.SerializeToString())
    else:
        program.save(target, external_data=True)


def _plain(model: nn.Module) -> nn.Module:
    """Return a copy for inference whose layers can be exported to plain operators."""
    kinds = (QKANLayer, DARUAN)
    layers = any(isinstance(part, kinds) for part in model.modules())
    ready = fold(model, strict=False) if layers else copy.deepcopy(model).eval()
    for part in ready.modules():
        if isinstance(part, kinds):
            part.engine = "auto"
    return ready


@torch.no_grad()
def _check_output(model: nn.Module, examples: tuple[Tensor, ...]) -> None:
    """Raise `QKANError` if a call returns something that is not a tensor."""
    out = model(*examples)
    wrong = [f"{name or 'the output'} is a {kind}" for name, kind in _no_tensors("", out)]
    if wrong:
        raise QKANError(
            f"to_onnx: the {type(model).__name__} returns more than tensors: {', '.join(wrong)}. "
            "Switch that off, with model.config.use_cache = False for the cache of a transformers "
            "model; or export a module around the model whose forward method returns the tensor "
            "that you need, such as model(x, use_cache=False).logits."
        )


def _no_tensors(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield name and class of all parts of an output that are not tensors."""
    if isinstance(value, Mapping):
        for key, held in value.items():
            yield from _no_tensors(f"{name}.{key}".lstrip("."), held)
    elif isinstance(value, tuple | list):
        for number, held in enumerate(value):
            yield from _no_tensors(f"{name}[{number}]", held)
    elif value is not None and not isinstance(value, Tensor):
        yield name, type(value).__name__


def _dynamic(value: Tensor, dims: Sequence[int]) -> dict[int, torch.export.Dim]:
    if not isinstance(value, Tensor):
        raise QKANError(f"to_onnx: the example is {type(value).__name__}; pass tensors.")
    if not all(0 <= dim < value.ndim for dim in dims):
        raise QKANError(
            f"to_onnx: dynamic={tuple(dims)}, but an example has the shape {tuple(value.shape)}; "
            "name dimensions that it has."
        )
    return dict.fromkeys(dims, torch.export.Dim.DYNAMIC)


def _widened(value: Tensor, dims: Sequence[int]) -> Tensor:
    for dim in dims:
        value = torch.cat([value, value], dim) if value.shape[dim] == 1 else value
    return value
