"""`expectation`: the activation of every edge by any engine, with noise or shots if wanted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qkan.circuits import Circuit, Program, resolve_scale, shot_estimate

from .bloch import noisy_edges
from .bridge import run
from .call import LayerTensors, layer_call
from .errors import SimulatorError
from .noise import Noise
from .registry import select


def expectation(
    circuit: Circuit,
    x: Tensor,
    theta: Tensor,
    scale: Tensor | str | Sequence[float] | None = None,
    shift: Tensor | None = None,
    *,
    engine: str = "auto",
    noise: Noise | None = None,
    shots: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return φ_oi(x_bi) = ⟨M⟩ of the circuit on every edge.

    Args:
        circuit: Any circuit; k = circuit.num_theta, u = circuit.num_encodings.
        x: (…, i) inputs, of a floating-point dtype.
        theta: (o, i, k) radians, or (…, o, i, k) if each sample has its own parameters.
        scale: (o, i, u), or with leading dimensions as theta; or the name of a fixed encoding
            ("linear", "binary", "ternary") or u numbers that all edges share. None means "linear".
        shift: (o, i, u) radians, or with leading dimensions as theta. None means 0.
        engine: "auto" or one of `engines()`; a named engine is never replaced by another.
        noise: Channels and readout errors, which the torch engine computes exactly.
        shots: The number of shots to sample for each value, instead of returning the exact
            expectation value. The estimate is that of `shot_estimate`, as from a device, and has no
            gradient.
        generator: Draws the shots; torch's default one when None.

    Returns:
        (…, o, i) in the dtype and on the device of x; within [-1, 1] without shots. For a circuit
        with several observables (…, o, i, a), each with its own shots.

    Raises:
        SimulatorError: Shapes, dtypes or devices do not fit, the engine refuses, or `shots` is
            below 1. The message shows what was found.

    Example:
        >>> import torch
        >>> from qkan.circuits import ansatz
        >>> theta = torch.zeros(2, 3, 8)
        >>> expectation(ansatz("pz"), torch.randn(5, 3), theta).shape
        torch.Size([5, 2, 3])
    """
    program = circuit.program
    fixed, scale = _scale(circuit, theta, scale)
    shift = theta.new_zeros(circuit.num_encodings) if shift is None else shift
    _check(circuit, x, theta, scale, shift)
    if shots is not None and (not isinstance(shots, int) or shots < 1):
        raise SimulatorError(f"shots={shots!r}; wanted a whole number, 1 or more.")
    values = _run(program, fixed, engine, noise, x, theta=theta, scale=scale, shift=shift)
    return values if shots is None else sample(values, shots, generator)


def sample(values: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
    """Return estimates of expectation values from binomial draws of `shots` shots each."""
    probability = ((1 - values.detach().double()) / 2).clamp(0, 1)
    ones = torch.binomial(torch.full_like(probability, shots), probability, generator=generator)
    return shot_estimate(ones, shots)[0].to(values.dtype)  # type: ignore[no-any-return]


def _run(
    program: Program, fixed: tuple[float, ...] | None, engine: str, noise: Noise | None, x: Tensor,
    **parameters: Tensor,
) -> Tensor:  # fmt: skip
    """Expectation values with any leading dimensions, which become those of one batch."""
    per_sample = [name for name, tensor in parameters.items() if tensor.ndim > 3]
    leading = torch.broadcast_shapes(
        x.shape[:-1], *(parameters[name].shape[:-3] for name in per_sample)
    )
    for name in per_sample:
        last = parameters[name].shape[-3:]
        parameters[name] = parameters[name].expand(*leading, *last).reshape(-1, *last)
    flat = x.expand(*leading, x.shape[-1]).reshape(-1, x.shape[-1])
    call = layer_call(program, LayerTensors(flat, **parameters), fixed)
    request = call.request._replace(noise=noise is not None)
    chosen = select(engine, request)
    values = run(chosen, call) if noise is None else noisy_edges(request, noise, *call.tensors[:4])
    return values.reshape(*leading, *values.shape[1:])


def _scale(
    circuit: Circuit, theta: Tensor, scale: Tensor | str | Sequence[float] | None
) -> tuple[tuple[float, ...] | None, Tensor]:
    if isinstance(scale, Tensor):
        return None, scale
    fixed = resolve_scale(circuit, "linear" if scale is None else scale)
    return fixed, theta.new_tensor(fixed)


def _check(circuit: Circuit, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor) -> None:
    named = {"x": x, "theta": theta, "scale": scale, "shift": shift}
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.dtype.is_floating_point:
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise SimulatorError(f"{name} is {found}; pass a torch tensor of real floats.")
        if tensor.dtype != x.dtype or tensor.device != x.device:
            raise SimulatorError(
                f"x is {x.dtype} on {x.device}, but {name} is {tensor.dtype} on {tensor.device}; "
                "convert one of them with .to(…)."
            )
    k, u = circuit.num_theta, circuit.num_encodings
    if x.ndim < 1 or theta.ndim < 3 or theta.shape[-1] != k or theta.shape[-2] != x.shape[-1]:
        raise SimulatorError(
            f"x has shape {tuple(x.shape)} and theta {tuple(theta.shape)}; wanted x (…, i) and "
            f"theta (o, i, {k}) with the same i, for this circuit with {k} theta slots."
        )
    for name in ("scale", "shift"):
        shape = named[name].shape
        if shape != (u,) and (len(shape) < 3 or shape[-3:] != (*theta.shape[-3:-1], u)):
            raise SimulatorError(
                f"{name} has shape {tuple(shape)}; wanted {(*theta.shape[-3:-1], u)}, one number "
                f"for each edge and encoding, for theta {tuple(theta.shape)}."
            )
