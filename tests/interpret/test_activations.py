"""`DARUAN`s drawn, written as formulas, and explained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import (
    DARUAN,
    QKAN,
    QKANError,
    QKANLayer,
    explain,
    plot,
    plot_bloch,
    plot_circuit,
    plot_spectrum,
    symbolic,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "groups": {"group": 3, "reps": 2},
    "fixed scales": {"encoding": "ternary", "reps": 2, "group": 2, "base": "tanh"},
    "squared": {"base": "relu2"},
    "a module": {"base": nn.Softplus(), "group": 2},
    "a known module": {"base": nn.SiLU()},
    "a function": {"base": F.mish},
    "no base": {"base": None},
    "arccos": {"ansatz": "px", "group": 2},
}


def drawn(features: int | None = 6, **options: Any) -> DARUAN:
    generator = torch.Generator().manual_seed(0)
    activation = DARUAN(features, generator=generator, dtype=torch.float64, **options)
    with torch.no_grad():
        activation.amplitude.uniform_(0.3, 0.9, generator=generator)
        if activation.fixed_scale is None:
            activation.scale.uniform_(0.5, 2.5, generator=generator)
    return activation


def inputs(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_formula_is_the_activation(name: str) -> None:
    activation = drawn(**OPTIONS[name])
    formula = symbolic(activation)
    assert len(formula.outputs) == activation.group and formula.error < 1e-9
    x = torch.linspace(-3, 3, 6, dtype=torch.float64)
    values = formula(x[:, None])
    owner = torch.arange(6) * activation.group // 6
    for row in range(6):
        wanted = activation(x[row].expand(6)).detach()
        torch.testing.assert_close(values[row, owner], wanted, rtol=0, atol=1e-9)


def test_the_formula_is_its_base_and_its_waves() -> None:
    activation = drawn(None, base="tanh")
    with torch.no_grad():
        activation.scale.fill_(1.5)
    (wave,) = activation.waves().T  # type: ignore[union-attr]
    formula = symbolic(activation, digits=3, names=["v"])
    text = str(formula.expr)
    assert "tanh(v)" in text and "cos(1.5*v)" in text
    for number in wave.tolist():
        assert str(abs(round(number, 3))) in text
    assert formula.bound is not None and 0 < formula.error <= formula.bound < 0.01
    assert "Softplus(x)" in str(symbolic(drawn(base=nn.Softplus())).expr)
    for options in ({"forms": "elementary"}, {"search": True}, {"tolerance": 0.1}):
        with pytest.raises(QKANError, match="the formula of a DARUAN is its sum of waves"):
            symbolic(activation, **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_groups_curve_is_drawn(name: str) -> None:
    activation, x = drawn(**OPTIONS[name]), inputs(30, 2, 6)
    figure = plot(activation, x)
    axes = [ax for ax in figure.axes if ax.lines]
    assert len(axes) == activation.group
    owner = torch.arange(6) * activation.group // 6
    for group, ax in enumerate(axes):
        base, circuit, whole = (np.asarray(line.get_data()) for line in ax.lines[:3])
        own = x[..., owner == group]
        assert whole[0][0] == pytest.approx(own.min()) and whole[0][-1] == pytest.approx(own.max())
        np.testing.assert_allclose(base[1] + circuit[1], whole[1], atol=1e-12)
        feature = int((owner == group).nonzero()[0])
        at = torch.zeros(200, 6, dtype=torch.float64)
        at[:, feature] = torch.from_numpy(whole[0])
        wanted = activation(at)[:, feature].detach().numpy()
        np.testing.assert_allclose(whole[1], wanted, atol=1e-9)
    assert axes[0].get_legend() is not None


def test_ranges_and_what_is_left_out() -> None:
    figure = plot(drawn(None))
    (ax,) = figure.axes
    assert ax.lines[0].get_xdata()[[0, -1]].tolist() == [-4, 4]
    figure = plot(drawn(group="inputs"), most=4)
    assert len(figure.axes) == 4 and figure.get_suptitle() == "2 more groups are not drawn"
    for x, said in (
        (inputs(3, 5), r"pass at least one sample, \(…, 6\)"), (inputs(0, 6), "at least one"),
        (inputs(3, 6) / 0, "not finite"), ([1.0], "real floats"),
    ):  # fmt: skip
        with pytest.raises(QKANError, match=said):
            plot(drawn(), x)  # type: ignore[arg-type]
    with pytest.raises(QKANError, match="a QKAN is drawn over data"):
        plot(QKAN([2, 1]))
    activation = drawn()
    nn.init.constant_(activation.theta, math.nan)
    with pytest.raises(QKANError, match="theta has values that are not finite"):
        plot(activation)


def test_the_circuit_of_a_group_is_drawn() -> None:
    activation = drawn(group=2, reps=2)
    texts = [text.get_text() for text in plot_circuit(activation, (0, 0, 1)).axes[0].texts]
    shown = f"{activation.scale[1, 0].item():.2f} x"
    assert any(text.startswith(shown) for text in texts)
    spectrum = plot_spectrum(activation, (0, 0, 1)).axes[0].lines[1].get_xdata()
    assert spectrum.max() == pytest.approx(activation.scale[1].sum().item())
    assert plot_bloch(activation, inputs(20, 6), (0, 0, 1)).axes
    with pytest.raises(QKANError, match=r"edge=\(0, 0, 2\)"):
        plot_circuit(activation, (0, 0, 2))


def test_explain_says_what_evaluates_the_circuits() -> None:
    model = nn.Sequential(
        nn.Linear(3, 6), DARUAN(6, group=2, reps=2), QKANLayer(6, 2), DARUAN(2, ansatz="px")
    )
    found = explain(model, torch.randn(7, 3))
    assert [*found] == ["1", "2", "3"]
    assert model[1].request(torch.zeros(7, 6)).batch == 9  # type: ignore[operator, union-attr]
    assert "fourier" in str(found["3"]) and "an arccos" in str(found["3"])
    assert not model[1]._forward_pre_hooks
    with pytest.raises(QKANError, match="ran no QKANLayer and no DARUAN"):
        explain(nn.Linear(3, 2), torch.zeros(1, 3))
