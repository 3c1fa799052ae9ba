"""What must hold before anything is replaced; every error names the module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qkan._watch import evaluating
from qkan.errors import QKANError

from ._blocks import Block

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_blocks(model: nn.Module, blocks: Sequence[Block], *, frozen: bool) -> None:
    """Raise `QKANError` unless each of the blocks can leave the model."""
    uses: dict[Tensor, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(prefix=name, recurse=False):
            uses[parameter].append((key, module))
    taken: dict[nn.Module, str] = {}
    for block in blocks:
        for name, linear in block.linears.items():
            _check_weight(name, linear)
        parts = block.parts
        for module in parts:
            if module in taken and _own_tensors(module):
                raise QKANError(
                    f"replace_ffn: {block.name} and {taken[module]} share a "
                    f"{type(module).__name__}; give each its own, then replace."
                )
            taken[module] = block.name
        _check_parameters(block, parts, uses, frozen)


def _own_tensors(module: nn.Module) -> list[Tensor]:
    """The parameters and buffers that a module holds itself; an activation has none."""
    held = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return [*held]


def _check_weight(name: str, linear: nn.Module) -> None:
    if hasattr(linear, "base_layer"):
        raise QKANError(
            f"replace_ffn: {name} has an adapter on it ({type(linear).__name__}), which would be "
            "lost; replace first and add adapters after, or merge them with merge_and_unload()."
        )
    weight = getattr(linear, "weight", None)
    if not isinstance(weight, Tensor) or weight.dtype not in _DTYPES:
        found = weight.dtype if isinstance(weight, Tensor) else "packed"
        raise QKANError(
            f"replace_ffn: {name} is quantised ({type(linear).__name__}, {found}); load the model "
            "in real floats, replace, and quantise what is left."
        )
    if type(weight.data) is not Tensor:
        raise QKANError(
            f"replace_ffn: the weight of {name} is a {type(weight.data).__name__}, quantised or "
            "distributed; replace in a model of ordinary tensors, before it is sharded."
        )
    if weight.is_meta and hasattr(linear, "_hf_hook"):
        raise QKANError(
            f"replace_ffn: the weight of {name} is offloaded; load the model without offloading, "
            "replace, and dispatch it after."
        )


def _check_parameters(
    block: Block,
    parts: Sequence[nn.Module],
    uses: dict[Tensor, list[tuple[str, nn.Module]]],
    frozen: bool,
) -> None:
    own = {p for module in parts for p in module.parameters(recurse=False)}
    for parameter in own:
        outside = [name for name, module in uses[parameter] if module not in parts]
        inside = [name for name, module in uses[parameter] if module in parts]
        if outside:
            raise QKANError(
                f"replace_ffn: {inside[0]} is tied to {outside[0]}, which is not in the block "
                f"{block.name}; give one of them a copy of its own, then replace."
            )
    if not frozen and not any(parameter.requires_grad for parameter in own):
        raise QKANError(
            f"replace_ffn: {block.name} is frozen, all of its parameters have requires_grad=False, "
            "and the new module will be trainable. If only the new modules are to be trained, "
            "pass frozen=True; otherwise unfreeze the model with requires_grad_()."
        )


def check_made(
    model: nn.Module, pairs: Sequence[tuple[Block, nn.Module]], like: Sequence[Tensor]
) -> None:
    """Raise `QKANError` unless each new module is one and fits where its block stood.

    Args:
        model: The model, which has none of them yet.
        pairs: Blocks with their new modules.
        like: A tensor of each block, for device and dtype.
    """
    held: set[object] = {*model.modules(), *model.parameters()}
    for (block, new), tensor in zip(pairs, like, strict=True):
        if not isinstance(new, nn.Module):
            raise QKANError(
                f"replace_ffn: make({block.sizes[0]}) returned a {type(new).__name__} for "
                f"{block.name}; return a torch.nn.Module."
            )
        # an activation without parameters may be everywhere
        parts = {new, *new.parameters()}
        if parts & held:
            raise QKANError(
                f"replace_ffn: make returned for {block.name} what is in the model already, or "
                "what it had returned before; build a new module in each call."
            )
        held |= parts
        new.to(tensor.device, tensor.dtype)
        new.train(block.slot.training)
        if not block.form.known:
            _check_call(block, block.module, f"the {type(block.module).__name__}", tensor)
        _check_call(block, new, f"the new {type(new).__name__}", tensor)


def _check_call(block: Block, module: nn.Module, what: str, like: Tensor) -> None:
    """Raise unless the module maps the block's inputs to its outputs; on "meta" nothing runs."""
    if like.is_meta:
        return
    width, wanted = block.sizes
    x = torch.zeros(2, 3, width, device=like.device, dtype=like.dtype)
    try:
        with evaluating(module), torch.no_grad():
            out = module(x)
    except Exception as error:
        raise QKANError(
            f"replace_ffn: {what} at {block.name} does not take a tensor (2, 3, {width}) of "
            f"{like.dtype}: {type(error).__name__}: {error}"
        ) from error
    found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if found != (2, 3, wanted):
        raise QKANError(
            f"replace_ffn: {what} at {block.name} maps (2, 3, {width}) to {found}; wanted "
            f"(2, 3, {wanted})."
        )
