"""A trained regression model on two fake IBM devices: raw, mitigated, and fine-tuned for the worse.

Run     make demo, whose second part it is (or python experiments device)
Writes  out/demo/device.png, and its numbers into out/demo/demo.json
Expect  the mitigated errors at their standard errors and the raw ones up to three times that;
        fine-tuning for the noisier device brings its raw error below two, without a shot more

The model is that of `regression.py`. Its values on the line y = 1/2 are measured with 32,768 shots
a circuit, which makes the bias of the readout visible, layer by layer, on the noise of
FakeSherbrooke and FakeTorino (calibrations of IBM's devices that ship with qiskit-ibm-runtime) in
closed form. A few of them also go through the runtime's own sampler on Aer, which must agree within
the error bars. No device of IBM's is involved.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT
from torch import Tensor

from functions import regression
from qkan import QKAN, DeviceResult, QiskitBackend, estimate, fit, noisy
from qkan import run as run_on

DEVICES = ("FakeSherbrooke", "FakeTorino")
SHOTS = 32768
CHECK_SHOTS = 4096
POINTS = 41
LINE = 0.5
STEPS = 10
CHECKED = 5
SEED = 7


def line(points: int, dtype: torch.dtype) -> Tensor:
    """Inputs (n, 2) along y = 1/2."""
    x = torch.linspace(-1, 1, points, dtype=dtype)
    return torch.stack([x, torch.full_like(x, LINE)], -1)


def backend(
    name: str, mitigation: str, emulator: str = "closed_form", shots: int = SHOTS
) -> QiskitBackend:
    return QiskitBackend(name, shots=shots, mitigation=mitigation, emulator=emulator, seed=SEED)


def measure(model: QKAN, x: Tensor, name: str, mitigation: str, title: str) -> dict[str, Any]:
    """One curve: values, bars, and how far both are from the exact function."""
    device = backend(name, mitigation)
    plan = estimate(model, x, device)
    begin = time.perf_counter()
    result = run_on(model, x, device, progress=False)
    values, stderr = result.values[:, 0].double(), result.stderr[:, 0].double()
    error = values - regression.target(x)[:, 0].double()
    return {
        "title": title, "device": name, "mitigation": mitigation,
        "values": values.tolist(), "stderr": stderr.tolist(),
        "rms_error": error.square().mean().sqrt().item(),
        "rms_stderr": stderr.square().mean().sqrt().item(),
        "jobs": plan.jobs, "executions": plan.executions, "qpu_seconds": plan.seconds,
        "seconds_here": time.perf_counter() - begin,
    }  # fmt: skip


def fine_tuned(trial: regression.Trial, name: str, steps: int = STEPS) -> QKAN:
    """A copy of the model, trained on in the closed form of a device read as it is."""
    model = copy.deepcopy(trial.model)
    with noisy(model, backend(name, "none")):
        fit(model, trial.train, optimizer="lbfgs", steps=steps, progress=False)
    return model


def check(model: QKAN, x: Tensor, name: str) -> dict[str, Any]:
    """The same through the runtime's sampler on Aer: differences in units of their error bars."""
    results: list[DeviceResult] = [
        run_on(model, x, backend(name, "none", emulator, CHECK_SHOTS), progress=False)
        for emulator in ("closed_form", "aer")
    ]
    bars = torch.hypot(results[0].stderr, results[1].stderr)
    scores = ((results[0].values - results[1].values) / bars)[:, 0]
    return {
        "device": name, "points": len(x), "shots": CHECK_SHOTS, "z_scores": scores.tolist(),
    }  # fmt: skip


def study(trial: regression.Trial, out: Path, *, points: int = POINTS, steps: int = STEPS,
          checked: int = CHECKED) -> dict[str, Any]:  # fmt: skip
    """Measure, fine-tune for the noisier device, measure again, draw."""
    from shared import figures

    dtype = trial.train[0].dtype
    x = line(points, dtype)
    runs = [
        measure(trial.model, x, name, mitigation, f"{name}, {words}")
        for name in DEVICES
        for mitigation, words in (("none", "raw"), ("readout", "mitigated"))
    ]
    raw = {run["device"]: run["rms_error"] for run in runs if run["mitigation"] == "none"}
    worse = max(raw, key=lambda name: raw[name])
    tuned = fine_tuned(trial, worse, steps)
    runs.append(measure(tuned, x, worse, "none", f"{worse}, raw, fine-tuned for it"))
    with torch.no_grad():
        simulated = trial.model(x)[:, 0].double()
    exact = regression.target(x)[:, 0].double()
    path = figures.device(
        x[:, 0].tolist(), exact.tolist(), [r for r in runs if r["device"] == worse],
        out / "device.png", title=f"{regression.FORMULA} on the line y = {LINE}, {worse}, "
        f"{SHOTS:,} shots a circuit",
    )  # fmt: skip
    return {
        "settings": {
            "devices": DEVICES, "shots": SHOTS, "points": points, "line": f"y = {LINE}",
            "emulator": "closed form of the device's calibration", "seed": SEED,
            "fine_tuning": f"{steps} LBFGS steps on the training points, closed form, no shots",
            "model_seed": trial.seed,
        },
        "summary": {
            "noisier": worse,
            "rms_error_of_the_model": (simulated - exact).square().mean().sqrt().item(),
            "runs": [{k: v for k, v in r.items() if k not in ("values", "stderr")} for r in runs],
            "aer": check(trial.model, line(checked, dtype), worse),
        },
        "samples": {"x": x[:, 0].tolist(), "exact": exact.tolist(), "runs": runs},
        "figures": [path],
    }  # fmt: skip


def print_study(result: dict[str, Any]) -> None:
    s, settings = result["summary"], result["settings"]
    print(f"""
2  That model on fake IBM devices: {settings["points"]} inputs on {settings["line"]}, \
{settings["shots"]:,} shots a circuit, errors against the exact function
   on the exact simulator the model errs by {s["rms_error_of_the_model"]:.4f}

   {"":40} {"rms error":>9} {"std error":>9} {"executions":>11} {"QPU time":>8}""")
    for r in s["runs"]:
        print(f"   {r['title']:40} {r['rms_error']:>9.4f} {r['rms_stderr']:>9.4f} "
              f"{r['executions']:>11,} {r['qpu_seconds']:>6.0f} s")  # fmt: skip
    scores = ", ".join(f"{z:+.1f}" for z in s["aer"]["z_scores"])
    print(f"   closed form against the runtime's sampler on Aer, in standard errors: {scores}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "device")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    trial = regression.run(SEED)
    print_study(study(trial, options.out))
