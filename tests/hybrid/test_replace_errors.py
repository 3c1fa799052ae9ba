"""`replace_ffn` refuses, and the model is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import transformers
from small_transformers import FAMILIES, Mlp, small
from torch import Tensor, nn

from qkan import HQKAN, replace_ffn
from qkan.errors import QKANError


def quantised(model: nn.Module) -> None:
    weight = torch.zeros(6, 9, dtype=torch.int8)
    model[0].fc2.weight = nn.Parameter(weight, requires_grad=False)


def packed(model: nn.Module) -> None:
    del model[0].fc1.weight
    model[0].fc1.register_buffer("qweight", torch.zeros(2, 9, dtype=torch.int32))


class Wrapped(Tensor):
    """A tensor of another class, as packages for quantisation and sharding use them."""


def wrapped(model: nn.Module) -> None:
    weight = model[1].fc1.weight.detach()
    model[1].fc1.weight = nn.Parameter(torch.Tensor._make_subclass(Wrapped, weight))


def offloaded(model: nn.Module) -> None:
    accelerate.cpu_offload(model[1])


def adapted(model: nn.Module) -> None:
    model[1].fc1.base_layer = nn.Identity()


def tied(model: nn.Module) -> None:
    model[2].weight = model[1].fc1.weight


def tied_blocks(model: nn.Module) -> None:
    model[1].fc1.weight = model[0].fc1.weight


def shared_part(model: nn.Module) -> None:
    model[1].fc2 = model[0].fc2


def shared_buffer(model: nn.Module) -> None:
    model[0].norm = model[1].norm = nn.BatchNorm1d(9, affine=False)


def frozen(model: nn.Module) -> None:
    model[1].requires_grad_(False)


MODELS: dict[str, tuple[Callable[[nn.Module], None], str]] = {
    "quantised": (quantised, r"0\.fc2 is quantised \(Linear, torch\.int8\)"),
    "packed": (packed, r"0\.fc1 is quantised \(Linear, packed\)"),
    "subclass": (wrapped, r"the weight of 1\.fc1 is a Wrapped, which is quantised or distributed"),
    "offloaded": (offloaded, r"the weight of 1\.fc1 is offloaded"),
    "adapter": (adapted, r"1\.fc1 has an adapter"),
    "tied": (tied, r"1\.fc1\.weight is tied to 2\.weight, which is not in the block 1;"),
    "tied-blocks": (tied_blocks, r"0\.fc1\.weight is tied to 1\.fc1\.weight"),
    "shared": (shared_part, r"1 and 0 share a Linear"),
    "buffer": (shared_buffer, r"1 and 0 share a BatchNorm1d"),
    "frozen": (frozen, r"1 is frozen.* pass frozen=True"),
}


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """A model that must come out of the test as it went in."""
    torch.manual_seed(0)
    made = nn.Sequential(Mlp(6, 9), Mlp(6, 9), nn.Linear(6, 9))
    yield made
    assert not any(isinstance(part, HQKAN) for part in made.modules())
    assert [type(part) for part in made] == [Mlp, Mlp, nn.Linear]


@pytest.mark.parametrize("name", MODELS)
def test_models_whose_blocks_cannot_go(name: str, model: nn.Module) -> None:
    spoil, says = MODELS[name]
    spoil(model)
    with pytest.raises(QKANError, match=says):
        replace_ffn(model, small)


def test_a_model_that_a_wrapper_reads_gradients_of(tmp_path: Path) -> None:
    """A reducer knows the parameters it was built with and would leave new ones to themselves."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(nn.Sequential(Mlp(6, 9)))
        for model in (wrapped, nn.ModuleList([wrapped])):
            with pytest.raises(QKANError, match=r"DistributedDataParallel.* wrap it after"):
                replace_ffn(model, small)
    finally:
        torch.distributed.destroy_process_group()


def test_a_frozen_model_on_request() -> None:
    model = nn.Sequential(Mlp(6, 9)).requires_grad_(False)
    replace_ffn(model, small, frozen=True)
    assert all(parameter.requires_grad for parameter in model.parameters())


def second(bad: object) -> Callable[[int], Any]:
    """What makes a proper block first, and then something else."""
    made = iter([small(6), bad])
    return lambda n: next(made)


KEPT = small(6)
MAKES: dict[str, tuple[Callable[[], Callable[[int], Any]], str]] = {
    "none": (lambda: second(None), r"make\(6\) returned a NoneType for 1;"),
    "out": (lambda: second(HQKAN(6, 5)), r"HQKAN at 1 maps \(2, 3, 6\) to \(2, 3, 5\); wanted"),
    "in": (lambda: second(HQKAN(5, 6)), r"HQKAN at 1 does not take .* \(2, 3, 6\).*RuntimeError"),
    "tuple": (lambda: second(nn.LSTM(6, 6)), "LSTM at 1 maps .* to tuple"),
    "twice": (lambda: lambda n: KEPT, "make returned for 1 a module that is in the model"),
    "raises": (lambda: raising, "no more blocks"),
}  # fmt: skip


def raising(n: int) -> nn.Module:
    raise QKANError("no more blocks")


@pytest.mark.parametrize("name", MAKES)
def test_new_modules_that_do_not_fit(name: str, model: nn.Module) -> None:
    make, says = MAKES[name]
    with pytest.raises(QKANError, match=f"(?s){says}"):
        replace_ffn(model, make())


def test_a_module_of_the_model_is_no_new_module(model: nn.Module) -> None:
    with pytest.raises(QKANError, match="for 0 a module that is in the model already"):
        replace_ffn(model, lambda n: model[0])


def test_an_error_half_way_leaves_no_half_of_it() -> None:
    class Stubborn(nn.Sequential):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "1" and isinstance(value, HQKAN):
                raise RuntimeError("not here")
            super().__setattr__(name, value)

    model = Stubborn(Mlp(6, 9), Mlp(6, 9))
    first = model[0]
    with pytest.raises(RuntimeError, match="not here"):
        replace_ffn(model, small)
    assert model[0] is first


def test_a_later_replacement_is_undone_first() -> None:
    model = nn.Sequential(Mlp(6, 9))
    first = replace_ffn(model, small)
    later = replace_ffn(model, small, lambda name, module: isinstance(module, HQKAN))
    with pytest.raises(QKANError, match="holds another module now, a HQKAN"):
        first.undo()
    later.undo()
    first.undo()
    assert type(model[0]) is Mlp


WHERES: dict[str, tuple[Any, str]] = {
    "pattern": ("*.mlp", r"pattern '\*\.mlp' holds for none of the blocks bert\.encoder"),
    "test": (lambda name, module: False, "where holds for none of the blocks bert"),
    "layer": (
        lambda name, module: name == "bert.encoder.layer.1",
        r"layer\.1 \(BertLayer\), which contains more than the .* block .*1\.intermediate",
    ),
    "more": (
        lambda name, module: "layer.0." in name,
        r"layer\.0\.attention \(BertAttention\) as well as for the block .*0\.intermediate",
    ),
    "list": (["bert.encoder.layer.0.intermediate"], r"where is a list; .* name in names"),
    "no-maps": (
        lambda name, module: isinstance(module, nn.LayerNorm), r"LayerNorm\) has no linear map",
    ),
    "many-inputs": (
        lambda name, module: name.endswith("0.output"),
        r"BertOutput at bert\.encoder\.layer\.0\.output does not take a tensor \(2, 3, 24\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHERES)
def test_wheres_that_mean_nothing_or_too_much(name: str) -> None:
    where, says = WHERES[name]
    model = FAMILIES["bert"].build()
    with pytest.raises(QKANError, match=says):
        replace_ffn(model, small, where)
    assert not any(isinstance(part, HQKAN) for part in model.modules())


class Residual(Mlp):
    """Adds what it gets, which two arguments give away; it is not a block on its own."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual + super().forward(x)


class Whole(Mlp):
    """Adds its own input and normalises, which no argument gives away."""

    def __init__(self, width: int, hidden: int, *, before: bool = False, after: bool = False):
        super().__init__(width, hidden)
        self.first = nn.LayerNorm(width) if before else nn.Identity()
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(self.first(x))
        return x + out if self.after else out


class Steered(Mlp):
    """May be told which layer it stands in."""

    def forward(self, x: Tensor, layer: int | None = None, **options: Any) -> Tensor:
        return super().forward(x) * (1 if layer is None else layer)


class TakesAll(nn.Linear):
    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return super().forward(x)


class Scaled(Mlp):
    """Multipliers before and behind the maps are no residual."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.3 * super().forward(2 * x)


class Two(Mlp):
    """Returns its output with something beside it."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), None


class Flat(Mlp):
    """Returns a row a token."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(0, -2)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (Whole(6, 9, after=True), "the Whole at 0 adds or normalises what its last linear map"),
        (Whole(6, 9, before=True), "the Whole at 0 changes its input before its first linear map"),
        (nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 6), nn.LayerNorm(6)), "at 0 adds or norm"),
        (Two(6, 9), r"the Two at 0 returns a tuple for \(2, 3, 6\), and"),
        (Flat(6, 9), r"the Flat at 0 returns \(6, 6\) for \(2, 3, 6\), and"),
        (Steered(6, 9), "the Steered at 0 may also be called with layer, options, .* HQKAN"),
    ],
)
def test_what_a_block_does_besides_is_not_lost(block: nn.Module, says: str) -> None:
    model = nn.Sequential(block)
    with pytest.raises(QKANError, match=says):
        replace_ffn(model, small, lambda name, module: module is block)
    assert model[0] is block


class OtherName(Mlp):
    """Calls itself something else."""

    def forward(this, x: Tensor) -> Tensor:
        return super().forward(x)


def test_what_a_module_calls_itself_is_no_argument() -> None:
    assert [*replace_ffn(nn.Sequential(OtherName(6, 9)), small)] == ["0"]


def test_multipliers_may_go_and_arguments_be_passed_on() -> None:
    model = nn.Sequential(Scaled(6, 9), Steered(6, 9))
    replace_ffn(model, small, "0")
    replace_ffn(model, lambda n: TakesAll(n, n), "1")
    assert model[1](torch.ones(2, 6), layer=3).shape == (2, 6)


class Mixer(nn.Module):
    """Linear maps to n and back, but over the tokens as well."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.out = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x).cumsum(1))


def test_models_without_a_known_block() -> None:
    def wrapped(block: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Sequential(block), nn.Linear(6, 9))

    heads = wrapped(nn.Sequential(nn.Sequential(nn.Linear(6, 9), nn.GELU()), nn.Linear(9, 6)))
    with pytest.raises(QKANError, match=r"no feed-forward block .* Such modules are: 0\.0\."):
        replace_ffn(heads, small)
    # what the message names can be replaced
    assert [*replace_ffn(heads, small, lambda name, module: name == "0.0")] == ["0.0"]
    for other in (Residual(6, 9), Whole(6, 9, after=True, before=True), Mixer()):
        with pytest.raises(QKANError, match=r"Such modules are: none\."):
            replace_ffn(wrapped(other), small)
    with pytest.raises(QKANError, match=r"in a Conv2d.* Such modules are: none\."):
        replace_ffn(nn.Conv2d(3, 3, 1), small)
    with pytest.raises(QKANError, match="the model is a str"):
        replace_ffn("gpt2", small)  # type: ignore[arg-type]


class ChannelsFirst(nn.Module):
    """An HQKAN for features that do not come last."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.block = HQKAN(n, latent=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.mT).mT  # type: ignore[no-any-return]


def test_the_hint_for_blocks_of_convolutions_works() -> None:
    """SqueezeBERT's linear maps are 1×1 convolutions, whose features come before the tokens."""
    config = transformers.SqueezeBertConfig(
        vocab_size=50, hidden_size=16, embedding_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=24,
    )  # fmt: skip
    model = transformers.SqueezeBertModel(config).eval()
    tokens = torch.randint(50, (2, 5))
    before = model(tokens)[0]
    with pytest.raises(
        QKANError, match=r"(?s)Such modules are: .*has 1×1 convolutions, .*set_submodule"
    ):
        replace_ffn(model, HQKAN)
    model.set_submodule("encoder.layers.0.intermediate", ChannelsFirst(16))
    model.set_submodule("encoder.layers.0.output.conv1d", nn.Identity())
    after = model(tokens)[0]
    assert after.shape == before.shape and not torch.equal(after, before)
    after.square().mean().backward()
    found = model.get_submodule("encoder.layers.0.intermediate.block.qkan.layers.0")
    assert found.theta.grad.abs().max() > 0
