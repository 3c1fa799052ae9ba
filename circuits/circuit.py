"""`Circuit`: the definition of a DARUAN for every engine and every device."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .draw import Drawing
from .errors import CircuitError
from .gates import AXES, RY, RZ, Encoding, Gate, Theta, used_indices
from .program import Program, Rotation, Vector, gate_rotations, lower_to_program
from .scales import resolve_scale
from .trigonometric import frequencies

Observable = str | tuple[float, float, float]
Observables = Observable | tuple[Observable, ...]
"""One observable, or several that are read from one state; a tuple of numbers is a vector."""


@dataclass(frozen=True)
class Circuit:
    """A single-qubit data re-uploading circuit: gates on |0⟩ in time order, then a measurement.

    Its activation is φ(x) = ⟨0|U(x)† M U(x)|0⟩ with M = n_x X + n_y Y + n_z Z: a DARUAN of
    arXiv 2509.14026, data re-uploading after arXiv 1907.02085.

    Args:
        gates: The gates in time order. Theta slots and encodings are numbered from 0 without gaps,
            and may occur more than once.
        observable: "X", "Y", "Z", or a unit 3-vector (n_x, n_y, n_z); or several of them in a
            tuple, such as ("X", "Y", "Z"), which are read from one state. φ then has an additional
            axis a, with one value for each observable.
        builder: The function that builds the circuit for a number of repetitions. `ansatz` sets it
            and `extend` needs it; it does not count for equality.

    Raises:
        CircuitError: The numbering has a gap, no gate encodes x, or an observable is invalid.

    Example:
        >>> from qkan.circuits import Circuit, Encoding, H, RY, RZ, Theta
        >>> circuit = Circuit([H, RZ(Encoding(0)), RY(Theta(0))])
        >>> circuit
        Circuit((H, RZ(Encoding(0)), RY(Theta(0))), observable='Z')
        >>> circuit.num_theta, circuit.num_encodings
        (1, 1)
        >>> eval(repr(circuit)) == circuit
        True
    """

    gates: tuple[Gate, ...]
    observable: Observables = "Z"
    builder: Callable[[int], Circuit] | None = field(default=None, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)
    _counts: tuple[int, int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # this is the only way in which a frozen dataclass can normalise its arguments
        object.__setattr__(self, "gates", _checked_gates(self.gates))
        object.__setattr__(self, "observable", checked_observable(self.observable))
        thetas, encodings = used_indices(self.gates, Theta), used_indices(self.gates, Encoding)
        _require_no_gap("theta slot", "Theta", thetas)
        _require_no_gap("encoding", "Encoding", encodings)
        if not encodings:
            raise CircuitError(
                "The circuit has no Encoding, so its output would not depend on x. "
                "Add a gate such as RZ(Encoding(0))."
            )
        # a layer asks for the counts at every call
        object.__setattr__(self, "_hash", hash((self.gates, self.observable)))
        object.__setattr__(self, "_counts", (len(thetas), len(encodings)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Circuit], tuple[object, ...]]:
        return Circuit, (self.gates, self.observable, self.builder)

    def __deepcopy__(self, memo: object) -> Circuit:
        return self

    def __repr__(self) -> str:
        gates = ", ".join(map(repr, self.gates)) + ("," if len(self.gates) == 1 else "")
        return f"Circuit(({gates}), observable={self.observable!r})"

    @property
    def num_theta(self) -> int:
        """The number of trainable angles of one edge."""
        return self._counts[0]

    @property
    def num_encodings(self) -> int:
        """The number of encodings; an edge has one `scale` and one `shift` for each."""
        return self._counts[1]

    @property
    def parametric_gates(self) -> tuple[Gate, ...]:
        """The gates whose angle is a Theta or an Encoding, in time order.

        `simulate` and a device's `measure` take one bound angle for each of them.
        """
        return tuple(g for g in self.gates if isinstance(g.angle, Theta | Encoding))

    @property
    def reads_several(self) -> bool:
        """Whether φ has one value for each of several observables."""
        # a tuple of numbers is the vector of one observable
        return isinstance(self.observable, tuple) and not isinstance(self.observable[0], float)

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All observables as a tuple, even if there is only one."""
        return self.observable if self.reads_several else (self.observable,)  # type: ignore[return-value]

    @property
    def observable_vectors(self) -> tuple[Vector, ...]:
        """All observables, each as (n_x, n_y, n_z)."""
        return tuple(map(_vector_of, self.observables))

    @property
    def observable_vector(self) -> tuple[float, float, float]:
        """The observable as (n_x, n_y, n_z).

        Raises:
            CircuitError: The circuit has several.
        """
        if self.reads_several:
            raise CircuitError(
                f"The circuit is measured in several observables, {self.observable!r}, but one is "
                "needed here; choose it with circuit.with_observable(…)."
            )
        return self.observable_vectors[0]

    @property
    def uses_arccos(self) -> bool:
        """Whether an encoding enters through its arccos, so that φ has no finite spectrum."""
        return any(isinstance(g.angle, Encoding) and g.angle.arccos for g in self.gates)

    @functools.cached_property
    def program(self) -> Program:
        """The circuit, lowered to its shortest list of rotations; equal circuits share it."""
        vectors = self.observable_vectors
        return lower_to_program(self.gates, vectors if self.reads_several else vectors[0])

    def draw(self) -> Drawing:
        """Return a drawing of the circuit: text in a terminal, and a picture in a notebook."""
        return Drawing(self.gates, self.observables)

    def _repr_html_(self) -> str:
        return self.draw()._repr_html_()

    def spectrum(self, scale: str | Sequence[float] = "linear") -> np.ndarray:
        """Return the frequencies k ≥ 0 of φ(x) = Σ_k c_k e^{ikx} for generic angles, ascending.

        Each is a sum Σ_u s_u·scale[u] with s_u ∈ {-1, 0, 1} (arXiv 2008.08605). Frequencies whose
        coefficient vanishes for three random draws of the angles are left out, since the circuit
        cannot have them.

        Args:
            scale: "linear", "binary", "ternary", or one number for each encoding.

        Raises:
            CircuitError: There is an arccos encoding, the scale has the wrong length, or there are
                over 200,000 frequencies.

        Example:
            >>> from qkan.circuits import ansatz
            >>> ansatz("pz", reps=2).spectrum("ternary")
            array([0., 1., 2., 3., 4.])
            >>> ansatz("real", reps=3).spectrum("linear")
            array([3.])
        """
        return frequencies(self.program, resolve_scale(self, scale))

    def with_observable(self, observable: Any) -> Circuit:
        """Return the circuit with the same gates, but with another observable, or with several.

        Args:
            observable: As for a `Circuit`; or "trainable" for a direction that is learnt: before Z
                is measured, RZ(α) and RY(β) turn the state, where α and β are two more thetas, the
                last ones. This measures the unit vector n = (-sin β·cos α, sin β·sin α, cos β).

        Example:
            >>> from qkan.circuits import ansatz
            >>> ansatz("rpz", reps=1).with_observable("trainable").num_theta
            4
        """
        gates, k = self.gates, self.num_theta
        learnt = isinstance(observable, str) and observable == "trainable"
        observable = "trainable" if learnt else checked_observable(observable)
        build = self.builder
        if isinstance(build, _Observed) and build.observable != "trainable":
            build = build.plain
        builder = None if build is None else _Observed(build, observable)
        if learnt:
            return Circuit((*gates, RZ(Theta(k)), RY(Theta(k + 1))), "Z", builder)
        return Circuit(gates, observable, builder)

    def extend(self, reps: int) -> Circuit:
        """Return the same ansatz with a total of `reps` repetitions.

        Raises:
            CircuitError: The circuit has no builder, or has more than `reps` repetitions already.
        """
        if self.builder is None:
            raise CircuitError(
                "extend: a bare list of gates has no rule for more repetitions. Register a builder "
                "with register_ansatz(name, build) and use ansatz(name, reps)."
            )
        if reps < self.num_encodings:
            raise CircuitError(
                f"extend({reps}): the circuit already has {self.num_encodings} repetitions, and an "
                "extension removes none; pass at least that number."
            )
        return self.builder(reps)


def lower(circuit: Circuit) -> Program:
    """Return the program of a circuit, its shortest list of merged rotations.

    Example:
        >>> from qkan.circuits import ansatz, lower
        >>> print(lower(ansatz("pz", reps=1)))
        (1, 0, 0) → RZ(θ0) RY(θ1) RZ(θ2 + w0·x+b0) RY(θ3) → (0, 0, 1)
    """
    return circuit.program


def lower_gates(circuit: Circuit | Program) -> tuple[tuple[Rotation, ...], ...]:
    """Return the rotations of each gate without merging, as needed for noise after each gate."""
    return tuple(map(gate_rotations, circuit.gates))


def spectrum(circuit: Circuit, scale: str | Sequence[float] = "linear") -> np.ndarray:
    """Return the frequencies that φ can have for generic angles: `circuit.spectrum(scale)`."""
    return circuit.spectrum(scale)


def _checked_gates(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    gates = tuple(gates)
    for position, gate in enumerate(gates):
        if not isinstance(gate, Gate):
            raise CircuitError(
                f"Gate {position} is {gate!r}; use H, X, Z, RX(angle), RY(angle) or RZ(angle)."
            )
    return gates


@dataclass(frozen=True)
class _Observed:
    """A builder of the circuits of `plain`, but with another observable."""

    plain: Callable[[int], Circuit]
    observable: Observables

    @property
    def name(self) -> str | None:
        """The name of the ansatz, if it has one."""
        return getattr(self.plain, "name", None)

    def __call__(self, reps: int) -> Circuit:
        return self.plain(reps).with_observable(self.observable)

    def __reduce__(self) -> tuple[Any, ...]:
        return _observed, (self.plain, self.observable)


def _observed(build: Callable[[int], Circuit] | None, observable: Observables) -> _Observed | None:
    """Return the builder of a pickled circuit, or None in a process that does not know it."""
    return None if build is None else _Observed(build, observable)


def checked_observable(observable: object) -> Observables:
    """Return the observable in the form in which a circuit keeps it."""
    if isinstance(observable, str) or not isinstance(observable, Iterable):
        return _checked_axis(observable, f"Observable {observable!r}: ")
    if isinstance(observable, Mapping | Set | bytes):
        raise CircuitError(f"Observable {observable!r}: {_WANTED}")
    values = tuple(observable)
    if not any(isinstance(value, str | Iterable) for value in values):
        return _checked_axis(values, f"Observable {values!r}: ")
    return tuple(_checked_axis(value, f"Observable {value!r} of {values!r}: ") for value in values)


_WANTED = "an observable is 'X', 'Y', 'Z' or a unit 3-vector, or several of them in a tuple."


def _checked_axis(value: Any, asked: str) -> Observable:
    if isinstance(value, str) and value.upper() in ("X", "Y", "Z"):
        return value.upper()
    if value == "trainable":
        raise CircuitError(
            asked
            + "a direction that is learnt needs two more gates and must be the only observable; "
            "circuit.with_observable('trainable') adds them."
        )
    try:
        x, y, z = map(float, value)
    except (TypeError, ValueError) as error:
        raise CircuitError(asked + _WANTED) from error
    norm = math.sqrt(x * x + y * y + z * z)
    if not abs(norm - 1) < 1e-9:
        raise CircuitError(asked + f"its length is {norm:.6g}; divide it by that number.")
    return (x, y, z)


def _vector_of(observable: Observable) -> Vector:
    if isinstance(observable, str):
        x, y, z = (float(axis == observable) for axis in AXES)
        return (x, y, z)
    return observable


def _require_no_gap(what: str, kind: str, used: set[int]) -> None:
    if len(used) != max(used, default=-1) + 1:
        missing = next(index for index in itertools.count() if index not in used)
        raise CircuitError(
            f"The {what}s in use are {sorted(used)}, but {missing} is never used, so its "
            f"parameters would do nothing. Number {kind}(0), {kind}(1), … without a gap."
        )
