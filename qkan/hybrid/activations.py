"""`replace_activation`: exchange the activations of a model for trainable ones, all or none."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qkan.circuits import did_you_mean
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.gates import is_gate

from .blocks import Block, BlockKind, ExpertBank, find_blocks, linear_sizes
from .checks import check_unwrapped
from .probe import evaluated
from .replace import Replaced
from .swap import Swap

MakeActivation = Callable[[int | None, Any], nn.Module]
"""A function of the number of features, or None, and the old activation; it returns a new one."""

WhereActivation = str | Callable[[str, Any], bool]
"""A pattern of names, or a function that is true for a name and its activation."""

_NAMES = ("act", "gelu", "nonlinear")
"""Parts of the names of attributes that hold an activation which is a function."""

_OTHERS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.GLU)
"""Classes in torch's module of activations that mix features or halve their number."""

_CALLED = ("gelu", "relu", "silu", "swish", "mish", "activation")
"""Parts of the names of classes of a model's own activations, such as BloomGelu."""

_GROUPS = 8


def replace_activation(
    model: nn.Module,
    make: MakeActivation | None = None,
    *,
    where: WhereActivation | None = None,
) -> Replaced:
    """Exchange the activations of a model, in place, for modules that `make` builds.

    By default each becomes a `DARUAN` with the old activation as its base and an amplitude of 0, so
    that the model's output does not change by a single bit before it is trained.
    `param_groups(model, lr)` gives the angles their own learning rate. An activation is a module
    such as `torch.nn.GELU` or one of transformers' `ACT2FN`, or a function that an attribute holds.
    In a block with a gate, the gate's activation is exchanged. A function that a forward method
    calls directly, such as `F.gelu`, cannot be exchanged.

    In a model of transformers, `model.config.qkan` says what was replaced, so that
    `save_pretrained` keeps it and `qkan.from_pretrained` builds it again; pass the whole model. A
    `torch.nn.TransformerEncoderLayer` no longer takes the fast path that computes its block in one
    kernel.

    Args:
        model: Any module, on any device, of any real dtype; the new modules follow it in both.
        make: A function of the number of features and the old activation that returns the new
            module. The number is the width of the linear maps beside the activation, or None where
            it is not known. The default makes a DARUAN with eight groups, or with one group where
            the number is not known.
        where: Which activations to exchange. None means those of the feed-forward blocks that
            `ffn_names` lists, or all activations of a model without such blocks. Otherwise a name,
            a pattern of names such as "*.h.0.mlp.act", or a function that is true for a name and
            its activation.

    Returns:
        The names of the new modules, with the numbers of parameters `before` and `after`, and
        `undo()`.

    Raises:
        QKANError: There is no activation, or none can be reached in a block; the model is inside
            DistributedDataParallel; a new module changes the shape of its input. The message names
            the module, and the model is unchanged.

    Example:
        >>> import torch
        >>> from qkan import replace_activation
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 64), torch.nn.GELU(), torch.nn.Linear(64, 1))
        >>> replaced = replace_activation(model)
        >>> [*replaced], replaced.before, replaced.after
        (['1'], 0, 48)
        >>> replaced.undo()
    """
    if not isinstance(model, nn.Module):
        raise QKANError(
            f"replace_activation: the model is a {type(model).__name__}, not a torch.nn.Module."
        )
    given: object = make
    if given is DARUAN or isinstance(given, nn.Module) or not (given is None or callable(given)):
        found = "the class DARUAN" if given is DARUAN else f"a {type(given).__name__}"
        raise QKANError(
            f"replace_activation: make is {found} itself; pass a function that "
            "builds a new module for each activation, such as "
            "lambda features, base: DARUAN(features, group=8, base=base)."
        )
    for module in model.modules():
        check_unwrapped(module, "replace_activation")
    places = _chosen(model, where)
    replacements: list[tuple[Block, nn.Module]] = []
    for place in places:
        new = (make or _daruan)(place.features, place.old)
        _check_new(model, place, new, [made for _, made in replacements])
        replacements.append((place, new))
    replaced = Replaced(model, replacements, left=[])
    replaced._apply()
    return replaced


def _daruan(features: int | None, base: Any) -> DARUAN:
    return DARUAN(features, group=1 if features is None else min(_GROUPS, features), base=base)


@dataclass(frozen=True, eq=False)
class Place(Block):
    """An attribute of a module that holds an activation.

    Attributes:
        features: The size of the last axis of its input, or None where it is not known.
        like: A parameter with the device and dtype of its input, or None in a model without any.
    """

    features: int | None = None
    like: Tensor | None = None

    @property
    def old(self) -> Any:
        """The activation that stands there now."""
        return getattr(self.module, self.kind.slot)

    @property
    def slot(self) -> Any:
        """The activation that stands there now."""
        return self.old

    @property
    def weight(self) -> Tensor:
        """A tensor that has the device and dtype of the activation's input."""
        return torch.empty(0) if self.like is None else self.like

    @property
    def parts(self) -> list[nn.Module]:
        """The modules of the old activation."""
        return [*self.old.modules()] if isinstance(self.old, nn.Module) else []


def is_activation(name: str, value: object) -> bool:
    """Whether an attribute of that name holds an activation."""
    if isinstance(value, nn.Module):
        where, called = type(value).__module__, type(value).__name__.lower()
        known = where == "torch.nn.modules.activation" or where == "transformers.activations"
        bare = not value._modules and not value._parameters and not where.startswith("torch.")
        own = bare and any(part in called for part in _CALLED)
        learning = isinstance(value, DARUAN) and not is_gate(value)
        return learning or own or (known and not isinstance(value, _OTHERS))
    return callable(value) and not isinstance(value, type) and any(n in name for n in _NAMES)


def _places_in(owner: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The attributes of a module that hold an activation, without those inside an activation."""
    if isinstance(module, DARUAN) or is_activation("", module):
        return
    for name, value in [*module._modules.items(), *vars(module).items()]:
        if not name.startswith("_") and is_activation(name, value):
            yield owner, module, name


def _block_places(block: Block) -> list[Place]:
    """The activations of a feed-forward block."""
    # where the block is part of a larger layer, the other parts of that layer are left alone
    found = [*_places_in(block.owner, block.module)] if block.kind.slot else []
    for inner, module in block.slot.named_modules():
        path = (block.owner, block.kind.slot, inner)
        found += _places_in(".".join(part for part in path if part), module)
    numbers = tuple(n for n in block.kind.numbers if n[0] == "activation_relu_or_gelu")
    return [
        Place(owner, module, BlockKind((), "", slot=name, numbers=numbers), _width(block),
              block.weight)
        for owner, module, name in found
    ]  # fmt: skip


def _width(block: Block) -> int | None:
    """The features between the linear maps of a block."""
    if isinstance(block, ExpertBank):
        outer = block.sizes[0]
        inner = [size for size in block.weight.shape[1:] if size != outer]
        return inner[0] if inner else outer
    sizes = linear_sizes([*block.linears.values()][-1])
    return None if sizes is None else sizes[0]


def _places(model: nn.Module, blocks: list[Block]) -> list[Place]:
    """All activations of a model, those of its blocks and others, in the order of its modules."""
    known = {place.name: place for block in blocks for place in _block_places(block)}
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    found = []
    for owner, module in model.named_modules():
        for _, _, name in _places_in(owner, module):
            kind = BlockKind((), "", slot=name)
            place = Place(owner, module, kind, _width_before(module, name), like)
            found.append(known.get(place.name, place))
    return found


def _width_before(module: nn.Module, name: str) -> int | None:
    """The outputs of the linear map before an activation in a Sequential."""
    if not isinstance(module, nn.Sequential):
        return None
    features = None
    for key, part in module.named_children():
        if key == name:
            return features
        sizes = linear_sizes(part)
        keeps = sizes is None and isinstance(part, nn.Dropout | nn.LayerNorm | nn.Identity)
        features = features if keeps else None if sizes is None else sizes[1]
    return None


def _chosen(model: nn.Module, where: WhereActivation | None) -> list[Place]:
    blocks = find_blocks(model)
    places = _places(model, blocks)
    if where is None and blocks:
        for block in blocks:
            if not _block_places(block):
                raise QKANError(
                    f"replace_activation: no activation can be reached in {block.name}, a "
                    f"{type(block.module).__name__}: its forward method calls the function "
                    "directly, or it has none. Leave this block out with where=, or write the "
                    "activation as a module."
                )
        names = {place.name for block in blocks for place in _block_places(block)}
        chosen = [place for place in places if place.name in names]
    elif where is None:
        chosen = places
    elif isinstance(where, str):
        chosen = [place for place in places if fnmatch.fnmatchcase(place.name, where)]
    elif callable(where):
        chosen = [place for place in places if where(place.name, place.old)]
    else:
        raise QKANError(
            f"replace_activation: where is a {type(where).__name__}; pass None, a pattern of "
            "names, or a function of a name and an activation."
        )
    if not chosen:
        names_found = [place.name for place in places]
        hint = (
            did_you_mean(where, names_found) if isinstance(where, str) and places
            else f"It has: {', '.join(names_found[:6])}." if places
            else "Write it as a module, such as torch.nn.GELU(), that forward calls."
        )  # fmt: skip
        raise QKANError(
            f"replace_activation: found no such activation in a {type(model).__name__}. {hint}"
        )
    return chosen


def _check_new(model: nn.Module, place: Place, new: object, others: list[nn.Module]) -> None:
    """Raise unless a new activation is a new module that keeps the shape of its input."""
    if not isinstance(new, nn.Module):
        raise QKANError(
            f"replace_activation: make returned a {type(new).__name__} for {place.name}; return a "
            "torch.nn.Module."
        )
    held = {id(p) for module in (model, *others) for p in module.parameters()}
    held -= {id(p) for module in place.parts for p in module.parameters()}
    if any(id(p) in held for p in new.parameters()) or any(new is other for other in others):
        raise QKANError(
            f"replace_activation: make returned for {place.name} a module that is in the model "
            "already, or that it had returned before; build a new module in each call."
        )
    like = place.weight
    new.to(like.device, like.dtype if like.is_floating_point() else None)
    new.train(place.module.training)
    if like.is_meta:
        return
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    x = torch.zeros(3, place.features or 5, device=like.device, dtype=dtype)
    try:
        out = evaluated(new, x)
    except Exception as error:
        raise QKANError(
            f"replace_activation: the new {type(new).__name__} for {place.name} does not take a "
            f"tensor {tuple(x.shape)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(out, Tensor) or out.shape != x.shape:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise QKANError(
            f"replace_activation: the new {type(new).__name__} for {place.name} maps "
            f"{tuple(x.shape)} to {found}; an activation keeps the shape."
        )


def rebuild(model: nn.Module, entries: dict[str, dict[str, Any]]) -> set[nn.Module]:
    """Build the described activations, without values, and put them where their names say.

    Raises:
        LookupError: The model has no activation of one of the names.
    """
    places = {place.name: place for place in _places(model, find_blocks(model))}
    replacements: list[tuple[Block, nn.Module]] = []
    for name, entry in entries.items():
        place = places[name]
        replacements.append((place, DARUAN.from_config(entry["config"], base=place.old)))
    Swap(model, replacements).apply()
    return {new for _, new in replacements}
