"""The problems that engines are tested with: circuits, shapes, random values, and comparisons.

Letters: b samples, o outputs, i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qkan.circuits import RX, RY, RZ, Circuit, Encoding, H, Theta, X, Z, ansatz
from qkan.circuits.ansatz import SHIPPED

EXACT = 1e-10


def assert_close(found: Tensor, wanted: Tensor, what: str, tolerance: float = EXACT) -> None:
    """Assert equal shapes, NaN in the same places, and errors below tolerance·(1 + |wanted|)."""
    assert found.shape == wanted.shape, f"{what}: shape {found.shape}, wanted {wanted.shape}"
    found, wanted = found.detach().double(), wanted.detach().double()
    nan = wanted.isnan()
    assert torch.equal(found.isnan(), nan), f"{what}: NaN in other places than wanted"
    error = ((found - wanted).abs() / (1 + wanted.abs()))[~nan]
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= tolerance, f"{what}: off by {worst:.3g}, allowed {tolerance:.3g}"


def assert_as_exact_as(
    found: Tensor, plain: Tensor, exact: Tensor, slack: float, what: str
) -> None:
    """Assert that the error is at most twice that of the plain implementation, plus slack."""
    assert found.shape == exact.shape, f"{what}: shape {found.shape}, wanted {exact.shape}"
    if not exact.numel():
        return
    error, floor = ((t.detach().double() - exact).abs().max() for t in (found, plain))
    assert error <= 2 * floor + slack, f"{what}: off by {error:.3g}, plain by {floor:.3g}"


TILTED = (0.48, -0.6, 0.64)


def own_circuit() -> Circuit:
    """A circuit with everything: thetas and an encoding that occur twice, and fixed angles."""
    return Circuit(
        (
            RX(0.3), RY(Theta(0)), RZ(Encoding(1)), RX(Encoding(0)), X, RY(Theta(1)),
            RX(Theta(0)), RZ(Encoding(0)), H, RZ(Theta(2)), Z, RY(Encoding(1)), RX(Theta(1)),
        ),
        observable=TILTED,
    )  # fmt: skip


def mixed_encodings() -> Circuit:
    """A circuit with an arccos and an affine encoding."""
    gates = (
        RY(Theta(0)), RX(Encoding(0, arccos=True)), RX(Theta(1)), RZ(Theta(2)), RZ(Encoding(1)),
        RY(0.7),
    )  # fmt: skip
    return Circuit(gates, observable="X")


def bare_encoding() -> Circuit:
    """A circuit without thetas."""
    return Circuit((H, RZ(Encoding(0)), RY(0.4)))


def unmoved() -> Circuit:
    """A circuit whose input never reaches the observable, so that φ is constant."""
    return Circuit((RZ(Encoding(0)), RZ(Theta(0))))


CIRCUITS: dict[str, Circuit] = {
    **{f"{name}{reps}": ansatz(name, reps) for name in SHIPPED
       for reps in (1, 3)},
    "pz-X": ansatz("pz", 2).with_observable("X"),
    "rpz-Y": ansatz("rpz", 2).with_observable("Y"),
    "own": own_circuit(),
    "mixed": mixed_encodings(),
    "bare": bare_encoding(),
    "unmoved": unmoved(),
}  # fmt: skip
"""Circuits that every engine is tested on, with readable ids."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one problem."""

    b: int
    o: int
    i: int

    def __str__(self) -> str:
        return f"{self.b}x{self.i}to{self.o}"


SHAPES = (Shape(7, 3, 5), Shape(1, 1, 1), Shape(13, 1, 2), Shape(2, 5, 1))
"""Prime, odd and smallest sizes."""


@dataclass
class Problem:
    """Random inputs and parameters of every edge, and a random output gradient."""

    x: Tensor
    theta: Tensor
    scale: Tensor
    shift: Tensor
    weight: Tensor
    grad: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors x, theta, scale and shift."""
        return self.x, self.theta, self.scale, self.shift


def problem(
    circuit: Circuit, shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Problem:
    """A random problem whose tensors are leaves; scales differ from 1, shifts from 0."""
    g = torch.Generator().manual_seed(seed)
    k, u = circuit.num_theta, circuit.num_encodings
    # encodings through arccos stay mostly inside [-1, 1], with some clamped
    size = 0.6 if circuit.uses_arccos else 1.7
    values = [
        torch.randn(shape.b, shape.i, generator=g, dtype=torch.float64) * size,
        torch.randn(shape.o, shape.i, k, generator=g, dtype=torch.float64) * 2,
        torch.randn(shape.o, shape.i, u, generator=g, dtype=torch.float64) * 0.4 + 0.9,
        torch.randn(shape.o, shape.i, u, generator=g, dtype=torch.float64) * 0.3,
        torch.randn(shape.o, shape.i, generator=g, dtype=torch.float64),
    ]
    x, theta, scale, shift, weight = (value.to(dtype).requires_grad_() for value in values)
    grad = torch.randn(shape.b, shape.o, generator=g, dtype=torch.float64).to(dtype)
    return Problem(x, theta, scale, shift, weight, grad)
