"""`QKANExperts` beside a loop over its experts, and in place of the banks of transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from compare import assert_close
from small_transformers import small
from torch import Tensor, nn
from transformers.utils import logging

from qkan import (
    HQKAN,
    QKANError,
    QKANExperts,
    distill_ffn,
    fold,
    from_pretrained,
    load,
    replace_ffn,
    save,
)
from qkan.hybrid import experts as room

DOUBLE = torch.float64
EXPERTS: dict[str, dict[str, Any]] = {
    "together": {},
    "deep, with a gate": {"encoding": "ternary", "gate": True, "depth": 2},
    "bare": {"base": None, "bias": False},
    "another ansatz": {"encoding": "binary", "ansatz": "rpz", "base": "gelu"},
    "trained scales": {"encoding": "trainable"},
    "named engine": {"engine": "torch"},
    "groups": {"group": 2},
}
ALONE = ("trained scales", "named engine", "groups")


def bank(options: dict[str, Any], dtype: torch.dtype = DOUBLE) -> QKANExperts:
    """Five experts that are not where they start, with a pruned edge."""
    torch.manual_seed(0)
    made = QKANExperts([HQKAN(12, latent=4, dtype=dtype, **options) for _ in range(5)])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        made[1].qkan.layers[0].mask[0, 1] = 0
    return made


def routed(dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, their experts and weights; expert 3 gets none, and an index of 5 is no expert."""
    torch.manual_seed(1)
    choice = torch.tensor([[0, 1], [2, 0], [4, 5], [5, 5], [1, 4], [0, 2], [2, 4]])
    return torch.randn(7, 12, dtype=dtype), choice, torch.rand(7, 2, dtype=dtype)


def by_loop(experts: QKANExperts, x: Tensor, choice: Tensor, weights: Tensor) -> Tensor:
    rows = []
    for token in range(len(x)):
        row = torch.zeros_like(x[token])
        for place, expert in enumerate(choice[token].tolist()):
            if expert < len(experts):
                row = row + weights[token, place] * experts[expert](x[token : token + 1])[0]
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("name", EXPERTS)
def test_a_bank_is_a_loop_over_its_experts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experts, (x, choice, weights) = bank(EXPERTS[name]), routed()
    together: list[int] = []
    real = room._together
    monkeypatch.setattr(room, "_together", lambda *a: together.append(1) or real(*a))
    x.requires_grad_()
    weights.requires_grad_()
    leaves = {"x": x, "weights": weights, **dict(experts.named_parameters())}
    results = []
    for out in (experts(x, choice, weights), by_loop(experts, x, choice, weights)):
        slopes = torch.autograd.grad(out.square().sum(), [*leaves.values()], allow_unused=True)
        results.append([out, *slopes])
    assert bool(together) == (name not in ALONE)
    for leaf, found, wanted in zip(["value", *leaves], *results, strict=True):
        assert (found is None) == (wanted is None) == leaf.startswith("3.")
        if wanted is not None:
            assert_close(found, wanted, leaf, 1e-10)


def test_other_modules_mixed_forms_and_nothing_to_do() -> None:
    x, choice, weights = routed()
    mixed = [HQKAN(12, latent=n, dtype=DOUBLE) for n in (2, 3, 3, 3)]
    experts = QKANExperts([nn.Linear(12, 12, dtype=DOUBLE), *mixed])
    assert_close(experts(x, choice, weights), by_loop(experts, x, choice, weights), "mixed", 1e-12)
    assert experts.config() is None
    assert experts(x[:0], choice[:0], weights[:0]).shape == (0, 12)
    nobody = torch.full_like(choice, 5)
    assert not experts(x, nobody, weights).any()
    with pytest.raises(QKANError, match="no expert"):
        QKANExperts([])


@pytest.mark.parametrize("place", ["", "down", "qkan", "qkan.layers.0"])
def test_hooks_on_parts_of_experts_are_called(place: str) -> None:
    experts, (x, choice, weights) = bank({}), routed()
    for expert in experts:
        expert.get_submodule(place).register_forward_hook(lambda module, args, out: 2 * out)
    found = experts(x, choice, weights)
    assert_close(found, by_loop(experts, x, choice, weights), place, 1e-12)


def test_half_precision_is_that_of_the_tokens() -> None:
    experts, (x, choice, weights) = bank({}, torch.float32), routed(torch.float32)
    low = copy.deepcopy(experts).bfloat16()
    out = low(x.bfloat16(), choice, weights)
    assert out.dtype == torch.bfloat16
    assert_close(out, experts(x, choice, weights), "bfloat16", 0.1)


def test_a_bank_is_saved_and_started_anew(tmp_path: Path) -> None:
    experts, inputs = bank({}, torch.float32), routed(torch.float32)
    save(experts, tmp_path / "bank.safetensors")
    again = load(tmp_path / "bank.safetensors")
    assert torch.equal(again(*inputs), experts(*inputs))
    assert len(experts.config()["experts"]) == 1
    again.reset_parameters(torch.Generator().manual_seed(0))
    assert not torch.equal(again(*inputs), experts(*inputs))


SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 24, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip


def mixtral() -> Any:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4, output_router_logits=True)
    return transformers.MixtralForCausalLM(config).eval()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable_progress_bar()


def test_router_and_auxiliary_loss_stay(tmp_path: Path) -> None:
    """Experts that compute what the old ones did change nothing, whichever router chooses them."""

    class Old(nn.Module):
        def __init__(self, gate_up: Tensor, down: Tensor) -> None:
            super().__init__()
            self.gate_up, self.down = nn.Parameter(gate_up.clone()), nn.Parameter(down.clone())

        def forward(self, x: Tensor) -> Tensor:
            gate, up = (x @ self.gate_up.T).chunk(2, -1)
            return (nn.functional.silu(gate) * up) @ self.down.T

    model, tokens = mixtral(), torch.arange(3, 17).view(2, 7)
    before = model(tokens, labels=tokens)
    held = model.model.layers[0].mlp.experts
    old = iter([*zip(held.gate_up_proj.detach(), held.down_proj.detach(), strict=True)])
    replaced = replace_ffn(model, lambda n: Old(*next(old)))
    assert [*replaced] == ["model.layers.0.mlp.experts"] and not replaced.left
    after = model(tokens, labels=tokens)
    assert_close(after.logits, before.logits, "logits", 1e-5)
    assert torch.equal(after.aux_loss, before.aux_loss)
    after.loss.backward()
    assert model.model.layers[0].mlp.gate.weight.grad.abs().max() > 0
    replaced.undo()
    assert torch.equal(model(tokens).logits, before.logits)
    assert model.model.layers[0].mlp.experts is held


def test_banks_are_saved_distilled_and_checked(tmp_path: Path) -> None:
    teacher, tokens = mixtral(), torch.arange(3, 17).view(2, 7)
    student = copy.deepcopy(teacher)
    replace_ffn(student, small)
    history = distill_ffn(teacher, student, [tokens], steps=30, lr=1e-2, progress=False)
    (errors,) = history.layers.values()
    assert errors[-1] < errors[0]
    student.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(tokens).logits, student.eval()(tokens).logits)
    with pytest.raises(QKANError, match=r"make\(16\) returned a NoneType for model\.layers\.0"):
        replace_ffn(teacher, lambda n: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(QKANError, match=r"maps \(2, 3, 16\) to \(2, 3, 5\)"):
        replace_ffn(teacher, lambda n: HQKAN(n, 5))
    teacher.model.layers[0].mlp.experts.requires_grad_(False)
    with pytest.raises(QKANError, match=r"mlp\.experts is frozen"):
        replace_ffn(teacher, small)


def test_experts_of_another_kind_are_named() -> None:
    config = transformers.Llama4TextConfig(
        **SIZES, num_local_experts=4, head_dim=8, intermediate_size_mlp=24
    )
    model = transformers.Llama4ForCausalLM(config)
    replaced = replace_ffn(model, small)
    assert replaced.left == ["model.layers.0.feed_forward.experts"]
    assert repr(replaced).endswith("experts: experts of another kind, left as they were")


@pytest.mark.parametrize("encoding", ["linear", "ternary"])
def test_folded_experts_are_computed_together(encoding: Any) -> None:
    """Also those whose folded layers keep the layer for many rows."""
    each = [HQKAN(16, latent=4, gate=True, encoding=encoding) for _ in range(3)]
    bank = QKANExperts(each)
    indices, weights = torch.randint(4, (50, 2)), torch.rand(50, 2)
    x, folded = torch.randn(50, 16), fold(bank)
    assert room._alike([*folded])
    assert_close(folded(x, indices, weights), bank(x, indices, weights), "folded", 1e-5)
