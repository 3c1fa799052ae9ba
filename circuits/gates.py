"""The gates of a circuit and their angles.

A gate is `H`, `X`, `Z` (no angle) or a rotation `RX(angle)`, `RY(angle)`, `RZ(angle)`, which is
exp(-i angle σ/2). An angle, in radians, is one of

* `Fixed(value)`: a number;
* `Theta(k)`: the trainable angle in slot `k`;
* `Encoding(u)`: the data, `scale[u]·x + shift[u]`, or the arccos of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeAlias

from .errors import CircuitError


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant angle in radians."""

    value: float

    def __post_init__(self) -> None:
        if not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise CircuitError(f"Fixed({self.value!r}); an angle must be finite, in radians.")

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"

    @property
    def label(self) -> str:
        """The angle as `Circuit.draw` shows it."""
        for denominator in (1, 2, 3, 4, 6, 8):
            turns = self.value * denominator / math.pi
            if turns and abs(turns - round(turns)) < 1e-12:
                head = {1: "", -1: "-"}.get(round(turns), str(round(turns)))
                return f"{head}π" + (f"/{denominator}" if denominator > 1 else "")
        return f"{self.value:.4g}"


@dataclass(frozen=True, slots=True)
class Theta:
    """The trainable angle in slot `index`: 0, 1, 2, …; several gates may share a slot."""

    index: int

    def __post_init__(self) -> None:
        _require_index("Theta", self.index)

    def __repr__(self) -> str:
        return f"Theta({self.index})"

    @property
    def label(self) -> str:
        """The angle as `Circuit.draw` shows it."""
        return f"θ{self.index}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """The data: `e = scale[index]·x + shift[index]`, or `arccos e` with e clamped to [-1, 1].

    For |e| ≥ 1 every engine takes the derivative of the arccos as 0.
    """

    index: int
    arccos: bool = False

    def __post_init__(self) -> None:
        _require_index("Encoding", self.index)

    def __repr__(self) -> str:
        return f"Encoding({self.index}{', arccos=True' if self.arccos else ''})"

    @property
    def label(self) -> str:
        """The angle as `Circuit.draw` shows it."""
        affine = f"w{self.index}·x+b{self.index}"
        return f"arccos({affine})" if self.arccos else affine


Angle: TypeAlias = Fixed | Theta | Encoding

_ANGLES = {kind.__name__: kind for kind in (Fixed, Theta, Encoding)}

AXES = "XYZ"
"""The rotation axes by number: X is 0, Y is 1, Z is 2."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate of a circuit; make it with `H`, `X`, `Z`, `RX(…)`, `RY(…)` or `RZ(…)`."""

    name: str
    angle: Angle | None = None

    def __post_init__(self) -> None:
        rotation = self.name in ("RX", "RY", "RZ")
        if not rotation and self.name not in ("H", "X", "Z"):
            raise CircuitError(f"Gate {self.name!r}: the gates are H, X, Z, RX, RY and RZ.")
        if rotation != isinstance(self.angle, Fixed | Theta | Encoding):
            raise CircuitError(
                f"{self.name} with the angle {self.angle!r}: "
                "RX, RY and RZ take Fixed, Theta or Encoding; H, X and Z take none."
            )

    def __repr__(self) -> str:
        return self.name if self.angle is None else f"{self.name}({self.angle!r})"

    @property
    def label(self) -> str:
        """The gate as `Circuit.draw` shows it."""
        return self.name if self.angle is None else f"{self.name}({self.angle.label})"

    def rotations(self) -> tuple[tuple[int, Angle], ...]:
        """The gate as (axis, angle) rotations in time order, exact up to a global phase."""
        if self.angle is not None:
            return ((AXES.index(self.name[1]), self.angle),)
        half, full = Fixed(math.pi / 2), Fixed(math.pi)
        return {"H": ((2, full), (1, half)), "X": ((0, full),), "Z": ((2, full),)}[self.name]

    def to_json(self) -> list[Any]:
        """Return the gate as JSON values, such as `["RZ", "Encoding", 0, False]`."""
        if self.angle is None:
            return [self.name]
        return [self.name, type(self.angle).__name__, *astuple(self.angle)]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Gate:
        """Return the gate that `to_json` described."""
        name, *angle = values
        return cls(name, _ANGLES[angle[0]](*angle[1:]) if angle else None)


H = Gate("H")
X = Gate("X")
Z = Gate("Z")


def RX(angle: Angle | float) -> Gate:
    """Return a rotation about x by `angle` radians; a plain number becomes a `Fixed` angle."""
    return Gate("RX", _as_angle(angle))


def RY(angle: Angle | float) -> Gate:
    """Return a rotation about y by `angle` radians; a plain number becomes a `Fixed` angle."""
    return Gate("RY", _as_angle(angle))


def RZ(angle: Angle | float) -> Gate:
    """Return a rotation about z by `angle` radians; a plain number becomes a `Fixed` angle."""
    return Gate("RZ", _as_angle(angle))


def used_indices(gates: Iterable[Gate], kind: type[Theta] | type[Encoding]) -> set[int]:
    """Return the numbers of the theta slots, or of the encodings, in some gates."""
    return {gate.angle.index for gate in gates if isinstance(gate.angle, kind)}


def _as_angle(angle: Angle | float) -> Angle:
    return Fixed(float(angle)) if isinstance(angle, int | float) else angle


def _require_index(kind: str, index: object) -> None:
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise CircuitError(f"{kind}({index!r}); the index must be a whole number, 0 or more.")
