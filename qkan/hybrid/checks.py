"""Checks before anything is replaced; every error names the module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qkan.errors import QKANError

from .blocks import Block, ExpertBank
from .experts import QKANExperts
from .probe import around, evaluated, extra_arguments

_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel")
"""Classes that remember the parameters that a model had when they were wrapped around it."""

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Uses = dict[Tensor, list[tuple[str, nn.Module]]]
"""From a parameter to its names in the model, each with the module that holds it."""


def check_blocks(model: nn.Module, blocks: Sequence[Block], *, frozen: bool) -> None:
    """Raise `QKANError` unless each of the blocks can leave the model."""
    uses: Uses = defaultdict(list)
    for name, module in model.named_modules():
        check_unwrapped(module, "replace_ffn")
        for key, parameter in module.named_parameters(prefix=name, recurse=False):
            uses[parameter].append((key, module))
    taken: dict[nn.Module, str] = {}
    for block in blocks:
        for name, linear in block.linears.items():
            _check_linear(name, linear)
        if isinstance(block, ExpertBank):
            _check_weight(block.name, block.module, block.weight)
        parts = block.parts
        for module in parts:
            if module in taken and _holds_tensors(module):
                raise QKANError(
                    f"replace_ffn: {block.name} and {taken[module]} share a "
                    f"{type(module).__name__}; give each its own, then replace."
                )
            taken[module] = block.name
        _check_parameters(block, parts, uses, frozen)


def check_unwrapped(module: nn.Module, caller: str) -> None:
    """Raise if a module is a wrapper that distributes the parameters of a model."""
    kind = type(module).__name__
    if kind in _WRAPPERS:
        raise QKANError(
            f"{caller}: a {kind} contains blocks of the model. It knows the parameters that it was "
            "built with and would not average the gradients of new ones over the processes. "
            "Replace in the model first, and wrap it afterwards."
        )


def _holds_tensors(module: nn.Module) -> bool:
    """Whether a module has parameters or buffers of its own; an activation has none."""
    return any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))


def _check_linear(name: str, linear: nn.Module) -> None:
    if hasattr(linear, "base_layer"):
        raise QKANError(
            f"replace_ffn: {name} has an adapter ({type(linear).__name__}), which would be lost; "
            "replace first and add adapters afterwards, or merge them with merge_and_unload()."
        )
    _check_weight(name, linear, getattr(linear, "weight", None))


def _check_weight(name: str, linear: nn.Module, weight: object) -> None:
    if not isinstance(weight, Tensor) or weight.dtype not in _DTYPES:
        found = weight.dtype if isinstance(weight, Tensor) else "packed"
        raise QKANError(
            f"replace_ffn: {name} is quantised ({type(linear).__name__}, {found}); load the model "
            "in a floating-point dtype, replace, and quantise the rest afterwards."
        )
    if type(weight.data) is not Tensor:
        raise QKANError(
            f"replace_ffn: the weight of {name} is a {type(weight.data).__name__}, which is "
            "quantised or distributed; replace in a model of ordinary tensors, before it is "
            "sharded."
        )
    if weight.is_meta and hasattr(linear, "_hf_hook"):
        raise QKANError(
            f"replace_ffn: the weight of {name} is offloaded; load the model without offloading, "
            "replace, and dispatch it afterwards."
        )


def _check_parameters(block: Block, parts: Sequence[nn.Module], uses: Uses, frozen: bool) -> None:
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
            f"replace_ffn: {block.name} is frozen: all of its parameters have requires_grad=False, "
            "but the new module will be trainable. To train only the new modules, pass "
            "frozen=True; otherwise unfreeze the model with requires_grad_()."
        )


def check_new_modules(model: nn.Module, replacements: Sequence[tuple[Block, nn.Module]]) -> None:
    """Raise `QKANError` unless each new module is a module that fits in the place of its block.

    The new modules also get the device, dtype and mode of their blocks.

    Args:
        model: The model, which does not contain the new modules yet.
        replacements: Blocks with their new modules.
    """
    held: set[object] = {*model.modules(), *model.parameters()}
    for block, new in replacements:
        is_bank = isinstance(block, ExpertBank) and isinstance(new, QKANExperts)
        experts = [*new.children()] if is_bank else [new]
        for single in experts:
            held |= _check_is_new(block, single, held)
            single.to(block.weight.device, block.weight.dtype)
        if not is_bank:
            _check_same_task(block, new)
        for single in experts:
            single.train(block.slot.training)
            _check_call(block, single, f"the new {type(single).__name__}")
        new.train(block.slot.training)


def _check_is_new(block: Block, new: object, held: set[object]) -> set[object]:
    """Raise unless make returned a module that is not held already; return it and its parts."""
    if not isinstance(new, nn.Module):
        raise QKANError(
            f"replace_ffn: make({block.sizes[0]}) returned a {type(new).__name__} for "
            f"{block.name}; return a torch.nn.Module."
        )
    # an activation without parameters may be used in several places
    parts = {new, *new.parameters()}
    if parts & held:
        raise QKANError(
            f"replace_ffn: make returned for {block.name} a module that is in the model already, "
            "or that it had returned before; build a new module in each call."
        )
    return parts


def _check_same_task(block: Block, new: nn.Module) -> None:
    """Raise if the old module computes more, or takes more arguments, than the new one would."""
    kind = type(block.module).__name__
    if not block.kind.known:
        _check_call(block, block.module, f"the {kind}")
    if block.kind.slot:
        return
    missing = extra_arguments(block.module, new)
    if missing:
        raise QKANError(
            f"replace_ffn: the {kind} at {block.name} may also be called with "
            f"{', '.join(missing)}, which the forward method of the new {type(new).__name__} does "
            "not take; make a module whose forward method takes and handles these arguments, or "
            "**kwargs."
        )
    more = None if block.weight.is_meta else around(block, block.weight)
    if more is not None:
        raise QKANError(
            f"replace_ffn: the {kind} at {block.name} {more}, and that would be lost. Move it out "
            "of the module, or make a new module that does it too and exchange it by hand."
        )


def _check_call(block: Block, module: nn.Module, what: str) -> None:
    """Raise unless the module maps the block's inputs to its outputs; skip the call on "meta"."""
    like = block.weight
    if like.is_meta:
        return
    width, wanted = block.sizes
    x = torch.zeros(2, 3, width, device=like.device, dtype=like.dtype)
    try:
        out = evaluated(module, x)
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
