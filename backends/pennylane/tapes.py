"""Translate PennyLane tapes of single-qubit gates into circuits of this package.

Without a gate on two wires, every wire is an independent qubit. Everything that a tape measures is
then a polynomial in expectation values ⟨n·σ⟩ of single qubits, each of which is one circuit.
Letters: n values of a broadcast tape, p parametric gates, w wires.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qkan.backends.backend import Floats, Task
from qkan.circuits import RX, RY, RZ, Circuit, Encoding, Gate, H, X, Z, require

Direction = tuple[float, float, float]
Factor = tuple[Any, Direction]
"""A wire, and the unit vector n of an expectation value ⟨n·σ⟩ on it."""

Polynomial = tuple[tuple[float, tuple[Factor, ...]], ...]
"""Coefficients, each with the values ⟨n·σ⟩ that it multiplies; the constant term has none."""

PLAIN = {"Hadamard": H, "PauliX": X, "PauliZ": Z}
TURNS = {"RX": RX, "RY": RY, "RZ": RZ}
NOTHING = ("Identity", "GlobalPhase", "Barrier")
GATES = frozenset([*PLAIN, *TURNS, *NOTHING])
OBSERVABLES = frozenset(
    "PauliX PauliY PauliZ Hadamard Identity Hermitian Projector Prod Sum SProd LinearCombination"
    " Hamiltonian".split()
)
_AXES = {"X": 0, "Y": 1, "Z": 2}


@dataclass(eq=False)
class Wire:
    """The gates of one wire of a tape, and the angles (n,) or () of its rotations."""

    gates: list[str] = field(default_factory=list)
    angles: list[Floats] = field(default_factory=list)

    def task(self, direction: Direction, shape: tuple[int, ...]) -> Task:
        """The measurement of ⟨n·σ⟩: angles of (*shape, p)."""
        # a circuit needs an encoding, and this one does not change |0⟩
        gates, angles = ["RZ", *self.gates], [np.zeros(()), *self.angles]
        columns = [np.broadcast_to(angle, shape) for angle in angles]
        return Task(_circuit(tuple(gates), direction), np.stack(columns, -1))


class Tape:
    """A preprocessed tape, ready to be measured.

    Args:
        script: A `QuantumScript` of the gates in `GATES`.

    Attributes:
        shape: (n,), or () for a tape that is not broadcast.
        factors: The values ⟨n·σ⟩ that its results need, each once.
    """

    def __init__(self, script: Any) -> None:
        self.shape = () if script.batch_size is None else (int(script.batch_size),)
        self._wires: dict[Any, Wire] = {}
        for operation in script.operations:
            if operation.name in NOTHING:
                continue
            wire = self._wires.setdefault(operation.wires[0], Wire())
            wire.gates.append(operation.name)
            wire.angles += [np.asarray(value, dtype=float) for value in operation.data]
        self._results = [_result_of(measured, script.wires) for measured in script.measurements]
        self.factors = tuple(dict.fromkeys(f for result in self._results for f in result.factors))

    def tasks(self) -> list[Task]:
        """Return the measurements of `factors`, in order."""
        return [self._wires.get(w, Wire()).task(n, self.shape) for w, n in self.factors]

    def result(self, z: Sequence[Floats]) -> Any:
        """Return the results that PennyLane expects, computed from the values of `factors`."""
        known = dict(zip(self.factors, z, strict=True))
        found = tuple(result.value(known, self.shape) for result in self._results)
        return found[0] if len(found) == 1 else found


class _Moment:
    """`expval`, or `var` as ⟨M²⟩ - ⟨M⟩²."""

    def __init__(self, sentence: Any, *, variance: bool) -> None:
        self._mean = _polynomial(sentence)
        self._square = _polynomial(sentence @ sentence) if variance else None
        terms = self._mean + (self._square or ())
        self.factors = [factor for _, factors in terms for factor in factors]

    def value(self, z: Mapping[Factor, Floats], shape: tuple[int, ...]) -> Floats:
        mean = _evaluate(self._mean, z, shape)
        return mean if self._square is None else _evaluate(self._square, z, shape) - mean**2


class _Probabilities:
    """`probs` in the basis of Z: products of (1 ± ⟨Z⟩)/2."""

    def __init__(self, wires: Sequence[Any]) -> None:
        self.factors = [(wire, _axis("Z")) for wire in wires]

    def value(self, z: Mapping[Factor, Floats], shape: tuple[int, ...]) -> Floats:
        found: Floats = np.ones((*shape, 1))
        for factor in self.factors:
            one = np.stack([(1 + z[factor]) / 2, (1 - z[factor]) / 2], -1)
            found = (found[..., :, None] * one[..., None, :]).reshape(*shape, -1)
        return found


def _result_of(measured: Any, wires: Any) -> _Moment | _Probabilities:
    if type(measured).__name__ == "ProbabilityMP":
        return _Probabilities(list(measured.wires or wires))
    variance = type(measured).__name__ == "VarianceMP"
    return _Moment(_sentence(measured.obs), variance=variance)


def merged(tasks: Iterable[Task]) -> tuple[list[Task], list[tuple[int, slice, tuple[int, ...]]]]:
    """Merge the tasks of equal circuits.

    Returns:
        The merged tasks with angles (v, p); and for each task, the number of its merged task, the
        position of its values there, and their shape.
    """
    blocks: dict[Circuit, list[Floats]] = {}
    sizes: dict[Circuit, int] = {}
    places = []
    for task in tasks:
        flat = task.angles.reshape(-1, task.angles.shape[-1])
        start = sizes.get(task.circuit, 0)
        sizes[task.circuit] = start + len(flat)
        blocks.setdefault(task.circuit, []).append(flat)
        places.append((task.circuit, slice(start, start + len(flat)), task.angles.shape[:-1]))
    numbers = {circuit: number for number, circuit in enumerate(blocks)}
    return (
        [Task(circuit, np.concatenate(angles)) for circuit, angles in blocks.items()],
        [(numbers[circuit], where, shape) for circuit, where, shape in places],
    )


@functools.lru_cache(maxsize=1024)
def _circuit(names: tuple[str, ...], direction: Direction) -> Circuit:
    gates: list[Gate] = []
    for name in names:
        turns = sum(gate.angle is not None for gate in gates)
        gates.append(PLAIN[name] if name in PLAIN else TURNS[name](Encoding(turns)))
    return Circuit(tuple(gates), direction)


def _sentence(observable: Any) -> Any:
    """An observable as a sum of Pauli words."""
    if observable.pauli_rep is not None:
        return observable.pauli_rep
    qml = require("pennylane", "pennylane")
    matrix = qml.matrix(observable, wire_order=observable.wires)
    return qml.pauli_decompose(matrix, wire_order=observable.wires, pauli=True)


def _polynomial(sentence: Any) -> Polynomial:
    """A sum of Pauli words as a polynomial; the words on one wire become one direction."""
    constant, products = 0.0, []
    vectors: dict[Any, list[float]] = {}
    for word, coefficient in sentence.items():
        weight = float(np.real(coefficient))
        if not word:
            constant += weight
        elif len(word) == 1:
            ((wire, axis),) = word.items()
            vectors.setdefault(wire, [0.0, 0.0, 0.0])[_AXES[axis]] += weight
        else:
            products.append((weight, tuple((w, _axis(a)) for w, a in word.items())))
    terms: list[tuple[float, tuple[Factor, ...]]] = [(constant, ())] if constant else []
    for wire, vector in vectors.items():
        length = math.hypot(*vector)
        if length:
            # n and -n share one circuit
            length = math.copysign(length, next(v for v in vector if v))
            x, y, z = (v / length for v in vector)
            terms.append((length, ((wire, (x, y, z)),)))
    return tuple(terms + products)


def _axis(name: str) -> Direction:
    x, y, z = (float(name == axis) for axis in _AXES)
    return (x, y, z)


def _evaluate(polynomial: Polynomial, z: Mapping[Factor, Floats], shape: tuple[int, ...]) -> Floats:
    total: Floats = np.zeros(shape)
    for coefficient, factors in polynomial:
        total = total + coefficient * math.prod((z[f] for f in factors), start=np.float64(1))
    return total
