# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Run a trained model on an IBM device
#
# This guide runs a trained QKAN on an emulated IBM device. It is for those who want to use a real
# one; after it you can estimate the cost of a run, run a model with standard errors, and continue
# an interrupted run. Every activation is the expectation value of a circuit of one qubit, and a
# device runs many such circuits at the same time.
#
# You need no account. A *fake device* has the qubits, gates and errors that an IBM device had on
# one day. It runs the jobs on your computer through the same runtime primitive as the real device.
# The last section shows what changes with an account.
#
# A simulator needs microseconds for one qubit. Use a device to learn about the device, or to check
# that it agrees with the simulator, and not to save time.

# %%
import math
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import qkan

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
POINTS, SHOTS = (5, 512) if SMALL else (21, 4096)
BLUE, ORANGE = "#0072B2", "#E69F00"

torch.manual_seed(0)
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)
torch.set_num_threads(1)  # models this small only wait for a second thread

# %% [markdown]
# ## A model to run
#
# The model has one input, three hidden nodes and one output, so six circuits. It is trained on the
# simulator.

# %%
grid = torch.linspace(-1, 1, 200)[:, None]
target = torch.sin(torch.pi * grid) * torch.exp(grid / 2)
model = qkan.QKAN([1, 3, 1], reps=2, input_range=(-1, 1))
history = qkan.fit(
    model, (grid, target), steps=5 if SMALL else 15, progress=False
)
print(history)

x = torch.linspace(-1, 1, POINTS)[:, None]
with torch.no_grad():
    exact = model(x)

# %% [markdown]
# ## The device, and what a run costs
#
# `shots` is how often each circuit is run. With readout mitigation, the default, half of the shots
# run a *twin* circuit, which ends with a flip. The twin's value has the opposite sign and the same
# offset by the readout, so the offset cancels in the difference. Two more rows of each job measure
# the factor by which the readout of each qubit reduces ⟨Z⟩.

# %%
mitigated = qkan.QiskitBackend("FakeManilaV2", shots=SHOTS, seed=1)
raw = qkan.QiskitBackend("FakeManilaV2", shots=SHOTS, seed=1, mitigation="none")
print(mitigated)
print("qubits in use, the best first:", mitigated.layout)

# %% [markdown]
# `estimate` submits nothing. A *value* is one circuit with its angles, and a *row* measures one
# value on every qubit in use. So a layer needs ⌈values / qubits⌉ rows, twice as many with the
# twins, and two rows for the calibration. IBM bills the seconds for which a job uses the device.
# The seconds are estimated from rows × shots, also for a fake device.

# %%
plan = qkan.estimate(model, x, mitigated)
print(plan)

# seconds in 28 days that IBM gave for nothing when this was written
OPEN_PLAN = 600
print(f"\nof the open plan's time: {plan.seconds / OPEN_PLAN:.0%}")
for stage in plan.stages:
    assert stage.cost.rows == 2 * math.ceil(stage.values / mitigated.width) + 2

# %% [markdown]
# A job costs some seconds before its first shot, so measure many values in one job. On a larger
# device with more qubits, the same values need fewer rows.

# %%
print(f"a job of one value: {mitigated.cost(1).seconds:.1f} s")
wide = qkan.QiskitBackend(
    "FakeTorino", shots=SHOTS, emulator="closed_form", seed=1
)
for device in (mitigated, wide):
    cost = qkan.estimate(model, x, device)
    print(
        f"{device.name}, {device.width} qubits: {cost.rows} rows, "
        f"{cost.seconds:.1f} s"
    )
assert qkan.estimate(model, x, wide).rows < plan.rows

# %% [markdown]
# ## Run it
#
# A run measures the circuits of the first layer. Your computer then computes the outputs of that
# layer, which are the inputs for the circuits of the second layer. The classical part of a QKAN
# (the weights, the base activations and the sums) stays on your computer.

# %%
results = {
    "as read": qkan.run(model, x, raw, progress=False),
    "mitigated": qkan.run(model, x, mitigated, progress=False),
}
for name, result in results.items():
    print(f"{name}: {result}")
    assert result.complete

# %% [markdown]
# Every value has a standard error. It includes the shot noise of all layers with its correlations,
# and the uncertainty of the readout calibration. It does not include a bias, which shots cannot
# show. So an error of many standard errors is an error of the device and not chance. If chance
# explains all errors, the root mean square of $z = (\text{value} - \text{exact}) /
# \text{stderr}$ is about 1.


# %%
def rms_score(result: qkan.DeviceResult) -> float:
    """Root mean square of the errors in units of their bars."""
    return (
        ((result.values - exact) / result.stderr).square().mean().sqrt().item()
    )


for name, result in results.items():
    error = (result.values - exact).square().mean().sqrt()
    bar = result.stderr.square().mean().sqrt()
    print(
        f"{name:9}  rms error {error:.4f}   bar {bar:.4f}   in bars "
        f"{rms_score(result):.2f}"
    )
assert SMALL or rms_score(results["mitigated"]) < rms_score(results["as read"])

# %% alt="Measured outputs with error bars, as read and mitigated, beside the curve they should be"
figure, (top, below) = plt.subplots(
    2,
    1,
    figsize=(7, 5.2),
    sharex=True,
    height_ratios=(1.7, 1),
    layout="constrained",
)
with torch.no_grad():
    top.plot(
        grid[:, 0],
        model(grid)[:, 0],
        color="black",
        linewidth=1,
        label="simulator",
    )
below.axhline(0, color="black", linewidth=1)
for (name, result), colour, marker in zip(
    results.items(), (ORANGE, BLUE), ("v", "o"), strict=True
):
    style = {
        "color": colour,
        "fmt": marker,
        "markersize": 4,
        "capsize": 2,
        "elinewidth": 1,
    }
    values, bars = result.values[:, 0], result.stderr[:, 0]
    top.errorbar(
        x[:, 0],
        values,
        bars,
        label=f"{name}, {rms_score(result):.1f} bars",
        **style,
    )
    below.errorbar(x[:, 0], values - exact[:, 0], bars, **style)
top.set(
    ylabel="output",
    title=f"FakeManilaV2, {SHOTS} shots a circuit, bars: one standard error",
)
top.legend(frameon=False)
below.set(xlabel="x", ylabel="output − simulator")
plt.show()

# %% [markdown]
# With four times as many shots, the standard errors are half as large. These runs use
# `emulator="closed_form"`, which draws the counts from formulas of the noise without running a
# circuit. Its values agree with those of Aer above within their standard errors.

# %%
fewer = qkan.QiskitBackend(
    "FakeManilaV2", shots=1024, seed=2, emulator="closed_form"
)
more = qkan.QiskitBackend(
    "FakeManilaV2", shots=4096, seed=2, emulator="closed_form"
)
drawn = [
    qkan.run(model, x, backend, progress=False) for backend in (fewer, more)
]
bars = [result.stderr.median().item() for result in drawn]
print(f"median bar with 1024 shots {bars[0]:.4f}, with 4096 {bars[1]:.4f}")
assert 1.6 < bars[0] / bars[1] < 2.4

other = results["mitigated"]
score = (drawn[1].values - other.values) / torch.hypot(
    drawn[1].stderr, other.stderr
)
score = score.square().mean().sqrt().item()
print(f"closed form against Aer: root mean square z {score:.2f}")
assert score < 2

# %% [markdown]
# ## Which circuit has an error?
#
# With `mode="teacher_forced"` every layer gets the inputs that it has in the simulator, so errors
# do not propagate, and each measured activation can be compared with the simulated one.

# %%
forced = qkan.run(model, x, raw, mode="teacher_forced", progress=False)
for check in forced.edges:
    print(check)

# %% [markdown]
# ## Continue an interrupted run
#
# A run with a `store` records each job before it waits for the result. Here a hook interrupts the
# run, as Ctrl-C does, after the first layer was paid for and before the second begins.

# %%
folder = tempfile.TemporaryDirectory()
store = Path(folder.name) / "my-run"


def press_ctrl_c(layer: torch.nn.Module, inputs: object) -> None:
    if store.exists():
        raise KeyboardInterrupt


hook = model.layers[1].register_forward_pre_hook(press_ctrl_c)
try:
    qkan.run(model, x, mitigated, store=store, progress=False)
except KeyboardInterrupt as interruption:
    interruption_note = interruption.__notes__[0].replace(folder.name, "…")
hook.remove()
print(interruption_note)
print("kept:", *sorted(path.name for path in store.iterdir()))

# %% [markdown]
# The folder has the model, the inputs, the name and the options of the device, the jobs and their
# results. `resume` needs only its path, so another process can continue on another day. Nothing is
# paid for twice: the first job is the one above, and after another `resume` nothing more is run.

# %%
result = qkan.resume(store, progress=False)
again = qkan.resume(store, progress=False)
print(result)
assert result.complete and result.jobs[0] in interruption_note
assert again.jobs == result.jobs and torch.equal(again.values, result.values)
assert len(result.jobs) == qkan.estimate(model, x, mitigated).jobs
folder.cleanup()

# %% [markdown]
# ## Measure once, compute any number of outputs
#
# An activation is a sum of few sines and cosines, so its values at a few points determine it.
# `tabulate` measures each edge once on a grid. After that, inputs in the range need no measurement.

# %%
print(qkan.estimate(model, grid, more, mode="tabulate"))
tables = qkan.tabulate(model, grid, more)
served = tables(grid)
with torch.no_grad():
    error = (served.values - model(grid)).square().mean().sqrt()
print(
    f"{len(grid)} inputs served: rms error {error:.4f}, median bar "
    f"{served.stderr.median():.4f}"
)
print(
    f"measuring them one by one: {qkan.estimate(model, grid, more).values} "
    "values"
)

# %% [markdown]
# ## With an account
#
# This section is not run here. Save the account once, with the token that IBM's web page shows.
# This package never stores or prints it:
#
# ```python
# from qiskit_ibm_runtime import QiskitRuntimeService
# QiskitRuntimeService.save_account(token="…")
# ```
#
# Then change the name of the device, and set a budget:
#
# ```python
# # or "least_busy" instead of a device's name
# backend = qkan.QiskitBackend("ibm_…", shots=4096, budget_seconds=60)
# # the same table, with the budget that is left
# print(qkan.estimate(model, x, backend))
# # waits in the queue; Ctrl-C loses nothing
# result = qkan.run(model, x, backend)
# ```
#
# - **Budget.** A run that does not fit into `budget_seconds` is refused before a job is submitted,
#   and each job has a time limit on the device.
# - **Store.** Without `store=` a run is kept in a folder of `~/.qkan/runs`. The jobs are in IBM's
#   queue, so you can end your process and call `qkan.resume(folder)` later.
# - **Without waiting.** `wait=False` submits all jobs that it can and raises an error that names
#   them; `qkan.resume` continues with their results. The commands are `qkan submit --no-wait`,
#   `qkan status`, `qkan collect` and `qkan cancel`.
# - **Calibration.** The qubits are chosen by the current calibration of the device. The layout and
#   the errors can change from day to day.
#
# ## Where next
#
# - `with qkan.noisy(model, backend): qkan.fit(…)` fine-tunes a model for the noise of a device
#   before you pay for a shot; `qkan.on_device` trains on the device itself with parameter shifts.
# - `experiments/functions/device.py` measures a larger model on two fake devices, with and without
#   mitigation and after fine-tuning.
# - `6_your_own_ansatz.py` runs your own ansatz on a device.
