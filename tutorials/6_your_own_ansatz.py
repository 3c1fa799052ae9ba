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
# The circuit of an activation is written down once, as a list of gates. Engines, exports and
# devices read that list and know no ansatz by name. So yours is as good as those that come with the
# package: here one is defined, drawn, run on every engine, trained, extended, exported and measured
# on the noisy emulator of an IBM device. At the end one line of it is changed, and everything
# follows.

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
# An ansatz is a function from the number of repetitions to a circuit. `Theta(k)` is a trainable
# angle and `Encoding(u)` the data's, $w_u x + b_u$; every repetition needs one encoding. This one
# turns about all three axes:


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
# What the engines see is the *lowered* circuit, from the first Bloch vector to the measured axis;
# gates that merge or do nothing are gone. (The start, |0⟩, lies on the z axis.)

# %%
print(lower(circuit))

# %% [markdown]
# And what it can express: the frequencies that arrive with generic angles. A circuit that wastes
# its repetitions would show here.

# %%
for encoding in ("linear", "binary", "ternary"):
    print(f"{encoding:8s}", circuit.spectrum(encoding))
assert circuit.spectrum("ternary").tolist() == [0, 1, 2, 3, 4]

# %% [markdown]
# ## Every engine agrees
#
# `reference` is the truth: one statevector at a time, gradients by parameter shift, slow and short.
# All others must give its values and its gradients, or refuse. `explain` says who refuses and why;
# an engine that is named never falls back to another.


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
# By its name, or passed as a circuit, it stands wherever an ansatz does.

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
# Nobody told `extend` how to extend a spiral. It searched the circuit for a place where a new
# repetition can do nothing yet and still learn.
#
# ## In Qiskit, PennyLane and OpenQASM
#
# The exports keep gate for gate what was written, with the same parameters. One value of x, three
# programs, one number:

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
# ## On a device's noisy twin
#
# `FakeManilaV2` is Qiskit's copy of a five-qubit IBM device, its measured errors included, run by
# Aer on this computer. The path is that of a real device. Before anything runs, `estimate` says
# what it would take:

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
# Errors of the readout are measured beside the circuits and taken out, unless one says
# `mitigation="none"`. What is left is shot noise, which the bars show, and the errors of the gates,
# which they do not.

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
# Say the activation should be ⟨X⟩, after an extra fixed eighth of a turn. The definition changes,
# and nothing anywhere else:


# %%
def bent_spiral(reps: int) -> Circuit:
    """A spiral that ends with a fixed turn, measured along x."""
    return Circuit([*spiral(reps).gates, RZ(np.pi / 4)], observable="X")


register_ansatz("spiral", bent_spiral)
changed = qkan.ansatz("spiral", reps=2)
print(changed.draw())
for encoding in ("trainable", "ternary"):
    print(f"encoding {encoding}")
    compare(changed, encoding)

# %% [markdown]
# Models that were built before keep the circuit they were built with, and `qkan.save` writes it
# into the file, gate by gate: loading needs no registration.
#
# ## Where next
#
# * `1_daruan_by_hand.py`: what spectrum and lowering mean.
# * `5_ibm_device.py`: runs on a device, their price and their errors.
# * `qkan.to_onnx` writes a trained model for any runtime that reads ONNX.
