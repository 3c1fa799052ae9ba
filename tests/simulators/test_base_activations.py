"""Every base activation is the same function in every language of its row."""

from __future__ import annotations

import math

import pytest
import torch
from compare import assert_close
from torch import Tensor

from qkan.simulators import BASE_ACTIVATIONS

X = torch.linspace(-6, 6, 241, dtype=torch.float64)
NAMES = pytest.mark.parametrize("name", BASE_ACTIVATIONS)


def slope_of(name: str, x: Tensor) -> Tensor:
    """By autograd, from the function in torch operators."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(BASE_ACTIVATIONS[name].value(x).sum(), x)
    return slope


@NAMES
def test_torch_operators(name: str) -> None:
    row = BASE_ACTIVATIONS[name]
    assert_close(row.module()(X), row.value(X), "module")
    grad = torch.linspace(-1, 2, 241, dtype=torch.float64)
    assert_close(row.backward(grad, X), grad * slope_of(name, X), "backward")
    assert row.steepest - 2e-4 < float(slope_of(name, X).abs().max()) <= row.steepest


@NAMES
def test_the_function_of_one_number(name: str) -> None:
    row = BASE_ACTIVATIONS[name]
    values, slopes = zip(*map(row.scalar, X.tolist()), strict=True)
    assert_close(torch.tensor(values, dtype=torch.float64), row.value(X), "value")
    assert_close(torch.tensor(slopes, dtype=torch.float64), slope_of(name, X), "slope")
    assert math.isnan(row.scalar(math.nan)[0])


@NAMES
def test_the_formula(name: str) -> None:
    sympy = pytest.importorskip("sympy")
    x = sympy.Symbol("x", real=True)
    formula = BASE_ACTIVATIONS[name].formula(sympy, x)
    found = [float(formula.subs(x, value)) for value in (-3.0, -0.25, 0.0, 0.5, 4.0)]
    points = torch.tensor([-3.0, -0.25, 0.0, 0.5, 4.0], dtype=torch.float64)
    assert_close(torch.tensor(found).double(), BASE_ACTIVATIONS[name].value(points), name, 1e-6)
