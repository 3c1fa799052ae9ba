"""`fold`: the same numbers from coefficients computed once, in a handful of operators."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch
from cases import CIRCUITS
from compare import assert_as_exact_as, assert_close
from small_transformers import FAMILIES
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qkan import (
    HQKAN,
    QKAN,
    FoldedLayer,
    FoldedQKAN,
    QKANAttention,
    QKANConv2d,
    QKANError,
    QKANLayer,
    fit,
    fold,
    replace_ffn,
    save,
)

DOUBLE = torch.float64
OPTIONS: dict[str, dict[str, object]] = {
    "linear": {"encoding": "linear"},
    "ternary": {"encoding": "ternary"},
    "binary rpz": {"encoding": "binary", "ansatz": "rpz", "base": "gelu"},
    "mix": {"encoding": "ternary", "ansatz": "mix", "reps": 2},
    "real": {"encoding": "linear", "ansatz": "real"},
    "numbers": {"encoding": (4.0, 0.0, -1.0), "base": "identity"},
    "bare": {"encoding": "ternary", "base": None, "bias": False},
    "group": {"encoding": "ternary", "group": 2},
    "group of one": {"encoding": "linear", "group": 1, "base": None},
    "every input its group": {"encoding": "binary", "group": 4, "bias": False},
    "own": {"encoding": (1.0, 2.0), "ansatz": CIRCUITS["own"]},
    "unmoved": {"encoding": "linear", "ansatz": CIRCUITS["unmoved"]},
    "named engine": {"encoding": "ternary", "engine": "torch"},
}


def trained(options: dict[str, object], dtype: torch.dtype = DOUBLE) -> QKANLayer:
    """A layer whose parameters are not where they start, with a pruned edge."""
    layer = QKANLayer(4, 3, **options, generator=torch.Generator().manual_seed(0), dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=DOUBLE)
            parameter += (0.3 * noise).to(dtype)
        layer.mask[1, 2] = 0
    return layer


@pytest.mark.parametrize("name", OPTIONS)
def test_it_computes_the_same(name: str) -> None:
    layer = trained(OPTIONS[name])
    x = torch.randn(2, 7, 4, dtype=DOUBLE, requires_grad=True)
    folded = fold(layer)
    assert_close(folded(x), layer(x), "value", 1e-12)
    found, wanted = (torch.autograd.grad(m(x).square().sum(), x)[0] for m in (folded, layer))
    assert_close(found, wanted, "gradient of x", 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["linear", "ternary", "group"])
def test_it_is_as_exact_as_the_layer(name: str, dtype: torch.dtype) -> None:
    layer = trained(OPTIONS[name], dtype)
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    exact = copy.deepcopy(layer).double()(x.double()).detach()
    found = fold(layer)(x)
    assert found.dtype == dtype
    slack = 4 * torch.finfo(dtype).eps * float(exact.abs().max())
    assert_as_exact_as(found, layer(x), exact, slack, "value")


def test_any_leading_dimensions_and_what_does_not_fit() -> None:
    folded = fold(trained(OPTIONS["ternary"]))
    x = torch.randn(2, 3, 4, dtype=DOUBLE)
    assert_close(folded(x)[1, 2], folded(x[1, 2]), "one sample", 1e-12)
    assert folded(x[:0]).shape == (0, 3, 3)
    assert_close(folded(x.transpose(0, 1)), folded(x).transpose(0, 1), "strided", 1e-12)
    with pytest.raises(QKANError, match="in_features=4"):
        folded(torch.zeros(2, 5, dtype=DOUBLE))
    with pytest.raises(QKANError, match=r"torch\.float32"):
        folded(torch.zeros(2, 4))


def test_a_network_and_a_block_keep_their_form() -> None:
    model = QKAN([3, 4, 2], encoding="ternary", input_range=(-2, 3), dtype=DOUBLE)
    folded, x = fold(model), torch.rand(9, 3, dtype=DOUBLE)
    assert_close(folded(x), model(x), "network", 1e-11)
    assert folded.widths == [3, 4, 2] and "harmonics=13" in repr(folded)
    block = HQKAN(16, 12, latent=5, depth=2, gate=True, dropout=0.5, dtype=DOUBLE)
    small, x = fold(block), torch.randn(2, 9, 16, dtype=DOUBLE)
    assert_close(small(x), block.eval()(x), "block", 1e-12)


def test_the_copy_is_frozen_and_the_model_is_not() -> None:
    block = HQKAN(8, latent=16, dropout=0.5).train()
    before = copy.deepcopy(block.state_dict())
    folded = fold(block)
    assert not folded.training and not any(p.requires_grad for p in folded.parameters())
    assert block.training and all(p.requires_grad for p in block.parameters())
    for name, value in block.state_dict().items():
        assert torch.equal(value, before[name])
    assert not [*folded.qkan.parameters()]
    for model, sizes in ((folded, (8, 8)), (folded.qkan, (3, 3))):
        x, y = torch.rand(4, sizes[0]), torch.rand(4, sizes[1])
        with pytest.raises(QKANError, match="Nothing to train"):
            fit(model, (x, y), steps=1, progress=False)


def test_shared_modules_stay_shared() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = HQKAN(6, latent=3, dtype=DOUBLE)
            self.again = nn.Sequential(self.first, self.first)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.again(self.first(x))
            return out

    model, x = Twice(), torch.randn(5, 6, dtype=DOUBLE)
    folded = fold(model)
    assert folded.first is folded.again[0] is folded.again[1]
    assert_close(folded(x), model(x), "value", 1e-12)


def test_copies_and_state() -> None:
    layer = trained(OPTIONS["ternary"])
    folded, x = fold(layer), torch.randn(5, 4, dtype=DOUBLE)
    other = fold(QKANLayer(4, 3, encoding="ternary", dtype=DOUBLE))
    other.load_state_dict(folded.state_dict())
    for twin in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded)), other):
        assert torch.equal(twin(x), folded(x))


def test_a_convolution_and_an_attention_keep_working() -> None:
    conv = QKANConv2d(3, 4, 3, encoding="ternary", dtype=DOUBLE)
    x = torch.randn(2, 3, 6, 6, dtype=DOUBLE)
    assert_close(fold(conv)(x), conv(x), "convolution", 1e-12)
    attention = QKANAttention(8, 2, 5, rank=3, encoding="ternary", dtype=DOUBLE).eval()
    x = torch.randn(2, 5, 8, dtype=DOUBLE)
    assert_close(fold(attention)(x, x, x)[0], attention(x, x, x)[0], "attention", 1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_with_blocks_in_them(name: str) -> None:
    family = FAMILIES[name]
    model, inputs = family.build(), family.inputs()
    replaced = replace_ffn(model, lambda features: HQKAN(features, latent=3))
    folded = fold(model)
    assert_close(folded(**inputs)[0], model.eval()(**inputs)[0], name, 1e-5)
    for block in replaced:
        assert isinstance(folded.get_submodule(f"{block}.qkan"), FoldedQKAN)


class Operators(TorchDispatchMode):
    """Counts what is computed: operators that return no view."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if not func.is_view:
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ["addmm", "addcmul", "sin", "addmm", "silu", "addmm", "addmm"]),
        ({"base": None}, ["addmm", "addcmul", "sin", "addmm", "addmm"]),
        (
            {"group": 2},
            ["addmm", "addcmul", "sin", "mul", "sum", "addmm", "silu", "addmm", "addmm"],
        ),
    ],
    ids=["default", "no base", "group"],
)
def test_a_block_at_batch_one_is_a_handful_of_operators(
    options: dict[str, object], wanted: list[str]
) -> None:
    folded = fold(HQKAN(768, **options))
    x = torch.randn(1, 768)
    with torch.no_grad(), Operators() as seen:
        folded(x)
    assert [name.partition(".")[0] for name in seen.names] == wanted


@pytest.mark.parametrize("name", ["ternary", "group", "bare"])
def test_it_compiles_and_exports_to_one_graph(name: str) -> None:
    folded, x = fold(trained(OPTIONS[name])), torch.randn(6, 4, dtype=DOUBLE)
    compiled = torch.compile(folded, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), folded(x), "compiled", 1e-12)
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(folded, (x,), dynamic_shapes=batch)
    wide = torch.randn(31, 4, dtype=DOUBLE)
    assert_close(program.module()(wide), folded(wide), "exported", 1e-12)


def test_autocast_rounds_the_products_alone() -> None:
    block, x = HQKAN(32), torch.randn(64, 32)
    folded = fold(block)
    with torch.autocast("cpu", torch.bfloat16):
        found = folded(x)
    assert found.dtype == torch.bfloat16
    assert_close(found, block(x), "value", 0.02)


def test_wide_layers_are_folded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = trained(OPTIONS["ternary"]), torch.randn(5, 4, dtype=DOUBLE)
    wanted = fold(layer)(x)
    monkeypatch.setattr(sys.modules["qkan.surgery.fold"], "_VALUES_AT_ONCE", 1)
    assert_close(fold(layer)(x), wanted, "value", 1e-14)


@pytest.mark.parametrize("name", ["ternary", "mix", "numbers", "bare", "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_many_inputs_go_through_the_recurrence(name: str, dtype: torch.dtype) -> None:
    """In chunks, which change nothing, and only where nothing else has to follow what is done."""
    layer = trained(OPTIONS[name], dtype)
    x = 3 * torch.randn(30_001, 4, generator=torch.Generator().manual_seed(3)).to(dtype)
    folded, calls = fold(layer, batch=1), []
    exact = copy.deepcopy(layer).double()(x.double()).detach()
    room = sys.modules["qkan.surgery.fold"]
    real = room.add_harmonics
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "add_harmonics", lambda *a: calls.append(1) or real(*a))
        patch.setattr("qkan.simulators.harmonics._CHUNK_BYTES", 1 << 20)
        with torch.no_grad():
            found = folded(x)
            wanted = folded(x.requires_grad_().t().contiguous().t()[:50])
        assert calls == [1]
        # thirteen additions of angles, and sums over the edges
        slack = 32 * torch.finfo(dtype).eps * float(exact.abs().max())
        assert_as_exact_as(found, layer(x), exact, slack, "value")
        assert_close(found[:50], wanted, "plain", 1e-5 if dtype == torch.float32 else 1e-12)
        assert torch.autograd.grad(folded(x).sum(), x)[0].abs().max() > 0
        with torch.no_grad():
            vmapped = torch.vmap(folded)(x.view(-1, 1, 4))
            rounded = folded(x[:0])
        assert calls == [1] and rounded.shape == (0, 3)
        assert_close(vmapped[:, 0], found, "vmap", 1e-5 if dtype == torch.float32 else 1e-12)
    assert_close(torch.compile(folded, backend="eager")(x.detach()), found, "compiled", 1e-4)


def test_a_layer_that_is_faster_as_it_is_stays_and_fold_says_so() -> None:
    small = QKANLayer(4, 4, encoding="ternary", reps=5)
    model = nn.Sequential(small, QKANLayer(4, 64, encoding="linear"))
    assert [type(part) for part in fold(model)] == [FoldedLayer, FoldedLayer]
    with pytest.warns(UserWarning, match="for batch=5000 .* in place of 0, which are kept"):
        kept = fold(model, batch=5000)
    assert [type(part) for part in kept] == [QKANLayer, FoldedLayer]
    assert not any(parameter.requires_grad for parameter in kept.parameters())
    x = torch.randn(7, 4)
    assert_close(kept(x), model(x), "value", 1e-5)
    with pytest.raises(QKANError, match="batch=0"):
        fold(model, batch=0)


class OwnForward(QKANLayer):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked() -> QKANLayer:
    layer = QKANLayer(2, 2, encoding="linear")
    layer.register_forward_hook(lambda module, args, out: 2 * out)
    return layer


REFUSED: dict[str, tuple[QKANLayer, str]] = {
    "trainable": (QKANLayer(2, 2), "the scales are trainable"),
    "fractions": (QKANLayer(2, 2, encoding=(1.0, 2.5), reps=2), "not all integers"),
    "arccos": (QKANLayer(2, 2, ansatz="px", encoding="linear"), "arccos"),
    "amplitude": (QKANLayer(2, 2, encoding="linear", readout="amplitude"), "readout='amplitude'"),
    "meta": (QKANLayer(2, 2, encoding="linear", device="meta"), "'meta'"),
    "hooks": (hooked(), "hooks, which a folded layer would not call"),
    "subclass": (OwnForward(2, 2, encoding="linear"), "OwnForward has a forward method of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_without_a_fourier_form_is_refused_or_kept(case: str) -> None:
    layer, reason = REFUSED[case]
    model = nn.Sequential(QKANLayer(2, 2, encoding="linear"), layer)
    with pytest.raises(QKANError, match=f"1 of 2 layers(?s:.*)1: .*{reason}"):
        fold(model)
    kept = fold(model, strict=False)
    assert isinstance(kept[0], FoldedLayer) and type(kept[1]) is type(layer)
    assert not any(parameter.requires_grad for parameter in kept.parameters())


def test_hooks_of_a_network_are_called_around_its_folded_layers() -> None:
    model, x = QKAN([2, 3, 1], encoding="linear"), torch.randn(5, 2)
    model.register_forward_hook(lambda module, args, out: 2 * out)
    folded = fold(model)
    assert all(isinstance(layer, FoldedLayer) for layer in folded.layers)
    assert_close(folded(x), model(x), "value", 1e-5)


def test_what_cannot_be_folded_at_all_and_what_cannot_be_saved() -> None:
    with pytest.raises(QKANError, match="Linear contains no QKANLayer"):
        fold(nn.Linear(2, 2))
    with pytest.raises(QKANError, match="FoldedQKAN is none of"):
        save(fold(QKAN([2, 1], encoding="linear")), "never.safetensors")
    with pytest.raises(QKANError, match="keeps no circuit"):
        fold(QKAN([2, 1], encoding="linear")).config()


def test_a_folded_layer_of_many_harmonics_calls_the_layer_for_many_rows() -> None:
    layer = QKANLayer(4, 4, encoding="ternary", reps=3)
    folded = fold(layer)
    assert 2 < folded.most_rows < 50 and not any(p.requires_grad for p in folded.parameters())
    many, few = torch.randn(100, 4), torch.randn(2, 4)
    assert torch.equal(folded(many), layer(many)) and not torch.equal(folded(few), layer(few))
    assert_close(folded(few), layer(few), "few rows", 1e-4)
    assert fold(layer, batch=1).unfolded is None
