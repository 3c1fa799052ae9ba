"""`replace_ffn`: the right place in every family, all or nothing, and back again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import assert_close
from small_transformers import FAMILIES, Mlp, SameBlock, linear_maps, small
from torch import Tensor, nn

from qkan import HQKAN, QKANLayer, Replaced, ffn_names, param_groups, replace_ffn
from qkan.errors import QKANError


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_that_computes_the_same_changes_nothing(name: str) -> None:
    """So a new module gets the block's input, and its output goes where the block's went."""
    family = FAMILIES[name]
    model, inputs = family.build(), family.inputs()
    wanted = model(**inputs)[0]
    maps = [[copy.deepcopy(model.get_submodule(m)) for m in row] for row in linear_maps(model)]
    blocks = iter([SameBlock(family, row) for row in maps])
    assert [*replace_ffn(model, lambda n: next(blocks))] == [*family.blocks]
    assert next(blocks, None) is None
    assert_close(model(**inputs)[0], wanted, name, 1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_replaced_trained_and_undone(name: str) -> None:
    family = FAMILIES[name]
    model, inputs = family.build(), family.inputs()
    before, state = model(**inputs)[0], model.state_dict()
    replaced = replace_ffn(model, small)
    assert [*replaced] == [*family.blocks] == [replaced[i] for i in range(len(replaced))]
    assert all(type(model.get_submodule(block)) is HQKAN for block in replaced)
    kept = sum(p.numel() for p in model.parameters()) - replaced.after
    assert replaced.before == sum(p.numel() for p in family.build().parameters()) - kept
    assert replaced.flops[0] > replaced.flops[1] > 0
    assert not torch.equal(model(**inputs)[0], before)
    model.train()
    model(**inputs)[0].square().mean().backward()
    new = [p for block in replaced for p in model.get_submodule(block).parameters()]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in new)
    replaced.undo()
    assert torch.equal(model.eval()(**inputs)[0], before)
    after = model.state_dict()
    assert [*after] == [*state] and all(after[k].data_ptr() == state[k].data_ptr() for k in state)
    assert not hasattr(model.config, "qkan")
    with pytest.raises(QKANError, match="back in the model already"):
        replaced.undo()


def test_what_it_says() -> None:
    model = FAMILIES["gpt2"].build()
    replaced = replace_ffn(model, small)
    # two matrices of 16·24, and their biases; Linear 16→3, 9 edges of 10, a bias, Linear 3→16
    assert (replaced.before, replaced.after) == (1616, 2 * (51 + 93 + 64))
    # 2 a matrix entry; 9 edges with 3 frequencies and a base
    assert replaced.flops == (2 * 4 * 16 * 24, 2 * (2 * 2 * 48 + 9 * (4 * 3 + 2)))
    assert repr(replaced).splitlines()[1] == "  transformer.h.0.mlp: GPT2MLP → HQKAN"
    assert repr(replaced).startswith("2 replaced, parameters 1,616 → 416, flops a token 3,072 → ")
    assert isinstance(replaced, Replaced) and replaced[-1:] == ["transformer.h.1.mlp"]


def test_flops_of_trained_scales_and_groups() -> None:
    def flops(**options: Any) -> int:
        model = nn.ModuleDict({"ffn": Mlp(4, 8)})
        return replace_ffn(model, lambda n: QKANLayer(n, n, base=None, **options)).flops[1]

    # pz at r = 3 has 8 rotations, 3 of them with x; one 16-edge product in any case
    assert flops() == 16 * (6 * 8 + 4 * 3) + 2 * 16
    assert flops(group=2) == 4 * (6 * 8 + 4 * 3) + 2 * 16
    assert flops(group=2, encoding="linear") == 4 * (4 * 3) + 2 * 16


class TestWhere:
    @pytest.mark.parametrize(
        ("where", "layers"),
        [
            ("bert.encoder.layer.1.*", [1]),
            ("*.intermediate", [0, 1]),
            (lambda name, module: type(module).__name__ == "BertIntermediate", [0, 1]),
            (lambda name, module: name.endswith("0.intermediate"), [0]),
        ],
    )
    def test_some_blocks(self, where: Any, layers: list[int]) -> None:
        names = [FAMILIES["bert"].blocks[layer] for layer in layers]
        assert [*replace_ffn(FAMILIES["bert"].build(), small, where)] == names

    def test_one_layer_at_a_time(self) -> None:
        model, inputs = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].inputs()
        outputs, steps = [model(**inputs)[0]], []
        for name in ffn_names(model):
            steps.append(replace_ffn(model, small, name))
            outputs.append(model(**inputs)[0])
        assert [*model.config.qkan["modules"]] == [*FAMILIES["gpt2"].blocks]
        # in any order
        steps[0].undo()
        assert [*model.config.qkan["modules"]] == [FAMILIES["gpt2"].blocks[1]]
        steps[1].undo()
        assert torch.equal(model(**inputs)[0], outputs[0])
        assert not torch.equal(outputs[1], outputs[2])

    def test_any_module_by_a_test_of_its_own(self) -> None:
        body = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Dropout(), nn.Linear(9, 6))
        model = nn.Sequential(nn.Linear(2, 6), body, nn.BatchNorm1d(6)).train()
        x = torch.randn(4, 2)
        replaced = replace_ffn(model, small, lambda name, module: module is body)
        assert [*replaced] == ["1"] and model(x).shape == (4, 6)
        # asking the block for its shapes left its mode alone
        assert all(part.training for part in body.modules())
        replaced.undo()
        assert model[1] is body

    def test_one_linear_map(self) -> None:
        model = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
        replaced = replace_ffn(model, lambda n: HQKAN(n, 3), lambda name, module: name == "0")
        assert replaced.before == 18 and model(torch.ones(2, 5)).shape == (2, 3)

    def test_a_block_used_in_two_places_stays_one(self) -> None:
        mlp = Mlp(6, 9)
        model = nn.Sequential(nn.Sequential(mlp), nn.Sequential(nn.Tanh(), mlp))
        replaced = replace_ffn(model, small)
        assert [*replaced] == ["0.0"] and model[0][0] is model[1][1] is not mlp
        replaced.undo()
        assert model[0][0] is model[1][1] is mlp


def test_blocks_may_share_what_holds_no_numbers() -> None:
    """An activation, a dropout, a chain of both; the block that stays goes on using them."""
    act, drop = nn.Sequential(nn.GELU(), nn.Identity()), nn.Dropout(0.1)
    blocks = [Mlp(6, 9) for _ in range(3)]
    for block in blocks:
        block.act, block.drop = act, drop
    model, x = nn.Sequential(*blocks).eval(), torch.randn(4, 6)
    before = model(x)
    some, rest = replace_ffn(model, small, "[01]"), replace_ffn(model, small, "2")
    assert [*some, *rest] == ["0", "1", "2"]
    rest.undo()
    kept = model[2]
    assert kept.act is act and torch.equal(model(x), kept(model[1](model[0](x))))
    some.undo()
    assert torch.equal(model(x), before)


def test_layers_may_share_their_activation() -> None:
    act = nn.GELU()
    layers = [nn.TransformerEncoderLayer(8, 2, 12, activation=act) for _ in range(2)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(3, 2, 8)
    before = model(x)
    replaced = replace_ffn(model, small, "0.*")
    assert layers[1].activation is act and not torch.equal(model(x), before)
    replaced.undo()
    assert layers[0].activation is act and torch.equal(model(x), before)


def test_device_dtype_and_mode_are_the_blocks() -> None:
    model = nn.Sequential(Mlp(6, 9).double().eval())
    replace_ffn(model, small)
    assert not model[0].training and model(torch.ones(2, 6).double()).dtype == torch.float64
    with torch.device("meta"):
        model = nn.Sequential(Mlp(6, 9))
    replace_ffn(model, small)
    assert all(p.is_meta for p in model.parameters())


def test_the_new_module_reads_what_the_first_map_read() -> None:
    """The last map may stay in float32 where the others are halves, as that of T5 does."""
    block = Mlp(6, 9).bfloat16()
    block.fc2.float()
    model = nn.Sequential(block)
    replace_ffn(model, small)
    assert model(torch.ones(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["gpt2", "bert", "opt"])
def test_blocks_that_are_back_have_followed_the_model(name: str) -> None:
    model, inputs = FAMILIES[name].build().train(), FAMILIES[name].inputs()
    replaced = replace_ffn(model, small)
    model.eval().double()
    replaced.undo()
    assert not any(part.training for part in model.modules())
    assert torch.equal(model(**inputs)[0], FAMILIES[name].build().double()(**inputs)[0])


def test_blocks_of_another_mode_or_dtype_than_the_model_are_back_as_they_were() -> None:
    block = Mlp(6, 9).bfloat16()
    block.fc2.float()
    model = nn.Sequential(block)
    block.drop.eval()
    replace_ffn(model, small).undo()
    assert block.training and not block.drop.training and block.fc2.weight.dtype == torch.float32


def test_no_weight_decay_on_the_angles_of_a_replaced_model() -> None:
    model = FAMILIES["bert"].build()
    replaced = replace_ffn(model, lambda n: HQKAN(n, latent=3, encoding="trainable"))
    spared = {id(p) for p in param_groups(model, lr=1e-3)[1]["params"]}
    for name in replaced:
        layer = model.get_submodule(name).qkan.layers[0]
        assert {id(layer.theta), id(layer.scale), id(layer.shift)} <= spared
        assert id(layer.weight) not in spared


ENCODERS: dict[str, dict[str, Any]] = {
    "fast-path": {},
    "gelu-first": {"activation": "gelu", "norm_first": True},
    "module-activation": {"activation": nn.GELU()},
    "seconds-first": {"batch_first": False},
}


# torch's own fast path builds a nested tensor and warns of it
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
class TestTorchsEncoder:
    def build(self, name: str) -> tuple[nn.TransformerEncoder, Tensor, Tensor | None]:
        torch.manual_seed(0)
        options = {"dim_feedforward": 24, "batch_first": True, **ENCODERS[name]}
        nested = name in ("fast-path", "module-activation")
        layer = nn.TransformerEncoderLayer(16, 2, **options)
        model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=nested).eval()
        assert model.use_nested_tensor == nested
        padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
        return model, torch.randn(2, 5, 16), padding if options["batch_first"] else None

    @pytest.mark.parametrize("name", ENCODERS)
    @torch.no_grad()
    def test_a_block_that_computes_the_same_changes_nothing(self, name: str) -> None:
        model, x, padding = self.build(name)
        act = model.layers[0].activation
        with slow_path():
            wanted = model(x, src_key_padding_mask=padding)

        def same(first: nn.Linear, last: nn.Linear) -> nn.Module:
            return nn.Sequential(copy.deepcopy(first), Function(act), copy.deepcopy(last))

        new = iter([same(layer.linear1, layer.linear2) for layer in model.layers])
        assert [*replace_ffn(model, lambda n: next(new))] == [
            f"layers.{layer}.linear1" for layer in range(3)
        ]
        assert_close(model(x, src_key_padding_mask=padding), wanted, name, 1e-6)

    @pytest.mark.parametrize("name", ENCODERS)
    def test_some_layers_without_gradients_as_with_them(self, name: str) -> None:
        """The fast path, which takes the old weights, is for evaluation without gradients."""
        model, x, padding = self.build(name)
        with torch.no_grad():
            before = model(x, src_key_padding_mask=padding)
        first = replace_ffn(model, small, "layers.[12].*")
        second = replace_ffn(model, small, "layers.0.*")
        with_gradients = model(x, src_key_padding_mask=padding)
        with torch.no_grad():
            assert torch.equal(model(x, src_key_padding_mask=padding), with_gradients)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x, src_key_padding_mask=padding), with_gradients)
        model.train()(x, src_key_padding_mask=padding).sum().backward()
        assert all(p.grad is not None for p in model.layers[1].linear1.parameters())
        first.undo()
        assert not model.use_nested_tensor
        second.undo()
        with torch.no_grad():
            assert torch.equal(model.eval()(x, src_key_padding_mask=padding), before)

    def test_dropout_inside_the_block_goes_with_it(self) -> None:
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.5).train()
        replace_ffn(layer, small)
        layer.dropout1.p = layer.dropout2.p = layer.self_attn.dropout = 0.0
        x = torch.randn(3, 2, 16)
        assert torch.equal(layer(x), layer(x))

    def test_encoder_and_decoder(self) -> None:
        model = nn.Transformer(16, 2, 1, 1, 24, batch_first=True)
        replaced = replace_ffn(model, small)
        assert [*replaced] == ["encoder.layers.0.linear1", "decoder.layers.0.linear1"]
        assert model(torch.randn(2, 3, 16), torch.randn(2, 4, 16)).shape == (2, 4, 16)


class Function(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class slow_path:
    """Layers of torch compute step by step, and padded outputs are numbers, not zeros."""

    def __enter__(self) -> None:
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.backends.mha.set_fastpath_enabled(True)


class Gated(nn.Module):
    """Two halves of one map, the one under an activation times the other."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj, self.act = nn.Linear(width, 2 * hidden), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * self.act(gate)


class Nested(nn.Module):
    """The block of x-transformers 2.31, which may be given what it multiplies its output by."""

    def __init__(self, gate: bool, norm: bool, dropout: bool) -> None:
        super().__init__()
        plain = nn.Sequential(nn.Linear(16, 24), nn.GELU())
        parts = [Gated(16, 24) if gate else plain, norm and nn.LayerNorm(24), nn.Dropout(0.1)]
        parts += [nn.Linear(24, 16), dropout and nn.Dropout(0.1)]
        self.ff = nn.Sequential(*(part for part in parts if part))

    def forward(self, x: Tensor, deep_embed: Tensor | None = None) -> Tensor:
        out: Tensor = self.ff(x)
        return out if deep_embed is None else out * deep_embed


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_blocks_of_x_transformers(gate: bool, norm: bool, dropout: bool) -> None:
    layers = nn.ModuleList([nn.ModuleList([nn.LayerNorm(16), Nested(gate, norm, dropout)])]).eval()
    x, by = torch.randn(2, 3, 16), torch.randn(2, 3, 16)
    before = layers[0][1](x, by)
    replaced = replace_ffn(layers, small)
    assert [*replaced] == ["0.1.ff"]
    new = layers[0][1].ff
    assert isinstance(new, HQKAN)
    assert torch.equal(layers[0][1](x, deep_embed=by), new(x) * by)
    replaced.undo()
    assert torch.equal(layers[0][1](x, by), before)
