"""Whole models on the card: trained, saved, loaded, moved, and what they are on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_cupy
import pytest
import torch
from card_module import waits
from compare import assert_close
from torch import Tensor, nn
from torch.nn import functional as F

import qkan
from qkan.simulators import get_engine
from qkan.simulators.cuda.cupy_engine import no_nvidia_gpu

STEPS = 4


class Transformer(nn.Module):
    """A small causal language model whose feed-forward blocks are HQKANs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.query = nn.Linear(16, 48)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.block = qkan.HQKAN(16, latent=4, reps=2)
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)  # (b, t, 16)
        split = self.query(self.norms[0](x)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*split, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(-2)
        x = x + self.block(self.norms[1](x))
        return self.head(self.norms[2](x))  # type: ignore[no-any-return]


def _numbers() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 6, generator=generator)
    return x, x.sin().sum(1, keepdim=True)


def _tokens() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1], tokens[:, 1:]


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]] = {
    "HQKAN": (lambda: qkan.HQKAN(6, 1, latent=4), _numbers),
    "HQKAN, deep": (lambda: qkan.HQKAN(6, 1, latent=4, depth=2, gate=True), _numbers),
    "HQKAN, group": (lambda: qkan.HQKAN(6, 1, latent=4, group=2), _numbers),
    "QKANLayer": (lambda: qkan.QKANLayer(6, 1), _numbers),
    "QKAN": (lambda: qkan.QKAN([6, 3, 1]), _numbers),
    "QKAN, cupy": (lambda: qkan.QKAN([6, 3, 1], engine="cupy"), _numbers),
    "QKAN, binary": (lambda: qkan.QKAN([6, 3, 1], encoding="binary"), _numbers),
    "transformer": (Transformer, _tokens),
}


def _built(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model, data = MODELS[name]
    return model(), *data()


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    out = model(x)
    return F.mse_loss(out, y) if y.is_floating_point() else F.cross_entropy(out.mT, y)


def _train(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _loss(model, x, y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _host(model: nn.Module) -> nn.Module:
    """The same with the engine that every device has."""
    for module in model.modules():
        if hasattr(module, "engine"):
            module.engine = "torch"
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_as_on_the_cpu(name: str, card: torch.device) -> None:
    model, x, y = _built(name)
    plain = _host(copy.deepcopy(model))
    wanted = _train(plain, x, y)
    found = _train(model.to(card), x.to(card), y.to(card))
    assert found[-1] < found[0]
    assert_close(torch.tensor(found), torch.tensor(wanted), "losses", 1e-4)
    # Adam divides by what may be as small as rounding
    for (key, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert p.device == card, key
        assert_close(p.detach().cpu(), q, key, 5e-3)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("HQKAN")])
def test_a_training_step_never_waits(name: str, card: torch.device) -> None:
    model, x, y = _built(name)
    model, x, y = model.to(card), x.to(card), y.to(card)
    _loss(model, x, y).backward()
    with waits() as found:
        _loss(model, x, y).backward()
    assert found == []


@pytest.mark.parametrize("name", ["HQKAN", "QKANLayer", "QKAN"])
def test_a_model_is_saved_and_loaded(name: str, card: torch.device, tmp_path: Path) -> None:
    model, x, _ = _built(name)
    model = model.to(card)
    qkan.save(model, tmp_path / "model.safetensors")
    for device in (card, torch.device("cpu")):
        loaded = qkan.load(tmp_path / "model.safetensors", device=device)
        assert {p.device for p in loaded.parameters()} == {device}
        assert_close(loaded(x.to(device)).cpu(), model(x.to(card)).cpu(), str(device), 1e-5)
    fresh = _built(name)[0].to(card)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    fresh.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(fresh(x.to(card)).cpu(), model(x.to(card)).cpu())


@pytest.mark.parametrize("name", ["HQKAN", "HQKAN, deep", "QKANLayer", "QKAN", "QKAN, binary"])
def test_an_accelerator_that_cupy_does_not_reach(
    name: str, card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on GPUs of other makers, and on an NVIDIA GPU without CuPy."""
    engine: Any = get_engine("cupy")
    monkeypatch.setattr(engine, "unreachable", no_nvidia_gpu)
    model, x, y = _built(name)
    # sizes of no other test: what `auto` chose for a request is remembered
    x, y = x[:23], y[:23]
    plain = _host(copy.deepcopy(model))
    wanted = _train(plain, x, y)
    with host_cupy.launched() as launches:
        found = _train(model.to(card), x.to(card), y.to(card))
    assert launches == []
    assert_close(torch.tensor(found), torch.tensor(wanted), "losses", 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_moves_there_and_back(name: str, card: torch.device) -> None:
    model, x, _ = _built(name)
    wanted = _host(copy.deepcopy(model))(x)
    model.eval().to(card)
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {card}
    assert_close(model(x.to(card)).cpu(), wanted, "on the card", 1e-4)
    assert torch.equal(_host(model.to("cpu"))(x), wanted)


@pytest.mark.parametrize("name", ["HQKAN", "QKAN"])
def test_a_model_is_built_on_the_card(name: str, card: torch.device) -> None:
    with card:
        model = MODELS[name][0]()
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {card}
    model(_numbers()[0].to(card)).sum().backward()


@pytest.mark.parametrize("name", ["HQKAN", "QKAN", "transformer"])
def test_autocast_trains_it(name: str, card: torch.device) -> None:
    model, x, y = _built(name)
    wanted = float(_loss(model, x, y).detach())
    model, x, y = model.to(card), x.to(card), y.to(card)
    with torch.autocast(card.type, torch.bfloat16):
        out = model(x)
    loss = F.mse_loss(out.float(), y) if y.is_floating_point() else None
    loss = F.cross_entropy(out.float().mT, y) if loss is None else loss
    loss.backward()
    assert abs(float(loss.detach()) - wanted) < 0.05 * wanted
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
