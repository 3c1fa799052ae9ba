"""What a person gets wrong with a run, or a disk: one sentence each, with the way on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_models import inputs, network
from device_models import run as quiet_run
from exact_backend import ExactBackend
from fake_service import FakeService, service_backend
from stores import blobs, change
from typer.testing import CliRunner

import qkan
from qkan import QKAN, QiskitBackend, QKANError, resume, save
from qkan.backends import BackendError
from qkan.backends.qiskit import runtime
from qkan.cli.app import app


def emulator(**options: Any) -> QiskitBackend:
    given: dict[str, Any] = {"emulator": "closed_form", "seed": 0, "shots": 100, "width": 4}
    return QiskitBackend("aer", **{**given, **options})


# ---- options


@pytest.mark.parametrize(
    "layout", [range(3), np.arange(3), (np.int64(0), 1, 2), [0, 1, 2]], ids=repr
)
def test_whole_numbers_of_any_kind_are_taken(layout: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "layout": layout, "width": np.int16(2), "shots": np.int64(100), "seed": np.uint8(0),
        "max_error": np.float32(0.5), "force": np.True_,
    }  # fmt: skip
    model, x = network([2, 1]), inputs(3, 2)
    result = quiet_run(model, x, emulator(**options), store=tmp_path / "run")
    again = resume(tmp_path / "run", progress=False)
    assert torch.equal(again.values, result.values) and again.jobs == result.jobs


WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "force as text": ({"force": "False"}, "force='False'; wanted True or False"),
    "wait as a number": ({"wait": 1}, "wait=1; wanted True or False"),
    "fractional as text": ({"use_fractional_gates": "no"}, "wanted True or False"),
    "a qubit": ({"layout": 3}, "layout=3; wanted a list"),
    "instance": ({"instance": 5}, "instance=5; wanted a name"),
    "channel": ({"channel": ""}, "channel=''; wanted a name"),
    "store": ({"store": 7}, "store=7; wanted the path"),
    "search": ({"search_seconds": -1.0}, "search_seconds=-1.0"),
    "nothing": ({"max_error": None}, "max_error=None"),
    "no time": ({"job_seconds": None}, "job_seconds=None"),
    "beyond floats": ({"margin": 10**400}, "margin=1000"),
    "many modes": ({"mode": np.zeros(2)}, "mode=array"),
    "numpy's truth": ({"shots": np.True_}, "shots="),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_options_of_another_kind_are_refused(case: str) -> None:
    options, message = WRONG_OPTIONS[case]
    with pytest.raises(BackendError, match=message):
        emulator(**options)


@pytest.mark.parametrize("shots", [1, 2, 14, 16, 52])
def test_too_few_shots_for_mitigation_are_refused_before_they_are_paid(shots: int) -> None:
    with pytest.raises(BackendError, match=r"Use at least 54 shots, or mitigation='none'"):
        service_backend(FakeService(), shots=shots)
    assert service_backend(FakeService(), shots=shots, mitigation="none").shots == shots


def test_the_least_number_of_shots_costs_what_was_estimated(tmp_path: Path) -> None:
    service = FakeService(readout=dict.fromkeys(range(5), (0.05, 0.05)))
    backend = service_backend(service, shots=54)
    model, x = network([2, 1]), inputs(40, 2)
    for number in range(6):
        quiet_run(model, x, backend, store=tmp_path / str(number))
    assert len(service.jobs_by_id) == 6 * backend.cost(80).jobs


def test_any_failure_to_connect_is_one_sentence_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "envsecret")
    for error in (AttributeError, KeyError, RuntimeError, ValueError):

        def failing(instance: Any, channel: Any, error: Any = error) -> None:
            raise error("no instance for envsecret")

        monkeypatch.setattr(runtime, "account", failing)
        with pytest.raises(BackendError, match=r"could not be reached.*\*\*\*.*check instance="):
            QiskitBackend("ibm_x", budget_seconds=1, instance="wrong")


@pytest.mark.parametrize("made", [True, False])
def test_no_failure_to_connect_quotes_an_accounts_token(
    made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qiskit_ibm_runtime

    service = FakeService(silences={"backend": 1})

    class Service:
        """Its account is a saved one; it answers, or it does not."""

        def __new__(cls, **options: Any) -> Any:
            service.answer("" if made else "backend")
            return service

        @staticmethod
        def saved_accounts() -> Any:
            return {"default": {"token": service.token}}

    monkeypatch.setattr(qiskit_ibm_runtime, "QiskitRuntimeService", Service)
    with pytest.raises(BackendError, match=r"could not be reached.*Bad gateway for \*\*\*"):
        QiskitBackend("ibm_x", budget_seconds=1)


def test_the_runtime_chooses_an_instance_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    import qiskit_ibm_runtime

    asked: list[Any] = []
    monkeypatch.setattr(
        qiskit_ibm_runtime, "QiskitRuntimeService", lambda **options: asked.append(options)
    )
    for version, instance in (("0.45.1", None), ("0.48.0", "auto"), ("0.51.0", "auto"),
                              ("1.0", "auto")):  # fmt: skip
        monkeypatch.setattr(qiskit_ibm_runtime, "__version__", version)
        runtime.account()
        assert asked[-1]["instance"] == instance
        runtime.account("mine")
        assert asked[-1]["instance"] == "mine"
    monkeypatch.delattr(qiskit_ibm_runtime, "QiskitRuntimeService")
    monkeypatch.setattr(
        qiskit_ibm_runtime, "IBMQuantumComputeService", lambda **options: "the new name"
    )
    assert runtime.account() == "the new name"


# ---- names and models


def test_a_name_is_taken_wherever_a_backend_is() -> None:
    model, x = network([2, 1]), inputs(2, 2)
    # "aer" runs through the real primitive, so only plans are made of it
    assert qkan.estimate(model, x, "FakeManilaV2").backend == "fake_manila"
    assert qkan.device_noise("fake_manila", qubits=[0]).p == 0.0
    with qkan.noisy(model, "fake_manila"):
        model(x)
    assert qkan.on_device(model, "fake_manila").backend.name == "fake_manila"
    assert quiet_run(model, x, "fake_manila").backend == "fake_manila"
    assert qkan.tabulate(model, x, "fake_manila", points=3).backend == "fake_manila"


def test_what_is_no_backend_is_said_to_be_none() -> None:
    model, x = network([2, 1]), inputs(2, 2)
    for wrong in (None, 3, QiskitBackend):
        for call in (quiet_run, qkan.estimate, qkan.tabulate):
            with pytest.raises(QKANError, match="pass a device's name"):
                call(model, x, wrong)
        with pytest.raises(QKANError, match="pass a device's name"):
            qkan.on_device(model, wrong)
        with pytest.raises(QKANError, match="pass a device's name"), qkan.noisy(model, wrong):
            pass
    with pytest.raises(BackendError, match="Did you mean"):
        quiet_run(model, x, "fake_manilla")


@pytest.mark.parametrize("wrong", [5, b"x", ["run"], object()])
def test_what_is_no_path_is_said_to_be_none(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(QKANError, match="pass its path"):
        quiet_run(network([2, 1]), inputs(2, 2), emulator(), store=wrong)
    for call in (qkan.cancel, qkan.resume):
        with pytest.raises(QKANError, match="pass its path"):
            call(wrong)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("nul\0"), Path("x" * 300)):
        with pytest.raises(BackendError, match=r"cannot be made.*Name another"):
            emulator().open(folder)


def test_inputs_and_numbers_of_another_kind_are_refused() -> None:
    model, x = network([2, 1]), inputs(2, 2)
    with pytest.raises(QKANError, match="to_dense"):
        quiet_run(model, x.to_sparse(), emulator())
    for margin in (None, "0.1"):
        with pytest.raises(QKANError, match="margin="):
            qkan.tabulate(model, x, emulator(), margin=margin)  # type: ignore[arg-type]
    assert emulator().cost(np.int64(8)) == emulator().cost(8)


def test_a_model_without_values_is_refused() -> None:
    with pytest.raises(QKANError, match="theta is on the device 'meta'"):
        quiet_run(QKAN([2, 1], device="meta"), inputs(2, 2), emulator())
    with pytest.raises(QKANError, match="input is on the device 'meta'"):
        quiet_run(network([2, 1]), inputs(2, 2).to("meta"), emulator())


# ---- the run's folder


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    model = QKAN([2, 2, 1], engine="torch", generator=torch.Generator().manual_seed(0))
    quiet_run(model, torch.zeros(3, 2), emulator(), store=tmp_path / "run")
    return tmp_path / "run"


DAMAGE = [b"", b"PK", b"PK\x03\x04" + bytes(30), b"\x93NUMPY", b"nothing", bytes(500)]


@pytest.mark.parametrize("content", DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_angles_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    model, x = network([2, 1]), inputs(3, 2)
    quiet_run(model, x, ExactBackend(), store=tmp_path)
    file = tmp_path / "angles-0.npz"
    for broken in (content, file.read_bytes()[:-30], file.read_bytes()[:100] + content):
        whole = file.read_bytes()
        file.write_bytes(broken)
        with pytest.raises(QKANError, match=r"angles-0.npz .*restore|has the angles"):
            resume(tmp_path, ExactBackend())
        file.write_bytes(whole)


def test_blobs_that_were_changed_are_one_sentence(finished: Path) -> None:
    assert set(blobs(finished)) == {"0.0.npz", "1.0.npz", "angles-0.npz", "angles-1.npz"}
    change(finished, "UPDATE blob SET content = x'50' WHERE name = 'angles-1.npz'")
    with pytest.raises(QKANError, match=r"angles-1\.npz of .* was altered"):
        resume(finished, progress=False)


NEWER: dict[str, Any] = {
    "an option": {"backend": {"name": "aer", "options": {"beam": 3}}},
    "a list of backends": {"backend": [{"name": "aer"}]},
    "other options": {"backend": {"name": "aer", "options": ["shots"]}},
    "no digest": {"about": {"mode": "sequential"}},
}


@pytest.mark.parametrize("case", NEWER)
def test_a_run_of_a_newer_version_is_one_sentence(case: str, finished: Path) -> None:
    described = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps({**described, **NEWER[case]}))
    with pytest.raises(QKANError, match=r"newer version|not a complete run"):
        resume(finished, progress=False)


def test_a_finished_run_is_read_in_a_folder_that_cannot_be_written() -> None:
    """As another user, for root may write anywhere."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    code = f"""
import os, sys
from pathlib import Path
import torch, qkan
from qkan.backends import BackendError
folder = Path({str(place / "run")!r})
qkan.resume(folder, progress=False)  # imports what another user may be unable to read
if os.getuid() == 0:
    os.setegid(65534), os.seteuid(65534)
try:
    (folder / "new").write_text("")
    sys.exit("the folder can be written")
except PermissionError:
    pass
print(qkan.resume(folder, progress=False).values.flatten().tolist(), qkan.cancel(folder))
"""
    try:
        model = QKAN([2, 1], engine="torch", generator=torch.Generator().manual_seed(0))
        result = quiet_run(model, torch.zeros(3, 2), emulator(), store=place / "run")
        place.chmod(0o755)
        for name in (place / "run").iterdir():
            name.chmod(0o444)
        (place / "run").chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.stdout.strip() == f"{result.values.flatten().tolist()} ()", done.stderr
    finally:
        (place / "run").chmod(0o755)
        shutil.rmtree(place)


# ---- the terminal


def call(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def model_file(tmp_path: Path) -> str:
    save(QKAN([2, 1], engine="torch"), tmp_path / "m.safetensors")
    return str(tmp_path / "m.safetensors")


FAST = ["--backend", "fake_manila", "-o", "emulator=closed_form", "--shots", "100"]


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)])
def test_inputs_without_samples_are_one_sentence(
    shape: tuple[int, ...], model_file: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape))
    store = str(tmp_path / "run")
    told = call("submit", model_file, str(tmp_path / "x.npy"), *FAST, "--store", store, code=2)
    assert "Error: " in told.stderr and "Traceback" not in told.output


@pytest.mark.parametrize("option", ["provider=3", "device=fake_torino"])
def test_only_options_are_taken_for_options(option: str, model_file: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    told = call("estimate", model_file, str(tmp_path / "x.npy"), *FAST, "-o", option, code=1)
    assert "Error: QiskitBackend has no option" in told.stderr


def test_status_and_cancel_are_not_locked_out(model_file: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    store = str(tmp_path / "run")
    call("submit", model_file, str(tmp_path / "x.npy"), *FAST, "--store", store)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    backend = QiskitBackend("fake_manila", emulator="closed_form", shots=100)
    with backend.open(store, described["about"]):
        assert list(json.loads(call("status", store, "--json").stdout)["jobs"].values()) == ["done"]
        assert json.loads(call("cancel", store, "--json").stdout) == {"cancelled": []}
        assert "Another process" in call("collect", store, code=1).stderr


def test_flags_in_the_terminal_are_true_or_false(model_file: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    arguments = ["estimate", model_file, str(tmp_path / "x.npy"), *FAST, "-o"]
    assert "force='False'" in call(*arguments, "force=False", code=1).stderr
    call(*arguments, "force=false")


def test_runs_without_a_folder_of_their_own_share_a_budget(
    model_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService()

    def provider(device: str, options: Any) -> Any:
        return runtime.RuntimeProvider(service, service.device, options, service.sampler)

    monkeypatch.setattr(qkan.backends.qiskit.backend, "provider_of", provider)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 2)))
    arguments = [
        "submit", model_file, "x.npy", "--backend", "ibm_x", "--budget-seconds", "5", "--shots",
        "64", "-o", "max_error=0.5", "-o", "poll_seconds=0",
    ]  # fmt: skip
    call(*arguments)
    assert "3 s of the budget are left" in call(*arguments, code=1).stderr
    assert len(service.jobs_by_id) == 1
    (folder,) = (path for path in Path("qkan-runs").iterdir() if (path / "values.csv").exists())
    store = json.loads((folder / "run.json").read_text())["backend"]["options"]["store"]
    assert store == str(Path("qkan-runs").resolve()) and os.path.isabs(store)
