"""An activation as an exact sum of sinusoids: their number, frequencies and coefficients.

φ(x) of a circuit whose encodings are s_u·x + b_u is a trigonometric polynomial: its frequencies are
the sums Σ_u n_u·s_u with whole numbers n_u (arXiv 2008.08605). `wave_terms` computes the
coefficients, differentiably, from a few evaluations of the circuit, for any number of inputs, and
`add_waves` in `adding.py` evaluates the sum at every input.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from qkan.circuits import Program

from .bridge import are_many, graph_of_gradients, is_observed, run
from .call import Gradients, LayerCall, LayerTensors, Request, has_values, layer_call
from .cpu.compiled import DTYPES
from .registry import get_engine, select

MOST_WAVES = 32
"""The largest number of frequencies of an activation that is computed as a sum of waves."""


class WavePlan(NamedTuple):
    """The plan for finding the waves of an activation.

    Attributes:
        phases: (n, u) radians, by which the encodings are shifted in n evaluations.
        analysis: (1 + 2·count, n), the matrix from these values of φ to the constant and,
            alternately, the coefficients of cosine and sine of each wave.
        frequencies: (count, u), the integers that give each wave's frequency as a sum of scales.
    """

    phases: np.ndarray
    analysis: np.ndarray
    frequencies: np.ndarray


def count_waves(program: Program, fixed_scale: tuple[float, ...] | None = None) -> int | None:
    """Return the number of frequencies above 0 of an activation, or None if it has no such series.

    Args:
        program: The lowered circuit.
        fixed_scale: The scales if they are fixed; equal frequencies then count once.
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
    # of n and -n, whose coefficients are conjugate, take the one whose first number is positive
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


Recipe = np.ndarray
"""Waves as products of others, (count·4,), as `cpu.waves.waves` describes it."""


@functools.lru_cache(maxsize=128)
def wave_recipe(program: Program, fixed_scale: tuple[float, ...] | None = None) -> Recipe:
    """Return the waves of a plan that a compiled pass computes from products of two others.

    Cosine and sine of a sum of angles take four multiplications, which is much less than computing
    them from the angle.
    """
    numbers = wave_plan(program, fixed_scale).frequencies
    # with fixed scales a frequency is one number, whatever scales it is the sum of
    values = numbers if fixed_scale is None else numbers @ np.array([fixed_scale]).T
    depth = np.full(len(values), 1 << 30)
    rows = []
    for w in np.argsort(np.abs(values).sum(1), kind="stable").tolist():
        found = (0, -1, -1, 1)
        for sign in (1, -1):
            sums = values[:, None] + sign * values
            cost = np.maximum.outer(depth, depth) + 1
            cost[~np.isclose(sums, values[w], rtol=1e-15, atol=0).all(-1)] = 1 << 30
            a, b = np.unravel_index(cost.argmin(), cost.shape) if cost.size else (0, 0)
            best = (int(cost[a, b]), int(a), int(b), sign)
            found = best if best[0] < (found[0] or 1 << 30) else found
        depth[w] = found[0]
        rows.append((w, *found[1:]))
    return np.array(rows, np.int64).reshape(-1)


def _plan_tensors(
    program: Program, fixed_scale: tuple[float, ...] | None, like: Tensor
) -> tuple[Tensor, ...]:
    """The plan as tensors in the dtype and on the device of another tensor."""
    # cached tensors would be real under a mode for fake tensors; a compiler keeps them as constants
    if torch.compiler.is_compiling() or has_values(like):
        kept: tuple[Tensor, ...] = _kept(program, fixed_scale, like.dtype, like.device)
        return kept
    return _made(program, fixed_scale, like.dtype, like.device)


def _made(
    program: Program, fixed_scale: tuple[float, ...] | None, dtype: torch.dtype, device: Any
) -> tuple[Tensor, ...]:
    plan = wave_plan(program, fixed_scale)
    with warnings.catch_warnings():
        # a tracer would warn that the plan becomes a constant of the graph, which is right
        warnings.simplefilter("ignore")
        return tuple(torch.as_tensor(part, dtype=dtype, device=device) for part in plan)


_cached = functools.lru_cache(maxsize=128)(_made)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _kept(
    program: Program, fixed_scale: tuple[float, ...] | None, dtype: torch.dtype, device: Any
) -> tuple[Tensor, ...]:
    return _cached(program, fixed_scale, dtype, device)


def _degrees(program: Program) -> list[int]:
    """How often each encoding occurs, which bounds its integer in a frequency."""
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
    """Return amplitude·φ as rows: a constant, then frequency, cosine and sine of each wave.

    Args:
        program: The lowered circuit, without an arccos encoding.
        theta: (g, k) radians, for each of g activations.
        scale: (g, u).
        shift: (g, u) radians.
        amplitude: (g,).
        fixed_scale: The scales if they are fixed.
        engine: The engine that evaluates the circuit: "auto" or one of `engines()`.

    Returns:
        (1 + 3·count, g) with count = `count_waves(program, fixed_scale)`, differentiable.

    Raises:
        SimulatorError: The named engine refuses.
    """
    tensors = (theta, scale, shift, amplitude)
    plan = _plan_tensors(program, fixed_scale, theta)
    chosen = select(engine, _request(program, plan[0].shape[0], theta, fixed_scale))
    if chosen.name == "numba" and has_values(theta) and not is_observed() and _are_plain(tensors):
        found: Tensor = _Terms.apply(program, fixed_scale, *tensors)  # type: ignore[no-untyped-call]
        return found
    call = _evaluations(program, plan[0], theta, scale, shift, fixed_scale)
    return _terms(run(chosen, call).squeeze(2), plan, scale, amplitude)


def wave_request(program: Program, theta: Tensor, fixed_scale: tuple[float, ...] | None) -> Request:
    """Return the request to an engine for finding the waves of activations with theta (g, k)."""
    return _request(program, len(wave_plan(program, fixed_scale).phases), theta, fixed_scale)


def _request(
    program: Program, phases: int, theta: Tensor, fixed_scale: tuple[float, ...] | None
) -> Request:
    # each phase has its own shift
    return Request(
        program, phases, theta.shape[0], 1, theta.dtype, theta.device, fixed_scale,
        per_edge=True, batched_theta=True,
    )  # fmt: skip


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether all are ordinary CPU tensors of one dtype that the compiled code can take."""
    dtype = tensors[0].dtype
    return dtype in DTYPES and all(
        t.dtype is dtype and t.is_cpu and type(t) in (Tensor, Parameter) for t in tensors
    )


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
    """The terms as one node of the graph and one compiled call.

    A dozen small operators would cost more than evaluating the waves.
    """

    @staticmethod
    def forward(
        ctx: Any, program: Program, fixed_scale: tuple[float, ...] | None, *tensors: Tensor
    ) -> Tensor:
        from .cpu import waves as kernels

        ctx.program, ctx.fixed_scale = program, fixed_scale
        ctx.save_for_backward(*tensors)
        code, plan = _compiled_plan(program, fixed_scale)
        terms = torch.empty(1 + 3 * len(plan[2]), len(tensors[0]), dtype=tensors[0].dtype)
        kernels.find_terms(code, plan, *map(array_of, tensors), terms.numpy())
        return terms

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        if torch.is_grad_enabled() or are_many(grad):
            return (None, None, *_differentiable_terms(ctx, tensors, grad))
        from .cpu import waves as kernels

        code, plan = _compiled_plan(ctx.program, ctx.fixed_scale)
        found = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]
        given = tuple(map(array_of, tensors))
        kernels.find_terms_backward(code, plan, given, array_of(grad), *(t.numpy() for t in found))
        return (None, None, *found)


@functools.lru_cache(maxsize=128)
def _compiled_plan(program: Program, fixed_scale: tuple[float, ...] | None) -> Any:
    """The program and the plan in the form for the compiled code."""
    from .cpu.program_arrays import program_arrays

    arrays, plan = program_arrays(program), wave_plan(program, fixed_scale)
    turns = np.stack([np.cos(plan.phases), np.sin(plan.phases)], -1)
    return (arrays.code, arrays.consts[np.dtype(np.float64)]), (turns, plan[1], plan[2])


def array_of(tensor: Tensor) -> np.ndarray:
    """Return a tensor's values in a contiguous array."""
    return tensor.detach().resolve_neg().contiguous().numpy()


def _differentiable_terms(ctx: Any, tensors: Sequence[Tensor], grad: Tensor) -> Gradients:
    """The gradients of the terms as a graph that can be differentiated again."""
    theta, scale, shift, amplitude = tensors
    plan = _plan_tensors(ctx.program, ctx.fixed_scale, theta)
    with torch.enable_grad():
        call = _evaluations(ctx.program, plan[0], theta, scale, shift, ctx.fixed_scale)
        total = _terms(run(get_engine("torch"), call).squeeze(2), plan, scale, amplitude)
    return graph_of_gradients(total, tensors, ctx.needs_input_grad[2:], grad)
