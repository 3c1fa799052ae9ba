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
# Ten minutes with the package: a circuit, engines that agree on it, a network that learns a
# function, and an ansatz of your own. Run it with `python tutorials/0_first_steps.py`, or open it
# as a notebook with jupytext.

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
# One qubit, prepared by H; then, three times, two trainable rotations and one by the input; two
# more trainable rotations; a measurement of Z. Its expectation value is the activation.

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
# Adjacent rotations about one axis merge before anything runs. This is what the engines see:

# %%
print(lower(circuit))

# %% [markdown]
# The fast engines and the statevector reference compute the same number.

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
# f(x, y) = exp(sin πx + y²) from 1,000 points, with a circuit on each of 15 edges.

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
# What it learned can be looked at, edge by edge, inputs at the bottom:

# %% alt="The trained network: in a box on each of its fifteen edges the curve it learned"
qkan.plot(model, inputs, names=["x", "y"], outputs=["f"])

# %% [markdown]
# Which engine ran each layer, and why not the others?

# %%
for name, said in qkan.explain(model, inputs).items():
    print(f"{name}\n{said}")

# %% [markdown]
# Saved and loaded again, it is the same function to the last bit.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    qkan.save(model, path)
    assert torch.equal(qkan.load(path)(inputs), model(inputs))

# %% [markdown]
# ## An ansatz of your own
#
# A function from the number of repetitions to a circuit. Every engine runs it.


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
# * `1_daruan_by_hand.py`: what happens inside one activation, gate by gate.
# * `2_fit_extend_prune_read.py`: from a trained network to a formula.
# * `6_your_own_ansatz.py`: your own circuit on every engine, in Qiskit and PennyLane, on a device.
