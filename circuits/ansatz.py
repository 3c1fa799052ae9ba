"""The ansätze: named families of circuits, those of the package and those of its users.

No other file knows an ansatz by its name. In the docstrings, `e` means the next `Encoding(u)` and
`t` the next free theta slot, both in time order. Source: arXiv 2509.14026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter, index

from .circuit import Circuit
from .errors import CircuitError, did_you_mean
from .gates import RX, RY, RZ, Encoding, H, Theta, X, Z

Builder = Callable[[int], Circuit]


def pz(reps: int) -> Circuit:
    """Return H, then `reps` times RZ(t) RY(t) RZ(e), then RZ(t) RY(t): the default ansatz."""
    gates = [H]
    for u in range(reps):
        gates += [RZ(Theta(2 * u)), RY(Theta(2 * u + 1)), RZ(Encoding(u))]
    return Circuit((*gates, RZ(Theta(2 * reps)), RY(Theta(2 * reps + 1))))


def rpz(reps: int) -> Circuit:
    """Return H, then `reps` times RY(t) RZ(e), then RY(t), with half the angles of `pz`."""
    gates = [H]
    for u in range(reps):
        gates += [RY(Theta(u)), RZ(Encoding(u))]
    return Circuit((*gates, RY(Theta(reps))))


def real(reps: int) -> Circuit:
    """Return H, then `reps` times X RY(t) Z RY(e).

    All its gates turn the state within one plane, so φ is a single sinusoid for any `reps`, whose
    frequency is the sum of the scales. This ansatz is for comparison.
    """
    gates = [H]
    for u in range(reps):
        gates += [X, RY(Theta(u)), Z, RY(Encoding(u))]
    return Circuit(tuple(gates))


def px(reps: int) -> Circuit:
    """Return H, then `reps` times RZ(t) RX(arccos e), then RZ(t).

    Its φ is a polynomial in e and √(1-e²), not a trigonometric polynomial in x.
    """
    gates = [H]
    for u in range(reps):
        gates += [RZ(Theta(u)), RX(Encoding(u, arccos=True))]
    return Circuit((*gates, RZ(Theta(reps))))


def mix(reps: int) -> Circuit:
    """Return H, then `reps` times RZ(t) RX(t) RY(e), then RZ(t) RX(t)."""
    gates = [H]
    for u in range(reps):
        gates += [RZ(Theta(2 * u)), RX(Theta(2 * u + 1)), RY(Encoding(u))]
    return Circuit((*gates, RZ(Theta(2 * reps)), RX(Theta(2 * reps + 1))))


_builders: dict[str, Builder] = {"pz": pz, "rpz": rpz, "real": real, "px": px, "mix": mix}
SHIPPED = tuple(_builders)
"""The ansätze of the package, with which every engine and `extend` are tested."""


def ansatz(name: str | Builder, reps: int = 3) -> Circuit:
    """Return the circuit of a named ansatz, or of the function that builds one.

    Args:
        name: One of `ansatze()`; or a function from the number of repetitions to a `Circuit`, as
            `register_ansatz` takes it. Such a function needs no registration in any process.
        reps: Number of repetitions, each with one encoding of x; at least 1.

    Raises:
        CircuitError: The name is unknown (the nearest one is suggested), or `reps` is below 1.

    Example:
        >>> ansatz("rpz", reps=1)
        Circuit((H, RY(Theta(0)), RZ(Encoding(0)), RY(Theta(1))), observable='Z')
    """
    if not isinstance(name, str) and callable(name):
        return _built(getattr(name, "__name__", type(name).__name__), name, reps)
    if name not in _builders:
        raise CircuitError(
            f"Unknown ansatz {name!r}. {did_you_mean(name, _builders)} An ansatz of your own is "
            "known only in a process that called register_ansatz; call it in this process, too, or "
            "pass the function that builds the circuit in place of its name."
        )
    return _built(name, _builders[name], reps)


def register_ansatz(name: str, build: Builder) -> None:
    """Register your own family of circuits under a name for `ansatz` and every layer.

    Args:
        name: The new name, other than those of the package.
        build: A function from the number of repetitions to a `Circuit` with that many encodings. It
            is called here with reps = 1 and 2 to check it.

    Raises:
        CircuitError: The name belongs to an ansatz of the package, or `build` does not return a
            circuit with one encoding for each repetition.

    Example:
        >>> from qkan.circuits import RX, RY, Circuit, Encoding, Theta
        >>> def zigzag(reps):
        ...     gates = []
        ...     for u in range(reps):
        ...         gates += [RX(Theta(u)), RY(Encoding(u))]
        ...     return Circuit(gates)
        >>> register_ansatz("zigzag", zigzag)
        >>> ansatz("zigzag", reps=2).num_theta
        2
    """
    if name in SHIPPED:
        raise CircuitError(f"{name!r} is an ansatz of the package; choose another name for yours.")
    if not isinstance(name, str) or not name:
        raise CircuitError(f"register_ansatz({name!r}, …): the name must be a non-empty string.")
    for reps in (1, 2):
        _built(name, build, reps)
    _builders[name] = build


def ansatze() -> tuple[str, ...]:
    """Return the names that `ansatz` knows, including registered ones."""
    return tuple(_builders)


def _built(name: str, build: Builder, reps: int) -> Circuit:
    if isinstance(reps, bool) or not hasattr(reps, "__index__") or reps < 1:
        raise CircuitError(
            f"reps={reps!r}; the number of repetitions must be a whole number, 1 or more."
        )
    circuit = build(index(reps))
    if not isinstance(circuit, Circuit):
        raise CircuitError(f"The builder of {name!r} returned {circuit!r} instead of a Circuit.")
    if circuit.num_encodings != reps:
        raise CircuitError(
            f"The builder of {name!r} returned {circuit.num_encodings} encodings for reps={reps}: "
            "each repetition must have exactly one."
        )
    return Circuit(circuit.gates, circuit.observable, _Extend(name, build))


@dataclass(frozen=True)
class _Extend:
    """A builder whose circuits can be extended; a pickle contains its name, not its code."""

    name: str
    build: Builder

    def __call__(self, reps: int) -> Circuit:
        return _built(self.name, self.build, reps)

    def __reduce__(self) -> tuple[Callable[..., _Extend | None], tuple[str, ...]]:
        places = (getattr(self.build, name, "") for name in ("__module__", "__qualname__"))
        return _registered, (self.name, *places)


def _registered(name: str, module: str = "", qualname: str = "") -> _Extend | None:
    """Return the builder of a pickled circuit: its function, or the one registered by its name."""
    try:
        build = attrgetter(qualname)(import_module(module))
    except (ImportError, AttributeError, ValueError):
        # a process that finds neither can run the circuit but not extend it
        build = _builders.get(name)
    return _Extend(name, build) if callable(build) else None
