"""A backend describes itself, and is made again from that in another process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from exact_backend import ExactBackend

from qkan import QKAN, resume, run
from qkan.backends import Backend, BackendError, PennyLaneBackend, QiskitBackend
from qkan.backends.qiskit.devices import device_name
from qkan.circuits import RX, Circuit, Encoding

TURN = Circuit([RX(Encoding(0))])


class ShoutingBackend(ExactBackend, kind="shouting"):
    """A backend of a user's own."""

    def describe_options(self) -> dict[str, Any]:
        return {"shots": self.shots}

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any], *, wait: bool) -> Backend:
        return cls(name=name, **options)


MAKERS = {
    "qiskit": lambda folder: QiskitBackend(
        "FakeTorino", emulator="closed_form", shots=200, width=2, store=folder, seed=5
    ),
    "pennylane": lambda folder: PennyLaneBackend(
        "default.qubit", shots=200, width=2, mitigation=None, store=folder
    ),
    "shouting": lambda folder: ShoutingBackend(shots=7, name="loud"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_backend_is_made_again_from_its_description(kind: str, tmp_path: Path) -> None:
    backend = MAKERS[kind](tmp_path)
    described = json.loads(json.dumps(backend.describe()))
    assert described["kind"] == kind and described["name"] == backend.name
    again = Backend.made_again(described)
    assert type(again) is type(backend) and again.describe() == backend.describe()
    if kind == "qiskit":
        z = np.linspace(0.2, 2.9, 9)[:, None]
        np.testing.assert_array_equal(again.measure(TURN, z)[0], backend.measure(TURN, z)[0])


def test_whether_to_wait_is_no_part_of_a_description() -> None:
    backend = QiskitBackend("aer", emulator="closed_form", wait=False)
    assert "wait" not in backend.describe()["options"]
    for wait in (True, False):
        assert Backend.made_again(backend.describe(), wait=wait).options.wait is wait


def test_a_description_of_version_0_1_0_names_no_kind() -> None:
    options = {"shots": 100, "emulator": "closed_form", "folding": False}
    found = Backend.made_again({"name": "aer", "options": options})
    assert isinstance(found, QiskitBackend) and found.shots == 100


@pytest.mark.parametrize(
    "described",
    [
        ExactBackend().describe(),
        {"kind": "unheard of", "name": "x", "options": {}},
        PennyLaneBackend(qml.device("default.qubit", wires=2, seed=1)).describe(),
    ],
    ids=["no kind", "unknown kind", "a device object"],
)
def test_what_cannot_be_made_again_says_so(described: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="does not say how"):
        Backend.made_again(described)


def test_an_option_of_a_newer_version_is_named() -> None:
    with pytest.raises(BackendError, match=r"newer version.*'sparkle'"):
        Backend.made_again({"kind": "qiskit", "name": "aer", "options": {"sparkle": True}})


def test_a_device_has_one_name_however_it_is_spelt() -> None:
    for given in ("FakeTorino", "fake_torino", "FAKE_TORINO"):
        assert device_name(given) == "fake_torino"
    assert device_name("fake_nowhere") == "fake_nowhere"
    assert device_name("ibm_torino") == "ibm_torino"


def test_a_run_on_a_device_of_pennylanes_is_resumed_by_its_directory(tmp_path: Path) -> None:
    model = QKAN([2, 1], generator=torch.Generator().manual_seed(0))
    backend = PennyLaneBackend("default.qubit", shots=200, mitigation="none")
    result = run(model, torch.zeros(2, 2), backend, store=tmp_path, progress=False)
    assert torch.equal(resume(tmp_path, progress=False).values, result.values)
