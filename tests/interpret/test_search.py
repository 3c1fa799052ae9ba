"""Formulas by genetic programming, where no elementary form fits an edge."""

from __future__ import annotations

import sys

import pytest
import torch

from qkan import QKAN, fit, symbolic


@pytest.fixture(scope="module")
def model() -> QKAN:
    """0.7 x e^(1.3 x) + 0.2: neither form alone."""
    x = torch.linspace(-1, 1, 300, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(0)
    model = QKAN([1, 1], reps=4, input_range=(-1, 1), generator=generator, dtype=x.dtype)
    fit(model, (x, 0.7 * x * torch.exp(1.3 * x) + 0.2), steps=10, progress=False)
    return model


def test_a_search_finds_what_no_form_fits(model: QKAN) -> None:
    x = torch.linspace(-1, 1, 300, dtype=torch.float64)[:, None]
    plain = symbolic(model, x, forms=["x^2", "sin"], tolerance=0.01)
    assert [edge.name for edge in plain.edges] == ["series"]
    found = symbolic(model, x, forms=["x^2", "sin"], search=True, tolerance=0.01)
    assert [edge.name for edge in found.edges] == ["search"]
    assert found.bound is None
    assert found.error < 0.05
    assert len(str(found.expr)) < len(str(plain.expr))
    assert found.expr.free_symbols == set(found.inputs)


def test_a_form_that_fits_is_not_searched_for(model: QKAN) -> None:
    x = torch.linspace(-0.1, 0.1, 50, dtype=torch.float64)[:, None]
    found = symbolic(model, x, forms=["x^2"], search=True, tolerance=0.2)
    assert [edge.name for edge in found.edges] == ["x^2"]


def test_without_pyoperon_the_extra_is_named(model: QKAN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyoperon", None)
    monkeypatch.delitem(sys.modules, "pyoperon.sklearn", raising=False)
    with pytest.raises(ImportError, match=r"operon"):
        symbolic(model, search=True)
