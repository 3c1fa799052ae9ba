"""Runs that stop and go on: stores, partial results, cancellation, tables."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from compare import assert_close
from device_models import EXACT, inputs, network, run
from exact_backend import ExactBackend
from paths import TESTS
from torch import nn

from qkan import QKAN, DeviceResult, QKANError, cancel, resume
from qkan.backends import BackendError

# ---- the store: resume, cancel, partial results


def interrupt_at(number: int) -> Any:
    def before(call: int) -> None:
        if call == number:
            raise KeyboardInterrupt

    return before


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model, x, store = network([3, 2, 2, 1]), inputs(5, 3), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt) as caught:
        run(model, x, ExactBackend(before=interrupt_at(2)), store=store)
    assert "qkan.resume(" in caught.value.__notes__[0] and str(store) in caught.value.__notes__[0]
    fresh = ExactBackend(seed=7)
    result = resume(store, fresh)
    assert len(fresh.measured) == 1, "two of three layers were paid for"
    assert result.complete and result.path == store and len(result.jobs) == 3
    again = ExactBackend(before=interrupt_at(0))
    assert torch.equal(resume(result, again).values, result.values)
    assert torch.equal(run(model, x, again, store=store).values, result.values)
    assert resume(store, again, model=model).jobs == result.jobs


def test_a_run_is_resumed_in_another_process(tmp_path: Path) -> None:
    store = tmp_path / "run"
    model = network([2, 2, 1], torch.float32)
    result = run(model, inputs(3, 2, dtype=torch.float32), ExactBackend(), store=store)
    code = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from exact_backend import ExactBackend
from qkan import resume
backend = ExactBackend(seed=3)
print(resume({str(store)!r}, backend, progress=False).values.flatten().tolist(), backend.measured)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{result.values.flatten().tolist()} []", done.stderr


def test_a_model_that_save_does_not_know_is_passed_again(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), QKAN([2, 1]))
    x = inputs(2, 3, dtype=torch.float32)
    result = run(model, x, ExactBackend(), store=tmp_path)
    with pytest.raises(QKANError, match=r"pass resume\(…, model=model\)"):
        resume(tmp_path, ExactBackend())
    assert torch.equal(resume(tmp_path, ExactBackend(), model=model).values, result.values)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    with pytest.raises(QKANError, match="other parameters"):
        resume(tmp_path, ExactBackend(), model=model)


def test_a_frozen_model_is_resumed(tmp_path: Path) -> None:
    model = network([2, 1])
    model.layers[0].theta.requires_grad_(False)
    result = run(model, inputs(2, 2), ExactBackend(), store=tmp_path)
    assert torch.equal(resume(tmp_path, ExactBackend()).values, result.values)


def test_angles_that_were_edited_are_refused(tmp_path: Path) -> None:
    model, x = network([2, 1]), inputs(3, 2)
    run(model, x, ExactBackend(), store=tmp_path)
    file = tmp_path / "angles-0.npz"
    with np.load(file) as kept:
        angles = kept["arr_0"]
    np.savez_compressed(file, angles + 0.1)
    with pytest.raises(QKANError, match=r"angles-0\.npz has the angles of another run"):
        resume(tmp_path, ExactBackend())


def test_a_store_of_another_run_is_refused(tmp_path: Path) -> None:
    model, x = network([2, 1]), inputs(3, 2)
    run(model, x, ExactBackend(), store=tmp_path)
    with pytest.raises(BackendError):
        run(model, x + 1, ExactBackend(), store=tmp_path)
    with pytest.raises(BackendError):
        run(model, x, ExactBackend(), store=tmp_path, mode="teacher_forced")
    with pytest.raises(QKANError, match="belongs to exact, but the backend is other"):
        resume(tmp_path, ExactBackend(name="other"))
    with pytest.raises(QKANError, match=r"cannot be made again.*pass the backend itself"):
        resume(tmp_path)


def test_lost_values_leave_a_mask_and_the_others_keep_theirs(tmp_path: Path) -> None:
    model, x = network([3, 2, 2]), inputs(5, 3)
    partial = run(model, x, EXACT(fail={0: [7]}))
    assert partial.missing.tolist() == [[False, False], [True, True], *[[False, False]] * 3]
    assert torch.equal(partial.stderr.isnan(), partial.missing) and not partial.complete
    kept = ~partial.missing
    assert_close(partial.values[kept], model(x)[kept], "the others")
    assert "2 missing" in repr(partial)
    last = run(model, x, EXACT(fail={1: [7]}), store=tmp_path)
    assert last.missing.tolist() == [[False, False], [False, True], *[[False, False]] * 3]
    assert_close(resume(last, EXACT()).values, model(x), "after the repetition")
    forced = run(model, x, EXACT(fail={0: [7]}), mode="teacher_forced")
    assert torch.equal(forced.missing, partial.missing)


def test_a_run_that_can_be_resumed_stops_at_a_hidden_layer_with_gaps(tmp_path: Path) -> None:
    model, x, backend = network([3, 2, 2]), inputs(5, 3), EXACT(fail={0: [7]})
    partial = run(model, x, backend, store=tmp_path)
    assert partial.missing.all() and partial.stderr.isnan().all()
    assert len(backend.measured) == 1, "the next layer waits for all samples"
    assert_close(resume(partial, EXACT()).values, model(x), "after the repetition")


def test_cancel_names_the_jobs(tmp_path: Path) -> None:
    result = run(network([2, 1]), inputs(3, 2), ExactBackend(), store=tmp_path)
    assert cancel(tmp_path, ExactBackend()) == ()
    assert cancel(result, ExactBackend()) == ()
    with pytest.raises(QKANError, match="the backend is other"):
        cancel(tmp_path, ExactBackend(name="other"))


@pytest.mark.parametrize("damage", ["nothing", "run.json", "inputs.safetensors", "fields"])
def test_a_damaged_or_missing_run_is_refused(tmp_path: Path, damage: str) -> None:
    store = tmp_path / "run"
    if damage != "nothing":
        run(network([2, 1]), inputs(3, 2), ExactBackend(), store=store)
    if damage == "fields":
        (store / "run.json").write_text('{"about": {"mode": "sequential"}, "backend": "exact"}')
    elif damage != "nothing":
        (store / damage).write_bytes((store / damage).read_bytes()[:20])
    with pytest.raises(QKANError, match=str(store)):
        resume(store, ExactBackend())


def test_without_a_store_there_is_nothing_to_go_on_with() -> None:
    result = run(network([2, 1]), inputs(3, 2), ExactBackend())
    with pytest.raises(QKANError, match="store="):
        resume(result, ExactBackend())


def test_the_table_of_a_result(tmp_path: Path) -> None:
    result = run(network([3, 2, 2]), inputs(5, 3), ExactBackend(fail={0: [7]}))
    result.to_csv(tmp_path / "y.csv")
    with open(tmp_path / "y.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 and list(lines[0]) == [
        "sample", "y0", "y1", "y0_stderr", "y1_stderr", "backend", "jobs",
    ]  # fmt: skip
    assert [float(lines[0][name]) for name in ("y0", "y1")] == result.values[0].tolist()
    assert float(lines[4]["y1_stderr"]) == result.stderr[4, 1].item()
    assert lines[1]["y0"] == lines[1]["y1_stderr"] == ""
    assert lines[0]["jobs"].split(";") == list(result.jobs) and lines[0]["backend"] == "exact"
    assert isinstance(result, DeviceResult) and "1024 shots, 2 jobs" in repr(result)


def test_the_picture_of_a_result() -> None:
    model, x = network([3, 2, 2]), inputs(5, 3)
    result = run(model, x, ExactBackend(fail={0: [7]}))
    ax = result.plot()
    assert len(ax.containers) == 2 and ax.get_xlabel() == "sample"
    with torch.no_grad():
        wanted = model(x)
    drawn = result.plot(wanted[:, 1], expected=wanted)
    points = drawn.containers[1].lines[0].get_xydata()
    np.testing.assert_allclose(points[:, 0], wanted[:, 1])
    np.testing.assert_allclose(points[:, 1], result.values[:, 1])
    assert result.plot(ax=ax) is ax
    with pytest.raises(QKANError, match="one number for each sample"):
        result.plot(expected=wanted[:, :1])
    for axes in (ax, drawn):
        plt.close(axes.figure)
