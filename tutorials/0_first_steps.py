# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # First steps: a circuit, a layer, a network
#
# This guide is for newcomers and takes ten minutes. After it you can define a circuit, compute its
# expectation value, train and inspect a network, and use a circuit of your own.

# %%
import tempfile
from pathlib import Path

import torch

import qkan
from qkan.circuits import (
    RX,
    RY,
    Circuit,
    Encoding,
    Theta,
    ansatz,
    lower,
    register_ansatz,
)

# %% [markdown]
# ## A DARUAN by hand
#
# The circuit has one qubit. It begins with the gate H. Three times, two trainable rotations and one
# rotation by the input follow. After two more trainable rotations, Z is measured. The expectation
# value of Z is the activation, a function of the input.

# %%
circuit = ansatz("pz", reps=3)
print(circuit.draw())
print(
    "trainable angles:",
    circuit.num_theta,
    "· frequencies:",
    circuit.spectrum("linear"),
)
print("with scales 1, 3, 9:", circuit.spectrum("ternary"))

# %% [markdown]
# Before the circuit runs, adjacent rotations about one axis are merged. The simulators, which are
# called engines, read this shorter form:

# %%
print(lower(circuit))

# %% [markdown]
# The fast engines compute the same numbers as a slow simulator of statevectors, `reference`:

# %%
torch.manual_seed(0)
x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
theta = torch.rand(1, 1, circuit.num_theta, dtype=torch.float64)
fast = qkan.expectation(circuit, x, theta, engine="numba")
truth = qkan.expectation(circuit, x, theta, engine="reference")
print("largest difference:", (fast - truth).abs().max().item())
assert torch.allclose(fast, truth, atol=1e-12)

# %% [markdown]
# ## A network that learns a function
#
# The function is f(x, y) = exp(sin πx + y²). The network has 2 inputs, 5 hidden nodes and 1 output,
# with a circuit on each of its 15 edges, and learns from 1,000 points.

# %%
inputs = torch.rand(1000, 2) * 2 - 1
targets = torch.exp(torch.sin(torch.pi * inputs[:, :1]) + inputs[:, 1:] ** 2)
model = qkan.QKAN(
    [2, 5, 1], reps=3, input_range=(-1, 1)
)  # inputs mapped to ±π/2
history = qkan.fit(model, (inputs, targets), steps=10, progress=False)
print(history)
assert history.train_loss[-1] < 1e-3

# %% [markdown]
# `plot` draws the function of every edge, with the inputs at the bottom:

# %% alt="The trained network: in a box on each of its fifteen edges the curve it learned"
qkan.plot(model, inputs, names=["x", "y"], outputs=["f"])

# %% [markdown]
# `explain` says which engine runs each layer, and why the others do not:

# %%
for name, said in qkan.explain(model, inputs).items():
    print(f"{name}\n{said}")

# %% [markdown]
# A model that is saved and loaded computes bitwise the same outputs:

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    qkan.save(model, path)
    assert torch.equal(qkan.load(path)(inputs), model(inputs))

# %% [markdown]
# ## An ansatz of your own
#
# An ansatz is a function that returns a circuit for a number of repetitions. Every engine can run
# your own ansatz:


# %%
def zigzag(reps: int) -> Circuit:
    gates = []
    for u in range(reps):
        gates += [RX(Theta(u)), RY(Encoding(u))]
    return Circuit(gates)


register_ansatz("zigzag", zigzag)
own = qkan.QKANLayer(2, 3, ansatz="zigzag", reps=4, encoding="ternary")
print(own.circuit.draw())
print(own(inputs).shape)

# %% [markdown]
# ## Where next
#
# * `1_daruan_by_hand.py` computes one activation gate by gate.
# * `2_fit_extend_prune_read.py` turns a trained network into a formula.
# * `6_your_own_ansatz.py` runs your own circuit on every engine, in Qiskit and PennyLane, and on a
#   device.
