"""What pruning takes away and leaves."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import pytest
import torch
from compare import assert_close
from small_networks import DOUBLE, OPTIONS, generator, inputs, network
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qkan import (
    QKAN,
    QKANError,
    QKANLayer,
    ScaleWarning,
    compact,
    fit,
    importance,
    load,
    prune,
    save,
    sparse_loss,
)  # fmt: skip

# ---- pruning


def with_dead_parts(**options: object) -> QKAN:
    """Hidden node 1 of the first layer is unread, node 2 of the second one is a constant."""
    model = network(**options)
    with torch.no_grad():
        model.layers[1].mask[:, 1] = 0
        model.layers[1].mask[2] = 0
        model.layers[0].mask[4, 0] = 0
    return model


@pytest.mark.parametrize("name", OPTIONS)
def test_compact_keeps_the_function(name: str) -> None:
    model = with_dead_parts(**OPTIONS[name])
    small = compact(model)
    wanted = [3, 4, 4, 2] if OPTIONS[name].get("bias") is False else [3, 4, 3, 2]
    assert small.widths == wanted
    assert_close(small(inputs()), model(inputs()), name, 1e-12)
    for layer, old in zip(small.layers, model.layers, strict=True):
        skipped = {"in_features", "out_features", "group"}
        new, before = layer.config(), old.config()
        assert all(new[key] == before[key] for key in new if key not in skipped)
        rebuilt = QKANLayer.from_config(new)
        shapes = {key: value.shape for key, value in rebuilt.state_dict().items()}
        assert shapes == {key: value.shape for key, value in layer.state_dict().items()}


def test_which_groups_remain() -> None:
    model = network((2, 6, 1), group=2, seed=3)
    with torch.no_grad():
        model.layers[0].group, whole = 2, copy.deepcopy(model)
        model.layers[1].mask[:, [1, 4]] = 0
    even = compact(model)
    assert even.layers[1].group == 2 and even.layers[1].in_features == 4
    assert_close(even(inputs(9, 2)), model(inputs(9, 2)), "even", 1e-12)
    with torch.no_grad():
        whole.layers[1].mask[:, [0, 1]] = 0
    odd = compact(whole)
    # one input of the first group and three of the second: no even groups, so copies
    assert odd.layers[1].group == 4
    assert_close(odd(inputs(9, 2)), whole(inputs(9, 2)), "odd", 1e-12)
    with torch.no_grad():
        whole.layers[1].mask[:, 2] = 0
    one = compact(whole)
    assert one.layers[1].group == 1 and len(one.layers[1].theta) == 1


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("score", ["attribution", "variance"])
def test_what_is_kept_is_the_masked_function(name: str, score: str) -> None:
    model = network(**OPTIONS[name])
    edges = torch.cat(
        [s.edges.flatten() for s in importance(model, inputs(), score=score).values()]
    )
    cut = functools.partial(prune, edge_threshold=float(edges.quantile(0.3)), score=score)
    masked = cut(model, inputs(), remove_nodes=False)
    assert masked.widths == model.widths
    removed = sum(int((layer.mask == 0).sum()) for layer in masked.layers)
    assert 0 < removed < sum(layer.mask.numel() for layer in masked.layers)
    small = cut(model, inputs())
    assert_close(small(inputs()), masked(inputs()), name, 1e-12)
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        for layer, other in zip(by_hand.layers, masked.layers, strict=True):
            layer.mask.copy_(other.mask)
    assert torch.equal(masked(inputs()), by_hand(inputs()))


def test_edges_go_by_their_score() -> None:
    model = network((4, 3))
    x = inputs(23, 4)
    scores = importance(model, x)["layers.0"].edges
    threshold = float(scores.flatten().sort().values[5])
    masked = prune(model, x, edge_threshold=threshold, node_threshold=0)
    assert torch.equal(masked.layers[0].mask == 0, scores < threshold)
    assert prune(model, x, edge_threshold=0, node_threshold=0).layers[0].mask.all()


def test_weak_nodes_go_with_all_their_edges() -> None:
    model = network((3, 5, 2))
    nodes = importance(model, inputs())["layers.1"].inputs
    threshold = float(nodes.sort().values[2])
    small = prune(model, inputs(), edge_threshold=0, node_threshold=threshold)
    assert small.widths == [3, 3, 2]
    keep = (nodes >= threshold).nonzero().flatten()
    assert torch.equal(small.layers[0].weight, model.layers[0].weight[keep])
    assert torch.equal(small.layers[1].theta, model.layers[1].theta[:, keep])


def test_no_edge_comes_back() -> None:
    model = network()
    with torch.no_grad():
        model.layers[0].mask[0, 2] = 0
        model.layers[1].mask[1, 1] = 0
    once = prune(model, inputs(), edge_threshold=0.1, remove_nodes=False)
    twice = prune(once, inputs(), edge_threshold=0.0, node_threshold=0.0, remove_nodes=False)
    for a, b, c in zip(model.layers, once.layers, twice.layers, strict=True):
        assert not ((b.mask != 0) & (a.mask == 0)).any()
        assert torch.equal(b.mask, c.mask)


def test_the_mean_can_be_kept() -> None:
    model = network((3, 4), seed=2)
    kept = prune(model, inputs(), edge_threshold=0.4, keep_mean=True)
    assert (kept.layers[0].mask == 0).any()
    assert_close(kept(inputs()).mean(0), model(inputs()).mean(0), "mean", 1e-12)
    dropped = prune(model, inputs(), edge_threshold=0.4)
    moved = (dropped(inputs()).mean(0) - model(inputs()).mean(0)).abs().max()
    assert float(moved.detach()) > 1e-3


def test_the_rest_of_the_model_is_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 3), network(), nn.Dropout(0.5), QKANLayer(2, 3)).double()
    model[1].layers[0].theta.requires_grad_(False)
    model[2].eval()
    with torch.no_grad():
        model[3].weight[1, 0] = model[3].base_weight[1, 0] = 0
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    model(inputs()).sum().backward()
    small = prune(model, inputs(), edge_threshold=0.1)
    assert [module.training for module in small.modules()] == modes
    assert not small[1].layers[0].theta.requires_grad and small[1].layers[0].weight.requires_grad
    assert all(p.grad is None for p in small.parameters())
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert torch.equal(small[0].weight, model[0].weight)
    assert (small[3].mask == 0).any() and small[3].in_features == 2
    assert small[1].input_range == (-1, 2)


def test_a_shared_layer_keeps_its_shape() -> None:
    shared = network((3, 3)).layers[0]
    model = nn.Sequential(shared, shared)
    small = prune(model, inputs(), edge_threshold=0.3)
    assert small[0] is small[1] and small[0].weight.shape == (3, 3) and (small[0].mask == 0).any()


def test_pruned_models_save_load_and_train(tmp_path: Path) -> None:
    small = prune(with_dead_parts(group=2), inputs(), edge_threshold=0.1)
    save(small, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert torch.equal(loaded(inputs()), small(inputs()))
    assert loaded.config() == small.config()
    history = fit(small, (inputs(), inputs()[:, :2]), steps=3, progress=False)
    assert history.train_loss[-1] < history.train_loss[0]


# ---- it finds what is there


@functools.cache
def trained(seed: int) -> tuple[QKAN, Tensor, Tensor]:
    """exp(sin πx + y²) of three inputs, the last one noise, trained with the penalty."""
    g = generator(seed)
    x = 2 * torch.rand(200, 3, generator=g, dtype=DOUBLE) - 1
    y = torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:2] ** 2)
    model = QKAN([3, 5, 1], input_range=(-1, 1), generator=g, dtype=DOUBLE)
    fit(model, (x, y), steps=5, progress=False)
    with sparse_loss(model, 1e-2) as loss:
        fit(model, (x, y), loss=loss, steps=10, progress=False)
    return model, x, y


@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_structure_and_drops_the_noise(seed: int) -> None:
    model, x, y = trained(seed)
    small = prune(model, x)
    assert small.widths == [3, 1, 1]
    assert small.layers[0].mask.tolist() == [[1, 1, 0]] and small.layers[1].mask.tolist() == [[1]]
    history = fit(small, (x, y), steps=8, progress=False)
    assert history.train_loss[-1] < 1e-3
    other = x.clone()
    other[:, 2] = 5.0
    with pytest.warns(ScaleWarning, match="outside input_range"):
        found = small(other)
    assert torch.equal(found, small(x))


# ---- what is refused


def test_pruning_everything_is_refused() -> None:
    model = network()
    with pytest.raises(QKANError, match="no path is left through layers"):
        prune(model, inputs(), edge_threshold=100.0)
    with pytest.raises(QKANError, match="no path is left"):
        prune(model, inputs(), node_threshold=100.0)
    with pytest.raises(QKANError, match="no path is left through QKANLayer"):
        prune(model.layers[0], inputs(), edge_threshold=100.0)
    model.layers[1].mask.zero_()
    with pytest.raises(QKANError, match=r"these masks.*layers\.1"):
        compact(model)


def test_data_and_models_that_cannot_be_scored_are_refused() -> None:
    model = network()
    for wrong in ([[1.0, 2.0, 3.0]], torch.tensor(1.0)):
        with pytest.raises(QKANError, match="pass a torch tensor"):
            prune(model, wrong)
    for wrong in (inputs(1), inputs(3)[0], inputs(0)):
        with pytest.raises(QKANError, match="at least two samples"):
            prune(model, wrong)
    with pytest.raises(QKANError, match="in_features=3"):
        prune(model, inputs(5, 2))
    with pytest.raises(QKANError, match="NaN or infinite"):
        prune(model, inputs().fill_(math.nan))
    with pytest.raises(QKANError, match="contains NaN"):
        prune(nn.Sequential(Root(), model), -inputs().abs())
    with pytest.raises(QKANError, match="Linear contains no QKANLayer"):
        prune(nn.Linear(3, 1).double(), inputs())
    with torch.no_grad():
        model.layers[1].weight[0, 0] = math.nan
    with pytest.raises(QKANError, match=r"layers\.1\.weight has values that are not finite"):
        prune(model, inputs())


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def test_wrong_options_are_refused() -> None:
    model = network()
    with pytest.raises(QKANError, match="attribution"):
        prune(model, inputs(), score="atribution")
    for name in ("edge_threshold", "node_threshold"):
        for wrong in (-0.1, math.nan, "0.1"):
            with pytest.raises(QKANError, match=name):
                prune(model, inputs(), **{name: wrong})
    with pytest.raises(QKANError, match="needs a bias"):
        prune(network(bias=False), inputs(), keep_mean=True)
    parametrize.register_parametrization(model.layers[1], "theta", nn.Identity())
    with pytest.raises(QKANError, match="parametrize"):
        compact(model)
