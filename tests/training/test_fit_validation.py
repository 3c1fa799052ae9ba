"""`fit`: which parameters it keeps: the best, the last good, those before Ctrl-C."""

from __future__ import annotations

import functools
import json
import math
import os
import select
import struct
import sys
from typing import Any

import matplotlib
import pytest
import torch
from fitting import Seen, Squares, Stopping, Stream, assert_same, data, line, network, quiet, values
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from qkan import QKANError
from qkan._progress import Progress
from qkan.training.history import History

mse = nn.functional.mse_loss


# ---- validation


@pytest.mark.parametrize("kind", ["pair", "dataset", "loader"])
def test_the_best_parameters_are_restored(kind: str) -> None:
    held = {
        "pair": data(11, seed=1),
        "dataset": TensorDataset(*data(11, seed=1)),
        "loader": DataLoader(TensorDataset(*data(11, seed=1)), batch_size=4, shuffle=True),
    }[kind]
    model = network()
    # a rate so high that the last step is not the best one
    history = quiet(model, data(), validation=held, optimizer="adam", lr=0.4, steps=11)
    evaluated = [v for v in history.validation_loss if v is not None]
    assert len(evaluated) == 11
    best = min(evaluated)
    assert history.best_step == evaluated.index(best) + 1 < 11
    x, y = data(11, seed=1)
    assert mse(model(x), y).item() == pytest.approx(best, rel=1e-5)
    twin = network()
    quiet(twin, data(), optimizer="adam", lr=0.4, steps=history.best_step)
    assert_same(values(model), values(twin))


def test_buffers_belong_to_the_best() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    x, y = data()
    history = quiet(model, (x, y), validation=(x, -y), optimizer="sgd", lr=0.1, steps=5)
    assert history.best_step is not None
    assert int(model[0].num_batches_tracked) == history.best_step < 5


def test_a_fraction_is_held_out_by_the_seed() -> None:
    seen, held = [], []
    for seed in (0, 0, 1):
        for train in (line(10), Squares()):
            model = Seen()
            quiet(model, train, validation=0.3, optimizer="sgd", lr=1e-4, steps=2, seed=seed)
            total = {x for batch in model.batches + model.held for x in batch}
            assert total == set(
                train[0].flatten().tolist() if isinstance(train, tuple) else range(7)
            )
            assert set(model.batches[0]).isdisjoint(model.held[0])
            assert len(model.held[0]) == (3 if isinstance(train, tuple) else 2)
            seen.append(model.batches)
            held.append(model.held)
    assert held[0] == held[2] != held[4] and seen[1] == seen[3] != seen[5]


def test_validation_changes_no_training_step() -> None:
    losses = []
    for held in (None, data(9, seed=2)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        history = quiet(
            model, data(), validation=held, optimizer="adam", batch_size=6, steps=9, seed=0
        )
        losses.append(history.train_loss)
    assert losses[0] == losses[1]


def test_the_last_step_is_evaluated_within_an_epoch() -> None:
    history = quiet(
        Seen(), line(), validation=line(4), optimizer="sgd", lr=1e-3, batch_size=3, steps=5
    )
    assert [v is not None for v in history.validation_loss] == [False, False, True, False, True]
    assert history.best_step == 5


def test_modes_are_returned_as_they_were_found() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[1].eval()
    quiet(model, data(), validation=data(), optimizer="sgd", steps=2)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert int(model[1].num_batches_tracked) == 0
    model.eval()
    quiet(model, data(), optimizer="sgd", steps=2)
    assert not any(module.training for module in model.modules())
    assert int(model[1].num_batches_tracked) == 2


def test_patience_stops_and_restores() -> None:
    x, y = line()
    model = Seen()
    history = quiet(
        model, (x, y), validation=(x, -y), optimizer="sgd", lr=1e-3, steps=50, patience=3
    )
    assert history.stopped_early and len(history) == 4 and history.best_step == 1
    assert "stopped early" in repr(history)
    twin = Seen()
    quiet(twin, (x, y), optimizer="sgd", lr=1e-3, steps=1)
    assert_same(values(model), values(twin))
    calm = quiet(Seen(), (x, y), validation=(x, y), optimizer="sgd", lr=1e-3, steps=5, patience=3)
    assert not calm.stopped_early and len(calm) == 5


# ---- losses that are not finite


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_at_once(optimizer: str, bad: float) -> None:
    model, good = network(), network()
    calls = Stopping(0, 1.0)
    quiet(good, data(), loss=calls, optimizer=optimizer, steps=2)
    loss = Stopping(calls.calls + 1, bad)
    with pytest.raises(QKANError, match=rf"The loss is {bad} at step 3\. .* last good parameters"):
        quiet(model, data(), loss=loss, optimizer=optimizer, steps=9)
    # the loss after step 1 was the last finite one; LBFGS had evaluated it after step 2 too
    known = network()
    quiet(known, data(), optimizer=optimizer, steps=1)
    assert_same(values(model), values(known))
    assert loss.calls == loss.at


def test_a_loss_that_is_not_finite_after_lbfgs_undoes_the_step() -> None:
    model, known = network(), network()
    calls = Stopping(0, 1.0)
    quiet(known, data(), loss=calls, steps=1)
    at = calls.calls
    quiet(network(), data(), loss=calls, steps=2)
    with pytest.raises(QKANError, match=r"The loss is nan after step 2\."):
        quiet(model, data(), loss=Stopping(calls.calls - at, math.nan), steps=9)
    assert_same(values(model), values(known))


def test_a_gradient_that_is_not_finite_undoes_the_step() -> None:
    model = Seen()
    with pytest.raises(
        QKANError, match="A parameter is not finite after step 1, since its gradient"
    ):
        quiet(model, line(), loss=lambda p, t: (p - p.detach()).abs().sqrt().mean(), steps=1,
              optimizer="sgd")  # fmt: skip
    assert model.weight.item() == 1.0


def test_a_run_that_diverges_keeps_finite_parameters() -> None:
    model = Seen()
    with pytest.raises(QKANError, match=r"at step \d.*Lower lr"):
        quiet(model, line(), optimizer="sgd", lr=1e15, steps=50)
    assert model.weight.isfinite().all()


def test_the_best_parameters_come_back_when_there_are_some() -> None:
    x, y = data()
    model, twin = network(), network()
    loss = Stopping(8, math.nan)
    with pytest.raises(QKANError, match=r"step 4.* best parameters back"):
        quiet(model, (x, y), validation=(x, y), loss=loss, optimizer="adam", lr=1e-3, steps=9)
    assert loss.calls == 8
    # two calls a step, so the 8th is the validation after step 4
    quiet(twin, (x, y), optimizer="adam", lr=1e-3, steps=3)
    assert_same(values(model), values(twin))


def test_a_bad_sample_of_a_loader_is_named() -> None:
    x, y = line()
    x[5] = math.nan
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    with pytest.raises(
        QKANError, match=r"nan at step 2\. The batch's x: sample 1 has nan \(1 of 3"
    ):
        quiet(Seen(), loader, optimizer="sgd", lr=1e-3, steps=4)


# ---- Ctrl-C


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_ctrl_c_undoes_the_step_it_cut_short(optimizer: str) -> None:
    counted = Stopping(0, 1.0)
    for steps in (1, 2, 3):
        quiet(network(), data(), loss=counted, optimizer=optimizer, steps=steps)
    first, second, third = network(), network(), network()
    calls = Stopping(0, 1.0)
    quiet(first, data(), loss=calls, optimizer=optimizer, steps=2)
    wanted = values(first)
    # within the third step: its first call, and for LBFGS one in the line search
    for extra, model in ((1, second), (1 if optimizer == "adam" else 7, third)):
        loss = Stopping(calls.calls + extra, KeyboardInterrupt)
        history = quiet(model, data(), loss=loss, optimizer=optimizer, steps=9)
        assert history.interrupted and len(history) == 2 and "interrupted" in repr(history)
        assert not history.stopped_early
        assert_same(values(model), wanted)
        assert model.training


def test_ctrl_c_keeps_the_best() -> None:
    x, y = line()
    model, twin = Seen(), Seen()
    loss = Stopping(7, KeyboardInterrupt)
    history = quiet(model, (x, y), validation=(x, -y), loss=loss, optimizer="sgd", lr=1e-3, steps=9)
    assert history.interrupted and len(history) == 3 and history.best_step == 1
    quiet(twin, (x, y), optimizer="sgd", lr=1e-3, steps=1)
    assert_same(values(model), values(twin))


# ---- the history and the bar


def test_history_plots_what_it_holds() -> None:
    matplotlib.use("agg")
    history = quiet(network(), data(), validation=data(5), optimizer="adam", batch_size=8, steps=9)
    ax = history.plot()
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "step" and ax.get_ylabel() == "loss"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["train", "validation", f"best step, {history.best_step}"]
    assert list(ax.lines[1].get_xdata()) == [3, 6, 9]
    assert history.plot(ax) is ax
    negative = History([1, 2], [0.5, -0.5], [None, None], [1.0, 1.0], [0.1, 0.2]).plot()
    assert negative.get_yscale() == "linear" and len(negative.lines) == 1
    assert History().plot().get_xlabel() == "step"
    matplotlib.pyplot.close("all")


def test_history_as_json_and_text() -> None:
    history = quiet(network(), data(), validation=data(5), optimizer="adam", steps=3)
    back = json.loads(json.dumps(history.to_dict(), allow_nan=False))
    assert History(**back) == history
    assert repr(history).startswith("History(3 steps, train_loss ")
    assert f"at step {history.best_step}" in repr(history)
    assert repr(History()) == "History(0 steps)"


def test_the_bar_is_silent_in_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    functools.partial(quiet, progress=True)(network(), data(), steps=2)
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_losses_and_rate_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="no pseudo-terminal")
    termios = pytest.importorskip("termios")
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(3, "fit", enabled=True, done=1) as bar:
            bar.advance(loss=0.5, validation=None)
            bar.advance(loss=0.25, validation=0.125)
        with Progress(3, "hidden", enabled=False) as bar:
            bar.advance(loss=0.5)
        stream.flush()
        read = b""
        # a busy machine hands it over in pieces
        while b"validation 1.250e-01" not in read and select.select([controller], [], [], 10)[0]:
            read += os.read(controller, 10_000)
    os.close(controller)
    shown = read.decode()
    assert "loss 2.500e-01, validation 1.250e-01" in shown and "3/3" in shown
    assert "step/s" in shown or "s/step" in shown
    assert "hidden" not in shown


# ---- what it refuses


X, Y = line()
BAD_X = X.clone()
BAD_X[2:4] = math.nan
FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "steps": ((X, Y), {"steps": 0}, "steps=0; wanted a whole number, 1 or more"),
    "steps true": ((X, Y), {"steps": True}, "steps=True"),
    "batch size": ((X, Y), {"batch_size": 0}, "batch_size=0; wanted .*, 1 or more. Or pass None"),
    "patience": ((X, Y), {"patience": 0}, "patience=0"),
    "patience alone": ((X, Y), {"patience": 2}, "patience=2 without validation"),
    "seed": ((X, Y), {"seed": 1.5}, "seed=1.5"),
    "lr": ((X, Y), {"lr": -1.0}, "lr=-1.0; wanted a finite number above 0"),
    "lr nan": ((X, Y), {"lr": math.nan}, "lr=nan"),
    "optimizer": ((X, Y), {"optimizer": "adan"}, "Unknown optimizer 'adan'. Did you mean 'adam'"),
    "optimizer none": ((X, Y), {"optimizer": lambda p: None}, "got NoneType"),
    "optimizer number": ((X, Y), {"optimizer": 3}, "optimizer=3: wanted a name"),
    "lr twice": ((X, Y), {"optimizer": lambda p: torch.optim.SGD(p), "lr": 1.0}, "lr=1.0 was"),
    "foreign": (
        (X, Y), {"optimizer": torch.optim.SGD([torch.ones(1, requires_grad=True)])}, "holds none",
    ),
    "lbfgs batches": ((X, Y), {"optimizer": "lbfgs", "batch_size": 3}, "LBFGS with batch_size=3"),
    "lbfgs loader": (
        DataLoader(Squares()), {"optimizer": torch.optim.LBFGS}, "LBFGS with a DataLoader",
    ),
    "loss": ((X, Y), {"loss": "msee"}, "Unknown loss 'msee'. Did you mean 'mse'"),
    "loss number": ((X, Y), {"loss": 3}, "loss=3; wanted a name, or a function"),
    "loss vector": ((X, Y), {"loss": lambda p, t: p - t}, r"returned \(7, 1\); wanted a scalar"),
    "loss float": ((X, Y), {"loss": lambda p, t: 1.0}, "returned float; wanted a scalar"),
    "loss detached": ((X, Y), {"loss": lambda p, t: t.mean()}, "does not depend on any trainable"),
    "broadcast": ((X, Y[:, 0]), {}, r"output has shape \(7, 1\) and the target \(7,\)"),
    "l1 broadcast": ((X, Y[:, 0]), {"loss": "l1"}, r"loss='l1'.*\(7,\)"),
    "dtype": ((X, Y.double()), {}, r"torch.float32 and the target torch.float64; use y.to\("),
    "scheduler": ((X, Y), {"scheduler": "cosin"}, "Unknown scheduler 'cosin'. Did you mean 'cosi"),
    "scheduler none": ((X, Y), {"scheduler": lambda o: None}, "got NoneType"),
    "scheduler number": ((X, Y), {"scheduler": 3}, "scheduler=3: wanted a function"),
    "no pair": (X, {}, "train is of type Tensor; pass a pair"),
    "triple": ((X, Y, Y), {}, "of type tuple with 3 items; wanted"),
    "numpy": ((X.numpy(), Y), {}, r"x is of type ndarray; pass a .*, torch.as_tensor\(x\)"),
    "scalar": ((X[0, 0], Y), {}, "train x is a single number"),
    "lengths": ((X, Y[1:]), {}, "train: x has 7 samples and y has 6"),
    "empty": ((X[:0], Y[:0]), {}, r"train is empty: x \(0, 1\)"),
    "empty dataset": (TensorDataset(X[:0], Y[:0]), {}, "train is empty"),
    "empty list": (torch.utils.data.Subset(Squares(), []), {}, "empty: a dataset of length 0"),
    "empty loader": (
        DataLoader(Squares(), batch_size=9, drop_last=True), {}, "training data is empty: the Data",
    ),
    "stream": (Stream(), {}, "train is a dataset without a length; pass it in a DataLoader"),
    "triples": (TensorDataset(X, Y, Y), {}, "of type tuple with 3 items; wanted"),
    "loader of triples": (
        DataLoader(TensorDataset(X, Y, Y)), {}, "DataLoader is of type list with 3",
    ),
    "loader twice": (DataLoader(Squares()), {"batch_size": 3}, "batch_size=3 .* with a DataLoader"),
    "nan x": ((BAD_X, Y), {}, r"train x: sample 2 has nan \(2 of 7 samples are not finite\)"),
    "inf y": ((X, Y / 0), {}, r"train y: sample 0 has inf \(7 of 7"),
    "nan validation": ((X, Y), {"validation": (BAD_X, Y)}, "validation x: sample 2 has nan"),
    "validation lengths": ((X, Y), {"validation": (X, Y[1:])}, "validation: x has 7 samples and"),
    "validation number": ((X, Y), {"validation": 2}, "validation is of type int; pass a pair"),
    "fraction": ((X, Y), {"validation": 0.01}, "validation=0.01 of 7 samples is 0"),
    "fraction all": ((X, Y), {"validation": 1.0}, "validation=1.0 of 7 samples is 7"),
    "fraction loader": (DataLoader(Squares()), {"validation": 0.5}, "from a DataLoader; pass"),
    "empty validation": (
        (X, Y), {"validation": DataLoader(Squares(), batch_size=9, drop_last=True)},
        "validation data is empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_before_anything_moves(fault: str) -> None:
    train, options, message = FAULTS[fault]
    model = Seen()
    with pytest.raises(QKANError, match=message):
        quiet(model, train, **{"optimizer": "sgd", "steps": 2, **options})
    # the validation's loader is first asked after a step
    assert fault == "empty validation" or model.weight.item() == 1.0


def test_no_model_and_nothing_to_train() -> None:
    with pytest.raises(QKANError, match="The model is of type function; wanted a torch"):
        quiet(mse, line(), steps=1)
    model = network().requires_grad_(False)
    for nothing in (model, nn.Identity()):
        with pytest.raises(QKANError, match="Nothing to train: the model has no parameter with"):
            quiet(nothing, line(), steps=1)
