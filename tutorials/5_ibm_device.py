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
# A QKAN that was trained on a simulator can be measured on a device: every activation is the
# expectation value of a circuit of one qubit, and a device can run many of them side by side.
# This tutorial says what that costs, runs it, takes the readout's errors out, puts an error bar on
# every value, and goes on with a run that was interrupted.
#
# Nothing here needs an account. A *fake device* has the qubits, gates and errors of a device of
# IBM's, as they were on one day, and runs the jobs on this machine through the same runtime
# primitive as the real one. What differs with an account stands at the end.
#
# One qubit is simulated in microseconds: run this on a device to learn about the device, or to
# check that it agrees with the simulator, not to be faster.

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
# One input, three hidden nodes, one output: six circuits, trained on the simulator.

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
# go to a *twin* whose ⟨Z⟩ is flipped: an error of the readout that does not depend on the state
# is the same there while the signal has the opposite sign, so it drops out of the difference. Two
# more rows of each job measure by how much each qubit's readout shrinks ⟨Z⟩.

# %%
mitigated = qkan.QiskitBackend("FakeManilaV2", shots=SHOTS, seed=1)
raw = qkan.QiskitBackend("FakeManilaV2", shots=SHOTS, seed=1, mitigation="none")
print(mitigated)
print("qubits in use, the best first:", mitigated.layout)

# %% [markdown]
# `estimate` submits nothing. A *value* is one circuit with its angles; a *row* measures one value
# on every qubit in use. So a layer takes ⌈values / qubits⌉ rows, twice that with the twins, and the
# two rows of the calibration. IBM bills the seconds that a job keeps the device busy: estimated
# here from rows × shots, also for a fake device.

# %%
plan = qkan.estimate(model, x, mitigated)
print(plan)

# seconds in 28 days that IBM gave for nothing when this was written
OPEN_PLAN = 600
print(f"\nof the open plan's time: {plan.seconds / OPEN_PLAN:.0%}")
for stage in plan.stages:
    assert stage.cost.rows == 2 * math.ceil(stage.values / mitigated.width) + 2

# %% [markdown]
# A job costs seconds before its first shot, so ask for many values at once. A larger device has
# more qubits to fill: there the same values take fewer rows.

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
# Layer by layer: the circuits of the first layer are measured, torch adds their values up here, and
# the sums are the inputs of the second layer's circuits. The classical part of a QKAN (the weights,
# the base activations, the sums) never leaves this machine.

# %%
results = {
    "as read": qkan.run(model, x, raw, progress=False),
    "mitigated": qkan.run(model, x, mitigated, progress=False),
}
for name, result in results.items():
    print(f"{name}: {result}")
    assert result.complete

# %% [markdown]
# Every value comes with a standard error. It holds the shots of the last layer and those of the
# layers before it, carried through the network with all their correlations, and what the readout's
# calibration is not sure of. It does not hold what shots cannot show: a bias. So an error many
# bars long is the device's, not chance's. The square root of the mean of
# $z^2 = (\text{value} - \text{exact})^2 / \text{stderr}^2$ is about 1 where chance explains all.


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
# Four times the shots halve the bars. `emulator="closed_form"` draws these runs: the noise of one
# qubit is a few numbers, so counts can be drawn without running a circuit. They agree with those
# of Aer above within both bars.

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
# ## Which circuit is off?
#
# In `mode="teacher_forced"` every layer gets the simulator's inputs, so that no error travels, and
# each measured activation can be compared with its own simulated one.

# %%
forced = qkan.run(model, x, raw, mode="teacher_forced", progress=False)
for check in forced.edges:
    print(check)

# %% [markdown]
# ## Interrupt it, and go on
#
# A run with a `store` writes down each job before it waits for it. Here a hook presses Ctrl-C where
# it hurts: the first layer is paid for, the second has not begun.

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
# The folder has everything: the model, the inputs, the device's name and options, the jobs and
# what they brought. Its path is all that `resume` needs, so another process can go on, on another
# day. What is paid for is not run twice: the first job is the one above, and resumed once more,
# there is nothing left to run.

# %%
result = qkan.resume(store, progress=False)
again = qkan.resume(store, progress=False)
print(result)
assert result.complete and result.jobs[0] in interruption_note
assert again.jobs == result.jobs and torch.equal(again.values, result.values)
assert len(result.jobs) == qkan.estimate(model, x, mitigated).jobs
folder.cleanup()

# %% [markdown]
# ## Measure once, serve any number of inputs
#
# An activation is a sum of few waves, so a few points of it say all of it. `tabulate` measures each
# edge on a grid, once. After that any input in the range costs nothing.

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
# Not run here. Save the account once, with the token that IBM's page shows; this package never
# stores or prints it:
#
# ```python
# from qiskit_ibm_runtime import QiskitRuntimeService
# QiskitRuntimeService.save_account(token="…")
# ```
#
# Then only the name of the device changes, and a real device wants to know what it may spend:
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
# - **Budget.** Work that does not fit into `budget_seconds` is refused before a job is submitted,
#   and each job has a time limit on the device.
# - **Store.** Without `store=` a run keeps its jobs in a folder of `~/.qkan/runs`: they live in
#   IBM's queue, not in your process. `qkan.resume(folder)` collects them tomorrow.
# - **Without waiting.** `wait=False` submits all that can be and raises an error that names the
#   jobs; `qkan.resume` goes on with what they brought. In a terminal: `qkan submit --no-wait`,
#   `qkan status`, `qkan collect`, `qkan cancel`.
# - **Calibration.** The qubits are chosen by the device's calibration of the hour. Yesterday's
#   layout may not be today's, and neither may the errors.
#
# ## Where next
#
# - `with qkan.noisy(model, backend): qkan.fit(…)` fine-tunes a model for a device's noise before a
#   shot is paid for; `qkan.on_device` trains on the device itself by parameter shift.
# - `experiments/functions/device.py` measures a larger model on two fake devices, raw, mitigated
#   and fine-tuned.
# - An ansatz of your own runs on devices as the built-in ones do: see `6_your_own_ansatz.py`.
