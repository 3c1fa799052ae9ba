"""`QKANAttention`: its formula, what it reduces to, and masks that let nothing through."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn

from qkan import QKANAttention, QKANError, extend, fit_activation, load, save

DOUBLE = torch.float64
TORCH: dict[str, Any] = {"engine": "torch", "dtype": DOUBLE}


def build(**options: Any) -> QKANAttention:
    """An attention all of whose parameters matter."""
    torch.manual_seed(0)
    attention = QKANAttention(12, 3, 6, rank=4, reps=2, **{**TORCH, **options})
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return attention


def inputs(q: int = 4, k: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, n, 12, generator=g, dtype=DOUBLE) for n in (q, k, k))
    return query, key, value


@pytest.mark.parametrize("keep_softmax", [False, True])
def test_the_attention_is_its_formula(keep_softmax: bool) -> None:
    attention = build(keep_softmax=keep_softmax)
    query, key, value = inputs()
    padding = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]).bool()
    out, weights = attention(query, key, value, padding, average_attn_weights=False, is_causal=True)
    w, bias = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    mixed = torch.zeros(2, 4, 12, dtype=DOUBLE)
    for b in range(2):
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            qs, ks, vs = (
                (x[b] @ w[n].T + bias[n])[:, part] for n, x in enumerate((query, key, value))
            )
            for q in range(4):
                keys = [k for k in range(q + 1) if not padding[b, k]]
                row = torch.zeros(6, dtype=DOUBLE)
                row[keys] = ks[keys] @ qs[q] / math.sqrt(4)
                a = attention.up[head](attention.rows[head](row))[keys]
                a = (row[keys] + a).softmax(0) if keep_softmax else a
                mixed[b, q, part] = a @ vs[keys]
                assert_close(weights[b, head, q, keys], a, "weights")
                others = [k for k in range(5) if k not in keys]
                assert not weights[b, head, q, others].any()
    assert_close(out, attention.out_proj(mixed), "value")


def test_it_begins_as_the_attention_of_torch_where_it_keeps_the_softmax() -> None:
    plain = nn.MultiheadAttention(12, 3, batch_first=True, dtype=DOUBLE)
    attention = QKANAttention(12, 3, 6, keep_softmax=True, **TORCH)
    missing = attention.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    query, key, value = inputs()
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=DOUBLE)[:4]
    padding = torch.zeros(2, 5, dtype=DOUBLE)
    padding[0, 4], padding[1, 3] = -math.inf, 0.7
    per_head = torch.rand(6, 4, 5) > 0.7
    per_head[..., 0] = False
    for options in (
        {}, {"attn_mask": causal, "key_padding_mask": padding}, {"attn_mask": per_head},
        {"average_attn_weights": False}, {"need_weights": False},
    ):  # fmt: skip
        found, wanted = (m(query, key, value, **options) for m in (attention, plain))
        assert_close(found[0], wanted[0], f"value {options}")
        if wanted[1] is None:
            assert found[1] is None
        else:
            assert_close(found[1], wanted[1], "weights")
    single, of_torch = (m(query[0], key[0], value[0]) for m in (attention, plain))
    assert_close(single[0], of_torch[0], "unbatched")
    assert_close(single[1], of_torch[1], "unbatched weights")


def test_with_the_identity_it_is_linear_attention() -> None:
    attention = QKANAttention(12, 3, 6, rank=6, start="identity", group=1, base=None, **TORCH)
    eye = nn.Linear(6, 6, bias=False, dtype=DOUBLE)
    nn.init.eye_(eye.weight)
    for row, up in zip(attention.rows, attention.up, strict=True):
        row.begin_as(eye)
        with torch.no_grad():
            up.weight.copy_(eye.weight)
            up.bias.zero_()
    query, key, _ = inputs()
    weights = attention(query, key, key, average_attn_weights=False, is_causal=True)[1]
    q, k, _ = attention._project(query, key, key)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(4)).tril()
    assert scores.abs().max() < 3
    error = fit_activation(attention.rows[0].circuit, "identity").error
    assert_close(weights, scores, "scores", 10 * error)


def test_without_the_softmax_it_begins_near_the_mean_of_the_values() -> None:
    torch.manual_seed(0)
    attention = QKANAttention(64, 4, 32, engine="torch")
    x = torch.randn(8, 32, 64)
    weights = attention(x, x, x, average_attn_weights=False)[1]
    assert abs(float(weights.mean().detach()) * 32 - 1) < 0.2
    assert 0.2 < float(weights.std().detach()) * 32 < 2


@pytest.mark.parametrize("keep_softmax", [False, True])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_forbidden_keys_have_no_influence_at_all(keep_softmax: bool, kind: str) -> None:
    attention = build(keep_softmax=keep_softmax)
    query, key, value = inputs(5, 5)
    padding, causal = torch.zeros(2, 5, dtype=torch.bool), torch.ones(5, 5).triu(1).bool()
    padding[:, 4] = True
    masks: dict[str, Any] = {"key_padding_mask": padding, "attn_mask": causal}
    if kind == "float":
        zero = torch.zeros((), dtype=DOUBLE)
        masks = {name: torch.where(mask, -math.inf, zero) for name, mask in masks.items()}
    before = attention(query, key, value, **masks)[0]
    key, value = key.clone(), value.clone()
    key[:, 3:], value[:, 3:] = 1e3, -1e3
    after = attention(query, key, value, **masks)[0]
    assert torch.equal(after[:, :3], before[:, :3]) and not torch.equal(after[:, 3], before[:, 3])
    leaf = key.requires_grad_()
    attention(query, leaf, value, **masks)[0][:, :3].sum().backward()
    assert not leaf.grad[:, 3:].any() and leaf.grad[:, :3].any()


@pytest.mark.parametrize("keep_softmax", [False, True])
def test_the_amount_of_padding_does_not_matter(keep_softmax: bool) -> None:
    attention = build(keep_softmax=keep_softmax)
    query, key, value = inputs(4, 6)
    padding = torch.arange(6).expand(2, 6) >= 4
    padded = attention(query, key, value, padding)[0]
    assert_close(attention(query, key[:, :4], value[:, :4])[0], padded, "shorter")
    nothing = attention(query, key, value, torch.ones(2, 6, dtype=torch.bool))
    assert not nothing[1].any() and nothing[0].isfinite().all()
    assert_close(nothing[0], attention.out_proj.bias.expand(2, 4, 12), "no key")


@pytest.mark.parametrize("keep_softmax", [False, True])
def test_every_parameter_has_its_gradient(keep_softmax: bool) -> None:
    torch.manual_seed(0)
    attention = QKANAttention(4, 2, 3, rank=2, reps=1, keep_softmax=keep_softmax, **TORCH)
    x = torch.randn(1, 3, 4, dtype=DOUBLE)
    names = [name for name, _ in attention.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        out: Tensor = torch.func.functional_call(
            attention, parameters, (x, x, x), {"is_causal": True}
        )[0]
        return out

    values = [(p.detach() + 0.2).requires_grad_() for p in attention.parameters()]
    torch.autograd.gradcheck(run, values, atol=1e-6)


def test_dropout_acts_while_training() -> None:
    attention = build(dropout=0.5)
    query, key, value = inputs()
    out = attention(query, key, value)[0]
    assert not torch.equal(attention(query, key, value)[0], out)
    attention.eval()
    assert torch.equal(attention(query, key, value)[0], attention(query, key, value)[0])


def test_it_stands_in_an_encoder_layer_in_training_and_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 3, 16, dropout=0.0, batch_first=True, dtype=DOUBLE)
    layer.self_attn = build()
    x, padding = inputs()[1], torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]]).bool()
    wanted = layer(x, src_key_padding_mask=padding)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    model.layers[0].load_state_dict(layer.state_dict())
    with torch.no_grad():
        for module in (layer.eval(), model.eval()):
            found = module(x, src_key_padding_mask=padding)
            assert_close(found, wanted, type(module).__name__)


def test_it_is_saved_copied_extended_and_compiled(tmp_path: Path) -> None:
    attention = build(keep_softmax=True, group=2, dropout=0.1, bias=False).eval()
    query, key, value = inputs()
    wanted = attention(query, key, value)[0]
    path = tmp_path / "attention.safetensors"
    save(attention, path)
    loaded = load(path).eval()
    assert loaded.config() == attention.config() and repr(loaded) == repr(attention)
    for twin in (loaded, copy.deepcopy(attention)):
        assert torch.equal(twin(query, key, value)[0], wanted)
    assert_close(extend(attention, 3)(query, key, value)[0], wanted, "extended")
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    assert_close(compiled(query, key, value)[0], wanted, "compiled")


def test_the_start_follows_the_generator() -> None:
    def values(attention: QKANAttention) -> list[Tensor]:
        return [p.detach() for p in attention.parameters()]

    first = QKANAttention(4, 2, 3, generator=torch.Generator().manual_seed(1))
    again = copy.deepcopy(first)
    again.reset_parameters(torch.Generator().manual_seed(2))
    assert not all(map(torch.equal, values(first), values(again)))
    again.reset_parameters(torch.Generator().manual_seed(1))
    assert all(map(torch.equal, values(first), values(again)))


ATTENTION = QKANAttention(12, 3, 6, rank=4, reps=1)
X = torch.zeros(2, 5, 12)
WRONG = {
    "heads": (lambda: QKANAttention(12, 5, 6), "num_heads=5 does not divide embed_dim=12"),
    "length": (lambda: QKANAttention(12, 3, 0), "length=0"),
    "rank": (lambda: QKANAttention(12, 3, 6, rank=0), "rank=0"),
    "dropout": (lambda: QKANAttention(12, 3, 6, dropout=1.0), "dropout=1.0"),
    "features": (lambda: ATTENTION(X, X[..., :5], X), r"\(2, 5, 5\).*wanted \(b, q, 12\)"),
    "batches": (lambda: ATTENTION(X, X[:1], X[:1]), r"\(1, 5, 12\)"),
    "dimensions": (lambda: ATTENTION(X, X[0], X[0]), "without b"),
    "four dimensions": (lambda: ATTENTION(X[None], X[None], X[None]), "without b"),
    "too long": (lambda: ATTENTION(X, *[torch.zeros(2, 7, 12)] * 2), "7 keys.*length=6"),
    "padding": (lambda: ATTENTION(X, X, X, torch.zeros(5, 2).bool()), "key_padding_mask is"),
    "mask": (
        lambda: ATTENTION(X, X, X, attn_mask=torch.zeros(2, 5, 5).bool()),
        r"attn_mask is \(2, 5, 5\); wanted the shape \(5, 5\) or \(6, 5, 5\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        call()
