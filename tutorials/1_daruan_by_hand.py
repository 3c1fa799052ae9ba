# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A DARUAN by hand
#
# Every activation of a QKAN is the expectation value of a circuit of one qubit. Here one is
# computed gate by gate with pencil-and-paper rotations, checked against a statevector, and taken
# apart into its frequencies: what can such a function look like, and how many knobs has it?
#
# Everything here is classical. One qubit is two complex numbers, or an arrow on a sphere.

# %%
import math
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import qkan
from qkan.circuits import (
    RY,
    RZ,
    Circuit,
    Encoding,
    Gate,
    H,
    Theta,
    fourier_series,
    lower,
)
from qkan.simulators import expectation_of

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)

# %% [markdown]
# ## The circuit
#
# A DARUAN ([arXiv 2509.14026](https://arxiv.org/abs/2509.14026)) prepares the qubit with an H and
# then repeats two things: trainable rotations, and a rotation by the data. Feeding x in again and
# again is *data re-uploading* ([arXiv 1907.02085](https://arxiv.org/abs/1907.02085)). Here are two
# repetitions, written as a list of gates in time order:

# %%
circuit = Circuit(
    [
        H,
        *(RZ(Theta(0)), RY(Theta(1)), RZ(Encoding(0))),
        *(RZ(Theta(2)), RY(Theta(3)), RZ(Encoding(1))),
        *(RZ(Theta(4)), RY(Theta(5))),
    ]
)
assert circuit == qkan.ansatz("pz", reps=2)  # the library calls this family pz
print(circuit.draw())

# %% [markdown]
# `Theta(k)` is the trainable angle $\theta_k$. `Encoding(u)` is the data's angle $e_u = w_u x +
# b_u$: the *scale* $w_u$ and the *shift* $b_u$ can be trained too. All angles are radians, and an
# angle of $2\pi$ is a full turn.
#
# ## The qubit as an arrow
#
# A qubit's state is a unit vector, $v = (\langle X\rangle, \langle Y\rangle, \langle Z\rangle)$:
# the *Bloch vector*. It starts at the north pole, $|0\rangle$, and every gate turns it about an
# axis. So a gate is a 3×3 rotation matrix, H included: half a turn about z, then a quarter about y.


# %%
def turn(axis: str, angle: float) -> np.ndarray:
    """The rotation of the Bloch vector about X, Y or Z by `angle` radians."""
    n = "XYZ".index(axis)
    a, b = (n + 1) % 3, (n + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[b, a] = math.sin(angle)
    matrix[a, b] = -matrix[b, a]
    return matrix


def matrix_of(
    gate: Gate, theta: np.ndarray, x: float, scale: np.ndarray
) -> np.ndarray:
    """The rotation that a gate of our circuit is."""
    if gate == H:
        return turn("Y", math.pi / 2) @ turn("Z", math.pi)
    data = isinstance(gate.angle, Encoding)
    angle = scale[gate.angle.index] * x if data else theta[gate.angle.index]
    return turn(gate.name[1], angle)


rng = np.random.default_rng(0)
theta = rng.uniform(-math.pi / 2, math.pi / 2, circuit.num_theta)
scale = np.array([1.0, 3.0])
x = 0.8

vector = np.array([0.0, 0.0, 1.0])
print(f"{'start':14s} ⟨X⟩ ⟨Y⟩ ⟨Z⟩ = {vector.round(3)}")
for gate in circuit.gates:
    vector = matrix_of(gate, theta, x, scale) @ vector
    print(f"{gate.label:14s} ⟨X⟩ ⟨Y⟩ ⟨Z⟩ = {vector.round(3) + 0.0}")
print("the activation φ(0.8) = ⟨Z⟩ =", vector[2])

# %% [markdown]
# The last entry is the activation, a number between -1 and 1. A statevector simulation, with
# complex amplitudes, must say the same. `simulate` takes one angle for each gate that has one.

# %%
angles = [
    scale[gate.angle.index] * x
    if isinstance(gate.angle, Encoding)
    else theta[gate.angle.index]
    for gate in circuit.parametric_gates
]
amplitudes = qkan.simulate(circuit, np.array(angles))
print("amplitudes of |0⟩ and |1⟩:", amplitudes.round(4))
for axis, by_hand in zip("XYZ", vector, strict=True):
    by_statevector = expectation_of(circuit.with_observable(axis), amplitudes)
    print(
        f"⟨{axis}⟩ {by_hand:+.12f} by hand, {by_statevector:+.12f} by "
        "statevector"
    )
    assert abs(by_hand - by_statevector) < 1e-12

# %% [markdown]
# The engines do what we did by hand, after one simplification. Neighbouring turns about one axis
# add their angles, and a turn about the axis that the arrow already points along does nothing. What
# is left of the nine gates is six rotations, from the vector that H leaves to the measured axis:

# %%
print(lower(circuit))
assert len(circuit.gates) == 9 and len(lower(circuit).rotations) == 6

# %% [markdown]
# ## Let x move
#
# Now x runs over its range, and the arrow's end draws a path on the sphere. The activation is the
# height of that path. A layer with one input and one output is one edge, and so one circuit.

# %%
edge = qkan.QKANLayer(
    1,
    1,
    ansatz=circuit,
    encoding=scale.tolist(),
    base=None,
    dtype=torch.float64,
)
with torch.no_grad():
    edge.theta.copy_(torch.from_numpy(theta))
grid = torch.linspace(-math.pi, math.pi, 400, dtype=torch.float64)[:, None]

# %% alt="A path on the Bloch sphere, coloured by x, and the measured axis"
qkan.plot_bloch(edge, grid)

# %%
phi = qkan.expectation(
    circuit, grid, edge.theta.detach(), scale.tolist()
).flatten()
assert phi.abs().max() <= 1

# %% alt="The activation against x, a wave within ±1; the value by hand lies on it"
figure, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
ax.plot(grid.flatten(), phi, color=BLUE, linewidth=2, label="φ(x), engine")
ax.plot(x, vector[2], "o", color=ORANGE, markersize=8, label="by hand")
ax.set(xlabel="x (radians at scale 1)", ylabel="φ = ⟨Z⟩", ylim=(-1.05, 1.05))
ax.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## Which frequencies?
#
# A turn by the angle $e = wx$ mixes 1, $\cos wx$ and $\sin wx$ into the vector. Products of cosines
# are cosines of sums and differences, so after all encodings
#
# $$\varphi(x) = \sum_k c_k e^{ikx}, \; k = s_1 w_1 + \dots + s_r w_r, \; s_u \in \{-1, 0, 1\}$$
#
# ([arXiv 2008.08605](https://arxiv.org/abs/2008.08605)). The scales decide which sums there are:
#
# * **linear**, all $w_u = 1$: every sum is a whole number from 0 to r, reached in many ways. That
#   is r frequencies above 0.
# * **ternary**, $w_u = 1, 3, 9, \dots$: the signs $s_u$ are the digits of a number written in
#   powers of 3, and every whole number up to $(3^r - 1)/2$ has exactly one such writing.
# * **binary**, $w_u = 1, 2, 4, \dots$: up to $2^r - 1$ ([arXiv
#   2206.12105](https://arxiv.org/abs/2206.12105)).
#
# `spectrum` does not trust the formula: it carries a vector of trigonometric polynomials through
# the circuit with random angles, and lists what arrives.

# %%
print("r   linear  binary  ternary   (frequencies above 0)")
for r in range(1, 6):
    counts = [
        int((qkan.ansatz("pz", reps=r).spectrum(encoding) > 0).sum())
        for encoding in ("linear", "binary", "ternary")
    ]
    print("{}   {:6d}  {:6d}  {:7d}".format(r, *counts))
    assert counts == [r, 2**r - 1, (3**r - 1) // 2]

# %% [markdown]
# The coefficients $c_k$ themselves are exact numbers too. `fourier_series` computes them from the
# circuit; a discrete Fourier transform of the activation, sampled at one point more than twice its
# highest frequency, must find the same.

# %%
k, cosine, sine = fourier_series(circuit, theta, scale)
points = 2 * int(k.max()) + 1
nodes = torch.arange(points, dtype=torch.float64)[:, None] * (
    2 * math.pi / points
)
samples = qkan.expectation(
    circuit, nodes, edge.theta.detach(), scale.tolist()
).flatten()
transform = np.fft.rfft(samples.numpy()) / points
for frequency, a, b in zip(k, cosine, sine, strict=True):
    found = transform[round(frequency)] * (1 if frequency == 0 else 2)
    print(f"frequency {frequency:.0f}: {a:+.6f} cos {b:+.6f} sin")
    assert abs(found - (a - 1j * b)) < 1e-12

# %% [markdown]
# That finite sum is why fixed scales are fast (the `fourier` engine makes a layer one matrix
# product) and why a trained model can be written as a formula without fitting anything. The same
# three repetitions with both encodings, one draw of the angles:

# %% alt="Amplitudes: three frequencies above 0 if linear, thirteen if ternary"
three = qkan.ansatz("pz", reps=3)
angles = rng.uniform(-math.pi / 2, math.pi / 2, three.num_theta)
figure, axes = plt.subplots(
    1, 2, figsize=(7.6, 2.7), sharey=True, layout="constrained"
)
for ax, encoding, colour in zip(
    axes, ("linear", "ternary"), (BLUE, ORANGE), strict=True
):
    k, a, b = fourier_series(three, angles, encoding)
    ax.bar(k, np.hypot(a, b), width=0.35, color=colour)
    ax.set(
        xlabel="frequency k (radians per unit of x)",
        title=f"{encoding} encoding, r = 3",
    )
    ax.set(xlim=(-0.7, 13.7), xticks=range(0, 14, 2))
axes[0].set_ylabel("amplitude")
plt.show()

# %% [markdown]
# ## Many frequencies, few knobs
#
# Thirteen frequencies have 27 coefficients, the constant included. Can they be chosen freely? No:
# all of them are functions of the circuit's few angles. `redundancy` counts in how many independent
# directions the activation can move when the angles do: the rank of its Fisher information ([arXiv
# 2103.15191](https://arxiv.org/abs/2103.15191)).

# %%
print("r   encoding   coefficients   angles   directions")
for r in range(1, 4 if SMALL else 6):
    for encoding in ("linear", "ternary"):
        family = qkan.ansatz("pz", reps=r)
        coefficients = 2 * int(family.spectrum(encoding).max()) + 1
        found = qkan.redundancy(family, encoding=encoding)
        print(
            f"{r}   {encoding:8s}   {coefficients:12d}   "
            f"{found.parameters:6d}   {found.rank:10d}"
        )
        assert coefficients == (2 * r + 1 if encoding == "linear" else 3**r)
        assert (found.parameters, found.rank) == (2 * r + 2, 2 * r + 1)
print(found)

# %% [markdown]
# With either encoding there are $2r + 1$ directions: of the $2r + 2$ angles one is redundant. That
# is as many as the linear encoding has coefficients, and a vanishing share of those of the ternary
# one. So the claim to make is: exponentially many frequencies can be *reached*, and $O(r)$ numbers
# set their coefficients. A DARUAN can have fine detail; it cannot have any fine detail you like.
#
# ## Scales that learn
#
# With `encoding="trainable"`, the default and the paper's DARUAN, the scales are parameters: the
# frequencies move. A sine of frequency 2.7 is no sum of whole frequencies over this range; a
# circuit that may choose its scales finds it. Not always: seen as a function of a frequency the
# error has many valleys, and a single scale, which begins at 1, stays in the wrong one. More
# repetitions reach the frequency as a sum.

# %%
x = torch.linspace(-math.pi, math.pi, 200, dtype=torch.float64)[:, None]
y = torch.sin(2.7 * x)
errors = {}
for reps in (1, 3):
    for encoding in ("linear", "trainable"):
        generator = torch.Generator().manual_seed(0)
        layer = qkan.QKANLayer(
            1,
            1,
            reps=reps,
            encoding=encoding,
            base=None,
            dtype=torch.float64,
            generator=generator,
        )
        history = qkan.fit(layer, (x, y), steps=10, progress=False)
        errors[reps, encoding] = history.train_loss[-1]
        print(
            f"r = {reps}, {encoding:9s}: mean squared error "
            f"{history.train_loss[-1]:.1e}"
        )
assert errors.pop((3, "trainable")) < 1e-6 and min(errors.values()) > 1e-2

# %% alt="Fourier coefficients: a tall one at 2.7, below it groups of opposite signs"
qkan.plot_spectrum(layer)

# %% [markdown]
# The frequencies come in groups that are nearly equal, and inside a group coefficients cancel.
# Added up, group by group, what is left is the sine (and a constant, which the layer's bias takes
# away):

# %%
theta, scale, shift = (
    t[0, 0].detach().numpy() for t in (layer.theta, layer.scale, layer.shift)
)
print("the trained scales:", scale.round(3))
groups: dict[float, complex] = {}
for k, a, b in zip(
    *fourier_series(layer.circuit, theta, scale, shift), strict=True
):
    groups[round(k, 1)] = groups.get(round(k, 1), 0) + complex(a, b)
for k, total in sorted(groups.items()):
    left = (
        f"{total.real:+.4f} cos {total.imag:+.4f} sin"
        if abs(total) > 1e-3
        else "they cancel"
    )
    print(f"frequency {k:.1f}: {left}")
sine = sum(total for k, total in groups.items() if abs(k - 2.7) < 0.15)
assert abs(layer.weight.item() * sine - 1j) < 1e-2
print(
    f"times the weight {layer.weight.item():.4f}, plus the bias "
    f"{layer.bias.item():+.4f}"
)

# %% [markdown]
# ## Where next
#
# * `2_fit_extend_prune_read.py`: a network of such activations learns a function, and is read as a
#   formula.
# * `6_your_own_ansatz.py`: change the circuit in one place, and every engine and device follows.
