"""`replace_activation`: what it finds, that nothing changes to the bit, and the way back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qkan import (
    DARUAN,
    HQKAN,
    QKANError,
    load,
    param_groups,
    replace_activation,
    replace_ffn,
    save,
)


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 12), nn.GELU("tanh"), nn.Linear(12, 12), nn.LayerNorm(12), nn.SiLU(),
        nn.Linear(12, 2), nn.Softmax(-1),
    )  # fmt: skip


def test_a_plain_model_its_widths_and_the_way_back() -> None:
    model, x = mlp(), torch.randn(5, 4)
    before, kinds = model(x), [type(m) for m in model]
    replaced = replace_activation(model)
    assert [*replaced] == ["1", "4"] and replaced.before == 0 and replaced.after == 2 * 8 * 6
    assert [model[n].features for n in (1, 4)] == [12, 12]  # type: ignore[union-attr]
    assert torch.equal(model(x), before)
    assert "GELU → DARUAN" in repr(replaced)
    replaced.undo()
    assert [type(m) for m in model] == kinds and torch.equal(model(x), before)
    with pytest.raises(QKANError, match="back in the model"):
        replaced.undo()


def test_it_trains_and_the_angles_have_their_own_rate() -> None:
    model, x = mlp(), torch.randn(200, 4)
    replace_activation(model)
    target = F.one_hot((x.sum(-1).mul(4).sin() > 0).long(), 2).float()
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-2))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and all(a.amplitude.abs().min() > 0 for a in daruans(model))


def daruans(model: nn.Module) -> list[DARUAN]:
    return [module for module in model.modules() if isinstance(module, DARUAN)]


class Held(nn.Module):
    """A block whose activation is a function that an attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(4, 8), nn.Linear(8, 4), F.silu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Inline(nn.Module):
    """A block that calls its activation by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


def test_a_function_in_an_attribute() -> None:
    model, x = nn.Sequential(Held()), torch.randn(3, 4)
    before = model(x)
    replaced = replace_activation(model)
    assert [*replaced] == ["0.act"] and "silu → DARUAN" in repr(replaced)
    assert isinstance(model[0].act, DARUAN) and torch.equal(model(x), before)
    replaced.undo()
    assert model[0].act is F.silu and "act" not in dict(model[0].named_modules())


class OwnGelu(nn.Module):
    """A model's own activation, which keeps in an attribute the function that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.act = F.gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


def test_a_models_own_activation_is_replaced_as_a_whole() -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), OwnGelu(), nn.Linear(8, 1)), torch.randn(3, 4)
    before = model(x)
    assert [*replace_activation(model)] == ["1"] and torch.equal(model(x), before)
    with pytest.raises(QKANError, match="no such activation"):
        replace_activation(model, where="1.base.act")


def test_the_encoder_layer_of_torch_leaves_its_fast_path() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, dropout=0.0)
    model, x = nn.TransformerEncoder(layer, 2), torch.randn(3, 5, 8)
    before = model(x)
    replaced = replace_activation(model)
    assert torch.equal(model(x), before)
    for activation in daruans(model):
        nn.init.ones_(activation.amplitude)
    model.eval()
    with torch.no_grad():
        assert (model(x) - before).abs().max() > 1e-3  # not by the kernel that knows GELU alone
    replaced.undo()
    model.train()
    assert torch.equal(model(x), before)


def test_beside_replaced_blocks_and_copies() -> None:
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2
    )
    replace_ffn(model, HQKAN, where="layers.0.*")
    replaced = replace_activation(model, where="layers.1.*")
    assert [*replaced] == ["layers.1.activation"]
    x = torch.randn(3, 2, 8)
    assert torch.equal(copy.deepcopy(model).eval()(x), model.eval()(x))


def test_a_file_holds_an_activation_with_a_named_base(tmp_path: Path) -> None:
    activation, x = DARUAN(12, group=3, base="relu2", amplitude=0.3), torch.randn(5, 12)
    save(activation, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors")(x), activation(x))
    longer = DARUAN(12, reps=3, amplitude=0.3)
    save(longer, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors")(x), longer(x))
    assert DARUAN(12, ansatz=longer.circuit).circuit == longer.circuit
    with pytest.raises(QKANError, match="Softplus"):
        save(DARUAN(12, base=nn.Softplus()), tmp_path / "b.safetensors")


def test_bases_with_parameters_are_kept() -> None:
    model, x = nn.Sequential(nn.Linear(4, 6), nn.PReLU(6)), torch.randn(3, 4)
    before, held = model(x), model[1].weight
    replaced = replace_activation(model)
    assert torch.equal(model(x), before) and model[1].base.weight is held  # type: ignore[union-attr]
    assert replaced.before == 6 and replaced.after == 6 + 6 * 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_new_activations_follow_the_dtype(dtype: torch.dtype) -> None:
    model, x = mlp().to(dtype), torch.randn(5, 4, dtype=dtype)
    before = model(x)
    replace_activation(model)
    assert torch.equal(model(x), before) and daruans(model)[0].theta.dtype == dtype


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (nn.Sequential(Inline()), {}, "no activation can be reached in 0"),
        (nn.Sequential(nn.Linear(2, 2)), {}, "Write it as a module"),
        (mlp(), {"where": "2"}, "no such activation"),
        (mlp(), {"where": ["1"]}, "where is a list"),
        (mlp(), {"make": DARUAN(12)}, "make is a DARUAN; pass"),
        (mlp(), {"make": lambda n, base: None}, "returned a NoneType for 1"),
        (mlp(), {"make": lambda n, base: nn.Linear(12, 3)}, r"for 1 maps .* to \(3, 3\)"),
        (mlp(), {"make": lambda n, base: DARUAN(5)}, "for 1 does not take"),
        (3, {}, "the model is a int"),
    ],
)
def test_what_cannot_be_right_is_said_and_changes_nothing(
    model: Any, options: dict[str, Any], said: str
) -> None:
    before = repr(model)
    with pytest.raises(QKANError, match=said):
        replace_activation(model, **options)
    assert repr(model) == before
