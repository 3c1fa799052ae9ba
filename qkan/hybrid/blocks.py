"""The kinds of feed-forward blocks as data, and the functions that find blocks in a model.

A kind names parts by attribute, so that no library of models is imported. A block that is a module
of its own is exchanged as a whole. Where its linear maps are parts of a larger layer, the new
module takes the place of the first map and the other parts return their input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from .experts import QKANExperts

_SIZES = (("in_features", "out_features"), ("nx", "nf"))
"""The attributes with the sizes of a linear map; the second pair is that of Conv1D."""


class Switch(NamedTuple):
    """An attribute of the modules of one class that contain a block; false while it is replaced."""

    of: type[nn.Module]
    attribute: str


@dataclass(frozen=True)
class BlockKind:
    """How a feed-forward block stands in a module.

    Attributes:
        first: Paths of the linear maps that read the block's input.
        last: Path of the linear map that computes its output.
        slot: Path that the new module takes; "" when the block is the module itself.
        passing: Paths of the other parts of the block, which then return their input.
        numbers: Attributes of the module, where it has them, and the values that they then take.
        switch: An attribute of the modules around this one that is then switched off.
        of: The module's class.
        beside: Attributes that the module must have besides, to tell apart layers that share names.
        known: Whether the arguments of the module's forward method are known, too.
    """

    first: tuple[str, ...]
    last: str
    slot: str = ""
    passing: tuple[str, ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()
    switch: Switch | None = None
    of: type[nn.Module] = nn.Module
    beside: tuple[str, ...] = ()
    known: bool = True

    @property
    def linears(self) -> tuple[str, ...]:
        """Paths of all linear maps of the block."""
        return (*self.first, self.last)

    def fits(self, module: nn.Module) -> bool:
        """Whether the module holds such a block, with as many outputs as inputs."""
        if not isinstance(module, self.of):
            return False
        if any(attribute(module, path) is None for path in (*self.passing, *self.beside)):
            return False
        maps = [linear for path in self.linears if (linear := child(module, path)) is not None]
        sizes = [size for linear in maps if (size := linear_sizes(linear)) is not None]
        if len(sizes) < len(self.linears) or {size[0] for size in sizes[:-1]} != {sizes[-1][1]}:
            return False
        return bool(self.slot) or (_takes_one_tensor(module) and _owns_all(maps, module))


def _encoder_layer(of: type[nn.Module]) -> BlockKind:
    return BlockKind(
        ("linear1",), "linear2", slot="linear1", passing=("activation", "dropout", "linear2"),
        # 0 means neither ReLU nor GELU, for which the fast path would compute the block itself
        numbers=(("activation_relu_or_gelu", 0),),
        switch=Switch(nn.TransformerEncoder, "use_nested_tensor"), of=of,
    )  # fmt: skip


BLOCK_KINDS = (
    BlockKind(("c_fc",), "c_proj"),  # GPT-2, GPT-Neo
    BlockKind(("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    BlockKind(("up_proj",), "down_proj"),  # models without a gate
    BlockKind(("gate_up_proj",), "down_proj"),  # models with both maps in one matrix
    BlockKind(("w1", "w3"), "w2"),  # Llama, the original code
    BlockKind(("fc1",), "fc2"),  # timm's Mlp; ViT, CLIP, Phi
    BlockKind(("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, Falcon
    BlockKind(("fc_in",), "fc_out"),  # GPT-J
    BlockKind(("lin1",), "lin2"),  # DistilBERT
    BlockKind(("Wi",), "Wo"),  # ModernBERT
    BlockKind(("intermediate_dense",), "output_dense"),  # Wav2Vec2, HuBERT, WavLM and others
    BlockKind(("linear_fc1",), "linear_fc2"),  # the vision towers of Qwen's models
    BlockKind(("fc_1", "fc_2"), "proj"),  # litgpt with a gate
    BlockKind(("fc",), "proj"),  # litgpt without a gate
    # x-transformers, with or without a gate and a norm between; it scales what the block returns
    *(
        BlockKind((f"ff.0.{first}",), f"ff.{last}", slot="ff")
        for first in ("0", "proj")
        for last in (2, 3)
    ),
    BlockKind(("wi_0", "wi_1"), "wo"),  # T5 with a gate
    BlockKind(("wi",), "wo"),  # T5 without a gate
    # BLOOM and MPT, whose blocks take the residual as an argument and add it
    BlockKind(
        ("dense_h_to_4h",), "dense_4h_to_h", slot="dense_h_to_4h",
        passing=("gelu_impl", "dense_4h_to_h"),
        # above 1, the block may use the weight of its last map without calling the map
        numbers=(("pretraining_tp", 1),), beside=("hidden_dropout",),
    ),
    BlockKind(
        ("up_proj",), "down_proj", slot="up_proj", passing=("act", "down_proj"),
        beside=("hidden_dropout",),
    ),
    # XLNet and Funnel, which add the residual and normalise; XLNet uses one dropout between the
    # maps and after them, so that it is now applied twice after the block
    BlockKind(
        ("layer_1",), "layer_2", slot="layer_1", passing=("activation_function", "layer_2"),
        beside=("layer_norm", "dropout"),
    ),
    BlockKind(
        ("linear_1",), "linear_2", slot="linear_1",
        passing=("activation_function", "activation_dropout", "linear_2"), beside=("layer_norm",),
    ),
    # BERT, RoBERTa, ELECTRA, MPNet, whose output adds the residual and normalises
    BlockKind(
        ("intermediate.dense",), "output.dense", slot="intermediate", passing=("output.dense",),
    ),
    # ALBERT
    BlockKind(
        ("ffn",), "ffn_output", slot="ffn", passing=("activation", "ffn_output"),
        beside=("full_layer_layer_norm",),
    ),
    # OPT, BART, Whisper
    BlockKind(
        ("fc1",), "fc2", slot="fc1", passing=("activation_fn", "fc2"),
        numbers=(("activation_dropout", 0.0),), beside=("self_attn",),
    ),
    _encoder_layer(nn.TransformerEncoderLayer),
    _encoder_layer(nn.TransformerDecoderLayer),
    BlockKind(("linear1",), "linear2"),
)  # fmt: skip
"""All known kinds, in the order in which they are tried."""


@dataclass(frozen=True, eq=False)
class Block:
    """A feed-forward block in a model.

    Attributes:
        owner: Name of the module that the kind fits.
        module: That module.
        kind: How the block stands in it.
    """

    owner: str
    module: nn.Module
    kind: BlockKind

    @property
    def name(self) -> str:
        """Where the new module will stand."""
        return self._named(self.kind.slot)

    @property
    def slot(self) -> nn.Module:
        """The module that stands there now."""
        return self.module.get_submodule(self.kind.slot)

    @property
    def weight(self) -> Tensor:
        """The first linear map's weight; it has the device and dtype of the block's input."""
        weight = next(iter(self.linears.values())).weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def linears(self) -> dict[str, nn.Module]:
        """The block's linear maps, by their names in the model."""
        return {self._named(path): self.module.get_submodule(path) for path in self.kind.linears}

    @property
    def parts(self) -> list[nn.Module]:
        """The modules that leave the model with the block."""
        passing = (child(self.module, path) for path in self.kind.passing)
        roots = [self.slot, *self.linears.values(), *(p for p in passing if p is not None)]
        return [*dict.fromkeys(inner for root in roots for inner in root.modules())]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many inputs and outputs the block has."""
        maps = [*self.linears.values()]
        first, last = linear_sizes(maps[0]), linear_sizes(maps[-1])
        assert first is not None and last is not None
        return first[0], last[1]

    def replacement(self, make: Callable[[int], nn.Module]) -> nn.Module:
        """The new module that `make` builds for the block's number of inputs."""
        return make(self.sizes[0])

    def _named(self, path: str) -> str:
        return ".".join(name for name in (self.owner, path) if name)


@dataclass(frozen=True, eq=False)
class ExpertBank(Block):
    """Routed experts whose weights one module holds together, as tensors of three dimensions."""

    @property
    def weight(self) -> Tensor:
        """The weights of the experts' last maps."""
        weight = self.module.down_proj
        assert isinstance(weight, Tensor)
        return weight

    @property
    def linears(self) -> dict[str, nn.Module]:
        """An empty dict, since the experts' maps are not modules."""
        return {}

    @property
    def sizes(self) -> tuple[int, int]:
        """How many inputs and outputs an expert has."""
        size = _bank_size(self.module)
        assert size is not None
        return size, size

    def replacement(self, make: Callable[[int], nn.Module]) -> nn.Module:
        """A bank of new modules, one for each expert."""
        each = [make(self.sizes[0]) for _ in range(len(self.weight))]
        wrong = [one for one in each if not isinstance(one, nn.Module)]
        # a result that is not a module is reported as for other blocks
        return wrong[0] if wrong else QKANExperts(each)


_BANK = {"gate_up_proj", "up_proj", "down_proj", "gate_up_proj_bias", "down_proj_bias"}
"""The names of the parameters of a bank of experts in transformers."""


def _bank_size(module: nn.Module) -> int | None:
    """The number of inputs of an expert, or None unless the module is a bank of routed experts."""
    down, count = attribute(module, "down_proj"), attribute(module, "num_experts")
    if not isinstance(down, nn.Parameter) or down.ndim != 3 or len(down) != count:
        return None
    if not {name for name, _ in module.named_parameters()} <= _BANK:
        return None
    called = [*inspect.signature(type(module).forward).parameters][2:]
    if called not in (["top_k_index", "top_k_weights"], ["router_indices", "routing_weights"]):
        return None
    size = getattr(module, "hidden_dim", getattr(module, "hidden_size", None))
    return size if isinstance(size, int) and size in down.shape[1:] else None


def left_experts(model: nn.Module, blocks: Sequence[Block]) -> list[tuple[str, nn.Module]]:
    """Modules that hold the weights of several experts and belong to none of the blocks."""
    gone = {module for block in blocks for module in block.parts}
    return [
        (name, module)
        for name, module in model.named_modules()
        if module not in gone and _holds_experts(module)
    ]


def _holds_experts(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False)]
    count = isinstance(getattr(module, "num_experts", None), int)
    named = "expert" in type(module).__name__.lower()
    return any(p.ndim > 2 and (count or named) for p in own) or (named and bool(own))


def find_blocks(model: nn.Module) -> list[Block]:
    """All blocks of a known kind in the model, in the order of its modules."""
    found: list[Block] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if name and _bank_size(module) is not None:
            found.append(ExpertBank(name, module, BlockKind((), "")))
            inside.update(found[-1].parts)
            continue
        kinds = (kind for kind in BLOCK_KINDS if module not in inside and kind.fits(module))
        kind = next(kinds, None)
        if kind is not None and (name or kind.slot):
            found.append(Block(name, module, kind))
            inside.update(found[-1].parts)
    return found


def block_of(name: str, module: nn.Module) -> Block | None:
    """Any module as a block from its first linear map to its last; None if it has no linear map."""
    maps = [path for path, inner in module.named_modules() if linear_sizes(inner) is not None]
    return Block(name, module, BlockKind((maps[0],), maps[-1], known=False)) if maps else None


def linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """The numbers of inputs and outputs of a linear map of any kind; None for another module."""
    if getattr(module, "weight", getattr(module, "qweight", None)) is None:
        return None
    for names in _SIZES:
        sizes = [getattr(module, name, None) for name in names]
        if all(isinstance(size, int) for size in sizes):
            return sizes[0], sizes[1]  # type: ignore[return-value]
    return None


def attribute(module: nn.Module, path: str) -> object:
    """The object at a path of attributes, or None."""
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def child(module: nn.Module, path: str) -> nn.Module | None:
    """The module at a path of attributes, or None."""
    found = attribute(module, path)
    return found if isinstance(found, nn.Module) else None


def _owns_all(maps: list[nn.Module], module: nn.Module) -> bool:
    """Whether all parameters of a module belong to the given maps."""
    own = {parameter for linear in maps for parameter in linear.parameters()}
    return all(parameter in own for parameter in module.parameters())


def _takes_one_tensor(module: nn.Module) -> bool:
    """Whether the module's forward method needs exactly one argument."""
    needed = [
        parameter
        for parameter in inspect.signature(type(module).forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return len(needed) == 2 and needed[1].kind is not needed[1].KEYWORD_ONLY
