"""`DARUAN`s under extend, prune, importance, to_kan and explain."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn

from qkan import (
    DARUAN,
    QKANError,
    QKANLayer,
    compact,
    explain,
    extend,
    importance,
    load,
    prune,
    save,
    to_kan,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "fixed": {"encoding": "linear", "group": 3},
    "ternary": {"encoding": "ternary", "reps": 2, "group": "inputs"},
    "real": {"ansatz": "real", "base": "relu2"},
    "arccos": {"ansatz": "px", "base": nn.Softplus()},
}


def drawn(features: int = 7, **options: Any) -> DARUAN:
    generator = torch.Generator().manual_seed(0)
    activation = DARUAN(features, generator=generator, dtype=torch.float64, **options)
    with torch.no_grad():
        activation.amplitude.uniform_(0.3, 0.9, generator=generator)
    return activation


def inputs(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("reps", [3, 5])
def test_an_extended_activation_is_the_same_and_every_angle_learns(name: str, reps: int) -> None:
    activation, x = drawn(**OPTIONS[name]), inputs(40, 7)
    before = copy.deepcopy(activation.state_dict())
    longer = extend(activation, reps)
    assert longer.circuit.num_encodings == reps and repr(longer.base) == repr(activation.base)
    assert_close(longer(x), activation(x).detach(), name, 1e-10)
    assert all(torch.equal(before[key], value) for key, value in activation.state_dict().items())
    start = copy.deepcopy([*longer.parameters()])
    optimizer = torch.optim.Adam(longer.parameters(), lr=0.01)
    wanted = torch.sin(7 * x)
    for _ in range(4):
        optimizer.zero_grad()
        (longer(x) - wanted).square().sum().backward()
        optimizer.step()
    new = slice(activation.theta.shape[1], None)
    moved = (longer.theta - start[0]).abs().amax(0)
    assert (moved[new] > 0).any(), moved


def test_what_a_model_holds_is_extended_together_and_kept_in_a_file(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 7), drawn(group=2).float(), QKANLayer(7, 2, reps=1))
    longer, x = extend(model, 2), inputs(20, 3).float()
    assert [part.circuit.num_encodings for part in longer[1:]] == [2, 2]
    assert_close(longer(x), model(x).detach(), "a model", 1e-5)
    save(longer[1], tmp_path / "one.safetensors")
    again = load(tmp_path / "one.safetensors")
    assert torch.equal(again(model[0](x)), longer[1](model[0](x)))
    with pytest.raises(QKANError, match=r"extend: 1: .*3"):
        extend(nn.Sequential(nn.Linear(3, 7), drawn(reps=3)), 2)
    with pytest.raises(QKANError, match="no QKANLayer and no DARUAN"):
        extend(nn.Linear(3, 7), 2)


def test_what_needs_edges_says_that_there_are_none() -> None:
    activation, x = drawn(), inputs(20, 7)
    calls: list[Any] = []
    activation.register_forward_pre_hook(lambda *given: calls.append(given))
    with pytest.raises(QKANError, match=r"DARUAN contains no QKANLayer. A DARUAN has no ed"):
        prune(activation, x)
    with pytest.raises(QKANError, match=r"to_kan: the model is DARUAN; .* no edges that a spline"):
        to_kan(activation, x)
    assert not calls
    assert compact(activation) is not activation
    mixed = nn.Sequential(drawn(), QKANLayer(7, 2, dtype=torch.float64))
    pruned = prune(mixed, x, edge_threshold=0.1)
    assert torch.equal(pruned[0](x), mixed[0](x))


@pytest.mark.parametrize(("score", "power"), [("attribution", 1), ("variance", 2)])
def test_the_importance_of_a_group_is_its_share_of_the_spread(score: str, power: int) -> None:
    activation, x = drawn(6, group=3), inputs(50, 4, 6)
    with torch.no_grad():
        activation.amplitude[1] = 0
    found = importance(nn.Sequential(activation), x, score=score)["0"]
    assert found.edges.shape == (1, 3) and found.edges[0, 1] == 0
    base = nn.functional.gelu(x[..., 4:])
    added = activation(x)[..., 4:] - base
    wanted = added.std() ** power / (added.std() ** power + base.std() ** power)
    assert_close(found.inputs[2], wanted.detach(), "group 2", 1e-9)
    assert_close(found.mean[0, 2], added.mean().detach(), "its mean", 1e-9)
    assert "3 inputs" in repr(found)


def test_explain_says_what_is_evaluated() -> None:
    model = nn.Sequential(nn.Linear(3, 64), DARUAN(64, group=8), QKANLayer(64, 2, group=4))
    many = explain(model, torch.randn(512, 3))
    assert "for 8 activations at 3 phases" in str(many["1"])
    assert "for 4 activations at 27 phases" in str(many["2"])
    few = explain(model, torch.randn(8, 3))
    assert "for 64 circuits at 8 samples" in str(few["2"])
