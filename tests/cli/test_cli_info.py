"""`qkan info`, `qkan demo`, and what holds for every command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qkan.cli.demo
from qkan import load
from qkan.circuits import ansatze
from qkan.cli.app import app
from qkan.simulators import engines


def call(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_info_says_what_is_here_and_which_engine_runs() -> None:
    found = json.loads(call("info", "--json", "--batch", "8", "--in", "3", "--out", "2").stdout)
    assert found["qkan"] == qkan.__version__ and found["ansatze"] == [*ansatze()]
    assert found["packages"]["numpy"] == {"version": np.__version__, "extra": None}
    assert found["packages"]["typer"]["extra"] == "cli" and "pytest" not in found["packages"]
    assert [case["layer"].split(", ")[2] for case in found["engines"]] == ["trainable", "linear"]
    for case in found["engines"]:
        assert [*case["verdicts"]] == [*engines()]
        assert case["verdicts"][case["engine"]].startswith("estimated")
    assert "trainable" in found["engines"][0]["verdicts"]["fourier"]


def test_info_in_a_pipe_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = call("info", "--encoding", "ternary", "--ansatz", "px", "--reps", "2").stdout
    assert "arccos" in text and "ternary" in text and "\x1b" not in text
    assert 'pip install "qkan-hybrid[cuda]"' in text and text.count("│ → ") == 1


def test_warm_up_says_where_the_kernels_are() -> None:
    found = json.loads(call("warm-up", "--dtype", "float32", "--json").stdout)
    assert found["seconds"] > 0
    assert found["kernels"] > 10
    assert Path(found["folder"]).is_dir()
    assert "float16" in call("warm-up", "--dtype", "float16", code=2).stderr


def test_wrong_questions_to_info() -> None:
    for arguments, found in (
        (["--encoding", "linaer"], "Did you mean 'linear'"),
        (["--device", "tpu"], "--device tpu"),
        (["--in", "0"], "in_features=0"),
    ):
        assert found in call("info", *arguments, code=2).stderr


def test_the_demo_finds_the_formula(tmp_path: Path) -> None:
    done = call("demo", "--quick", "--out", tmp_path / "demo", "--quiet")
    found = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert found["formula"]["text"].startswith("f = exp(y**2 + sin(pi*x))")
    assert "f = exp(y**2 + sin(pi*x))" in done.stdout
    errors = [stage["test_mse"] for stage in found["training"]["stages"]]
    assert found["training"]["stages"][-1]["widths"] == [2, 1, 1] and errors[-1] < 1e-3
    assert found["device"]["rms_difference"] < 5 * found["device"]["rms_stderr"]
    assert all((tmp_path / "demo" / name).stat().st_size for name in found["files"])
    model = load(tmp_path / "demo" / "model.safetensors")
    x = torch.tensor([row[:2] for row in found["device"]["values"]], dtype=torch.float64)
    simulated = [row[2] for row in found["device"]["values"]]
    assert np.allclose(model(x).detach().numpy()[:, 0], simulated)


def test_the_demo_says_how_to_get_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"matplotlib", "sympy", "qiskit", "qiskit_ibm_runtime"}

    class Absent:
        def find_spec(self, name: str, *arguments: Any) -> None:
            if name.partition(".")[0] in absent:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    monkeypatch.setattr(qkan.cli.demo, "QUICK", qkan.cli.demo.Size(60, 2, 2, "closed_form"))
    done = call("demo", "--quick", "--out", tmp_path, "--quiet", "--json")
    found = json.loads(done.stdout)
    assert found["files"] == ["model.safetensors"] and found["training"]["stages"]
    for part, extra in (("formula", "symbolic"), ("pictures", "plot"), ("device", "qiskit")):
        assert found[part]["left_out"].endswith(f'pip install "qkan-hybrid[{extra}]"')
        assert found[part]["left_out"] in done.stderr


# ---- the whole


def test_every_command_has_a_help_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = [command.name for command in app.registered_commands]
    assert {"demo", "info", "fit", "predict", "plot", "submit"} <= {*names}
    assert all(name in call("--help").stdout for name in names)
    for name in names:
        text = call(name, "--help").stdout
        assert "The exit code is" in text and max(map(len, text.splitlines())) <= 60
    assert call("--version").stdout.strip() == qkan.__version__
    call("fitt", code=2)


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "qkan", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() == qkan.__version__
