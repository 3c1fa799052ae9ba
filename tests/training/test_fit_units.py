"""`fit` on targets in their own units: as good as on standardised ones, and said in `History`."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from fitting import quiet
from torch import Tensor, nn

from qkan import HQKAN, KAN, QKAN, QKANError, QKANLayer, ScaleWarning, SplineKAN

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(
    scale: float = 1.0, offset: float = 0.0, dtype: torch.dtype = DOUBLE
) -> tuple[Tensor, ...]:
    """Inputs, and targets of that spread, their mean so many spreads away from 0."""
    x = 2 * torch.rand(60, 2, generator=generator(), dtype=DOUBLE) - 1
    y = torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2
    y = (y - y.mean()) / y.std(correction=0)
    return x.to(dtype), ((y + offset) * scale).to(dtype)


def network(dtype: torch.dtype = DOUBLE) -> QKAN:
    return QKAN([2, 1], reps=2, dtype=dtype, generator=generator(1), engine="torch")


def r2(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        residual = (model(x) - y).double()
    return 1 - (residual.square().sum() / (y - y.mean()).double().square().sum()).item()


UNITS = [(1e-6, 30), (0.1, 0), (1e6, 0), (1, 1e3)]


@pytest.mark.parametrize(("optimizer", "steps"), [("lbfgs", 4), ("adam", 60)])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_any_unit_trains_as_well_as_standardised_targets(
    dtype: torch.dtype, optimizer: str, steps: int
) -> None:
    model, pair = network(dtype), data(dtype=dtype)
    history = quiet(model, pair, optimizer=optimizer, steps=steps)
    wanted = r2(model, *pair)
    assert wanted > 0.5 and history.target_scale is None and history.target_offset is None
    for scale, offset in [*UNITS, *([(1e3, 1e6)] if dtype is DOUBLE else [])]:
        model, pair = network(dtype), data(scale, offset, dtype)
        history = quiet(model, pair, optimizer=optimizer, steps=steps)
        assert r2(model, *pair) == pytest.approx(wanted, abs=1e-3), (scale, offset)
        assert history.target_scale == [pytest.approx(scale, rel=1e-2)]
        # the last loss is that of the model that was left, in the units of the targets
        if optimizer == "lbfgs":
            loss = (model(pair[0]) - pair[1]).square().mean().item()
            assert loss == pytest.approx(history.train_loss[-1], rel=0.2)


MODELS = {
    "layer": QKANLayer(2, 1, engine="torch", dtype=DOUBLE, generator=generator()),
    "no base": QKANLayer(2, 1, base=None, engine="torch", dtype=DOUBLE, generator=generator()),
    "hybrid": HQKAN(2, 1, latent=3, engine="torch", dtype=DOUBLE),
    "splines": SplineKAN.start([2, 3, 1], generator=generator(), dtype=DOUBLE),
    "kan": KAN([2, 3, 1], dtype=DOUBLE, generator=generator()),
    "sequence": nn.Sequential(nn.Flatten(), network(), nn.Linear(1, 1, dtype=DOUBLE)),
    "compiled": torch.compile(network(), backend="eager"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_last_layer_of_every_kind_takes_the_units(name: str) -> None:
    model, pair = copy.deepcopy(MODELS[name]), data(1e4, 1e3)
    history = quiet(model, pair, optimizer="adam", steps=20)
    assert history.target_scale == [pytest.approx(1e4, rel=0.2)]
    assert r2(model, *pair) > -1


def test_outputs_have_units_of_their_own() -> None:
    x, y = data()
    pair = x, torch.cat([y, 1e3 * y + 5e4, torch.full_like(y, 7e3)], 1)
    model = QKAN([2, 3], engine="torch", dtype=DOUBLE, generator=generator())
    history = quiet(model, pair, steps=5)
    assert history.target_scale == [1.0, pytest.approx(1e3), 7e3]
    assert history.target_offset == [0.0, pytest.approx(5e4), pytest.approx(7e3)]
    assert "scaled" in repr(history)


def test_a_second_fit_is_untouched() -> None:
    model, pair = network(), data(1e3, 50)
    assert quiet(model, pair, steps=4).target_scale is not None
    for optimizer in ("lbfgs", "adam"):
        again = quiet(model, pair, optimizer=optimizer, steps=1)
        assert again.target_scale is None
    assert r2(model, *pair) > 0.9


def test_a_trained_model_whose_targets_are_noise_is_untouched() -> None:
    x, _ = data()
    y = 1e3 * torch.randn(60, 1, generator=generator(3), dtype=DOUBLE)
    model = network()
    assert quiet(model, (x, y), steps=1).target_scale is not None
    assert quiet(model, (x, y), steps=1).target_scale is None


def test_a_resumed_run_is_the_run_to_the_bit(tmp_path: Path) -> None:
    whole, parts, pair = network(), network(), data(1e3, 50)
    options = {"optimizer": "adam", "batch_size": 64, "seed": 0}
    wanted = quiet(whole, pair, steps=9, **options)
    for steps in (5, 9):
        found = quiet(parts, pair, steps=steps, checkpoint=tmp_path / "run", **options)
    assert found.train_loss == wanted.train_loss and found.target_scale == wanted.target_scale
    assert all(map(torch.equal, parts.parameters(), whole.parameters()))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_a_run_leaves_the_model_in_the_units(error: type[BaseException]) -> None:
    model, (x, y) = network(), data(1e3, 50)
    calls = 0

    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        adam = torch.optim.Adam(parameters, lr=1e-2)

        def stop(*_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise error

        adam.register_step_pre_hook(stop)
        return adam

    if error is KeyboardInterrupt:
        assert quiet(model, (x, y), optimizer=optimizer, steps=9).interrupted
    else:
        with pytest.raises(RuntimeError):
            quiet(model, (x, y), optimizer=optimizer, steps=9)
    assert abs(model(x).mean().item() / 5e4 - 1) < 0.1


class Own(nn.Module):
    """A model whose last layer nobody can know."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Squared(QKAN):
    """One whose outputs are not those of its last layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


def frozen() -> QKAN:
    model = network()
    model.layers[-1].weight.requires_grad_(False)
    return model


OTHERS = {
    "own": Own,
    "squared": lambda: Squared([2, 1], engine="torch", dtype=DOUBLE),
    "frozen": frozen,
    "no bias": lambda: QKAN([2, 1], bias=False, engine="torch", dtype=DOUBLE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_warned_and_left_as_they_are(name: str) -> None:
    model, (x, y) = OTHERS[name](), data(1, 1e4)
    twin = copy.deepcopy(model)
    with pytest.warns(ScaleWarning, match=r"the mean 1e\+04 and the spread 1, .*[Ss]tandardise"):
        history = quiet(model, (x, y), optimizer="adam", steps=1)
    assert history.target_scale is None
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    nn.functional.mse_loss(twin(x), y).backward()
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_a_loss_of_ones_own_is_warned_too() -> None:
    x, y = data(1e4)
    with pytest.warns(ScaleWarning, match="Standardise"):
        quiet(network(), (x, y), loss=nn.MSELoss(), optimizer="adam", steps=1)


def test_a_loss_that_becomes_nan_names_the_cause() -> None:
    with (
        pytest.warns(ScaleWarning),
        pytest.raises(QKANError, match=r"(?s)is (inf|nan) .*The targets have the mean"),
    ):
        quiet(Own(), data(1e160), steps=5)


@pytest.mark.parametrize("scale", [0.55, 1.0, 3.5])
def test_targets_near_the_outputs_train_as_a_loop_by_hand(scale: float) -> None:
    model, twin, (x, y) = network(), network(), data(scale, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet(model, (x, y), optimizer="adam", steps=1)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    nn.functional.mse_loss(twin(x), y).backward()
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_minibatches_and_loaders_have_units_too() -> None:
    x, y = data(1e3, 20)
    for train in ((x, y), torch.utils.data.TensorDataset(x, y)):
        model = network()
        quiet(model, train, optimizer="adam", batch_size=20, steps=20, seed=0, validation=0.2)
        assert r2(model, x, y) > 0.1
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20)
    history = quiet(network(), loader, optimizer="adam", steps=2, seed=0)
    assert history.target_scale is not None
    assert history.target_offset == [pytest.approx(2e4, rel=0.05)]


# ---- a training that ends worse than it began


def test_divergence_is_said() -> None:
    from qkan import DivergenceWarning

    with pytest.warns(DivergenceWarning, match=r"began at .* learning rates up to 10\. Lower lr"):
        history = quiet(network(), data(), optimizer="adam", lr=10, steps=5)
    assert history.diverged and "diverged" in repr(history)
    assert not quiet(network(), data(), optimizer="adam", steps=5).diverged


def test_a_loss_that_is_still_falling_is_said() -> None:
    history = quiet(network(), data(), optimizer="adam", lr=0.01, steps=24)
    assert history.still_falling and "still falling, more steps may help" in repr(history)
    assert not quiet(network(), data(), steps=12).still_falling
