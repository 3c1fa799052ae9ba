"""The circuit, its ansätze, its lowering and its spectrum."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import CIRCUITS, TILTED, own_circuit
from hypothesis import given, settings
from hypothesis import strategies as st

import qkan.circuits
from qkan.circuits import (
    RX,
    RY,
    RZ,
    Circuit,
    CircuitError,
    Encoding,
    Fixed,
    Gate,
    H,
    Theta,
    X,
    Z,
    ansatz,
    ansatze,
    fixed_scale,
    from_json,
    lower,
    register_ansatz,
    shot_estimate,
    to_json,
)
from qkan.circuits.ansatz import SHIPPED
from qkan.circuits.program import Program, rotation_matrix
from qkan.simulators import expectation_of, simulate

REPS = (1, 2, 5)
COUNTS = {"pz": lambda r: 2 * (r + 1), "rpz": lambda r: r + 1, "real": lambda r: r,
          "px": lambda r: r + 1, "mix": lambda r: 2 * (r + 1)}  # fmt: skip


def test_the_shipped_ansatze() -> None:
    assert set(COUNTS) <= set(SHIPPED) <= set(ansatze())


@pytest.mark.parametrize("reps", REPS)
@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str, reps: int) -> None:
    circuit = ansatz(name, reps)
    assert circuit.num_theta == COUNTS[name](reps)
    assert circuit.num_encodings == reps


@pytest.mark.parametrize("name", CIRCUITS)
def test_a_circuit_survives_repr_pickle_copy_and_json(name: str) -> None:
    circuit = CIRCUITS[name]
    assert eval(repr(circuit), vars(qkan.circuits)) == circuit
    for twin in (
        pickle.loads(pickle.dumps(circuit)),
        copy.deepcopy(circuit),
        from_json(json.loads(json.dumps(to_json(circuit)))),
    ):
        assert twin == circuit and hash(twin) == hash(circuit)


def test_circuits_are_equal_by_gates_and_observable() -> None:
    assert ansatz("pz", 2) == Circuit(ansatz("pz", 2).gates)
    assert ansatz("pz", 2) != ansatz("pz", 3)
    assert ansatz("pz", 2) != ansatz("pz", 2).with_observable("X")
    with pytest.raises(AttributeError):
        ansatz("pz", 2).gates = ()  # type: ignore[misc]


def random_angles(circuit: Circuit, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-7, 7, (50, len(circuit.parametric_gates)))


def run_program(program: Program, circuit: Circuit, angles: np.ndarray) -> float:
    """The lowered program by 3×3 matrices, from the angles of the circuit's parametric gates."""
    theta = np.zeros(circuit.num_theta)
    encoded = np.zeros(circuit.num_encodings)
    for gate, value in zip(circuit.parametric_gates, angles, strict=True):
        target = theta if isinstance(gate.angle, Theta) else encoded
        target[gate.angle.index] = value
    vector = np.array(program.initial)
    for rotation in program.rotations:
        angle = rotation.constant + sum(theta[k] for k in rotation.thetas)
        angle += 0.0 if rotation.encoding is None else encoded[rotation.encoding]
        vector = rotation_matrix(rotation.axis, angle) @ vector
    return float(np.array(program.observable) @ vector)


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_lowered_bloch_form_equals_the_statevector(name: str) -> None:
    circuit = CIRCUITS[name]
    theta = np.random.default_rng(1).uniform(-7, 7, circuit.num_theta)
    encoded = np.random.default_rng(2).uniform(-7, 7, (50, circuit.num_encodings))
    for row in encoded:
        angles = np.array(
            [theta[g.angle.index] if isinstance(g.angle, Theta) else row[g.angle.index]
             for g in circuit.parametric_gates]
        )  # fmt: skip
        wanted = float(expectation_of(circuit, simulate(circuit, angles)))
        assert abs(run_program(lower(circuit), circuit, angles) - wanted) < 1e-12


@pytest.mark.parametrize("gate", [H, X, Z, RX(0.3), RY(-1.1), RZ(2.0)], ids=repr)
def test_each_gate_is_its_rotations_up_to_a_phase(gate: Gate) -> None:
    for axis in "XYZ":
        circuit = Circuit([RX(Encoding(0)), RY(Theta(0)), gate], axis)
        for angles in random_angles(circuit):
            wanted = float(expectation_of(circuit, simulate(circuit, angles)))
            assert abs(run_program(lower(circuit), circuit, angles) - wanted) < 1e-12


@pytest.mark.parametrize("reps", REPS)
def test_pz_merges_to_one_z_and_one_y_rotation_a_repetition(reps: int) -> None:
    program = lower(ansatz("pz", reps))
    assert [r.axis for r in program.rotations] == [2, 1] * (reps + 1)
    assert sum(r.encoding is not None for r in program.rotations) == reps
    assert program.initial == (1.0, 0.0, 0.0)


def test_what_cannot_matter_is_found_by_computation() -> None:
    assert all(2 not in r.thetas for r in lower(ansatz("px", 2)).rotations)
    assert any(2 in r.thetas for r in lower(ansatz("px", 2).with_observable("X")).rotations)
    leading = Circuit([RZ(Theta(0)), H, RX(Theta(1)), RZ(Encoding(0)), RY(0.5)])
    assert [r.thetas for r in lower(leading).rotations] == [()]


def test_equal_circuits_share_one_program() -> None:
    circuit = ansatz("pz", 4)
    size = len(pickle.dumps(circuit))
    assert circuit.program is lower(ansatz("pz", 4)) is pickle.loads(pickle.dumps(circuit.program))
    # the cached program enters neither equality nor pickles
    assert circuit == ansatz("pz", 4) and len(pickle.dumps(circuit)) == size
    assert circuit.program == circuit.with_observable((0, 0, 1)).program
    assert circuit.program != circuit.with_observable("X").program


def test_merged_shifts() -> None:
    assert lower(ansatz("pz", 3)).merged_shifts == {0, 1, 2}
    for name in ("rpz", "mix", "px"):
        assert lower(ansatz(name, 3)).merged_shifts == frozenset()
    assert lower(own_circuit()).merged_shifts == frozenset()


@pytest.mark.parametrize("name", ["pz", "rpz", "mix"])
@pytest.mark.parametrize("reps", [1, 2, 3])
def test_fixed_encodings_have_the_stated_harmonics(name: str, reps: int) -> None:
    circuit = ansatz(name, reps)
    assert list(circuit.spectrum("linear")) == list(range(reps + 1))
    assert list(circuit.spectrum("binary")) == list(range(2**reps))
    assert list(circuit.spectrum("ternary")) == list(range((3**reps - 1) // 2 + 1))


def test_real_is_one_sinusoid_whatever_its_repetitions() -> None:
    assert list(ansatz("real", 4).spectrum("linear")) == [4.0]
    assert np.allclose(ansatz("real", 3).spectrum([0.5, 1.25, 2.0]), [3.75])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["pz", "rpz", "real", "mix"]),
    reps=st.integers(1, 3),
    scale=st.lists(st.integers(-4, 4), min_size=3, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_the_activation_contains_no_frequency_beyond_the_spectrum(
    name: str, reps: int, scale: list[int], seed: int
) -> None:
    circuit = ansatz(name, reps)
    known = {round(k) for k in circuit.spectrum(scale[:reps])}
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-4, 4, circuit.num_theta)
    x = np.arange(64) * 2 * math.pi / 64
    angles = np.stack(
        [np.full(64, theta[g.angle.index]) if isinstance(g.angle, Theta)
         else scale[g.angle.index] * x for g in circuit.parametric_gates], -1
    )  # fmt: skip
    values = expectation_of(circuit, simulate(circuit, angles))
    assert np.abs(values).max() <= 1 + 1e-12
    coefficients = np.fft.rfft(values) / 64
    assert {k for k in range(33) if abs(coefficients[k]) > 1e-10} <= known


def test_the_spectrum_of_an_arccos_is_refused() -> None:
    with pytest.raises(CircuitError, match="arccos"):
        ansatz("px").spectrum()


def test_the_spectrum_says_when_it_is_too_large() -> None:
    with pytest.raises(CircuitError, match="200000 frequencies"):
        ansatz("pz", 14).spectrum(list(np.sqrt(np.arange(2.0, 16.0))))


def test_fixed_scales() -> None:
    assert fixed_scale("linear", 2) == (1, 1)
    assert fixed_scale("binary", 3) == (1, 2, 4)
    assert fixed_scale("ternary", 3) == (1, 3, 9)


def test_drawing_shows_every_gate_and_wraps() -> None:
    text = str(ansatz("mix", 5).draw())
    assert (
        text.count("RY(w") == 5 and "θ11" in text and text.rstrip().splitlines()[-2].endswith("⟨Z⟩")
    )
    assert max(map(len, text.splitlines())) <= 100
    assert "arccos(w0·x+b0)" in str(ansatz("px", 1).draw())
    assert "RX(π/2)" in str(Circuit([RX(math.pi / 2), RZ(Encoding(0))], TILTED).draw())
    assert "RZ(w0·x+b0)" in ansatz("pz", 1)._repr_html_()


def test_a_users_ansatz_extends_and_pickles() -> None:
    def build(reps: int) -> Circuit:
        gates: list[Gate] = []
        for u in range(reps):
            gates += [RX(Theta(u)), RY(Encoding(u))]
        return Circuit(gates)

    register_ansatz("users-own", build)
    circuit = ansatz("users-own", 2)
    assert circuit.extend(4) == build(4)
    assert pickle.loads(pickle.dumps(circuit)).extend(3) == build(3)
    assert from_json(to_json(circuit)).extend(3) == build(3)


FAMILY = """
from qkan.circuits import RX, RY, Circuit, Encoding, Theta

def zigzag(reps):
    gates = []
    for u in range(reps):
        gates += [RX(Theta(u)), RY(Encoding(u))]
    return Circuit(gates)
"""


def test_another_process_has_a_users_circuit_and_its_builder(tmp_path: Path) -> None:
    (tmp_path / "family_of_a_test.py").write_text(FAMILY)
    make = (
        "import sys, pickle, family_of_a_test as f; from qkan.circuits import ansatz, ansatze,"
        " register_ansatz; register_ansatz('its-own', f.zigzag);"
        "both = [ansatz('its-own', 2), ansatz(f.zigzag, 2)];"
        "open('circuits', 'wb').write(pickle.dumps(both))"
    )
    use = (
        "import sys, pickle; from qkan.circuits import ansatze;"
        "both = pickle.load(open('circuits', 'rb')); assert 'its-own' not in ansatze();"
        "print([len(c.extend(5).gates) if c.builder else c.num_theta for c in both])"
    )
    for code, wanted in ((make, ""), (use, "[10, 10]")):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.stderr, done.stdout.strip()) == ("", wanted)
    (tmp_path / "family_of_a_test.py").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    # without the function it still runs
    assert (done.stderr, done.stdout.strip()) == ("", "[2, 2]")


def test_a_builder_stands_for_its_name() -> None:
    def build(reps: int) -> Circuit:
        return ansatz("rpz", reps)

    assert ansatz(build, 2) == ansatz("rpz", 2) and ansatz(build, 2).extend(3) == ansatz("rpz", 3)
    assert pickle.loads(pickle.dumps(ansatz(build, 2))) == ansatz("rpz", 2)
    with pytest.raises(CircuitError, match=r"call it in this process, too, or pass"):
        ansatz("a-worker's")


def test_a_shot_estimate_never_reports_certainty() -> None:
    z, stderr = shot_estimate(np.array([0.0, 100.0]), 100)
    assert z.tolist() == [1, -1] and (stderr > 0).all()


WRONG = {
    "unused theta": (lambda: Circuit([RY(Theta(1)), RZ(Encoding(0))]), "but 0 is never used"),
    "unused encoding": (lambda: Circuit([RZ(Encoding(1))]), "but 0 is never used"),
    "no encoding": (lambda: Circuit([RY(Theta(0))]), "would not depend on x"),
    "not a gate": (lambda: Circuit([H, "RZ"]), "Gate 1 is 'RZ'"),  # type: ignore[list-item]
    "long observable": (lambda: Circuit([RZ(Encoding(0))], (1.0, 1.0, 0.0)), "length is 1.41421"),
    "second observable": (lambda: Circuit([RZ(Encoding(0))], ("X", "W")), "Observable 'W' of"),
    "no observable": (lambda: Circuit([RZ(Encoding(0))], "W"), "an observable is 'X'"),
    "flat observable": (lambda: Circuit([RZ(Encoding(0))], 1.0), "an observable is 'X'"),
    "nan observable": (lambda: Circuit([RZ(Encoding(0))], (math.nan, 0, 0)), "length is nan"),
    "nan angle": (lambda: RX(math.nan), "finite"),
    "bad gate": (lambda: Gate("CX"), "the gates are H, X, Z"),
    "angle on H": (lambda: Gate("H", Fixed(1.0)), "H, X and Z take none"),
    "no angle": (lambda: Gate("RX"), "take Fixed, Theta or Encoding"),
    "negative slot": (lambda: Theta(-1), "whole number"),
    "fractional slot": (lambda: Encoding(0.5), "whole number"),  # type: ignore[arg-type]
    "unknown ansatz": (lambda: ansatz("pzz"), "Did you mean 'pz'"),
    "reps 0": (lambda: ansatz("pz", 0), "reps=0"),
    "reps negative": (lambda: ansatz("pz", -2), "reps=-2"),
    "reps float": (lambda: ansatz("pz", 2.0), "whole number"),  # type: ignore[arg-type]
    "shipped name": (lambda: register_ansatz("pz", lambda r: ansatz("rpz", r)), "of the package"),
    "no encodings each": (
        lambda: register_ansatz("short", lambda r: ansatz("rpz", 1)), "1 encodings for reps=2",
    ),
    "not a circuit": (lambda: register_ansatz("none", lambda r: None), "instead of a Circuit"),
    "extend a list": (lambda: Circuit([RZ(Encoding(0))]).extend(2), "bare list of gates"),
    "extend down": (lambda: ansatz("pz", 3).extend(2), "already has 3"),
    "encoding name": (lambda: fixed_scale("binry", 2), "Did you mean 'binary'"),
    "scale length": (lambda: ansatz("pz", 2).spectrum([1.0]), "2 encodings"),
    "json": (lambda: from_json({"gates": [["RX"]]}), "RX, RY and RZ take"),
    "json keys": (lambda: from_json({}), "describe a circuit"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    build, message = WRONG[case]
    with pytest.raises(CircuitError, match=message):
        build()
