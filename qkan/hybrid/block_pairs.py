"""Pairs of a teacher's block and the student's module that learns to replace it.

Nothing is stored: as soon as the teacher has computed a block, the gradient of the student's module
is taken from the block's input and output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.io.hugging_face import resolved

from .blocks import Block, ExpertBank, attribute, find_blocks
from .comparison import counted_rows, relative_error


@dataclass(eq=False)
class BlockPair:
    """A block of the teacher, and the student's module that learns to replace it.

    Attributes:
        name: The block's name.
        reads: The teacher's module whose input is the block's.
        writes: The teacher's module whose output is the block's.
        student: The module that learns.
        old: The function that the teacher's block computes, with the block's own parameters.
        inputs: How many of the arguments of the teacher's module the student's module takes too;
            None for all, as with experts, which also take the router's choice.
        mask: Which tokens of the current batch count, as a flat tensor; None when all do.
        calls: How often the teacher used the block in the current batch.
        error: The sum over the calls of the relative squared error.
    """

    name: str
    reads: nn.Module
    writes: nn.Module
    student: nn.Module
    old: Callable[..., Tensor]
    inputs: int | None = 1
    mask: Tensor | None = None
    calls: int = 0
    error: float | Tensor = 0.0
    _inputs: list[list[Tensor]] = field(default_factory=list)

    def begin(self, mask: Tensor | None) -> None:
        """Get ready for a batch."""
        self.mask, self.calls, self.error = mask, 0, 0.0
        self._inputs.clear()

    def finish(self) -> float:
        """Divide the gradient and the error by the number of calls, and return the mean error."""
        if not self.calls:
            raise QKANError(
                f"distill_ffn: the teacher's forward did not pass through {self.name}, so there is "
                "nothing to learn from; leave it out of names."
            )
        if self.calls > 1:
            for parameter in self.student.parameters():
                if parameter.grad is not None:
                    parameter.grad /= self.calls
        return float(self.error) / self.calls

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Add to the student's gradients at every use of the teacher's block while this lasts."""
        with (
            self.reads.register_forward_pre_hook(self._see_input, with_kwargs=True),
            self.writes.register_forward_hook(self._see_output),
        ):
            yield

    @contextmanager
    def guiding(self, alpha: float) -> Iterator[None]:
        """Make the student's module return alpha·old(x) + (1 - alpha)·new(x) while this lasts."""
        like = next(self.reads.parameters())

        def mix(module: nn.Module, args: Any, kwargs: Any, new: Tensor) -> Tensor:
            given = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)][: self.inputs]
            x, *rest = (value.to(like.device) for value in given)
            old = self.old(x.to(like.dtype), *rest)
            return alpha * old.to(new) + (1 - alpha) * new

        with self.student.register_forward_hook(mix, with_kwargs=True):
            yield

    def _see_input(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._inputs.append(given[: self.inputs])

    def _see_output(self, module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise QKANError(
                f"distill_ffn: {self.name} returns a {type(output).__name__} in the teacher; only "
                "a block that returns a tensor can be distilled."
            )
        like = next(self.student.parameters())
        x, *rest, wanted = (t.detach().to(like.device) for t in (*self._inputs.pop(), output))
        with torch.enable_grad():
            found = self.student(x.to(like.dtype), *rest)
            if not isinstance(found, Tensor) or found.shape != wanted.shape:
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise QKANError(
                    f"distill_ffn: {self.name} maps {tuple(x.shape)} to {tuple(wanted.shape)} in "
                    f"the teacher and to {shape} in the student; apart from the replaced blocks "
                    "they must be the same model."
                )
            error = relative_error(*counted_rows(self.mask, f"{self.name} saw", found, wanted))
            error.backward()
        self.calls += 1
        self.error = self.error + error.detach()


def find_pairs(
    teacher: nn.Module, student: nn.Module, names: Sequence[str] | None
) -> list[BlockPair]:
    """Pair the teacher's blocks with the student's modules of those names.

    Without names, these are the feed-forward blocks whose class differs in the student.
    """
    blocks = {block.name: block for block in find_blocks(teacher)}
    if names is None:
        known = {name: resolved(student, name) for name in blocks}
        names = [
            name
            for name, there in known.items()
            if there and type(student.get_submodule(there)) is not type(blocks[name].slot)
        ]
    names = [names] if isinstance(names, str) else names
    if not names:
        raise QKANError(
            f"distill_ffn: found no replaced block in the {type(student).__name__}: every "
            "feed-forward block has the same class as in the teacher. Call replace_ffn(student, …) "
            "first, or pass names=."
        )
    return [_pair(teacher, student, blocks, name) for name in dict.fromkeys(names)]


def _pair(teacher: nn.Module, student: nn.Module, blocks: dict[str, Block], name: str) -> BlockPair:
    there, here = _found(teacher, "teacher", name), _found(student, "student", name)
    module, own = teacher.get_submodule(there), student.get_submodule(here)
    if own is module:
        raise QKANError(
            f"distill_ffn: teacher and student share the module {name!r}; make the student from a "
            "copy, copy.deepcopy(teacher), and replace there."
        )
    block = blocks.get(there)
    if block is not None and block.kind.slot:
        parts = [attribute(block.module, path) for path in (block.kind.slot, *block.kind.passing)]
        old = functools.partial(_one_by_one, parts)
        return BlockPair(name, module, block.module.get_submodule(block.kind.last), own, old)
    inputs = None if isinstance(block, ExpertBank) else 1
    return BlockPair(name, module, module, own, module, inputs)


def _one_by_one(parts: Sequence[Any], x: Tensor) -> Tensor:
    """The parts of a block that stands in a larger module, one after the other."""
    for part in parts:
        x = part(x)
    return x


def _found(model: nn.Module, who: str, name: str) -> str:
    found = resolved(model, name)
    if found is None:
        raise QKANError(
            f"distill_ffn: the {who}, a {type(model).__name__}, has no module {name!r}; apart from "
            "the replaced blocks, teacher and student must be the same model."
        )
    return found
