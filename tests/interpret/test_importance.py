"""How much edges and nodes matter, and the penalty that makes fewer of them matter."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from compare import assert_close
from small_networks import DOUBLE, OPTIONS, generator, inputs, network
from torch import Tensor, nn

from qkan import (
    QKAN,
    QKANError,
    QKANLayer,
    importance,
    sparse_loss,
)  # fmt: skip
from qkan.interpret.edges import edge_outputs
from qkan.interpret.importance import chains, sparsity

# ---- edges and their scores


@pytest.mark.parametrize("name", OPTIONS)
def test_edge_outputs_sum_to_the_layer(name: str) -> None:
    layer = network((5, 3), **OPTIONS[name]).layers[0]
    layer.mask[1, 2] = 0
    x = inputs(7, 5)
    bias = 0 if layer.bias is None else layer.bias
    assert_close(edge_outputs(layer, x).sum(-1) + bias, layer(x), name, 1e-12)


def test_edge_outputs_have_a_true_gradient() -> None:
    layer = network((3, 2), group=2).layers[0]
    x = inputs(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: edge_outputs(layer, x), (x,), atol=1e-6)


def by_definition(model: QKAN, x: Tensor) -> list[Tensor]:
    """KAN 2.0's attribution, one number after the other."""
    reads = [model.map_input(x)]
    for layer in model.layers:
        reads.append(layer(reads[-1]))
    node = [1.0] * model.widths[-1]
    found = []
    for layer, seen, out in reversed(list(zip(model.layers, reads, reads[1:], strict=False))):
        edges = edge_outputs(layer, seen)
        scores = [
            [
                node[o] * float(edges[:, o, i].std(correction=0) / out[:, o].std(correction=0))
                for i in range(layer.in_features)
            ]
            for o in range(layer.out_features)
        ]
        node = [sum(row[i] for row in scores) for i in range(layer.in_features)]
        found.append(torch.tensor(scores, dtype=DOUBLE))
    return found[::-1]


def test_attribution_runs_from_the_outputs_back() -> None:
    model = network()
    found = importance(model, inputs())
    with torch.no_grad():
        for (name, scores), wanted in zip(
            sorted(found.items()), by_definition(model, inputs()), strict=True
        ):
            assert_close(scores.edges, wanted, name, 1e-9)
            assert_close(scores.inputs, wanted.sum(0), name, 1e-9)


def test_variance_is_a_share_of_each_node() -> None:
    found = importance(network(), inputs(), score="variance")
    for scores in found.values():
        assert_close(scores.edges.sum(-1), torch.ones(len(scores.edges)), "shares", 1e-12)
        assert_close(scores.inputs, scores.edges.amax(0), "nodes")


@pytest.mark.parametrize("score", ["attribution", "variance"])
def test_constant_and_pruned_edges_score_nothing(score: str) -> None:
    model = network()
    with torch.no_grad():
        model.layers[0].mask[1] = 0
        model.layers[1].mask[2, 3] = 0
        model.layers[2].theta[0, 1, 1::2] = 0
        model.layers[2].base_weight[0, 1] = 0
    found = importance(model, inputs(), score=score)
    assert float(found["layers.0"].edges[1].abs().max()) == 0.0
    assert float(found["layers.1"].edges[2, 3]) == 0.0
    assert float(found["layers.2"].edges[0, 1]) < 1e-12


def test_a_mean_far_away_takes_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QKANLayer(2, 1, base="identity", dtype=DOUBLE)
    with torch.no_grad():
        layer.weight.zero_()
        layer.base_weight.copy_(torch.tensor([[1.0, 2.0]]))
    x = 1e8 + torch.rand(50, 2, generator=generator(0), dtype=DOUBLE)
    monkeypatch.setattr(
        sys.modules["qkan.interpret.importance"], "_EDGES_AT_ONCE", 22
    )  # in parts of eleven
    found = importance(layer, x)[""]
    spread = x.std(0, correction=0) * torch.tensor([1.0, 2.0])
    assert_close(found.edges[0], spread / layer(x).std(correction=0), "shares", 1e-7)
    assert_close(found.mean[0] / x.mean(0), torch.tensor([1.0, 2.0]), "mean", 1e-12)


def test_what_forms_a_row() -> None:
    twice = QKANLayer(4, 4)
    model = nn.Sequential(
        QKANLayer(3, 4), QKANLayer(4, 4), nn.Linear(4, 4), twice, twice, QKAN([4, 3, 2]),
        nn.ModuleDict({"a": QKANLayer(2, 2)}),
    )  # fmt: skip
    names = [[name for name, _ in chain] for chain in chains(model)]
    assert names == [["0", "1"], ["5.layers.0", "5.layers.1"], ["3"], ["6.a"]]
    assert [[n for n, _ in c] for c in chains(QKAN([2, 3, 1]))] == [["layers.0", "layers.1"]]
    assert [[n for n, _ in c] for c in chains(QKANLayer(2, 3))] == [[""]]


# ---- the penalty


def test_the_penalty_is_its_formula() -> None:
    sizes = [torch.tensor([0.5, 1.5, 2.0]), torch.tensor([3.0])]
    p = sizes[0] / 4
    wanted = 0.7 * 7.0 - 0.3 * float((p * p.log()).sum())
    assert float(sparsity(sizes, l1=0.7, entropy=0.3)) == pytest.approx(wanted)


def test_the_penalty_is_finite_at_zero() -> None:
    sizes = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    sparsity([sizes]).backward()
    assert sizes.grad is not None and sizes.grad.isfinite().all()
    nothing = torch.zeros(3, requires_grad=True)
    sparsity([nothing]).backward()
    assert nothing.grad is not None and nothing.grad.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"group": 2}, {"base": None, "ansatz": "rpz"}], ids=str)
def test_the_penalty_has_a_true_gradient(options: dict[str, object]) -> None:
    model = network((2, 3, 1), **options)
    model.layers[0].mask[1, 0] = 0
    x, y = inputs(6, 2), inputs(6, 1)
    with sparse_loss(model, 0.3) as loss:

        def value(*values: Tensor) -> Tensor:
            with torch.no_grad():
                for p, v in zip(model.parameters(), values, strict=True):
                    p.copy_(v)
            return loss(model(x), y)

        start = [p.detach().clone() for p in model.parameters()]
        value(*start).backward()
        for n, p in enumerate(model.parameters()):
            direction = torch.randn(p.shape, generator=generator(n), dtype=DOUBLE)
            ends = [
                [s + step * direction if m == n else s for m, s in enumerate(start)]
                for step in (1e-5, -1e-5)
            ]
            slope = (value(*ends[0]) - value(*ends[1])).item() / 2e-5
            assert slope == pytest.approx(float((p.grad * direction).sum()), rel=1e-4, abs=1e-7)


def test_the_penalty_is_of_training_only_and_lets_go() -> None:
    model = network((2, 2, 1))
    x, y = inputs(6, 2), inputs(6, 1)
    plain = nn.functional.mse_loss(model(x), y)
    with sparse_loss(model, 0.1) as loss:
        assert loss(model(x), y) > plain
        assert torch.equal(loss(model.eval()(x), y), plain)
        model.train()
    assert not any(layer._forward_pre_hooks for layer in model.layers)
    with sparse_loss(model, 0.1, loss="l1", l1=0, entropy=0) as loss:
        assert torch.equal(loss(model(x), y), nn.functional.l1_loss(model(x), y))


def test_wrong_penalties_are_refused() -> None:
    model = network((2, 1))
    for options in ({"strength": -1.0}, {"strength": math.nan}, {"strength": 1, "l1": -1}):
        with pytest.raises(QKANError, match="0 or more"), sparse_loss(model, **options):
            pass
    with pytest.raises(QKANError, match="no QKANLayer"), sparse_loss(nn.Linear(1, 1), 1.0):
        pass
    with sparse_loss(model, 1.0) as loss, pytest.raises(QKANError, match="once in each step"):
        loss(torch.zeros(1), torch.zeros(1))
