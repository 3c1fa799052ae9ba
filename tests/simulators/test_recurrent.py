"""Compiled recurrent steps against the same steps in torch's operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from qkan.simulators.recurrent import GATES, Cell, Steps, gates_of, plain, recurrence

DOUBLE = torch.float64
SIZES = {
    "even": Steps((9, 9, 9)),
    "uneven": Steps((9, 9, 7, 3, 1)),
    "reversed": Steps((9, 7, 7, 2), reverse=True),
    "one step": Steps((9,)),
}


def problem(kind: str, hidden: int, steps: Steps, count: int) -> list[Tensor]:
    """x, weight, bias, h, c and terms, so small that errors do not grow with the steps."""
    draw, gates, rows = torch.Generator().manual_seed(0), GATES[kind], sum(steps.sizes)
    shapes = [
        ((rows, gates * hidden), 1.0), ((gates * hidden, hidden), hidden**-0.5),
        ((gates * hidden,), 0.5), ((9, hidden), 1.0), ((9, hidden), 1.0),
        ((1 + 3 * count, gates), 0.2),
    ]  # fmt: skip
    made = [torch.randn(shape, generator=draw, dtype=DOUBLE) * size for shape, size in shapes]
    return [tensor.requires_grad_() for tensor in made]


def results(compute: Any, kind: str, steps: Steps, tensors: list[Tensor]) -> list[Tensor]:
    """Values, and the gradients by all tensors."""
    x, weight, bias, h, c, terms = tensors
    found = compute(Cell(kind, weight, bias), x, h, c, terms, steps)
    draw = torch.Generator().manual_seed(1)
    total = sum((v * torch.randn(v.shape, generator=draw, dtype=v.dtype)).sum() for v in found)
    assert isinstance(total, Tensor)
    return [*found, *torch.autograd.grad(total, tensors)]


def by_operators(
    cell: Cell, x: Tensor, h: Tensor, c: Tensor, terms: Tensor, steps: Steps
) -> tuple[Tensor, ...]:
    return plain(cell, x, h, c, gates_of(terms, cell.kind), steps)


@pytest.mark.parametrize("steps", SIZES)
@pytest.mark.parametrize(("hidden", "count"), [(1, 1), (33, 0), (64, 3), (65, 1), (130, 2)])
@pytest.mark.parametrize("kind", GATES)
def test_compiled_steps_are_those_of_the_operators(
    kind: str, hidden: int, count: int, steps: str
) -> None:
    tensors = problem(kind, hidden, SIZES[steps], count)
    found = results(recurrence, kind, SIZES[steps], tensors)
    wanted = results(by_operators, kind, SIZES[steps], tensors)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_known_gates_have_the_values_of_torch_everywhere(dtype: torch.dtype) -> None:
    values = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([0.0, 1e-6, -1e-6, 90, -90])])
    z = torch.cat([values, torch.tensor([1e3, -1e3, 1e30, -1e30])]).to(dtype)
    x = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z, torch.full_like(z, 100)], -1)
    none = torch.zeros(len(z), 1, dtype=dtype)
    terms = torch.zeros(1, 4, dtype=dtype)
    cell = Cell("LSTM", torch.zeros(4, 1, dtype=dtype))
    _, _, memory = recurrence(cell, x, none, none, terms, Steps((len(z),)))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(2 * memory[:, 0], z.tanh(), rtol=6 * eps, atol=0)
    x = torch.stack([z, z, torch.full_like(z, 100), z], -1)
    _, _, memory = recurrence(cell, x, none, none, terms, Steps((len(z),)))
    torch.testing.assert_close(memory[:, 0], z.sigmoid(), rtol=6 * eps, atol=eps)


@pytest.mark.parametrize("kind", GATES)
def test_nan_stays_in_its_sample(kind: str) -> None:
    x, weight, bias, h, c, terms = problem(kind, 5, SIZES["even"], 1)
    clean = recurrence(Cell(kind, weight, bias), x, h, c, terms, SIZES["even"])[0].detach()
    with torch.no_grad():
        x[9 + 4, 3] = torch.nan
    found = recurrence(Cell(kind, weight, bias), x, h, c, terms, SIZES["even"])[0].detach()
    bad = found.view(3, 9, 5).isnan().any(-1)
    assert bad[1:, 4].all()
    assert int(bad.sum()) == 2
    torch.testing.assert_close(found.view(3, 9, 5)[~bad], clean.view(3, 9, 5)[~bad])


@pytest.mark.parametrize("kind", GATES)
def test_the_operator_of_a_compiler_is_right(kind: str) -> None:
    from qkan.simulators import recurrent

    x, weight, bias, h, c, terms = problem(kind, 3, SIZES["uneven"], 1)
    torch.library.opcheck(
        recurrent._operator, (kind, [9, 9, 7, 3, 1], False, x, weight, h, c, terms, bias)
    )
