"""`wave_terms` and `add_waves` against the circuit itself, values and every gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qkan.circuits import RX, RY, RZ, Circuit, Encoding, H, Theta, ansatz, lower
from qkan.simulators import edge_values
from qkan.simulators.adding import Known, add_waves
from qkan.simulators.base_activations import BASE_ACTIVATIONS
from qkan.simulators.waves import count_waves, wave_plan, wave_recipe, wave_terms

DOUBLE = torch.float64
TWICE = Circuit([H, RZ(Encoding(0)), RY(Theta(0)), RX(Encoding(1)), RZ(Encoding(0)), RY(Theta(1))])
CASES = {
    "one repetition": (ansatz("pz", 1), None, 1),
    "three repetitions": (ansatz("pz", 3), None, 13),
    "linear": (ansatz("pz", 3), (1.0, 1.0, 1.0), 3),
    "ternary": (ansatz("rpz", 2), (1.0, 3.0), 4),
    "no whole numbers": (ansatz("rpz", 2), (0.7, -1.9), 4),
    "scales that cancel": (ansatz("rpz", 2), (1.5, -1.5), 2),
    "a scale of zero": (ansatz("rpz", 2), (0.0, 2.0), 1),
    "mix": (ansatz("mix", 2), None, 4),
    "an encoding twice": (TWICE, None, 7),
}


class Problem:
    """Parameters of g activations, inputs, and what the waves and the circuit make of them."""

    def __init__(self, name: str, groups: int, features: int, dtype: torch.dtype = DOUBLE) -> None:
        circuit, self.fixed, _ = CASES[name]
        self.program, u = lower(circuit), circuit.num_encodings
        draw = torch.Generator().manual_seed(3)
        sizes = ((groups, circuit.num_theta), (groups, u), (groups, u), (groups,), (5, 3, features))
        drawn = [torch.randn(*size, generator=draw, dtype=dtype) for size in sizes]
        if self.fixed is not None:
            drawn[1] = torch.tensor(self.fixed, dtype=dtype).expand(groups, u).clone()
        self.tensors = [t.requires_grad_(n != 1 or self.fixed is None) for n, t in enumerate(drawn)]

    def waves(self) -> Tensor:
        theta, scale, shift, amplitude, x = self.tensors
        terms = wave_terms(self.program, theta, scale, shift, amplitude, fixed_scale=self.fixed)
        return add_waves(x, x.tanh(), terms, wave_recipe(self.program, self.fixed))

    def circuit(self) -> Tensor:
        theta, scale, shift, amplitude, x = self.tensors
        index = torch.arange(x.shape[-1]) * len(theta) // x.shape[-1]
        edges = (t[index].unsqueeze(0) for t in (theta, scale, shift))
        values = edge_values(self.program, x.reshape(-1, x.shape[-1]), *edges)
        return x.tanh() + amplitude[index] * values.view(x.shape)


@pytest.mark.parametrize("groups", [1, 3, 7])
@pytest.mark.parametrize("name", CASES)
def test_the_waves_are_the_circuit(name: str, groups: int) -> None:
    problem = Problem(name, groups, features=7)
    found, wanted = problem.waves(), problem.circuit()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    learnt = [t for t in problem.tensors if t.requires_grad]
    for one, other in zip(
        torch.autograd.grad(found, learnt, grad, allow_unused=True),
        torch.autograd.grad(wanted, learnt, grad, allow_unused=True),
        strict=True,
    ):
        zero = torch.zeros(())
        torch.testing.assert_close(
            zero if one is None else one.squeeze(), zero if other is None else other.squeeze(),
            rtol=0, atol=1e-11, check_dtype=False,
        )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_equal_frequencies_count_once(name: str) -> None:
    circuit, fixed, count = CASES[name]
    assert count_waves(lower(circuit), fixed) == count


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_computes_each_wave_of_what_it_has(name: str) -> None:
    circuit, fixed, count = CASES[name]
    recipe = wave_recipe(lower(circuit), fixed).reshape(-1, 4).tolist()
    frequencies = (
        wave_plan(lower(circuit), fixed).frequencies
        @ np.array(fixed or (0.7, 1.3, 2.9))[: circuit.num_encodings]
    )
    done: set[int] = set()
    for w, a, b, sign in recipe:
        if a >= 0:
            assert {a, b} <= done
            assert abs(frequencies[a] + sign * frequencies[b] - frequencies[w]) < 1e-12
        done.add(w)
    assert done == set(range(count))


def test_most_waves_are_products() -> None:
    def singles(circuit: Circuit, fixed: tuple[float, ...] | None) -> int:
        return wave_recipe(lower(circuit), fixed).reshape(-1, 4)[:, 1].tolist().count(-1)

    assert singles(ansatz("pz", 3), None) == 3
    assert singles(ansatz("pz", 3), (1.0, 1.0, 1.0)) == 1
    assert singles(ansatz("pz", 8), (1.0,) * 8) == 1


@pytest.mark.parametrize("base", ["gelu", "silu", "relu", "tanh", "identity", None])
def test_passes_that_add_to_a_known_base_are_its_sum_with_the_waves(base: str | None) -> None:
    problem = Problem("linear", 3, features=7)
    theta, scale, shift, amplitude, x = problem.tensors
    terms = wave_terms(problem.program, theta, scale, shift, amplitude, fixed_scale=problem.fixed)
    row = BASE_ACTIVATIONS[base] if base else Known(torch.zeros_like, lambda g, x: 0 * g)
    known = Known(row.value, row.backward)
    value, given = row.value(x), x.detach().clone()
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    kept = grad.clone()
    results = [
        (out.detach(), *torch.autograd.grad(out, (x, theta, amplitude), grad, retain_graph=True))
        for out in (add_waves(x, known, terms), add_waves(x, value, terms), value + add_waves(
            x, torch.zeros_like(x), terms))
    ]  # fmt: skip
    for one in results[1:]:
        for found, wanted in zip(results[0], one, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert torch.equal(x, given) and torch.equal(grad, kept)
    few = x.detach()[:1, :2].requires_grad_()
    held = terms.detach()[:, :2].requires_grad_()
    assert torch.autograd.gradcheck(lambda *g: add_waves(g[0], known, g[1]), (few, held))
    assert torch.autograd.gradgradcheck(lambda *g: add_waves(g[0], known, g[1]), (few, held))


def test_an_arccos_or_very_many_frequencies_have_no_such_sum() -> None:
    assert count_waves(lower(ansatz("px", 2))) is None
    assert count_waves(lower(ansatz("pz", 9))) is None


@pytest.mark.parametrize("name", ["one repetition", "three repetitions"])
def test_second_derivatives(name: str) -> None:
    problem = Problem(name, 2, features=3)
    *held, x = problem.tensors

    def of(*tensors: Tensor) -> Tensor:
        problem.tensors = [*tensors]
        return problem.waves()

    few = x.detach()[:1, :2].requires_grad_()
    assert torch.autograd.gradcheck(of, (*held, few))
    assert torch.autograd.gradgradcheck(of, (*held, few))


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 5000])
def test_one_activation_for_inputs_of_any_number(size: int) -> None:
    problem = Problem("one repetition", 1, features=1)
    with torch.no_grad():
        problem.tensors[-1] = torch.linspace(-3, 3, size, dtype=DOUBLE).unsqueeze(-1)
        torch.testing.assert_close(problem.waves(), problem.circuit(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("groups", [1, 2])
def test_large_inputs_are_as_exact_as_small_ones(dtype: torch.dtype, groups: int) -> None:
    x = torch.tensor([[1e3, 1e5], [1e7, -1e9], [0.5, -2.0]], dtype=dtype)
    terms = torch.tensor([[0.1], [1.0], [0.5], [-0.25]], dtype=dtype).repeat(1, groups)
    wide = x.double()
    wanted = 0.1 + 0.5 * wide.cos() - 0.25 * wide.sin()
    found = add_waves(x, torch.zeros_like(x), terms)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_what_is_not_finite_stays_so_and_stays_alone() -> None:
    x = torch.tensor([[math.nan, 1.0], [math.inf, 2.0], [0.0, 3.0]])
    out = add_waves(x, torch.zeros_like(x), torch.tensor([[0.0], [1.0], [1.0], [1.0]]))
    assert out.isnan().tolist() == [[True, False], [True, False], [False, False]]


@pytest.mark.parametrize(
    "change",
    [lambda x: x.transpose(0, 1), lambda x: x[::2], lambda x: x.expand(2, *x.shape), lambda x: -x],
)
def test_any_memory_layout(change: Any) -> None:
    problem = Problem("one repetition", 7, features=7)
    with torch.no_grad():
        problem.tensors[-1] = change(problem.tensors[-1])
        torch.testing.assert_close(problem.waves(), problem.circuit(), rtol=0, atol=1e-12)


def test_two_runs_are_equal_to_the_bit() -> None:
    def gradients() -> list[Tensor]:
        problem = Problem("three repetitions", 3, features=7, dtype=torch.float32)
        return [*torch.autograd.grad(problem.waves().square().sum(), problem.tensors)]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))
