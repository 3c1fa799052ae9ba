# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own ansatz, in one place
#
# This guide is for those who want to use their own circuit. After it you can define an ansatz, draw
# it, compare all engines, train and extend it, export it to Qiskit and PennyLane, and measure it on
# an emulated IBM device. The circuit is written once, as a list of gates, and everything reads that
# list. At the end one line of it is changed, and nothing else.

# %%
import os
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pennylane as qml
import torch
from qiskit.quantum_info import Statevector

import qkan
from qkan.circuits import (
    RX,
    RY,
    RZ,
    Circuit,
    Encoding,
    Gate,
    Theta,
    circuit_observable,
    lower,
    register_ansatz,
    to_openqasm3,
    to_pennylane,
    to_qiskit,
)

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
BLUE, ORANGE = "#0072B2", "#E69F00"
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)

# %% [markdown]
# ## Define
#
# An ansatz is a function that returns a circuit for a number of repetitions. `Theta(k)` is a
# trainable angle, and `Encoding(u)` is the angle of the input, $w_u x + b_u$. Every repetition
# needs one encoding. This ansatz rotates about all three axes:


# %%
def spiral(reps: int) -> Circuit:
    """RY(t) RX(t) RZ(e) in each repetition, and RY(t) RX(t) at the end."""
    gates: list[Gate] = []
    for u in range(reps):
        gates += [RY(Theta(2 * u)), RX(Theta(2 * u + 1)), RZ(Encoding(u))]
    gates += [RY(Theta(2 * reps)), RX(Theta(2 * reps + 1))]
    return Circuit(gates, observable="Z")


register_ansatz("spiral", spiral)
circuit = qkan.ansatz("spiral", reps=2)
print(circuit.draw())

# %% [markdown]
# The engines read the *lowered* circuit, a list of rotations from the initial Bloch vector to the
# measured axis. Adjacent rotations about one axis are merged, and gates without effect are left
# out. The initial state, |0⟩, is on the z axis.

# %%
print(lower(circuit))

# %% [markdown]
# `spectrum` lists the frequencies that the activation can have. If some repetitions added no
# frequency, the list would be shorter.

# %%
for encoding in ("linear", "binary", "ternary"):
    print(f"{encoding:8s}", circuit.spectrum(encoding))
assert circuit.spectrum("ternary").tolist() == [0, 1, 2, 3, 4]

# %% [markdown]
# ## Every engine agrees
#
# The engine `reference` is short and slow: it computes one statevector at a time, and gradients
# with parameter shifts. All other engines must return the same values and gradients, or refuse.
# `explain` says which engines refuse and why. An engine that you name is used or raises an error.


# %%
def compare(own: Circuit, encoding: str) -> None:
    """Print how far each engine is from the statevector reference."""
    x = (
        torch.rand(
            40,
            2,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(1),
        )
        * 4
        - 2
    )
    model = qkan.QKAN(
        [2, 3], ansatz=own, encoding=encoding, dtype=torch.float64
    )
    found = {}
    for engine, verdict in qkan.explain(model, x)["layers.0"].verdicts:
        if verdict.startswith("refuses"):
            print(
                f"{engine:10s} "
                f"{textwrap.shorten(verdict, 85, placeholder=' …')}"
            )
            continue
        start = torch.Generator().manual_seed(0)
        layer = qkan.QKANLayer(
            2,
            3,
            ansatz=own,
            encoding=encoding,
            engine=engine,
            dtype=torch.float64,
            generator=start,
        )
        values = layer(x)
        values.square().mean().backward()
        found[engine] = values.detach(), layer.theta.grad
        off = [
            (a - b).abs().max().item()
            for a, b in zip(found[engine], found["reference"], strict=True)
        ]
        print(
            f"{engine:10s} largest difference: values {off[0]:.0e}, "
            f"gradients {off[1]:.0e}"
        )
        assert max(off) < 1e-10
    assert {"torch", "numba", "chebyshev"} <= found.keys()


for encoding in ("trainable", "ternary"):
    print(f"encoding {encoding}")
    compare(circuit, encoding)

# %% [markdown]
# ## Train it, extend it
#
# Pass the name of the ansatz, or a circuit, as `ansatz=`.

# %%
x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
y = torch.sin(8 * x) * torch.exp(-2 * x**2)
model = qkan.QKAN(
    [1, 1],
    ansatz="spiral",
    reps=2,
    dtype=torch.float64,
    generator=torch.Generator().manual_seed(4),
)
history = qkan.fit(model, (x, y), steps=5, progress=False)
print(f"2 repetitions: mean squared error {history.train_loss[-1]:.1e}")
for reps in (3, 4):
    longer = qkan.extend(model, reps)
    change = (longer(x) - model(x)).abs().max().item()
    assert change < 1e-12
    history = qkan.fit(longer, (x, y), steps=5, progress=False)
    print(
        f"{reps} repetitions: changed by {change:.0e}, then trained to "
        f"{history.train_loss[-1]:.1e}"
    )
    model = longer
assert history.train_loss[-1] < 1e-4

# %% [markdown]
# `extend` has no rule for this ansatz. It searched the circuit for a place where a new repetition
# does not change the function and can still be trained.
#
# ## In Qiskit, PennyLane and OpenQASM
#
# The exported circuits have the same gates and parameters. For one value of x, all three programs
# compute the same number:

# %%
layer = model.layers[0]
theta, scale, shift = (
    t[0, 0].detach() for t in (layer.theta, layer.scale, layer.shift)
)
point = x[70]
ours = qkan.expectation(
    layer.circuit, point, *(t[None, None] for t in (theta, scale, shift))
)

angles = []
for gate in layer.circuit.parametric_gates:
    n = gate.angle.index
    data = isinstance(gate.angle, Encoding)
    angles.append(
        float(scale[n] * point + shift[n]) if data else float(theta[n])
    )
state = Statevector(to_qiskit(layer.circuit, angles))
by_qiskit = state.expectation_value(circuit_observable(layer.circuit)).real

node = qml.QNode(to_pennylane(layer.circuit), qml.device("default.qubit"))
by_pennylane = node(point[0], theta, scale, shift)

print(
    f"qkan      {ours.item():+.12f}\nQiskit    {by_qiskit:+.12f}\nPennyLane "
    f"{by_pennylane:+.12f}"
)
assert (
    max(abs(by_qiskit - ours.item()), abs(by_pennylane.item() - ours.item()))
    < 1e-10
)

# %%
print(to_qiskit(layer.circuit).draw("text", fold=100))

# %%
print(to_openqasm3(qkan.ansatz("spiral", reps=1)))

# %% [markdown]
# ## On an emulated device
#
# `FakeManilaV2` is Qiskit's emulator of a five-qubit IBM device with its recorded errors, which Aer
# runs on your computer. The code for a real device is the same. `estimate` prints the cost before
# anything runs:

# %%
few = x[:: 20 if SMALL else 5]
backend = qkan.QiskitBackend("FakeManilaV2", shots=4096, seed=7)
print(qkan.estimate(model, few, backend))
result = qkan.run(model, few, backend, progress=False)

# %% alt="Measured outputs with error bars on the curve of the simulator"
with torch.no_grad():
    curve, exact = model(x), model(few)
errors = (result.values - exact).flatten()
figure, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.plot(x, curve, color=BLUE, label="simulator")
ax.errorbar(
    few.flatten(), result.values.flatten(), result.stderr.flatten(),
    fmt="o", color=ORANGE,
    markersize=4, capsize=2, label="measured, bars: one standard error",
)  # fmt: skip
ax.set(xlabel="x", ylabel="output")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Errors of the readout are measured and corrected, unless you pass `mitigation="none"`. The
# remaining errors are shot noise, which the standard errors show, and errors of the gates, which
# they do not show.

# %%
print(
    f"rms error {errors.square().mean().sqrt():.4f}, rms standard error ",
    end="",
)
print(
    f"{result.stderr.square().mean().sqrt():.4f}, spread of the output "
    f"{curve.std():.4f}"
)
assert errors.abs().max() < 0.5 * curve.std()

# %% [markdown]
# ## Change it in one place
#
# Suppose that the activation should be ⟨X⟩ after one more rotation, by a fixed angle of π/4. Only
# the definition changes:


# %%
def bent_spiral(reps: int) -> Circuit:
    """A spiral that ends with a fixed rotation, measured along x."""
    return Circuit([*spiral(reps).gates, RZ(np.pi / 4)], observable="X")


register_ansatz("spiral", bent_spiral)
changed = qkan.ansatz("spiral", reps=2)
print(changed.draw())
for encoding in ("trainable", "ternary"):
    print(f"encoding {encoding}")
    compare(changed, encoding)

# %% [markdown]
# Existing models keep the circuit with which they were built. `qkan.save` writes the gates into the
# file, so loading needs no registered ansatz.
#
# ## Where next
#
# * `1_daruan_by_hand.py` explains spectrum and lowering.
# * `5_ibm_device.py` explains runs on a device, their cost and their errors.
# * `qkan.to_onnx` exports a trained model to ONNX.
