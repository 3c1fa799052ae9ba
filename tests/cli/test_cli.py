"""The command line: every command, its exit codes, and an interruption that loses nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_service import FakeService
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from qiskit_ibm_runtime.fake_provider.local_service import QiskitRuntimeLocalService
from typer.testing import CliRunner

import qkan.backends.qiskit.backend
import qkan.cli.devices
from qkan import QKAN, QKANError, QKANLayer, load, resume, save
from qkan.backends import QiskitRun
from qkan.backends.options import Options
from qkan.backends.qiskit.runtime import RuntimeProvider
from qkan.cli.app import app
from qkan.cli.inputs import read_inputs

FAST = ["--backend", "fake_manila", "-o", "emulator=closed_form", "-o", "seed=0"]


@pytest.fixture
def files(tmp_path: Path) -> SimpleNamespace:
    """A model, its inputs twice, and where a run may go."""
    model = QKAN([2, 3, 1], engine="torch", generator=torch.Generator().manual_seed(0))
    save(model, tmp_path / "model.safetensors")
    x = np.random.default_rng(0).normal(size=(5, 2))
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b", comments="")
    return SimpleNamespace(
        model=str(tmp_path / "model.safetensors"), x=str(tmp_path / "x.npy"),
        csv=str(tmp_path / "x.csv"), store=str(tmp_path / "run"), folder=tmp_path,
    )  # fmt: skip


def call(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_estimate_prints_a_plan_and_submits_nothing(files: Any) -> None:
    text = call("estimate", files.model, files.csv, *FAST, "--shots", "100").stdout
    assert text.startswith("fake_manila, 100 shots") and "layers.1" in text
    plan = json.loads(call("estimate", files.model, files.x, *FAST, "--json").stdout)
    assert [stage["values"] for stage in plan["stages"]] == [30, 15]
    forced = call("estimate", files.model, files.x, *FAST, "--json", "--mode", "teacher_forced")
    assert [stage["values"] for stage in json.loads(forced.stdout)["stages"]] == [45]
    assert not list(files.folder.glob("run*"))


def test_submit_writes_results_that_resume_reads(files: Any) -> None:
    done = call("submit", files.model, files.csv, *FAST, "--store", files.store)
    assert files.store in done.stderr and "DeviceResult((5, 1)" in done.stdout
    with open(f"{files.store}/values.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    result = resume(files.store, progress=False)
    assert [float(line["y0"]) for line in lines] == result.values.flatten().tolist()
    exact = load(files.model)(torch.from_numpy(np.load(files.x)).float())
    assert ((result.values - exact).abs() < 5 * result.stderr).all()


def test_submit_speaks_json_and_checks_edges(files: Any) -> None:
    out = files.folder / "y.csv"
    arguments = [files.model, files.x, *FAST, "--store", files.store, "--out", str(out)]
    found = json.loads(call("submit", *arguments, "--json").stdout)
    assert found["complete"] and len(found["jobs"]) == 2 and np.shape(found["values"]) == (5, 1)
    assert found["store"] == files.store and out.exists()
    text = call("submit", files.model, files.x, *FAST, "--mode", "teacher_forced",
                "--store", files.store + "2").stdout  # fmt: skip
    assert "rms of the z-scores" in text


def test_status_and_cancel(files: Any) -> None:
    call("submit", files.model, files.x, *FAST, "--store", files.store)
    found = json.loads(call("status", files.store, "--json").stdout)
    assert list(found["jobs"].values()) == ["done", "done"] and found["inputs"] == [5, 2]
    shown = call("status", files.store)
    assert all(identity in shown.stdout for identity in found["jobs"])
    # what is collected needs no collecting
    assert f"{files.store}/values.csv" in shown.stderr and "qkan collect" not in shown.stderr
    assert json.loads(call("cancel", files.store, "--json").stdout) == {"cancelled": []}
    assert "nothing" in call("cancel", files.store).stdout


def test_a_run_without_a_name_gets_one(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.folder)
    call("submit", files.model, files.x, *FAST)
    (store,) = (files.folder / "qkan-runs").iterdir()
    assert store.name.startswith("model-") and (store / "values.csv").exists()


INTERRUPTED = """
import os, signal, sys
# a suite that runs in the background was started with this signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from qkan.backends import QiskitRun
from qkan.backends.options import Options
from qkan.backends.qiskit.runtime import RuntimeProvider
measure, calls = QiskitRun.measure, []
def interrupted(self, tasks):
    calls.append(len(tasks))
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return measure(self, tasks)
QiskitRun.measure = interrupted
from qkan.cli import main
main()
"""


def test_an_interrupted_submit_is_collected_in_another_process(files: Any) -> None:
    def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error::UserWarning", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    arguments = ["submit", files.model, files.x, *FAST, "--store", files.store]
    stopped = process(INTERRUPTED, *arguments)
    assert stopped.returncode == 130, stopped.stderr
    assert f"qkan collect {files.store}" in stopped.stderr and "Traceback" not in stopped.stderr
    assert json.loads((Path(files.store) / "run.json").read_text())["backend"]["name"]
    waiting = json.loads(call("status", files.store, "--json").stdout)
    assert list(waiting["jobs"].values()) == ["done"]
    done = process("from qkan.cli import main; main()", "collect", files.store, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["complete"] and found["jobs"][0] == next(iter(waiting["jobs"]))
    assert len(found["jobs"]) == 2


def test_a_partial_result_has_an_exit_code(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = QiskitRun.measure

    def lossy(self: QiskitRun, tasks: Any) -> Any:
        found = measure(self, tasks)
        found[0].z.reshape(-1)[0] = np.nan
        return found

    with monkeypatch.context() as patch:
        patch.setattr(QiskitRun, "measure", lossy)
        arguments = [files.model, files.x, *FAST, "--store", files.store, "--json"]
        partial = call("submit", *arguments, code=3)
    assert json.loads(partial.stdout)["values"][0] == [None]
    assert f"qkan collect {files.store}" in partial.stderr
    assert json.loads(call("collect", files.store, "--json").stdout)["complete"]


def test_jobs_are_left_in_the_queue_and_collected(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService(delay=2)

    def provider(device: str, options: Options) -> RuntimeProvider:
        return RuntimeProvider(service, service.backend(device), options, service.sampler)

    monkeypatch.setattr(qkan.backends.qiskit.backend, "provider_of", provider)
    options = ["--backend", "ibm_manila", "--budget-seconds", "1000", "-o", "max_error=0.5"]
    left = [files.model, files.x, *options, "--shots", "64", "--store", files.store]
    first = call("submit", *left, "--no-wait", "--json")
    assert json.loads(first.stdout) == {"store": files.store, "pending": ["job-0"]}
    assert f"qkan collect {files.store}" in first.stderr
    codes = []
    while not codes or codes[-1] == 4:
        collected = CliRunner().invoke(app, ["collect", files.store, "--no-wait", "--json"])
        codes.append(collected.exit_code)
    assert codes[-1] == 0 and codes.count(4) >= 1
    assert json.loads(collected.stdout)["jobs"] == ["job-0", "job-1"] == [*service.jobs_by_id]


# ---- devices


def test_fake_devices_are_listed_offline() -> None:
    found = json.loads(call("devices", "--json").stdout)
    names = {device["name"] for device in found}
    assert {"fake_sherbrooke", "fake_torino"} <= names and len(names) > 30
    assert "fake_manila" in call("devices").stdout


def test_a_device_is_looked_at_closely() -> None:
    (found,) = json.loads(call("devices", "fake_manila", "--json").stdout)
    assert found["qubits"] == 5 and found["age_hours"] > 1000 and found["queue"] is None
    assert 0 < found["sx_error"] < found["readout_error"] < 0.1
    assert "fake_manila" in call("devices", "fake_manila").stdout
    ideal = json.loads(call("devices", "aer", "--json").stdout)[0]
    assert ideal["calibrated"] is None


class Account(QiskitRuntimeLocalService):
    """The runtime's local service with one device, and the answer on usage that it lacks."""

    def backends(self, *arguments: Any, **options: Any) -> Any:
        return [FakeManilaV2()]

    def backend(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name != "ibm_manila":
            raise ValueError(f"no {name}")
        return FakeManilaV2()

    def usage(self) -> dict[str, Any]:
        return {"usage_remaining_seconds": 420}


def test_the_accounts_devices_show_queue_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qkan.cli.devices, "_service", Account)
    for arguments in (("--ibm",), ("ibm_manila",)):
        (found,) = json.loads(call("devices", *arguments, "--json").stdout)
        assert found["name"] == "fake_manila" and found["kind"] == "ibm"
        assert found["queue"] == 0 and found["seconds_left"] == 420 and found["qubits"] == 5
    assert "seconds left" in call("devices", "--ibm").stdout
    assert "ibm_x could not be reached" in call("devices", "ibm_x", code=1).stderr


# ---- what goes wrong is one line and an exit code


def test_errors_are_one_line(files: Any) -> None:
    for code, arguments, found in (
        (1, ["submit", files.model, files.x, "--backend", "fake_manilla"], "fake_manila"),
        (2, ["submit", "no.safetensors", files.x, *FAST], "no.safetensors does not exist"),
        (2, ["estimate", files.model, "no.csv", *FAST], "no.csv does not exist"),
        (1, ["estimate", files.model, files.x, *FAST, "--shots", "0"], "shots=0"),
        (2, ["estimate", files.model, files.x, *FAST, "--mode", "both"], "Unknown mode 'both'"),
        (1, ["estimate", files.model, files.x, *FAST, "--mitigation", "zne"], "mitigation='zne'"),
        (2, ["estimate", files.model, files.x, *FAST, "-o", "width"], "wanted name=value"),
        (1, ["estimate", files.model, files.x, *FAST, "-o", "widht=3"], "width"),
        (2, ["estimate", files.model, files.x, *FAST, "--drop", "a"], "has no names"),
        (2, ["submit", files.model, files.x, *FAST, "--out", "no/y.csv"], "does not exist"),
        (2, ["status", files.store], f"{files.store} does not exist"),
        (2, ["collect", files.store], f"{files.store} does not exist"),
        (2, ["cancel", files.store], f"{files.store} does not exist"),
        (1, ["devices", "fake_nobody"], "fake_nobody"),
    ):
        result = call(*arguments, code=code)
        assert found in result.stderr and result.stderr.startswith("Error: "), result.stderr
    call("submit", files.model, code=2)


BAD_INPUTS = {
    "empty.csv": ("a,b\n", "no line with cells below its names"),
    "text.csv": ("1,2\n3,x\n", "line 2: found 'x', no finite number"),
    "named.csv": (
        "a,b\n3,\nnan,\n",
        "line 3: found 'nan'.*'a' .in 1 of 2.*line 2: found an empty.*'b' .in 2",
    ),
    "ragged.csv": ("1,2\n\n3\n", "line 3: found 1 cells; wanted 2"),
    "binary.csv": ("\xff", "not a CSV file in UTF-8"),
    "noise.npy": ("nothing", "not an array that numpy saved"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_named(tmp_path: Path, name: str) -> None:
    content, found = BAD_INPUTS[name]
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(QKANError, match=found):
        read_inputs(tmp_path / name, QKANLayer(2, 1))


def test_inputs_take_the_models_dtype(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).reshape(3, 2))
    layer = QKANLayer(2, 1, dtype=torch.float64)
    assert read_inputs(tmp_path / "x.npy", layer).dtype == torch.float64
    np.save(tmp_path / "z.npy", np.ones((3, 2), complex))
    with pytest.raises(QKANError, match="complex128"):
        read_inputs(tmp_path / "z.npy", layer)


def test_without_its_extra_the_command_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom qkan.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().endswith('pip install "qkan-hybrid[cli]"')
