"""The blocks that the argument `where` of `replace_ffn` selects."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

from torch import nn

from qkan.errors import QKANError

from .blocks import Block, block_of, find_blocks
from .probe import candidates

Where = str | Callable[[str, nn.Module], bool]
"""A pattern of names, or a function that is true for a name and its module."""


def chosen_blocks(model: nn.Module, where: Where | None) -> list[Block]:
    """The blocks that `where` selects, in the order of the model's modules."""
    if not isinstance(model, nn.Module):
        raise QKANError(
            f"replace_ffn: the model is a {type(model).__name__}, not a torch.nn.Module."
        )
    known = find_blocks(model)
    if where is None:
        chosen = known
    elif isinstance(where, str):
        chosen = [block for block in known if fnmatch.fnmatchcase(block.name, where)]
    elif callable(where):
        chosen = _tested(model, known, where)
    else:
        raise QKANError(
            f"replace_ffn: where is a {type(where).__name__}; pass None for all blocks, a pattern "
            "of their names, or a function of a name and a module. For several names, pass lambda "
            "name, module: name in names."
        )
    if not chosen:
        raise QKANError(_nothing(model, known, where))
    return chosen


def _tested(
    model: nn.Module, known: Sequence[Block], where: Callable[[str, nn.Module], bool]
) -> list[Block]:
    blocks = {block.slot: block for block in known}
    chosen, others, inside = [], [], set[nn.Module]()
    for name, module in model.named_modules():
        if not name or module in inside or not where(name, module):
            continue
        if module in blocks:
            chosen.append(blocks[module])
            inside.update(blocks[module].parts)
        else:
            others.append((name, module))
            inside.update(module.modules())
    if chosen and others:
        name, module = others[0]
        raise QKANError(
            f"replace_ffn: where holds for {name} ({type(module).__name__}) as well as for the "
            f"block {chosen[0].name}; let it hold for blocks only, for instance with a pattern of "
            "their names, or replace the other modules in a separate call."
        )
    return chosen or [_other_block(known, *other) for other in others]


def _other_block(known: Sequence[Block], name: str, module: nn.Module) -> Block:
    """The block that consists of a module which is not a known block."""
    within = [block.name for block in known if block.slot in module.modules()]
    if within:
        raise QKANError(
            f"replace_ffn: where holds for {name} ({type(module).__name__}), which contains more "
            f"than the feed-forward block {within[0]}; let it hold for that block."
        )
    block = block_of(name, module)
    if block is None:
        raise QKANError(
            f"replace_ffn: {name} ({type(module).__name__}) has no linear map, so its number of "
            "inputs is not known; exchange it by hand."
        )
    return block


def _nothing(model: nn.Module, known: Sequence[Block], where: Where | None) -> str:
    """The message for the case that no block is selected."""
    if known:
        rule = f"the pattern {where!r}" if isinstance(where, str) else "where"
        return f"replace_ffn: {rule} holds for none of the blocks {_some([b.name for b in known])}."
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    found = [] if like is None or like.is_meta else candidates(model, like)
    return (
        f"replace_ffn: found no feed-forward block of a known kind in a {type(model).__name__}. "
        "Name one with where=lambda name, module: …, a module that maps (…, n) to (…, n), token by "
        "token, without a residual or a norm of its own. Such modules are: "
        f"{_some(found) or 'none'}." + _about_convolutions(model)
    )


def _about_convolutions(model: nn.Module) -> str:
    """What to do in a model whose linear maps are 1×1 convolutions over the tokens."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv1d) and module.kernel_size == (1,)
    ]
    if not found:
        return ""
    return (
        f" It has 1×1 convolutions, {_some(found)}, which map (b, n, tokens). The features are not "
        "the last axis there, so such a block is exchanged by hand. With model.set_submodule(name, "
        "module), put a module whose forward method returns HQKAN(n)(x.mT).mT in the place of its "
        "first part, and torch.nn.Identity() in the place of its last convolution."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
