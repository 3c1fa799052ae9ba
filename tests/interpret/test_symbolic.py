"""Formulas: exact ones equal the model, cut ones keep their bound, elementary ones are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
import torch
from cases import CIRCUITS, SHAPES, own_circuit, problem
from compare import assert_close
from torch import Tensor, nn

from qkan import QKAN, QKANError, QKANLayer, fit, symbolic
from qkan.circuits import (
    RX,
    Circuit,
    CircuitError,
    Encoding,
    ansatz,
    fourier_series,
    lower,
    to_sympy,
)
from qkan.interpret.forms import FORMS, Form, rank
from qkan.simulators import expectation


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int, width: int, seed: int = 0, size: float = 1.0) -> Tensor:
    return size * (2 * torch.rand(count, width, generator=generator(seed), dtype=torch.float64) - 1)


def stirred(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter moved, so that no default hides a mistake."""
    g = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=g, dtype=parameter.dtype)
    return model


# --- to_sympy and fourier_series ---


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_closed_form_is_the_engines_value(name: str) -> None:
    circuit, data = CIRCUITS[name], problem(CIRCUITS[name], SHAPES[1], seed=3)
    theta, scale, shift = (t[0, 0].tolist() for t in (data.theta, data.scale, data.shift))
    x = sympy.Symbol("x", real=True)
    expr = to_sympy(circuit, theta=theta, scale=scale, shift=shift, clamp=True)
    values = torch.linspace(-1, 1, 23, dtype=torch.float64)
    found = torch.tensor([float(expr.subs(x, v)) for v in values.tolist()], dtype=torch.float64)
    wanted = expectation(
        circuit, values[:, None], *(t.detach() for t in (data.theta, data.scale, data.shift))
    )
    assert_close(found, wanted.flatten(), name)


@pytest.mark.parametrize("name", [n for n, c in CIRCUITS.items() if not c.uses_arccos])
@pytest.mark.parametrize("scale", ["linear", "ternary", "odd"])
def test_the_series_is_the_engines_value(name: str, scale: str) -> None:
    circuit, data = CIRCUITS[name], problem(CIRCUITS[name], SHAPES[1], seed=4)
    theta, odd, shift = (t[0, 0].detach() for t in (data.theta, data.scale, data.shift))
    scales = odd.tolist() if scale == "odd" else scale
    k, a, b = fourier_series(circuit, theta.numpy(), scales, shift.numpy())
    x = np.linspace(-9, 9, 41)
    found = np.cos(np.outer(x, k)) @ a + np.sin(np.outer(x, k)) @ b
    wanted = expectation(
        circuit, torch.from_numpy(x)[:, None], data.theta.detach(),
        odd[None, None] if scale == "odd" else scale, shift[None, None],
    )  # fmt: skip
    assert_close(torch.from_numpy(found), wanted.flatten(), name, 1e-9)
    assert (k >= 0).all() and (np.diff(k) > 0).all()
    if scale != "odd":
        assert set(k.round(9)) <= set(circuit.spectrum(scale))


def test_symbols_stand_for_all_that_is_not_given() -> None:
    expr = to_sympy(ansatz("pz", 2), x=sympy.Symbol("t"))
    names = {symbol.name for symbol in expr.free_symbols}
    thetas = {f"theta_{k}" for k in range(6)}
    assert names == {"t", "scale_0", "scale_1", "shift_0", "shift_1"} | thetas
    half = to_sympy(ansatz("rpz", 1), theta=[sympy.pi / 2, 0], scale="linear", shift=[0])
    assert half == -1


def test_an_arccos_encoding_has_no_arccos_in_its_formula() -> None:
    expr = to_sympy(ansatz("px", 1), scale=[1], shift=[0])
    x = sympy.Symbol("x", real=True)
    assert (
        sympy.simplify(expr - sympy.sin(sympy.Symbol("theta_0", real=True)) * sympy.sqrt(1 - x**2))
        == 0
    )
    assert not expr.has(sympy.acos)


def test_fixed_angles_are_exact() -> None:
    circuit = Circuit([RX(Encoding(0)), RX(math.pi / 3)])
    x = sympy.Symbol("x", real=True)
    assert to_sympy(circuit, scale=[1], shift=[0]) == sympy.cos(x + sympy.pi / 3)


WRONG_CIRCUITS = {
    "theta": (lambda: to_sympy(ansatz("pz", 1), theta=[1.0]), "4 finite numbers"),
    "nan": (lambda: to_sympy(ansatz("rpz", 1), theta=[math.nan, 0]), "2 finite numbers"),
    "scale": (lambda: to_sympy(ansatz("pz", 1), scale=[1, 2]), "1 finite numbers"),
    "encoding": (lambda: to_sympy(ansatz("pz", 1), scale="linaer"), "Did you mean 'linear'"),
    "too long": (lambda: to_sympy(ansatz("pz", 14)), "over 100000 terms.*fourier_series"),
    "arccos": (lambda: fourier_series(ansatz("px", 1), [0, 0]), "no finite frequency spectrum"),
    "series theta": (
        lambda: fourier_series(ansatz("pz", 1), [0, 0]),
        "theta has the shape .* 4 finite",
    ),
    "series shift": (lambda: fourier_series(ansatz("real", 1), [0], shift=[math.inf]), "shift"),
}


@pytest.mark.parametrize("case", WRONG_CIRCUITS)
def test_circuit_numbers_that_cannot_be_right_are_refused(case: str) -> None:
    ask, message = WRONG_CIRCUITS[case]
    with pytest.raises(CircuitError, match=message):
        ask()


# --- the exact formula ---

MODELS = {
    "trainable": lambda: QKAN([2, 3, 1], reps=2, dtype=torch.float64),
    "input range": lambda: QKAN(
        [2, 2, 2], input_range=(-1, 3), encoding="binary", reps=2, dtype=torch.float64
    ),
    "groups": lambda: QKAN([3, 2, 1], group=2, reps=2, base="gelu", dtype=torch.float64),
    "amplitude": lambda: QKAN(
        [2, 2], readout="amplitude", reps=2, base="relu", dtype=torch.float64
    ),
    "arccos": lambda: QKAN([2, 2, 1], ansatz="px", reps=2, base="identity", dtype=torch.float64),
    "own circuit": lambda: QKANLayer(2, 3, ansatz=own_circuit(), base="tanh", dtype=torch.float64),
    "no base, no bias": lambda: QKANLayer(3, 2, base=None, bias=False, dtype=torch.float64),
    "float32": lambda: QKAN([2, 2, 1], encoding="ternary", reps=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_formula_equals_the_model(name: str) -> None:
    model = stirred(MODELS[name]())
    layer = model if isinstance(model, QKANLayer) else model.layers[0]
    with torch.no_grad():
        layer.mask[0, 0] = 0
    x = points(31, layer.in_features, size=0.9)
    formula = symbolic(model, x)
    wanted = model.double()(x)
    assert_close(formula(x), wanted, name)
    assert formula.error <= 1e-10 and formula.bound == 0
    assert [e.name for e in formula.edges if (e.layer, e.output, e.input) == (0, 0, 0)] == ["none"]
    found = [
        sympy.lambdify([formula.inputs], e, modules=["scipy", "numpy"], cse=True)(x.numpy().T)
        for e in formula.exprs
    ]
    assert_close(torch.from_numpy(np.stack(found, -1)), wanted, f"{name}, composed", 1e-9)


def test_an_arccos_beyond_its_range_is_clamped_like_the_engine() -> None:
    model = stirred(QKAN([1, 1], ansatz="px", reps=1, dtype=torch.float64))
    x = points(50, 1, size=3.0)
    assert_close(symbolic(model, x)(x), model(x), "clamped")


def test_without_data_the_error_is_measured_over_the_input_range() -> None:
    formula = symbolic(stirred(QKAN([2, 1], input_range=(4, 5), dtype=torch.float64)))
    assert formula.error < 1e-12


def test_shapes_and_kinds_follow_the_input() -> None:
    formula = symbolic(QKAN([2, 3], dtype=torch.float64))
    assert formula(points(6, 2).reshape(3, 2, 2)).shape == (3, 2, 3)
    assert isinstance(formula(np.zeros((4, 2))), np.ndarray)
    assert formula(torch.zeros(0, 2)).shape == (0, 3)


# --- cut and rounded ---


@pytest.mark.parametrize("name", [n for n in MODELS if n != "float32"])
@pytest.mark.parametrize(("tolerance", "digits"), [(0.05, None), (0.0, 2), (0.02, 3), (0.6, 1)])
def test_the_bound_is_true(name: str, tolerance: float, digits: int | None) -> None:
    model = stirred(MODELS[name](), seed=5)
    width = (model if isinstance(model, QKANLayer) else model.layers[0]).in_features
    x = points(301, width, seed=2, size=0.9)
    formula = symbolic(model, x, tolerance=tolerance, digits=digits)
    assert formula.bound is not None and 0 < formula.error <= formula.bound + 1e-12
    assert_close(
        (formula(x) - model(x)).abs().max(),
        torch.tensor(formula.error, dtype=torch.float64),
        "the reported error",
    )
    for edge in formula.edges:
        # an arccos near the end of its range magnifies the rounding of its argument
        assert edge.bound is not None and edge.rmse <= edge.bound + 1e-13


def test_a_tolerance_takes_terms_away() -> None:
    model = stirred(QKAN([1, 1], reps=3, base=None, dtype=torch.float64))
    x = points(100, 1)
    counts = [len(symbolic(model, x, tolerance=t).expr.args) for t in (0.0, 0.01, 0.3)]
    assert counts[0] > counts[1] > counts[2]


# --- elementary functions ---


def demo_target(x: Tensor) -> Tensor:
    return torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)


@pytest.fixture(scope="module")
def demo() -> tuple[QKAN, Tensor]:
    x = points(1000, 2, seed=3)
    model = QKAN([2, 1, 1], input_range=(-1, 1), generator=generator(3), dtype=torch.float64)
    fit(model, (x, demo_target(x)), steps=20, progress=False)
    return model, x


def test_the_demo_function_is_recovered(demo: tuple[QKAN, Tensor]) -> None:
    model, data = demo
    formula = symbolic(model, data, forms="elementary", names=["x", "y"])
    x, y = formula.inputs
    assert [edge.name for edge in formula.edges] == ["sin", "x^2", "exp"]
    assert formula.bound is None
    assert formula.expr == sympy.exp(sympy.sin(sympy.pi * x) + y**2)
    assert formula.rmse < 5e-3
    numbers = sorted(float(f) for f in formula.fitted[0].atoms(sympy.Float) if abs(f) > 0.1)
    assert np.allclose(numbers, [1, 1, 1, math.pi], atol=0.01)
    test = points(200, 2, seed=9)
    assert_close(formula(test), demo_target(test), "the recovered function")


def test_what_is_printed(demo: tuple[QKAN, Tensor]) -> None:
    model, data = demo
    formula = symbolic(model, data, forms=["sin", "x^2", "exp"], names=["x", "y"])
    assert repr(formula).startswith("f = exp(y**2 + sin(pi*x))\nerror on the data: at most ")
    assert r"f &= e^{y^{2} + \sin{\left(\pi x \right)}}" in formula.latex()
    assert "layer 0: 1 → 0  x^2" in formula.table() and "sin " in formula.table()
    exact = symbolic(model, data)
    assert "(…" not in repr(exact) and "characters; .layers has them all" in repr(exact)
    assert exact.latex(composed=False).count(r"\\") == 1
    # what is too long for a page is shown as text
    assert exact._repr_latex_() is None and formula._repr_latex_().startswith("$")


def test_an_edge_that_no_form_fits_stays_a_series(demo: tuple[QKAN, Tensor]) -> None:
    model, data = demo
    formula = symbolic(model, data, forms=["x^2", "exp"])
    assert [edge.name for edge in formula.edges] == ["series", "x^2", "exp"]
    assert formula.error < 0.3 and len(formula.layers) == 2
    assert formula.edges[0].bound is not None and formula.bound is None


def test_no_bound_is_claimed_behind_a_fitted_form() -> None:
    model = QKAN([1, 1, 1], base="identity", generator=generator(2), dtype=torch.float64)
    with torch.no_grad():
        model.layers[0].weight.zero_()
        model.layers[0].base_weight.fill_(3)
        model.layers[1].base_weight.zero_()
    formula = symbolic(model, points(60, 1), forms=["x"])
    assert [edge.name for edge in formula.edges] == ["x", "series"]
    assert formula.bound is None and formula.edges[1].bound is not None


KNOWN = {
    "sin": lambda x: 2 * np.sin(3 * x - 0.5) + 0.3,
    "x^2": lambda x: 0.5 * (x - 0.2) ** 2 - 1,
    "x^3": lambda x: (x + 0.1) ** 3,
    "x^4": lambda x: 2 * (x + 0.3) ** 4,
    "exp": lambda x: 0.3 * np.exp(1.7 * x),
    "log": lambda x: np.log(x + 1.2),
    "sqrt": lambda x: np.sqrt(1.1 - x),
    "1/x": lambda x: 1 / (x - 1.5),
    "1/x^2": lambda x: 1 / (x + 1.4) ** 2,
    "tanh": lambda x: np.tanh(3 * x - 1),
    "gauss": lambda x: np.exp(-((3 * x - 0.5) ** 2)),
    "atan": lambda x: np.arctan(4 * x + 1),
    "abs": lambda x: np.abs(x - 0.3),
    "x": lambda x: 2 * x - 1,
    "constant": lambda x: 0 * x + 0.7,
}


@pytest.mark.parametrize("name", KNOWN)
def test_every_form_is_recognised_in_any_range(name: str) -> None:
    x = np.sort(np.random.default_rng(0).uniform(-1, 1, 150))
    y = KNOWN[name](x)
    moved = 50 + 7 * x
    best = rank(FORMS.values(), moved, y, max(float(y.std()), 0.1), 1e-4)[0]
    assert best.form.name == name
    assert best.rmse < 1e-6 and np.abs(best(moved) - y).max() < 1e-5


def test_the_library_covers_itself() -> None:
    assert set(KNOWN) == set(FORMS)
    u = sympy.Symbol("u", positive=True)
    grid = np.linspace(0.1, 2, 9)
    for form in FORMS.values():
        values = sympy.lambdify(u, form.build(sympy, u), "numpy")(grid) + 0 * grid
        assert np.allclose(values, form.function(grid)), form.name


def test_a_form_of_ones_own() -> None:
    cosh = Form("cosh", np.cosh, lambda sympy, u: sympy.cosh(u), "rate", 1)
    x = np.linspace(-2, 2, 99)
    assert rank([*FORMS.values(), cosh], x, np.cosh(1.3 * x), 1.0)[0].form.name == "cosh"


def log_model() -> tuple[QKAN, Tensor]:
    """A single edge trained to be log(x + 1.1)."""
    x = points(300, 1)
    model = QKAN([1, 1], input_range=(-1, 1), generator=generator(0), reps=5, dtype=torch.float64)
    fit(model, (x, torch.log(x + 1.3)), steps=20, progress=False)
    return model, x


def test_outside_a_domain_is_an_error_that_says_where() -> None:
    model, x = log_model()
    formula = symbolic(model, x, forms=["log", "x", "exp"])
    assert formula.edges[0].name == "log"
    assert formula(x).isfinite().all()
    with pytest.raises(QKANError, match=r"Sample 1 is outside the formula's domain: log\(.*= -"):
        formula(torch.tensor([[0.0], [-4.0]]))


@pytest.mark.parametrize("form", ["1/x", "sqrt"])
def test_reciprocals_and_roots_have_domains_too(form: str) -> None:
    model, x = log_model()
    formula = symbolic(model, x, forms=[form], tolerance=0.9, digits=1)
    shift = float(next(iter(formula.expr.atoms(sympy.Float | sympy.Rational)), 0))
    assert formula(x).isfinite().all()
    pole = sympy.solve(next(p.args[0] for p in sympy.preorder_traversal(formula.expr) if p.is_Pow))
    step = 0.0 if form == "1/x" else 0.5
    with pytest.raises(QKANError, match="outside the formula's domain"):
        formula(torch.tensor([[float(pole[0]) - step]], dtype=torch.float64))
    assert math.isfinite(shift)


def test_two_outputs_and_a_constant_input() -> None:
    x = torch.cat([points(200, 1), torch.full((200, 1), 0.5, dtype=torch.float64)], 1)
    model = QKAN([2, 2], input_range=(-1, 1), generator=generator(1), dtype=torch.float64)
    fit(model, (x, torch.cat([3 * x[:, :1], x[:, :1] ** 2], 1)), steps=10, progress=False)
    formula = symbolic(model, x, forms="elementary")
    x1 = formula.inputs[0]
    assert len(formula.expr) == 2 and formula.exprs[0] == 3 * x1 and formula.exprs[1] == x1**2


def nan_model() -> QKAN:
    model = QKAN([2, 2, 1])
    with torch.no_grad():
        model.layers[1].theta[0, 0, 0] = math.nan
    return model


X = torch.zeros(3, 2)
WRONG = {
    "a linear layer": (lambda: symbolic(nn.Linear(2, 1)), "model is Linear"),
    "nan parameter": (lambda: symbolic(nan_model()), r"layers\.1\.theta has values that are not"),
    "nan data": (lambda: symbolic(QKAN([2, 1]), X / 0), "sample 0, input 0.*layers.0"),
    "no data": (lambda: symbolic(QKAN([2, 1]), X[:0]), "at least one sample"),
    "width": (lambda: symbolic(QKAN([3, 1]), X), r"shape \(3, 2\); .* \(b, 3\)"),
    "whole numbers": (lambda: symbolic(QKAN([2, 1]), X.long()), "x is torch.int64"),
    "a form": (lambda: symbolic(QKAN([2, 1]), X, forms=["sine"]), r"\['sine'\]: pass 'elementary'"),
    "no form": (lambda: symbolic(QKAN([2, 1]), X, forms=[]), "at least one of constant, x"),
    "tolerance": (lambda: symbolic(QKAN([2, 1]), X, tolerance=-0.1), "tolerance=-0.1"),
    "digits": (lambda: symbolic(QKAN([2, 1]), X, digits=-1), "digits=-1"),
    "names": (lambda: symbolic(QKAN([2, 1]), X, names=["x", "x"]), "2 different names"),
    "formula width": (lambda: symbolic(QKAN([2, 1]), X)(torch.zeros(4, 3)), r"shape \(4, 3\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    ask, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        ask()


def test_the_merged_program_is_what_is_written() -> None:
    # lowering drops the closing RZ of px: no theta_2 in its formula
    assert lower(ansatz("px", 2)).num_theta == 3
    names = {s.name for s in to_sympy(ansatz("px", 2)).free_symbols}
    assert "theta_2" not in names and "theta_0" in names
