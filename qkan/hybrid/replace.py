"""`replace_ffn`: exchange the feed-forward blocks of a model for other modules, all or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from torch import nn

from qkan.errors import QKANError
from qkan.io import hugging_face

from .blocks import Block, find_blocks, left_experts
from .checks import check_blocks, check_new_modules
from .choice import Where, chosen_blocks
from .flops import count_flops, count_parameters
from .swap import Swap

Make = Callable[[int], nn.Module]
"""A function of a block's number of inputs that returns the module that replaces it."""


def ffn_names(model: nn.Module) -> list[str]:
    """Return the names of the blocks that `replace_ffn` exchanges, in the order of the modules.

    Example:
        >>> import torch
        >>> from qkan import ffn_names
        >>> ffn_names(torch.nn.TransformerEncoderLayer(64, 4))
        ['linear1']
    """
    return [block.name for block in find_blocks(model)]


def replace_ffn(
    model: nn.Module, make: Make, where: Where | None = None, *, frozen: bool = False
) -> Replaced:
    """Exchange the feed-forward blocks of a model, in place, for modules that `make` builds.

    Known kinds are the blocks of GPT-2, Llama and similar models with a gate, BERT, ALBERT, ViT,
    OPT, BART, T5, GPT-NeoX, DistilBERT and others in transformers, timm's Mlp, and the layers of
    `torch.nn.TransformerEncoder` and `TransformerDecoder`. With a function as `where`, any other
    module that maps (…, n) to (…, n) can be exchanged. Everything is checked before anything is
    changed. Residuals, norms and dropout outside a block stay; what is inside goes with it.

    Where the block's two linear maps are parts of a larger layer, the new module takes the place
    of the first (BERT: `intermediate`; ALBERT: `ffn`; the encoder layer: `linear1`) and the rest
    of the block becomes the identity. The encoder's fast path, which computes the block from the
    old weights, is switched off. Routed experts that one module holds, as in Mixtral, Qwen-MoE and
    DeepSeek, become a `QKANExperts` with a new module for each; their router stays.

    In a model of transformers, `model.config.qkan` says what was replaced by what, so that
    `save_pretrained` keeps it and `qkan.from_pretrained` builds it again; pass the whole model.
    `param_groups(model, lr)` gives the groups for an optimizer without weight decay on angles.

    Args:
        model: Any module, on any device, of any real dtype; the new modules follow it in both.
        make: A function of a block's number of inputs that returns a new module, such as `HQKAN`.
        where: Which blocks to exchange. None means all. Otherwise a name of `ffn_names`, a pattern
            of names such as "*.h.0.mlp", or a function that is true for the name and module of
            blocks, or of other modules to be replaced.
        frozen: Whether the old blocks may be frozen. The new modules are always trainable.

    Returns:
        The names of the new modules, with the numbers of parameters `before` and `after`, `flops`
        and `undo()`.

    Raises:
        QKANError: There is no block; `where` holds for more than blocks; a linear map is quantised,
            sharded or has an adapter; a weight is tied to another module; a block is frozen; a
            block adds a residual or normalises by itself, returns more than one tensor, or takes
            arguments which the new module does not; the model is inside DistributedDataParallel; a
            new module does not map the block's inputs to its outputs. The message names the module,
            and the model is unchanged.

    Example:
        >>> import torch
        >>> from qkan import HQKAN, replace_ffn
        >>> layer = torch.nn.TransformerEncoderLayer(64, 4, dim_feedforward=256)
        >>> model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> replaced = replace_ffn(model, lambda n: HQKAN(n, latent=16), where="layers.1.*")
        >>> [*replaced], replaced.before, replaced.after
        (['layers.1.linear1'], 33088, 4704)
        >>> replaced.undo()
    """
    if isinstance(make, nn.Module) or not callable(make):
        raise QKANError(
            f"replace_ffn: make is a {type(make).__name__}; pass a function that builds a new "
            "module for each block from the block's number of inputs, such as lambda n: HQKAN(n, "
            "latent=16)."
        )
    blocks = chosen_blocks(model, where)
    check_blocks(model, blocks, frozen=frozen)
    replacements = [(block, block.replacement(make)) for block in blocks]
    check_new_modules(model, replacements)
    left = left_experts(model, [block for block, _ in replacements])
    replaced = Replaced(model, replacements, left=[name for name, _ in left])
    replaced._apply()
    return replaced


class Replaced(Sequence[str]):
    """The result of `replace_ffn`: the names of the new modules, both costs, and `undo`.

    It keeps the old blocks in memory; delete it when you no longer want to put them back.

    Attributes:
        before: Parameters of the blocks that were there.
        after: Parameters of the new modules, where duplicates of another parameter do not count.
        flops: Additions and multiplications for one token, before and after; each block counts
            once. A matrix of n entries counts 2n. An edge of a `QKANLayer` counts 4 for each
            frequency of a fixed encoding, otherwise 6 for each rotation and 4 for each encoding.
            All experts count, also those that a token does not reach.
        left: Names of modules that hold the weights of experts and were not replaced, because their
            kind is not known.
    """

    before: int
    after: int
    flops: tuple[int, int]
    left: list[str]

    def __init__(
        self, model: nn.Module, replacements: list[tuple[Block, nn.Module]], *, left: list[str]
    ) -> None:
        blocks = [block for block, _ in replacements]
        old = {part for block in blocks for part in block.parts}
        new = {part for _, module in replacements for part in module.modules()}
        self.before, self.after = count_parameters(old), count_parameters(new)
        self.flops = (count_flops(old), count_flops(new))
        self.left = left
        self._model = model
        self._recorded = hugging_face.recorded(model)
        self._swap = Swap(model, replacements)
        self._rows = {
            block.name: f"{_described(block.slot)} → {type(module).__name__}"
            for block, module in replacements
        }

    def _apply(self) -> None:
        """Put the new modules into the model and into its configuration, or change nothing."""
        hugging_face.own_config(self._model)
        self._swap.apply()
        try:
            hugging_face.add(self._model, self)
        except BaseException:
            self._swap.undo()
            raise

    def undo(self) -> None:
        """Put the blocks back: the same modules with the same parameters.

        They take the mode, device and dtype that the new modules have by now.

        Raises:
            QKANError: A new module is no longer where it was put, or the blocks are back already.
        """
        if not self._swap.done:
            raise QKANError("undo: these blocks are back in the model already.")
        self._swap.undo()
        hugging_face.remove(self._model, self)
        hugging_face.add(self._model, [name for name in self if name in self._recorded])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """Return the name of a new module, or the names of several."""
        return [*self._rows][index]

    def __len__(self) -> int:
        """Return the number of new modules."""
        return len(self._rows)

    def __repr__(self) -> str:
        head = f"parameters {self.before:,} → {self.after:,}"
        flops = "flops a token {:,} → {:,}".format(*self.flops)
        rows = (f"{name}: {row}" for name, row in self._rows.items())
        left = (f"{name}: experts of another kind, left as they were" for name in self.left)
        return "\n  ".join([f"{len(self)} replaced, {head}, {flops}", *rows, *left])


def _described(old: object) -> str:
    """The class of a module, or the name of a function, that a new module has replaced."""
    return type(old).__name__ if isinstance(old, nn.Module) else getattr(old, "__name__", "?")
