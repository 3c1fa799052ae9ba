"""Lowering: gates and an observable become a `Program`, the list of rotations that engines run.

Lowering shortens the list and never changes the value:

* adjacent rotations about one axis merge, since their angles add;
* constant rotations at the start turn the initial Bloch vector instead, and those at the end the
  observable;
* rotations about the initial vector, and those at the end about the observable, change nothing
  and are dropped.

Several observables are read from one state; φ then has an axis a, φ_a = observables[a] · v.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import CircuitError
from .gates import AXES, RY, RZ, Encoding, Fixed, Gate, Theta, used_indices

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of the Bloch sphere about a coordinate axis.

    The angle is constant + Σ_k theta[k], over k in `thetas`, + e, where e = scale[encoding]·x +
    shift[encoding]. With `arccos`, the last term is arccos(e) with e clamped to [-1, 1]; if
    `encoding` is None, there is no such term.

    Attributes:
        axis: 0, 1 or 2 for X, Y or Z.
        constant: The constant part in radians.
        thetas: Theta slots whose angles are added, in time order.
        encoding: The index of the encoding, or None if the rotation does not depend on x.
        arccos: Whether the encoding enters through its arccos.
    """

    axis: int
    constant: float = 0.0
    thetas: tuple[int, ...] = ()
    encoding: int | None = None
    arccos: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether the rotation depends on neither a parameter nor x."""
        return not self.thetas and self.encoding is None

    def merged(self, later: Rotation) -> Rotation | None:
        """Return both rotations as one, or None if the axes differ or both encode x."""
        if self.axis != later.axis or not (self.encoding is None or later.encoding is None):
            return None
        data = self if later.encoding is None else later
        constant = math.remainder(self.constant + later.constant, 2 * math.pi)
        thetas = self.thetas + later.thetas
        return Rotation(self.axis, constant, thetas, data.encoding, data.arccos)

    def __str__(self) -> str:
        terms = [Fixed(self.constant).label] if self.constant else []
        terms += [Theta(k).label for k in self.thetas]
        if self.encoding is not None:
            terms.append(Encoding(self.encoding, self.arccos).label)
        return f"R{AXES[self.axis]}({' + '.join(terms) or '0'})"


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered circuit: φ = observable · R_L ··· R_1 initial, or φ_a for each of several.

    Two programs are equal if their texts are equal.

    Attributes:
        initial: The Bloch vector (⟨X⟩, ⟨Y⟩, ⟨Z⟩) before the first rotation.
        rotations: The rotations in time order; a theta slot or an encoding may occur in several.
        observables: The unit vectors on which the final Bloch vector is projected.
        gates: The gates before lowering, for example for noise after each of them.
        measured: The unit vector of the observable that is measured after the gates, or a tuple of
            several.
        num_theta: The number of theta slots of the gates, including those that lowering dropped.
        num_encodings: The number of encodings of the gates, including those that lowering dropped.
        text: The gates and `measured` as JSON, which represent the program in a compiled graph.
        axes: The number of observables if there are several, otherwise None, since φ has no such
            axis.
        turned: For several observables, the program that measures Z after RZ(α) and RY(β), whose
            angles are its last two thetas; with the angles in `turns` it measures each observable.
        turns: The angles α and β in radians for each of several observables.
    """

    initial: Vector
    rotations: tuple[Rotation, ...]
    observables: tuple[Vector, ...]
    gates: tuple[Gate, ...]
    measured: Vector | tuple[Vector, ...]
    num_theta: int
    num_encodings: int
    text: str
    axes: int | None = None
    turned: Program | None = None
    turns: tuple[tuple[float, float], ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        shown = [str(rotation) for rotation in self.rotations]
        if len(shown) > 8:
            shown[4:-3] = [f"… {len(shown) - 7} more …"]
        return (
            f"Program({len(self.gates)} gates as {len(self.rotations)} rotations: "
            f"{' · '.join(shown)}; theta slots: {self.num_theta}, encodings: {self.num_encodings})"
        )

    def __deepcopy__(self, memo: object) -> Program:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return lower_to_program, (self.gates, self.measured)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a pickle of version 0.1.0 has the attributes of that version, including the circuit
        self.__dict__.update(vars(state["circuit"].program))

    @property
    def observable(self) -> Vector:
        """The unit vector on which the final Bloch vector is projected.

        Raises:
            CircuitError: There are several observables.
        """
        if self.axes is not None:
            raise CircuitError(
                f"The circuit is measured in {self.axes} observables, but one is needed here; "
                "choose it with circuit.with_observable(…)."
            )
        return self.observables[0]

    @property
    def uses_arccos(self) -> bool:
        """Whether an encoding enters through its arccos."""
        return any(rotation.arccos for rotation in self.rotations)

    @property
    def merged_shifts(self) -> frozenset[int]:
        """The encodings with a shift that duplicates a theta, both only in one merged angle."""
        thetas = [k for rotation in self.rotations for k in rotation.thetas]
        uses = [rotation.encoding for rotation in self.rotations]
        return frozenset(
            rotation.encoding
            for rotation in self.rotations
            if rotation.encoding is not None
            and not rotation.arccos
            and uses.count(rotation.encoding) == 1
            and any(thetas.count(k) == 1 for k in rotation.thetas)
        )

    def bandwidth(self, scale: tuple[float, ...]) -> float:
        """Return a bound on the frequencies of φ: Σ |scale| over the rotations that encode x."""
        used = (r.encoding for r in self.rotations if r.encoding is not None)
        return sum(abs(scale[u]) for u in used)

    def __str__(self) -> str:
        steps = " ".join(map(str, self.rotations))
        return f"{_show(self.initial)} → {steps} → {' | '.join(map(_show, self.observables))}"


@functools.lru_cache(maxsize=1024)
def lower_to_program(gates: tuple[Gate, ...], measured: Vector | tuple[Vector, ...]) -> Program:
    """Return the shortest list of merged rotations for gates and observables (cached)."""
    several = not isinstance(measured[0], float)
    vectors: Any = measured if several else (measured,)
    pending = _merged([rotation for gate in gates for rotation in gate_rotations(gate)])
    initial = np.array([0.0, 0.0, 1.0])
    while pending and (pending[0].is_constant or _is_parallel(pending[0], initial)):
        first = pending.pop(0)
        if first.is_constant:
            initial = rotation_matrix(first.axis, first.constant) @ initial
    observables = np.array(vectors).T
    while pending and (pending[-1].is_constant or _is_parallel(pending[-1], observables)):
        last = pending.pop()
        if last.is_constant:
            observables = rotation_matrix(last.axis, last.constant).T @ observables
    k = len(used_indices(gates, Theta))
    return Program(
        _vector(initial),
        tuple(pending),
        tuple(map(_vector, observables.T)),
        gates,
        measured,
        num_theta=k,
        num_encodings=len(used_indices(gates, Encoding)),
        text=json.dumps({"gates": [gate.to_json() for gate in gates], "observable": measured}),
        axes=len(vectors) if several else None,
        turned=lower_to_program((*gates, RZ(Theta(k)), RY(Theta(k + 1))), _Z) if several else None,
        turns=tuple(map(turns_to_z, vectors)) if several else (),
    )


_Z = (0.0, 0.0, 1.0)


def turns_to_z(vector: Vector) -> tuple[float, float]:
    """Return angles α and β in radians for which RZ(α) and then RY(β) turn a unit vector to Z."""
    x, y, z = vector
    # a vector along Z needs no turn
    return (-math.atan2(y, x) if x or y else 0.0), -math.atan2(math.hypot(x, y), z)


def gate_rotations(gate: Gate) -> tuple[Rotation, ...]:
    """Return the rotations of one gate, in time order."""
    return tuple(_rotation(axis, angle) for axis, angle in gate.rotations())


def rotation_matrix(axis: int, angle: float) -> np.ndarray:
    """Return the 3×3 rotation matrix for `angle` radians; it is exact at multiples of π/2."""
    quarters = angle / (math.pi / 2)
    if abs(quarters - round(quarters)) < 1e-15:
        c, s = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarters) % 4]
    else:
        c, s = math.cos(angle), math.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def _merged(rotations: Sequence[Rotation]) -> list[Rotation]:
    """Merge adjacent rotations about one axis; drop those by a constant multiple of 2π."""
    result: list[Rotation] = []
    for rotation in rotations:
        both = result[-1].merged(rotation) if result else None
        if both is not None:
            result.pop()
            rotation = both
        if not (rotation.is_constant and rotation.constant == 0.0):
            result.append(rotation)
    return result


def _rotation(axis: int, angle: Fixed | Theta | Encoding) -> Rotation:
    if isinstance(angle, Fixed):
        return Rotation(axis, math.remainder(angle.value, 2 * math.pi))
    if isinstance(angle, Theta):
        return Rotation(axis, thetas=(angle.index,))
    return Rotation(axis, encoding=angle.index, arccos=angle.arccos)


def _is_parallel(rotation: Rotation, vector: np.ndarray) -> bool:
    """Whether a vector (3,), or every column of vectors (3, n), lies along the rotation's axis."""
    return bool(np.abs(np.delete(vector, rotation.axis, 0)).max() < 1e-15)


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) + 0.0 for value in values)
    return (x, y, z)


def _show(vector: Vector) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in vector) + ")"
