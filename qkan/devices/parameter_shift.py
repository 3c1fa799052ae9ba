"""The parameter-shift rule: first derivatives of a circuit from its values at shifted angles.

∂φ/∂α = (φ(α + π/2) - φ(α - π/2))/2 for the angle α of each rotation of the lowered circuit. The
derivatives by theta, scale, shift and x follow from ∂φ/∂α by the chain rule, which autograd
applies. Letters: p parametric gates, r rotations that are shifted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qkan.circuits import Circuit, Encoding, Gate, Rotation, Theta
from qkan.errors import QKANError


class ShiftedRotation(NamedTuple):
    """A rotation of the lowered circuit, and the parametric gate whose angle shifts it."""

    rotation: Rotation
    gate: int


@functools.lru_cache(maxsize=256)
def shifted_rotations(circuit: Circuit) -> tuple[ShiftedRotation, ...]:
    """Return the rotations that depend on a parameter or x, each with a gate that turns it.

    Lowering merges gates into one rotation, whose angle is the sum of theirs, so shifting any of
    them shifts the rotation. It is shifted once, however many gates and parameters it contains.
    Rotations that cannot change the value were dropped by lowering and are not shifted.

    Example:
        >>> from qkan.circuits import ansatz
        >>> len(shifted_rotations(ansatz("pz", reps=3)))
        8
    """
    thetas: list[int] = []
    encodings: list[int] = []
    gates = []
    for gate in circuit.gates:
        position, angle = len(thetas) + len(encodings), gate.angle
        if isinstance(angle, Theta):
            angle = Theta(len(thetas))
            thetas.append(position)
        elif isinstance(angle, Encoding):
            angle = Encoding(len(encodings), angle.arccos)
            encodings.append(position)
        gates.append(Gate(gate.name, angle))
    # with a slot of its own for every gate, lowering gives the same rotations with their gates
    untied = Circuit(tuple(gates), circuit.observable).program
    return tuple(
        ShiftedRotation(
            rotation, thetas[own.thetas[0]] if own.encoding is None else encodings[own.encoding]
        )
        for rotation, own in zip(circuit.program.rotations, untied.rotations, strict=True)
        if not own.is_constant
    )


def trained_rotations(circuit: Circuit, trained: Circuit) -> tuple[ShiftedRotation, ...]:
    """Return the shifted rotations that depend on x or on a theta of the `trained` circuit.

    A layer with several observables adds two rotations to its circuit, whose angles choose the
    observable and have no gradient.
    """
    return tuple(
        shifted
        for shifted in shifted_rotations(circuit)
        if shifted.rotation.encoding is not None or min(shifted.rotation.thetas) < trained.num_theta
    )


def needed_shifts(
    circuit: Circuit, theta: Tensor, encoded: Iterable[object]
) -> tuple[ShiftedRotation, ...]:
    """Return the shifts for the gradients that are needed; `encoded` are x, scale and shift."""
    if not torch.is_grad_enabled():
        return ()
    data = any(isinstance(value, Tensor) and value.requires_grad for value in encoded)
    return tuple(
        shifted
        for shifted in shifted_rotations(circuit)
        if (shifted.rotation.thetas and theta.requires_grad)
        or (shifted.rotation.encoding is not None and data)
    )


def angle_offsets(circuit: Circuit, shifts: tuple[ShiftedRotation, ...]) -> Tensor:
    """Return the offsets (1 + 2r, p) of the gates' angles: 0, then ±π/2 for each shift."""
    offsets = torch.zeros(1 + 2 * len(shifts), len(circuit.parametric_gates), dtype=torch.double)
    for number, shifted in enumerate(shifts):
        offsets[1 + 2 * number, shifted.gate] = math.pi / 2
        offsets[2 + 2 * number, shifted.gate] = -math.pi / 2
    return offsets


def differentiable(
    z: Tensor, shifts: tuple[ShiftedRotation, ...], angle: Callable[[Rotation], Tensor]
) -> Tensor:
    """Return the unshifted values with the derivatives that the shifted values give.

    Args:
        z: (1 + 2r, …) values measured at `angle_offsets`.
        shifts: The r rotations that were shifted.
        angle: A function from a rotation to its angle on every edge, which broadcasts to (…).
    """
    # Σ_r slope_r·α_r has the derivatives of φ, although not its value
    moving = torch.zeros_like(z[0])
    for shifted, slope in zip(shifts, (z[1::2] - z[2::2]) / 2, strict=True):
        moving = moving + slope * angle(shifted.rotation)
    return with_slopes_of(moving, z[0])


def with_slopes_of(moving: Tensor, z: Tensor) -> Tensor:
    """Return the measured values z with the first derivatives of `moving`."""
    values: Tensor = _Measured.apply(moving, z)  # type: ignore[no-untyped-call]
    return values


class _Measured(torch.autograd.Function):
    """Measured values with the first derivatives of another tensor."""

    @staticmethod
    def forward(ctx: Any, moving: Tensor, z: Tensor) -> Tensor:
        ctx.dtype = moving.dtype
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            # the slopes are plain numbers, so a second derivative would treat them as constants
            raise QKANError(
                "create_graph=True: measured values have first derivatives only. Use the simulated "
                "model for second derivatives."
            )
        return grad.to(ctx.dtype), None
