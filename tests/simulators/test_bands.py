"""The functions of a band: their error bound, their tables, and layers with exceptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_close
from torch import Tensor

import qkan
from qkan.circuits import ansatz, lower
from qkan.interpret.explain import request_of
from qkan.simulators import LayerTensors, get_engine, layer_call, run
from qkan.simulators.cpu.bands import (
    FEWEST,
    REACH,
    WIDEST,
    band,
    interpolation_bound,
    tables,
    widest_angles,
)

EPS = {name: float(np.finfo(name).eps) for name in WIDEST}
COUNTS = (4, 5, 12, 19, 33, 48, 56)


@pytest.mark.parametrize("name", WIDEST)
@pytest.mark.parametrize("count", COUNTS)
def test_the_bound_of_every_basis_is_at_rounding_level(name: str, count: int) -> None:
    z = WIDEST[name][count - FEWEST]
    assert interpolation_bound(band(count, z), z) <= EPS[name]


@pytest.mark.parametrize("count", (12, 19, 33))
def test_the_bound_of_a_wider_band_is_not(count: int) -> None:
    z = 1.1 * WIDEST["float32"][count - FEWEST]
    assert interpolation_bound(band(count, z), z) > EPS["float32"]


@pytest.mark.parametrize("count", (12, 19, 33))
def test_the_bound_holds_for_random_functions_and_their_slopes(count: int) -> None:
    z, g = WIDEST["float32"][count - FEWEST], np.random.default_rng(0)
    basis = band(count, z)
    legendre = np.polynomial.legendre
    t = np.linspace(-REACH, REACH, 501)
    for _ in range(20):
        frequencies = np.append(g.uniform(-z, z, 5), z)
        phases, sizes = g.uniform(0, 7, 6), g.dirichlet(np.ones(6))
        at_nodes = np.cos(np.outer(basis.nodes, frequencies) + phases) @ sizes
        angle = np.outer(t, frequencies) + phases
        wanted = (np.cos(angle) @ sizes, -np.sin(angle) @ (sizes * frequencies))
        slopes = legendre.legder(basis.series, axis=1)
        for order, series in enumerate((basis.series, slopes)):
            found = legendre.legval(t, series.T).T @ (basis.transform @ at_nodes)
            bound = interpolation_bound(basis, z, derivative=bool(order))
            assert np.abs(found - wanted[order]).max() <= bound + 1e-13


def test_the_constant_is_a_function_of_the_basis() -> None:
    basis = band(15, 7.0)
    ones = basis.transform @ np.ones(15)
    np.testing.assert_allclose(ones, np.eye(15)[0], atol=1e-13)


@pytest.mark.parametrize("name", WIDEST)
def test_tables_are_exact_to_rounding(name: str) -> None:
    basis = band(14, WIDEST[name][14 - FEWEST])
    found = tables(basis, name)
    g = np.random.default_rng(1)
    t = g.uniform(-REACH, REACH, 400)
    piece = (np.abs(t) * found.pieces).astype(int)
    u = (np.abs(t) - (2 * piece + 1) / (2 * found.pieces)) * 2 * found.pieces
    powers = u[:, None] ** np.arange(found.values.shape[1])
    legendre = np.polynomial.legendre
    for odd, table, series, size in (
        (0, found.values, basis.series[1:], 1.0),
        (1, found.slopes, legendre.legder(basis.series[1:], axis=1), 100.0),
    ):
        shown = np.einsum("nd,ndf->nf", powers, table[piece].astype(float))[:, :13]
        shown[:, odd::2] *= np.sign(t)[:, None]
        exact = legendre.legval(t, series.T).T
        assert np.abs(shown - exact).max() <= max(8 * EPS[name], 2e-13) * size


def test_no_tolerance_below_float64_is_promised() -> None:
    assert len(widest_angles(1e-17)) == 0
    assert len(widest_angles(1e-3)) == len(WIDEST["float32"])


SIZES = {"wide": (300, 6, 40), "few outputs": (200, 9, 3), "many outputs": (150, 3, 200)}


def tensors(size: str, dtype: torch.dtype, spoil: float | None) -> LayerTensors:
    g = torch.Generator().manual_seed(3)
    batch, ins, outs = SIZES[size]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x = normal(batch, ins) + 3.0 * torch.arange(ins)
    if spoil is not None:
        x[7, 1] = spoil
        x[11, ins - 1] = -spoil
    parts = (
        x, normal(outs, ins, 8), 1 + 0.2 * normal(outs, ins, 3), normal(outs, ins, 3),
        normal(outs, ins) / ins**0.5,
    )  # fmt: skip
    return LayerTensors(*(part.to(dtype).requires_grad_() for part in parts))


def outcome(engine: str, given: LayerTensors) -> list[Tensor]:
    call = layer_call(lower(ansatz("pz", 3)), given)
    out = run(get_engine(engine), call)
    g = torch.Generator().manual_seed(5)
    grad = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
    wanted = [part for part in given if part is not None]
    return [out.detach(), *torch.autograd.grad(out, wanted, grad)]


@pytest.mark.parametrize("spoil", [None, 20.0, 1000.0])
@pytest.mark.parametrize("size", SIZES)
def test_a_layer_with_exceptions_is_that_of_the_fused_kernel(
    size: str, spoil: float | None
) -> None:
    given = tensors(size, torch.float64, spoil)
    for found, wanted in zip(outcome("chebyshev", given), outcome("torch", given), strict=True):
        assert_close(found, wanted, "value or gradient")


def exceptions_of(given: LayerTensors) -> int:
    call = layer_call(lower(ansatz("pz", 3)), given)
    engine = get_engine("chebyshev")
    found = engine.expansion(call.request, given.x, given.scale)  # type: ignore[attr-defined]
    return -1 if found is None else 0 if found.exceptions is None else len(found.exceptions[1])


@pytest.mark.parametrize(("width", "reach", "products"), [(64, 1, 1), (64, 16, 0), (4, 16, 1)])
def test_a_range_too_wide_for_a_product_to_pay_is_the_kernels(
    width: int, reach: float, products: int
) -> None:
    """A small layer, for which no product pays, has one where somebody asks for it."""
    g = torch.Generator().manual_seed(0)
    layer = qkan.QKANLayer(width, width, engine="chebyshev", generator=g)
    x = reach * (2 * torch.rand(1024, width, generator=g) - 1)
    engine: Any = get_engine("chebyshev")
    found = engine.expansion(request_of(layer, x), x, layer.scale.detach())
    assert (found is not None) == bool(products)
    given = layer(x)
    layer.engine = "numba"
    assert_close(given, layer(x), "the two engines", 1e-5)


def test_one_outlier_is_an_exception_and_raises_no_degree() -> None:
    engine = get_engine("chebyshev")
    counts = []
    for spoil in (None, 1000.0):
        given = tensors("wide", torch.float32, spoil)
        call = layer_call(lower(ansatz("pz", 3)), given)
        counts.append(engine.expansion(call.request, given.x, given.scale).count)  # type: ignore[attr-defined]
    assert abs(counts[0] - counts[1]) <= 1
    assert exceptions_of(tensors("wide", torch.float32, 1000.0)) >= 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_stays_in_its_sample(bad: float) -> None:
    given = tensors("wide", torch.float32, None)
    clean = outcome("chebyshev", given)[0]
    with torch.no_grad():
        given.x[7, 1] = bad
    assert exceptions_of(given) >= 1
    found = outcome("chebyshev", given)[0]
    assert found[7].isnan().all()
    rest = torch.arange(len(found)) != 7
    assert_close(found[rest].double(), clean[rest].double(), "the other samples", 1e-5)


def test_two_runs_give_the_same_bits() -> None:
    given = tensors("wide", torch.float32, 50.0)
    for one, other in zip(outcome("chebyshev", given), outcome("chebyshev", given), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3])
def test_inputs_that_hardly_vary_have_exact_slopes(spread: float) -> None:
    given = tensors("wide", torch.float32, None)
    with torch.no_grad():
        given.x.copy_(1.5 + spread * (given.x - given.x.mean(0)))
    double = LayerTensors(*(p.detach().double().requires_grad_() for p in given if p is not None))
    for found, wanted in zip(outcome("chebyshev", given), outcome("torch", double), strict=True):
        assert_close(found.double(), wanted, "value or gradient", 3e-5)
