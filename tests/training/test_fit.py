"""`fit`: what it trains, in which order, what it keeps, and what it leaves alone."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from fitting import Seen, Squares, Stream, assert_same, data, line, network, quiet, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import qkan
from qkan import DivergenceWarning, param_groups

# ---- what it does is what one would write by hand


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x, y = data()
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
    return [*losses, closure().item()]


HAND = {
    "lbfgs": lambda m: qkan.LBFGS(m.parameters(), lr=1, max_iter=20),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2),
    "adamw": lambda m: torch.optim.AdamW(param_groups(m, 1e-3)),
    "SGD": lambda m: torch.optim.SGD(m.parameters()),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters()),
}


@pytest.mark.parametrize("name", HAND)
def test_equals_a_loop_by_hand_to_the_bit(name: str) -> None:
    model, twin = network(), network()
    history = quiet(model, data(), optimizer=name, steps=4)
    losses = by_hand(twin, HAND[name](twin), steps=4)
    assert_same(values(model), values(twin))
    assert history.train_loss == (losses[1:] if name == "lbfgs" else losses[:-1])
    assert history.step == [1, 2, 3, 4]
    assert history.validation_loss == [None] * 4 and history.best_step is None
    assert history.seconds == sorted(history.seconds) and history.seconds[0] > 0


def test_lbfgs_learns() -> None:
    assert quiet(network(), data(100), steps=15).train_loss[-1] < 1e-4


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.Adam, lr=1e-2),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        torch.optim.Adam,
        "instance",
    ],
    ids=["partial", "function", "class", "instance"],
)
def test_other_ways_to_name_the_optimizer(optimizer: Any) -> None:
    model, twin = network(), network()
    if optimizer == "instance":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    quiet(model, data(), optimizer=optimizer, steps=3)
    quiet(twin, data(), optimizer="adam", steps=3)
    assert_same(values(model), values(twin))


def test_lr_reaches_the_optimizer_and_the_history() -> None:
    assert quiet(network(), data(), optimizer="adam", lr=0.25, steps=2).learning_rate == [0.25] * 2
    assert quiet(network(), data(), steps=1).learning_rate == [1.0]


def test_any_module_and_classification() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    y = (x.sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    history = quiet(model, (x, y), loss="cross_entropy", steps=5)
    assert history.train_loss[-1] < 0.05
    assert (model(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        ("l1", nn.functional.l1_loss),
        ("huber", nn.functional.huber_loss),
        ("bce_with_logits", nn.functional.binary_cross_entropy_with_logits),
        (lambda p, t: ((p - t) ** 4).mean(), lambda p, t: ((p - t) ** 4).mean()),
        (nn.MSELoss(), nn.functional.mse_loss),
    ],
    ids=["l1", "huber", "bce", "function", "module"],
)
def test_losses(loss: Any, function: Any) -> None:
    model = network()
    x, y = data()
    y = y.sigmoid() if loss == "bce_with_logits" else y
    wanted = function(model(x), y).item()
    assert quiet(model, (x, y), loss=loss, optimizer="sgd", steps=1).train_loss == [wanted]


def test_starts_where_the_model_is() -> None:
    whole, halves = network(), network()
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    quiet(whole, data(), optimizer=optimizer, steps=4)
    quiet(halves, data(), optimizer=optimizer, steps=2)
    quiet(halves, data(), optimizer=optimizer, steps=2)
    assert_same(values(halves), values(whole))


def test_frozen_parameters_stay_and_gradients_are_cleared() -> None:
    model = network()
    model.layers[0].theta.requires_grad_(False)
    before = values(model)
    quiet(model, data(), steps=2)
    assert torch.equal(before[0], model.layers[0].theta)
    assert not torch.equal(before[1], values(model)[1])
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- the order of the batches


def test_every_epoch_has_every_sample_once() -> None:
    model = Seen()
    quiet(model, line(), optimizer="sgd", lr=1e-3, batch_size=3, steps=6, seed=0)
    assert [len(batch) for batch in model.batches] == [3, 3, 1, 3, 3, 1]
    first, second = (
        [x for b in half for x in b] for half in (model.batches[:3], model.batches[3:])
    )
    assert sorted(first) == sorted(second) == [1, 2, 3, 4, 5, 6, 7]
    assert first != second and first != sorted(first)


SOURCES: dict[str, Any] = {
    "pair": (line(), 3),
    "list": ([*line()], 3),
    "tensor dataset": (TensorDataset(*line()), 3),
    "dataset": (Squares(), 3),
    "loader": (DataLoader(Squares(), batch_size=3, shuffle=True), None),
}


@pytest.mark.parametrize("source", SOURCES)
def test_seed_rules_the_order_and_nothing_global(source: str) -> None:
    train, batch_size = SOURCES[source]
    orders = []
    for seed, outside in ((5, 0), (5, 1), (6, 0), (None, 0), (None, 0)):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        model = Seen()
        quiet(model, train, optimizer="sgd", lr=1e-4, batch_size=batch_size, steps=9, seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        orders.append(model.batches)
    assert orders[0] == orders[1]
    assert len({str(order) for order in orders}) == 4


def test_a_whole_dataset_is_one_batch() -> None:
    model = Seen()
    quiet(model, Squares(), optimizer="sgd", lr=1e-4, steps=2)
    assert model.batches == [[0, 1, 2, 3, 4, 5, 6]] * 2


def test_a_loader_keeps_its_own_generator() -> None:
    orders = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(3)
        sampler = RandomSampler(Squares(), generator=generator)
        loader = DataLoader(Squares(), batch_size=3, sampler=sampler)
        model = Seen()
        quiet(model, loader, optimizer="sgd", lr=1e-4, steps=6, seed=seed)
        orders.append(model.batches)
    assert orders[0] == orders[1]


def test_a_stream_and_a_sampler_with_epochs() -> None:
    model = Seen()
    quiet(model, DataLoader(Stream(), batch_size=2), optimizer="sgd", lr=1e-4, steps=4)
    assert model.batches == [[0, 1], [2, 3], [4], [0, 1]]

    class Epochs(RandomSampler):
        seen: tuple[int, ...] = ()

        def set_epoch(self, epoch: int) -> None:
            self.seen += (epoch,)

    sampler = Epochs(Squares())
    loader = DataLoader(Squares(), batch_size=4, sampler=sampler)
    quiet(Seen(), loader, optimizer="sgd", lr=1e-4, steps=5)
    assert sampler.seen == (0, 1, 2)


def test_dropout_draws_what_it_would_draw_by_hand() -> None:
    x, y = data()
    states = []
    for trained in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        if trained:
            quiet(model, (x, y), validation=(x, y), optimizer="adam", steps=3, seed=1)
        else:
            by_hand(model, torch.optim.Adam(model.parameters(), lr=1e-2), steps=2)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


# ---- schedulers


def test_cosine_reaches_zero_over_the_steps() -> None:
    rates = quiet(network(), data(), optimizer="adam", lr=1.0, scheduler="cosine", steps=4)
    wanted = [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates.learning_rate == pytest.approx(wanted)


def test_a_scheduler_of_ones_own_moves_every_step() -> None:
    made = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
    history = quiet(network(), data(), optimizer="sgd", lr=0.5, scheduler=made, steps=5)
    assert history.learning_rate == [0.5, 0.5, 0.25, 0.25, 0.125]


def plateau(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)


def test_plateau_follows_the_validation_loss_once_an_epoch() -> None:
    x, y = line()
    # the training loss falls; seen from these targets it only gets worse
    history = quiet(
        Seen(), (x, y), validation=(x, -y), optimizer="sgd", lr=1e-3, batch_size=4,
        scheduler=plateau, steps=8, seed=0,
    )  # fmt: skip
    assert history.learning_rate == pytest.approx([1e-3 / 2**k for k in (0, 0, 0, 0, 1, 1, 2, 2)])
    assert [v is not None for v in history.validation_loss] == [False, True] * 4
    assert history.best_step == 2


def test_plateau_follows_the_mean_training_loss_without_validation() -> None:
    x, y = line()
    history = quiet(
        Seen(), (x, y), optimizer="sgd", lr=1e-3, batch_size=4, scheduler=plateau, steps=8, seed=0
    )
    assert history.learning_rate == [1e-3] * 8
    with pytest.warns(DivergenceWarning):
        worse = quiet(Seen(), (x, y), optimizer="sgd", lr=0.2, scheduler=plateau, steps=4)
    assert worse.learning_rate == [0.2, 0.2, 0.1, 0.05]
    assert quiet(Seen(), (x, y), scheduler="plateau", steps=2).learning_rate == [1.0, 1.0]


# ---- weight decay


def test_adamw_leaves_angles_without_gradient_where_they_are() -> None:
    model = network()
    with torch.no_grad():
        model.layers[-1].weight.zero_()
        model.layers[-1].base_weight.zero_()
    theta = model.layers[-1].theta.detach().clone()
    # no edge matters and every prediction is right: nothing but decay could move anything
    x, _ = data()
    quiet(model, (x, model(x).detach()), optimizer="adamw", lr=0.1, steps=3)
    assert torch.equal(theta, model.layers[-1].theta)
