"""`fit_extending`: stages of training with extensions between them."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qkan import QKAN, QKANError, QKANLayer, extend, fit, fit_extending
from qkan._progress import Progress

DOUBLE = torch.float64


def reps_of(layer: nn.Module) -> int:
    assert isinstance(layer, QKANLayer)
    return layer.circuit.num_encodings


def wave() -> tuple[Tensor, Tensor]:
    x = torch.linspace(-1, 1, 41, dtype=DOUBLE).unsqueeze(-1)
    return x, torch.sin(5 * x) * x


def network(reps: int = 1) -> QKAN:
    return QKAN([1, 2, 1], reps=reps, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def test_stages_are_fits_and_extensions_in_a_row() -> None:
    model, history = fit_extending(network(), wave(), reps=[1, 2, 4], steps=3, progress=False)
    by_hand, losses = network(), []
    for reps in (1, 2, 4):
        by_hand = extend(by_hand, reps)
        losses += fit(by_hand, wave(), steps=3, progress=False).train_loss
    assert history.train_loss == losses
    assert history.step == list(range(1, 10)) and len(history.learning_rate) == 9
    assert all(a <= b for a, b in zip(history.seconds, history.seconds[1:], strict=False))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), by_hand.parameters(), strict=True)
    )
    assert history.train_loss[-1] < 0.1 * history.train_loss[2]


def test_the_model_it_starts_from_stays() -> None:
    start = network()
    wanted = copy.deepcopy(start.state_dict())
    fit_extending(start, wave(), reps=[2], steps=1, progress=False)
    assert all(torch.equal(wanted[name], value) for name, value in start.state_dict().items())


def test_options_reach_every_stage() -> None:
    model, history = fit_extending(
        network(), wave(), reps=[1, 3], steps=4, validation=wave(), optimizer="adam", lr=0.03,
        seed=1, batch_size=7, progress=False,
    )  # fmt: skip
    assert set(history.learning_rate) == {0.03}
    assert history.best_step is not None and history.best_step > 4
    assert reps_of(model.layers[0]) == 3


def test_schedules_that_cannot_be_right_are_refused() -> None:
    for reps in ([], [2, 2], [3, 1]):
        with pytest.raises(QKANError, match="rising"):
            fit_extending(network(), wave(), reps=reps, steps=1)
    model = network()
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(QKANError, match="one stage"):
        fit_extending(model, wave(), reps=[1, 2], steps=1, optimizer=adam)
    with pytest.raises(TypeError, match="batch_size"):
        fit_extending(model, wave(), reps=[1, 2], steps=1, batchsize=3)


def test_one_bar_counts_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Counting] = []

    class Counting(Progress):
        def __init__(self, total: int, *arguments: Any, **options: Any) -> None:
            super().__init__(total, *arguments, **options)
            self.total, self.count, self.closed = total, 0, False
            bars.append(self)

        def advance(self, **values: float | None) -> None:
            assert not self.closed
            self.count += 1

        def close(self) -> None:
            self.closed = True
            super().close()

    for module in ("qkan.surgery.fit_extending", "qkan._progress"):
        monkeypatch.setattr(sys.modules[module], "Progress", Counting)
    fit_extending(network(), wave(), reps=[1, 2, 3], steps=2, progress=False)
    assert [(bar.total, bar.count, bar.closed) for bar in bars] == [(6, 6, True)]
    fit(network(), wave(), steps=2, progress=False)
    assert [(bar.total, bar.count, bar.closed) for bar in bars[1:]] == [(2, 2, True)]


def test_ctrl_c_ends_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Stop(nn.Module):
        """Interrupts in the second stage."""

        def forward(self, x: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return x

    model = nn.Sequential(Stop(), network())
    found, history = fit_extending(
        model, wave(), reps=[1, 2, 3], steps=3, optimizer="adam", progress=False
    )
    assert history.interrupted and len(history) < 9
    assert reps_of(found[1].layers[0]) == 3 - (len(history) < 6)
