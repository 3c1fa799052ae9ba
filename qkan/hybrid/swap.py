"""Exchange modules in a model: either all attributes are set or none, and all can be restored."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from qkan.errors import QKANError

from .blocks import Block, child


class Change(NamedTuple):
    """An attribute of a module, and its new value."""

    holder: nn.Module
    attribute: str
    value: object


class Swap:
    """The exchange of blocks for new modules in one model.

    Args:
        model: The model.
        replacements: Blocks, and the module that takes the place of each.
    """

    def __init__(self, model: nn.Module, replacements: list[tuple[Block, nn.Module]]) -> None:
        self._model, self._replacements = model, replacements
        self._changes = [change for both in replacements for change in _changes(model, *both)]
        self._done: list[tuple[Change, object]] = []
        self._states = [_state(new) for _, new in replacements]

    @property
    def done(self) -> bool:
        """Whether the new modules are in the model."""
        return bool(self._done)

    def apply(self) -> None:
        """Set all attributes; an error restores those that were set before it."""
        try:
            for change in self._changes:
                old = getattr(change.holder, change.attribute)
                _set(*change)
                self._done.append((change, old))
            for block, _ in self._replacements:
                _turn_switches(self._model, block)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Restore all attributes; the blocks get the mode, device and dtype of the new modules."""
        for change, _ in self._done:
            found = getattr(change.holder, change.attribute, None)
            if isinstance(change.value, nn.Module) and found is not change.value:
                raise QKANError(
                    f"undo: .{change.attribute} of a {type(change.holder).__name__} holds another "
                    f"module now, a {type(found).__name__}; undo the later replacement first."
                )
        for change, old in reversed(self._done):
            _set(change.holder, change.attribute, old)
        for (block, new), (mode, numbers) in zip(self._replacements, self._states, strict=True):
            _turn_switches(self._model, block)
            mode_now, numbers_now = _state(new)
            for part in block.parts:
                if mode_now != mode:
                    part.training = mode_now
                if numbers_now != numbers and not block.weight.is_meta:
                    part.to(*numbers_now)
        self._done = []


def _state(module: nn.Module) -> tuple[bool, list[Any]]:
    """A module's mode, and the device and dtype of its numbers, if it has any."""
    like = next((p for p in module.parameters() if p.is_floating_point()), None)
    return module.training, [] if like is None else [like.device, like.dtype]


def _set(holder: nn.Module, name: str, value: object) -> None:
    """Set an attribute, even where a module replaces a function or a function replaces a module."""
    if name in holder._modules and not isinstance(value, nn.Module):
        delattr(holder, name)
    setattr(holder, name, value)


def passed(x: Tensor) -> Tensor:
    """Return x; this replaces a function of a block that was replaced."""
    return x


def _changes(model: nn.Module, block: Block, new: nn.Module) -> list[Change]:
    module, kind = block.module, block.kind
    slots = [_at(module, kind.slot)] if kind.slot else _holders(model, module)
    changes = [Change(holder, name, new) for holder, name in slots]
    for path in kind.passing:
        is_module = child(module, path) is not None
        changes.append(Change(*_at(module, path), nn.Identity() if is_module else passed))
    numbers = (Change(module, name, number) for name, number in kind.numbers)
    return changes + [change for change in numbers if hasattr(module, change.attribute)]


def _holders(model: nn.Module, module: nn.Module) -> list[tuple[nn.Module, str]]:
    """The modules that hold this one, each with the name of its attribute."""
    return [
        (holder, name)
        for holder in model.modules()
        for name, held in holder._modules.items()
        if held is module
    ]


def _at(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    before, _, name = path.rpartition(".")
    return module.get_submodule(before), name


def _turn_switches(model: nn.Module, block: Block) -> None:
    """Switch fast paths around a replaced block off, and on again when the last block is back."""
    switch = block.kind.switch
    if switch is None:
        return
    name, kept = switch.attribute, f"_{switch.attribute}_without_qkan"
    for around in model.modules():
        if not isinstance(around, switch.of) or block.module not in around.modules():
            continue
        layers = [layer for layer in around.modules() if isinstance(layer, block.kind.of)]
        if all(map(block.kind.fits, layers)):
            # the model itself keeps the count, since replacements may be undone in any order
            if hasattr(around, kept):
                setattr(around, name, getattr(around, kept))
                delattr(around, kept)
        elif not hasattr(around, kept):
            setattr(around, kept, getattr(around, name))
            setattr(around, name, False)
