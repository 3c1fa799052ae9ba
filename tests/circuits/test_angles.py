"""The angles of gates from data and parameters, equal to those that the reference engine binds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import CIRCUITS

from qkan.circuits import RX, RY, Circuit, Encoding, H, Theta
from qkan.circuits.angles import arccos, bound_gates, gate_angles
from qkan.simulators.reference import bind


@pytest.mark.parametrize("name", CIRCUITS)
def test_they_are_those_of_the_reference_in_every_library(name: str) -> None:
    circuit = CIRCUITS[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, 5)
    theta = rng.uniform(-4, 4, (5, circuit.num_theta))
    scale, shift = rng.uniform(-1, 1, (2, 5, circuit.num_encodings))
    given = (x, theta, scale, shift)
    wanted = np.array([bind(circuit, *row) for row in zip(*given, strict=True)]).T
    assert np.allclose(gate_angles(circuit, *given, np), wanted, rtol=1e-14)
    found = gate_angles(circuit, *map(torch.tensor, given), torch)
    assert np.allclose(torch.stack(found), wanted, rtol=1e-14)
    numbers = tuple(scale[0].tolist()), tuple(shift[0].tolist())
    shared = gate_angles(circuit, x[0], theta[0], *numbers, np)
    assert np.allclose(shared, wanted[:, 0], rtol=1e-14)


def test_an_arccos_is_clamped_and_keeps_nan() -> None:
    e = torch.tensor([-3.0, -1.0, 0.5, 1.0, math.inf, math.nan], requires_grad=True)
    found = arccos(e, torch)
    wanted = torch.tensor([math.pi, math.pi, math.acos(0.5), 0.0, 0.0, math.nan])
    assert found.dtype == e.dtype and torch.allclose(found, wanted, equal_nan=True)
    found[:5].sum().backward()
    assert torch.allclose(e.grad[:5], torch.tensor([0.0, 0.0, -((3 / 4) ** -0.5), 0.0, 0.0]))


def test_each_gate_takes_its_own_angle() -> None:
    circuit = Circuit([H, RX(Encoding(0)), RY(0.25), RY(Theta(0))])
    wanted = [("H", None), ("RX", 1.0), ("RY", 0.25), ("RY", 2.0)]
    assert list(bound_gates(circuit, [1.0, 2.0])) == wanted
