"""Circuits of several observables, and of a direction that is learnt."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from qkan import circuits
from qkan.circuits import (
    RX,
    Circuit,
    CircuitError,
    Encoding,
    ansatz,
    circuit_observable,
    fourier_series,
    from_json,
    pennylane_observable,
    to_json,
    to_openqasm3,
    to_pennylane,
    to_qiskit,
    to_sympy,
)
from qkan.circuits.program import rotation_matrix, turns_to_z

TILTED = (0.48, -0.6, 0.64)
SEVERAL = ansatz("pz", 2).with_observable(("x", TILTED, "Z"))


def test_one_and_several_observables_keep_apart() -> None:
    turn = [RX(Encoding(0))]
    for several in (("X",), ["x", "y"], (TILTED,), [[0, 0, 1], "Y"]):
        circuit = Circuit(turn, several)
        assert circuit.reads_several and circuit.program.axes == len(several)
    for one in ("y", "Y", TILTED, [0, 0, 1], np.array([1.0, 0.0, 0.0])):
        circuit = Circuit(turn, one)
        assert not circuit.reads_several and circuit.program.axes is None
    assert Circuit(turn, "y") == Circuit(turn, "Y") != Circuit(turn, ("Y",))
    assert Circuit(turn, ("X", "Y")).program != Circuit(turn, ("Y", "X")).program


BAD: dict[str, Any] = {
    "no axis": "W", "one of them is none": ("X", "W"), "nothing": (), "length 2": (0, 0, 2),
    "two numbers": (1, 2), "four numbers": (1, 0, 0, 0), "a number": 3, "none": None,
    "deeper": (("X", "Y"), "Z"), "nan": (math.nan, 0, 1), "without order": {"X", "Y"},
    "a mapping": {"X": 1}, "bytes": b"X", "learnt beside others": ("trainable", "X"),
    "learnt without its gates": "trainable", "a long one of two": ("X", (0, 0, 3)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_observable_is_refused(case: str) -> None:
    with pytest.raises(CircuitError, match="Observable"):
        Circuit([RX(Encoding(0))], BAD[case])


@pytest.mark.parametrize(
    "observable", ["X", TILTED, ("X", "Y"), ("Z",), (TILTED, "Y"), "trainable"]
)
def test_files_and_pickles_hold_observables_and_the_way_to_extend(observable: Any) -> None:
    circuit = ansatz("pz", 2).with_observable(observable)
    for copy in (from_json(to_json(circuit)), pickle.loads(pickle.dumps(circuit))):
        assert copy == circuit and copy.program == circuit.program
        assert copy.extend(3) == ansatz("pz", 3).with_observable(observable)
    assert eval(repr(circuit), vars(circuits)) == circuit
    again = circuit.with_observable("Z")
    assert again.extend(3).gates == circuit.extend(3).gates and again.observable == "Z"


def test_bare_gates_in_several_observables_have_nothing_to_extend() -> None:
    with pytest.raises(CircuitError, match="bare list of gates"):
        Circuit([RX(Encoding(0))]).with_observable(("X", "Y")).extend(2)


@pytest.mark.parametrize(
    "vector", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), TILTED, (-1, 0, 0)]
)
def test_two_turns_take_an_observable_to_z(vector: tuple[float, float, float]) -> None:
    alpha, beta = turns_to_z(vector)
    turned = rotation_matrix(1, beta) @ rotation_matrix(2, alpha) @ np.array(vector)
    assert np.abs(turned - [0, 0, 1]).max() < 1e-15
    # a direction that is learnt is measured after the same turns
    n = (-math.sin(beta) * math.cos(alpha), math.sin(beta) * math.sin(alpha), math.cos(beta))
    assert np.abs(np.subtract(n, vector)).max() < 1e-15


def test_rotations_at_the_end_stay_where_one_of_the_observables_needs_them() -> None:
    assert len(SEVERAL.program.rotations) == len(ansatz("pz", 2).program.rotations)
    px = ansatz("px", 1)
    z, several = px.program, px.with_observable(("Z", "X")).program
    assert len(several.rotations) == len(z.rotations) + 1
    assert px.with_observable(("Z", (0.0, 0.0, -1.0))).program.rotations == z.rotations


def test_the_spectrum_is_that_of_all_observables_together() -> None:
    each = [SEVERAL.with_observable(one).spectrum("ternary") for one in SEVERAL.observables]
    assert SEVERAL.spectrum("ternary").tolist() == sorted(set(np.concatenate(each).tolist()))


def test_drawings_show_every_observable() -> None:
    assert str(SEVERAL.draw()).splitlines()[-2].endswith("⟨X⟩ ⟨0.48X + -0.6Y + 0.64Z⟩ ⟨Z⟩")
    assert "⟨X⟩" in SEVERAL.draw()._repr_html_() and " | " in str(SEVERAL.program)


REFUSED: dict[str, Any] = {
    "to_sympy": to_sympy,
    "to_openqasm3": to_openqasm3,
    "fourier_series": lambda circuit: fourier_series(circuit, [0.0] * circuit.num_theta),
    "to_qiskit, measured": lambda circuit: to_qiskit(circuit, measure=True),
    "circuit_observable": circuit_observable,
    "pennylane_observable": pennylane_observable,
    "observable_vector": lambda circuit: circuit.observable_vector,
    "program.observable": lambda circuit: circuit.program.observable,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_wants_one_observable_says_how_to_choose_it(what: str) -> None:
    with pytest.raises(CircuitError, match=r"choose it with circuit\.with_observable"):
        REFUSED[what](SEVERAL)
    REFUSED[what](SEVERAL.with_observable("X"))


def test_gates_alone_export_whatever_is_measured() -> None:
    angles = np.linspace(0.1, 0.8, len(SEVERAL.parametric_gates))
    assert to_qiskit(SEVERAL, angles) == to_qiskit(ansatz("pz", 2), angles)


def test_pennylane_measures_them_all() -> None:
    qml = pytest.importorskip("pennylane")
    x, theta = np.linspace(-2, 2, 5), np.linspace(0.3, 2.1, SEVERAL.num_theta)
    found = qml.QNode(to_pennylane(SEVERAL), qml.device("default.qubit"))(x, theta)
    assert len(found) == 3
    for value, one in zip(found, SEVERAL.observables, strict=True):
        k, a, b = fourier_series(SEVERAL.with_observable(one), theta)
        angles = np.outer(x, k)
        assert np.abs(value - np.cos(angles) @ a - np.sin(angles) @ b).max() < 1e-12
