"""An activation as the sum of sinusoids that it exactly is, added to every input in one pass.

φ(x) of a circuit whose encodings are s_u·x + b_u is a trigonometric polynomial: its frequencies are
the sums Σ_u n_u·s_u with whole numbers n_u (arXiv 2008.08605). `wave_terms` finds the coefficients,
differentiably, from a few evaluations of the circuit, whatever the number of inputs, and
`add_waves` evaluates them at every input.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qkan.circuits import Program

from .autocast import without_autocast
from .bridge import are_many, graph_of_gradients, is_observed, run
from .call import Gradients, LayerCall, LayerTensors, has_values, layer_call
from .cpu.compiled import DTYPES, INSTALLED
from .engine import Engine
from .registry import get_engine, select

_WIDTH = 1024
"""Inputs of a row where all inputs share one activation."""
_CELLS = 1 << 15
"""Inputs of a unit of work, at least one row."""


class WavePlan(NamedTuple):
    """How to find the waves of an activation.

    Attributes:
        phases: (n, u) radians, the angles by which the encodings are shifted in n evaluations.
        analysis: (1 + 2·count, n), from φ at those to the constant and to each wave's factors of
            cosine and sine, in turn.
        frequencies: (count, u), each wave's frequency as a sum of scales.
    """

    phases: np.ndarray
    analysis: np.ndarray
    frequencies: np.ndarray


def count_waves(program: Program, fixed_scale: tuple[float, ...] | None = None) -> int | None:
    """Return the number of frequencies above 0 of an activation; None where it has no such series.

    Args:
        program: The lowered circuit.
        fixed_scale: The scales where they are fixed; frequencies that are then equal count once.
    """
    if program.uses_arccos:
        return None
    sizes = [2 * degree + 1 for degree in _degrees(program)]
    if math.prod(sizes) > 1 << 12:
        return None
    return len(wave_plan(program, fixed_scale).frequencies)


@functools.lru_cache(maxsize=128)
def wave_plan(program: Program, fixed_scale: tuple[float, ...] | None = None) -> WavePlan:
    """Return the evaluations and the Fourier transform that give an activation's waves."""
    degrees = _degrees(program)
    grid = [np.arange(2 * degree + 1) * (2 * np.pi / (2 * degree + 1)) for degree in degrees]
    phases = np.array([*itertools.product(*grid)]).reshape(-1, len(degrees))
    numbers = np.array([*itertools.product(*(range(-d, d + 1) for d in degrees))])
    numbers = numbers.reshape(-1, len(degrees))
    # of n and -n, whose coefficients are conjugate, the one whose first number is positive
    half = [n for n in numbers if any(n) and n[np.flatnonzero(n)[0]] > 0]
    rows = [np.full(len(phases), 1 / len(phases))]
    found: dict[Any, tuple[int, np.ndarray]] = {}
    for n in half:
        cosine, sine = (2 / len(phases)) * np.array([np.cos(phases @ n), np.sin(phases @ n)])
        frequency = None if fixed_scale is None else float(np.dot(n, fixed_scale))
        key: Any = tuple(n) if frequency is None else round(abs(frequency), 9)
        if key == 0:
            rows[0] = rows[0] + cosine
            continue
        sign = 1 if frequency is None or frequency > 0 else -1
        if key in found:
            at = found[key][0]
            rows[at], rows[at + 1] = rows[at] + cosine, rows[at + 1] + sign * sine
        else:
            found[key] = (len(rows), sign * n)
            rows += [cosine, sign * sine]
    frequencies = np.array([n for _, n in found.values()], float).reshape(-1, len(degrees))
    return WavePlan(phases, np.array(rows), frequencies)


def _plan_tensors(
    program: Program, fixed_scale: tuple[float, ...] | None, like: Tensor
) -> tuple[Tensor, ...]:
    """The plan as tensors in the dtype and on the device of another one."""
    # kept ones would be real where a mode asks for fake tensors; a compiler keeps them as constants
    if torch.compiler.is_compiling() or has_values(like):
        kept: tuple[Tensor, ...] = _kept(program, fixed_scale, like.dtype, like.device)
        return kept
    return _made(program, fixed_scale, like.dtype, like.device)


def _made(
    program: Program, fixed_scale: tuple[float, ...] | None, dtype: torch.dtype, device: Any
) -> tuple[Tensor, ...]:
    plan = wave_plan(program, fixed_scale)
    with warnings.catch_warnings():
        # a tracer warns that the plan becomes a constant of the graph, which it is
        warnings.simplefilter("ignore")
        return tuple(torch.as_tensor(part, dtype=dtype, device=device) for part in plan)


_cached = functools.lru_cache(maxsize=128)(_made)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _kept(
    program: Program, fixed_scale: tuple[float, ...] | None, dtype: torch.dtype, device: Any
) -> tuple[Tensor, ...]:
    return _cached(program, fixed_scale, dtype, device)


def _degrees(program: Program) -> list[int]:
    """How often each encoding occurs, which bounds the number that it contributes with."""
    uses = [r.encoding for r in program.rotations if r.encoding is not None]
    return [uses.count(u) for u in range(program.num_encodings)]


def wave_terms(
    program: Program,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    amplitude: Tensor,
    *,
    fixed_scale: tuple[float, ...] | None = None,
    engine: str = "auto",
) -> Tensor:
    """Return amplitude·φ as rows: a constant, then each wave's frequency, cosine and sine.

    Args:
        program: The lowered circuit, without an arccos encoding.
        theta: (g, k) radians, of each of g activations.
        scale: (g, u).
        shift: (g, u) radians.
        amplitude: (g,).
        fixed_scale: The scales where they are fixed.
        engine: Which simulator evaluates the circuit, "auto" or one of `engines()`.

    Returns:
        (1 + 3·count, g) with count = `count_waves(program, fixed_scale)`, differentiable.

    Raises:
        SimulatorError: The named engine refuses.
    """
    plan = _plan_tensors(program, fixed_scale, theta)
    call = _evaluations(program, plan[0], theta, scale, shift, fixed_scale)
    chosen = select(engine, call.request)
    if chosen.plain(call) or not has_values(theta) or is_observed():
        return _terms(run(chosen, call).squeeze(2), plan, scale, amplitude)
    found: Tensor = _Terms.apply(chosen, program, fixed_scale, theta, scale, shift, amplitude)  # type: ignore[no-untyped-call]
    return found


def _evaluations(
    program: Program, phases: Tensor, theta: Tensor, scale: Tensor, shift: Tensor,
    fixed_scale: tuple[float, ...] | None,
) -> LayerCall:  # fmt: skip
    """The circuit of every activation at all phases; x stays 0, so that only the shifts differ."""
    x = torch.zeros(phases.shape[0], 1, dtype=theta.dtype, device=theta.device)
    shifts = (shift + phases[:, None, :]).unsqueeze(2)
    tensors = LayerTensors(x, theta.unsqueeze(1), scale.unsqueeze(1), shifts)
    return layer_call(program, tensors, fixed_scale)


def _terms(values: Tensor, plan: tuple[Tensor, ...], scale: Tensor, amplitude: Tensor) -> Tensor:
    """The rows of terms, from φ of every activation at all phases, (n, g)."""
    _, analysis, numbers = plan
    coefficients = (analysis @ values) * amplitude
    waves = coefficients[1:].unflatten(0, (-1, 2))
    frequencies = (numbers @ scale.T).unsqueeze(1)
    return torch.cat([coefficients[:1], torch.cat([frequencies, waves], 1).flatten(0, 1)])


class _Terms(torch.autograd.Function):
    """The terms as one node of the graph, for a dozen small ones would cost more than the waves."""

    @staticmethod
    def forward(
        ctx: Any, engine: Engine, program: Program, fixed_scale: Any, *tensors: Tensor
    ) -> Tensor:
        theta, scale, shift, amplitude = tensors
        plan = _plan_tensors(program, fixed_scale, theta)
        call = _evaluations(program, plan[0], theta, scale, shift, fixed_scale)
        values = engine.forward(call)[0].squeeze(2)
        ctx.engine, ctx.program, ctx.fixed_scale = engine, program, fixed_scale
        ctx.save_for_backward(*tensors, values)
        return _terms(values, plan, scale, amplitude)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, values = ctx.saved_tensors
        theta, scale, shift, amplitude = tensors
        plan = _plan_tensors(ctx.program, ctx.fixed_scale, theta)
        if torch.is_grad_enabled() or are_many(grad):
            found = _differentiable_terms(ctx, tensors, plan, grad)
            return (None, None, None, *found)
        _, analysis, numbers = plan
        waves = grad[1:].unflatten(0, (-1, 3))
        sums = torch.cat([grad[:1], waves[:, 1:].flatten(0, 1)])
        dvalues = (analysis.T @ (sums * amplitude)).unsqueeze(2)
        call = _evaluations(ctx.program, plan[0], theta, scale, shift, ctx.fixed_scale)
        needs = (False, True, False, True, *(False,) * 4)
        _, dtheta, _, dshift, *_ = ctx.engine.backward(call._replace(needs=needs), dvalues, None)
        return (
            None, None, None, dtheta.squeeze(1), waves[:, 0].T @ numbers,
            dshift.sum(0).squeeze(1), (sums * (analysis @ values)).sum(0),
        )  # fmt: skip


def _differentiable_terms(
    ctx: Any, tensors: Sequence[Tensor], plan: tuple[Tensor, ...], grad: Tensor
) -> Gradients:
    """The gradients of the terms as a graph that can be differentiated again."""
    theta, scale, shift, amplitude = tensors
    with torch.enable_grad():
        call = _evaluations(ctx.program, plan[0], theta, scale, shift, ctx.fixed_scale)
        total = _terms(run(get_engine("torch"), call).squeeze(2), plan, scale, amplitude)
    return graph_of_gradients(total, tensors, ctx.needs_input_grad[3:], grad)


def add_waves(x: Tensor, base: Tensor, terms: Tensor) -> Tensor:
    """Return base + terms[0] + Σ_f A_f·cos ω_f·x + B_f·sin ω_f·x, elementwise.

    On a CPU one compiled pass does it, and one its derivatives, and only x and the terms are kept
    for them. Elsewhere, and where a compiler, a tracer or a transform looks on, it is plain torch.

    Args:
        x: (…, i).
        base: (…, i), what is added to.
        terms: (1 + 3·count, g) as `wave_terms` returns them; input i uses column ⌊i·g/in⌋.

    Returns:
        (…, i), in the dtype of `base`.
    """
    if _is_compiled(x, base, terms):
        return _Waves.apply(x, base, terms)  # type: ignore[no-any-return, no-untyped-call]
    return _plain(x, base, terms)


def _plain(x: Tensor, base: Tensor, terms: Tensor) -> Tensor:
    """The sum in torch's operators, differentiable to any order."""
    with without_autocast(x):
        wide, columns = x.to(terms.dtype), terms.shape[1]
        index = torch.arange(x.shape[-1], device=terms.device) * columns // x.shape[-1]
        terms = terms[:, index]
        total = terms[0].expand_as(wide)
        for wave in terms[1:].unflatten(0, (-1, 3)).unbind(0):
            frequency, cosine, sine = wave.unbind(0)
            angle = frequency * wide
            total = total + cosine * angle.cos() + sine * angle.sin()
        return base + total.to(base.dtype)


def _is_compiled(x: Tensor, base: Tensor, terms: Tensor) -> bool:
    """Whether the compiled kernels take this call."""
    # a compiler and a tracer see only the first question
    return (
        has_values(x)
        and not is_observed()
        and INSTALLED
        and type(x) is Tensor
        and x.is_cpu
        and x.dtype in DTYPES
        and x.dtype == base.dtype == terms.dtype
        and x.shape == base.shape
        and x.numel() > 0
    )


class _Waves(torch.autograd.Function):
    """The sum as one node of the graph; a second derivative goes to torch's operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor, terms: Tensor) -> Tensor:
        ctx.save_for_backward(x, terms)
        out = torch.empty_like(base, memory_format=torch.contiguous_format)
        given = [_flat(tensor) for tensor in (x, base, out)]
        for rows, parts, table in _spans(given, x.shape[-1], terms):
            _run("waves_task", [*parts[:2], table, parts[2]], rows, terms)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, terms = ctx.saved_tensors
        needs = (ctx.needs_input_grad[0], ctx.needs_input_grad[2])
        if torch.is_grad_enabled() or are_many(grad):
            dx, dterms = _differentiable_backward(x, terms, grad, needs)
            return dx, grad, dterms
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        dterms = torch.zeros_like(terms)
        given = [_flat(tensor) for tensor in (grad, x, dx)]
        for rows, parts, table in _spans(given, x.shape[-1], terms):
            units = -(-rows.height // rows.block)
            sums = np.empty(units * table.size, table.dtype)
            _run("waves_backward_task", [*parts[:2], table, parts[2], sums], rows, terms)
            found = sums.reshape(units, len(terms), -1).sum(0)
            starts = _columns(rows.width, terms.shape[1])[1]
            dterms += torch.from_numpy(np.add.reduceat(found, starts, axis=1))
        return dx, grad, dterms


class _Rows(NamedTuple):
    """Rows of inputs that one kernel call works through, a block of them at a time."""

    height: int
    width: int
    block: int


def _flat(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers as a vector."""
    return tensor.detach().resolve_neg().contiguous().view(-1).numpy()


def _spans(given: list[np.ndarray], width: int, terms: Tensor) -> Iterator[Any]:
    """Equal rows, the parts of the vectors that they are, and the terms of a row's inputs."""
    size, at = given[0].size, 0
    if terms.shape[1] == 1:
        width = min(size, _WIDTH)
    while at < size:
        width = min(width, size - at)
        count = (size - at) // width
        end = at + count * width
        columns = _columns(width, terms.shape[1])[0]
        table = terms.detach().numpy()[:, columns].reshape(-1)
        yield _Rows(count, width, max(1, _CELLS // width)), [v[at:end] for v in given], table
        at = end


@functools.lru_cache(maxsize=64)
def _columns(width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `width` inputs its column of the terms, and for each column its first input."""
    columns = np.arange(width) * count // width
    return columns, np.searchsorted(columns, np.arange(count))


def _run(task: str, args: list[np.ndarray], rows: _Rows, terms: Tensor) -> None:
    from .cpu import waves as kernels
    from .cpu.threads import Task
    from .cpu.threads import run as do

    dtype = args[0].dtype.type
    fastest = dtype(terms[1::3].abs().max()) if len(terms) > 1 else dtype(0)
    shape = (rows.height, rows.width, len(terms) // 3)
    counter = np.zeros(1, np.int64)
    do(
        Task(getattr(kernels, task), *args, shape, fastest, rows.block, counter),
        torch.get_num_threads(),
    )


def _differentiable_backward(
    x: Tensor, terms: Tensor, grad: Tensor, needs: tuple[bool, bool]
) -> Gradients:
    """The gradients by x and the terms as a graph that can be differentiated again."""
    with torch.enable_grad():
        total = _plain(x, torch.zeros_like(x), terms)
    return graph_of_gradients(total, (x, terms), needs, grad)
