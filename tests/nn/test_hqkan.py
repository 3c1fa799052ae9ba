"""`HQKAN`: what it computes, how it starts, and what the house does with it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import nn

from qkan import (
    HQKAN,
    QKAN,
    Circuit,
    effective_parameters,
    extend,
    fit,
    importance,
    load,
    param_groups,
    save,
)
from qkan.circuits import RX, Encoding, Theta
from qkan.errors import QKANError

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gate": {"gate": True, "latent": 5},
    "deep": {"depth": 3, "latent": 4, "encoding": "trainable"},
    "group": {"latent": 6, "group": 2, "ansatz": "mix", "reps": 2},
    "bare": {"bias": False, "base": None, "gate": True, "out_features": 3},
    "amplitude": {"readout": "amplitude", "latent": 3, "engine": "torch"},
    "own": {"ansatz": Circuit([RX(Theta(0)), RX(Encoding(0))]), "encoding": "linear"},
}


def block(name: str, **more: Any) -> HQKAN:
    """A block whose every parameter is random, away from its start."""
    made = HQKAN(11, **KINDS[name], **more)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1, 1)
    return made


@pytest.mark.parametrize("name", KINDS)
def test_it_is_two_linear_maps_around_a_qkan(name: str) -> None:
    model = block(name, dtype=torch.float64)
    x = torch.randn(2, 7, 11, dtype=torch.float64)
    inner = QKAN.from_config(model.qkan.config(), dtype=torch.float64)
    inner.load_state_dict(model.qkan.state_dict())
    hidden = inner(nn.functional.linear(x, model.down.weight, model.down.bias))
    if model.gate is not None:
        hidden = hidden + hidden * nn.functional.linear(x, model.gate.weight, model.gate.bias)
    wanted = nn.functional.linear(hidden, model.up.weight, model.up.bias)
    assert_close(model(x), wanted, name)
    assert wanted.shape == (2, 7, model.out_features)


@pytest.mark.parametrize(("width", "latent"), [(1, 1), (2, 1), (3, 2), (8, 3), (768, 10)])
def test_the_latent_space_is_the_logarithm_of_the_width(width: int, latent: int) -> None:
    assert HQKAN(width, device="meta").qkan.widths == [latent, latent]


@pytest.mark.parametrize("shape", [(11,), (1, 11), (0, 11), (2, 3, 5, 11)])
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    assert HQKAN(11, 4)(torch.randn(shape)).shape == (*shape[:-1], 4)


STARTS: dict[str, tuple[dict[str, Any], float]] = {
    "default": ({}, 3),
    "gate": ({"gate": True}, 3),
    "deep": ({"depth": 3, "latent": 16}, 3),
    "trainable": ({"encoding": "trainable", "reps": 2}, 2),
    "linear": ({"encoding": "linear", "reps": 5, "ansatz": "rpz"}, 5),
    "binary": ({"encoding": "binary", "depth": 2}, 7),
    "ternary": ({"encoding": "ternary", "depth": 2, "gate": True}, 13),
    "own scales": ({"encoding": (0.5, -2.0, 1.5), "group": 4}, 4),
    "named": ({"encoding": "ternary", "depth": 2, "start": "tanh"}, 1),
}
"""Options, and the highest frequency of an edge."""


@pytest.mark.parametrize("name", STARTS)
def test_it_starts_small_with_slow_angles_and_gradients(name: str) -> None:
    options, frequency = STARTS[name]
    generator = torch.Generator().manual_seed(0)
    model = HQKAN(256, generator=generator, **options)
    x = torch.randn(2048, 256, generator=generator)
    nodes = [model.down(x)]
    for layer in model.qkan.layers:
        nodes.append(layer(nodes[-1]))
    # those that angles are made of; a layer's outputs need not be centred
    for hidden in nodes[:-1]:
        assert 0.4 < frequency * hidden.square().mean().sqrt() < 1.8
    assert 0.7 < frequency * nodes[0].std() < 1.3
    out = model(x)
    assert 0.05 < out.square().mean().sqrt() < 0.2
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_a_gate_starts_as_one() -> None:
    plain, gated = (HQKAN(8, gate=g, generator=torch.Generator().manual_seed(3)) for g in (0, 1))
    x = torch.randn(5, 8)
    assert gated.gate is not None and torch.equal(plain(x), gated(x))


def test_the_start_is_the_generators_and_no_other() -> None:
    state = torch.get_rng_state()
    first, second = (HQKAN(8, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    second.reset_parameters(torch.Generator().manual_seed(2))
    assert not torch.equal(first.down.weight, second.down.weight)
    second.reset_parameters(torch.Generator().manual_seed(1))
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_a_block_on_meta_becomes_real() -> None:
    with torch.device("meta"):
        model = HQKAN(8, gate=True)
    assert all(p.is_meta for p in model.parameters())
    model.to_empty(device="cpu").reset_parameters(torch.Generator().manual_seed(1))
    same = HQKAN(8, gate=True, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model(torch.ones(2, 8)), same(torch.ones(2, 8)))


def test_options_reach_the_layers_and_linear_is_the_default() -> None:
    model = HQKAN(11, latent=4, reps=2, bias=False, dtype=torch.bfloat16)
    assert [layer.encoding for layer in model.qkan.layers] == ["linear"]
    assert model.down.bias is model.up.bias is model.qkan.layers[0].bias is None
    assert model(torch.ones(3, 11, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert HQKAN(11, encoding="trainable").qkan.layers[0].encoding == "trainable"


def test_dropout_is_of_the_output_while_training() -> None:
    model = HQKAN(11, 1000, dropout=0.5)
    with torch.no_grad():
        model.up.bias.fill_(1)
    zeros = (model(torch.ones(11)) == 0).float().mean()
    assert 0.4 < zeros < 0.6 and not (model.eval()(torch.ones(11)) == 0).any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"in_features": 0}, "in_features=0"),
        ({"out_features": 2.0}, r"out_features=2\.0"),
        ({"latent": 0}, "latent=0"),
        ({"depth": 0}, "depth=0"),
        ({"dropout": 1.0}, r"dropout=1\.0; wanted a probability"),
        ({"encoding": "base4"}, "Unknown encoding 'base4'"),
        ({"latent": 2, "group": 3}, "group=3"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(QKANError, match=says):
        HQKAN(**{"in_features": 8, **options})
    with pytest.raises(TypeError, match="Unknown option 'latnt'"):
        HQKAN(8, latnt=3)


@pytest.mark.parametrize("name", KINDS)
def test_saved_copied_and_built_again(name: str, tmp_path: Path) -> None:
    model = block(name, dropout=0.25).eval()
    save(model, tmp_path / "block.safetensors")
    loaded = load(tmp_path / "block.safetensors")
    x = torch.randn(5, 11)
    assert loaded.config() == model.config() and loaded.dropout.p == 0.25
    for other in (loaded.eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


def test_angles_are_spared_from_weight_decay() -> None:
    model = HQKAN(11, latent=4, encoding="trainable", gate=True)
    decayed, spared = param_groups(model, lr=1e-3, weight_decay=0.1)
    layer = model.qkan.layers[0]
    matrices = [model.down, model.gate, model.up, layer]
    assert {*map(id, decayed["params"])} == {id(m.weight) for m in matrices} | {
        id(layer.base_weight)
    }
    assert {id(layer.theta), id(layer.scale), id(layer.shift)} <= {*map(id, spared["params"])}
    assert effective_parameters(model) < sum(p.numel() for p in model.parameters())


def test_it_extends_is_fitted_and_asked_for_importance() -> None:
    torch.manual_seed(0)
    model, x = HQKAN(11, 1, latent=3, reps=1), torch.randn(64, 11)
    longer = extend(model, 3)
    assert_close(longer(x), model(x), "extended", 1e-5)
    assert HQKAN.from_config(longer.config()).qkan.layers[0].circuit.num_encodings == 3
    history = fit(longer, (x, x[:, :1].sin()), steps=3, progress=False)
    assert history.train_loss[-1] < history.train_loss[0]
    assert [*importance(longer, x)] == ["qkan.layers.0"]
