"""Find out by a call with a few random tokens what a module does around its linear maps."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from qkan.nn.watch import evaluating

from .blocks import Block, block_of

_NEAR = 0.05
"""A relative difference far above rounding in bfloat16 and far below that of a residual."""


def evaluated(module: nn.Module, x: Tensor) -> Any:
    """What a module returns in evaluation mode."""
    with evaluating(module), torch.no_grad():
        return module(x)


def around(block: Block, like: Tensor) -> str | None:
    """Say what a module does besides its linear maps, which a new module would not do.

    The module's output must be proportional to that of its last linear map, which it is not where a
    residual is added or the sum is normalised; and the first maps must read the module's input.

    Returns:
        A phrase for a message; None if the module does nothing else, or cannot be called like this.
    """
    *first, last = block.linears.values()
    x, doubled, inputs = _tokens(block, like), list[Tensor](), list[Tensor]()

    def double(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        doubled.append(output)
        return 2 * output

    def see(module: nn.Module, args: Any) -> None:
        inputs.append(args[0])

    try:
        with last.register_forward_hook(double):
            twice = evaluated(block.module, x)
        with ExitStack() as hooks:
            for linear in first:
                hooks.enter_context(linear.register_forward_pre_hook(see))
            out = evaluated(block.module, x)
    except Exception:
        # another check asks whether the module can be called at all
        return None
    found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if found != (2, 3, block.sizes[1]):
        article = "" if isinstance(out, Tensor) else "a "
        return f"returns {article}{found} for {tuple(x.shape)}"
    if not doubled:
        return None
    if not _near(twice, 2 * out):
        return "adds or normalises what its last linear map returns"
    if any(seen.numel() == x.numel() and not _in_line(seen, x) for seen in inputs):
        return "changes its input before its first linear map, as a norm does"
    return None


def extra_arguments(module: nn.Module, new: nn.Module) -> list[str]:
    """Arguments after the first that a module's forward method takes and the new one's does not."""
    wanted, taken = (
        [*inspect.signature(function).parameters.values()][1:]
        for function in (type(module).forward, type(new).forward)
    )
    kinds = {argument.kind for argument in taken}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return []
    names = {argument.name for argument in taken[1:]}
    by_place = inspect.Parameter.VAR_POSITIONAL in kinds
    return [
        argument.name
        for argument in wanted[1:]
        if argument.name not in names
        and not (by_place and argument.kind is not argument.KEYWORD_ONLY)
    ]


def candidates(model: nn.Module, like: Tensor) -> list[str]:
    """The innermost modules that map (…, n) to (…, n) token by token, which `where` may name."""
    found: list[str] = []
    for name, module in reversed([*model.named_modules()]):
        block = block_of(name, module) if name else None
        if block is None or block.sizes[0] != block.sizes[1] or len(block.linears) < 2:
            continue
        inside = any(other.startswith(name + ".") for other in found)
        if not inside and around(block, like) is None and _by_token(block, like):
            found.append(name)
    return found[::-1]


def _by_token(block: Block, like: Tensor) -> bool:
    """Whether the module maps each token of its input independently of the others."""
    x = _tokens(block, like)
    try:
        out, part = evaluated(block.module, x), evaluated(block.module, x[:, 1:])
    except Exception:
        return False
    alike = isinstance(out, Tensor) and isinstance(part, Tensor) and out.shape == x.shape
    return alike and part.shape == x[:, 1:].shape and _near(part, out[:, 1:])


def _tokens(block: Block, like: Tensor) -> Tensor:
    """(2, 3, n) random tokens, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, block.sizes[0], generator=generator).to(like)


def _near(found: Tensor, wanted: Tensor) -> bool:
    difference, size = (t.detach().double().norm() for t in (found - wanted, wanted))
    return bool(difference <= _NEAR * size)


def _in_line(found: Tensor, x: Tensor) -> bool:
    """Whether a tensor is a multiple of another one."""
    one, other = (t.detach().double().flatten() for t in (found, x))
    return _near(one, (one @ other) / (other @ other) * other)
