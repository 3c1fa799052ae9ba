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
# Every activation of a QKAN is the expectation value of a circuit of one qubit. This guide computes
# one gate by gate, compares it with a statevector, and finds its frequencies. It is for those who
# want to understand the activation; after it you know which functions a circuit can represent, and
# how many of its parameters are independent.
#
# Everything here is computed classically. The state of one qubit is two complex numbers, or a
# vector on a sphere.

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
# A DARUAN ([arXiv 2509.14026](https://arxiv.org/abs/2509.14026)) begins with the gate H and then
# repeats trainable rotations and a rotation by the input. Encoding the input x several times is
# called *data re-uploading* ([arXiv 1907.02085](https://arxiv.org/abs/1907.02085)). This circuit
# has two repetitions; its gates are listed in time order:

# %%
circuit = Circuit(
    [
        H,
        *(RZ(Theta(0)), RY(Theta(1)), RZ(Encoding(0))),
        *(RZ(Theta(2)), RY(Theta(3)), RZ(Encoding(1))),
        *(RZ(Theta(4)), RY(Theta(5))),
    ]
)
assert circuit == qkan.ansatz("pz", reps=2)  # the ansatz is called pz
print(circuit.draw())

# %% [markdown]
# `Theta(k)` is the trainable angle $\theta_k$. `Encoding(u)` is the angle of the input, $e_u = w_u
# x + b_u$. The *scale* $w_u$ and the *shift* $b_u$ can be trained too. All angles are in radians,
# and an angle of $2\pi$ is a full rotation.
#
# ## The qubit as a vector
#
# The state of a qubit corresponds to a unit vector, $v = (\langle X\rangle, \langle Y\rangle,
# \langle Z\rangle)$, the *Bloch vector*. For $|0\rangle$ it points to the north pole. Every gate
# rotates it about an axis, so a gate is a 3×3 rotation matrix. H is one too: a rotation by $\pi$
# about z, followed by one by $\pi/2$ about y.


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
# The last entry is the activation, a number between -1 and 1. A statevector simulation with
# complex amplitudes must give the same number. `simulate` takes the angles of all gates that have
# one.

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
# The engines do the same after two simplifications. Adjacent rotations about one axis are merged
# into one, and a rotation about the axis along which the vector points is left out. Of the nine
# gates, six rotations remain, from the vector after H to the measured axis:

# %%
print(lower(circuit))
assert len(circuit.gates) == 9 and len(lower(circuit).rotations) == 6

# %% [markdown]
# ## The activation as a function of x
#
# As x varies, the end of the vector draws a path on the sphere. The activation is the height of
# that path. A layer with one input and one output has one edge, and so one circuit.

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
# After a rotation by the angle $e = wx$ the vector contains 1, $\cos wx$ and $\sin wx$. Products of
# cosines are cosines of sums and differences, so after all $r$ encodings
#
# $$\varphi(x) = \sum_k c_k e^{ikx}, \; k = s_1 w_1 + \dots + s_r w_r, \; s_u \in \{-1, 0, 1\}$$
#
# ([arXiv 2008.08605](https://arxiv.org/abs/2008.08605)). The scales decide which sums exist:
#
# * **linear**, all $w_u = 1$: the frequencies above 0 are $1, 2, \dots, r$.
# * **ternary**, $w_u = 1, 3, 9, \dots$: the signs $s_u$ are the digits of a number in powers of 3,
#   and every whole number up to $(3^r - 1)/2$ can be written in exactly one such way.
# * **binary**, $w_u = 1, 2, 4, \dots$: all whole numbers up to $2^r - 1$ ([arXiv
#   2206.12105](https://arxiv.org/abs/2206.12105)).
#
# `spectrum` does not use these formulas. It computes the vector as trigonometric polynomials, for
# random angles, and lists the frequencies that remain:

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
# `fourier_series` computes the coefficients $c_k$ from the circuit, exactly. A discrete Fourier
# transform of the activation must find the same ones, if the number of points is twice the highest
# frequency plus one:

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
# The sum is finite. That makes fixed scales fast, because the engine `fourier` computes a layer as
# one matrix product, and it allows to write a trained model as a formula without a fit. The next
# picture shows the spectra of two encodings with three repetitions and random angles:

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
# ## Many frequencies, few parameters
#
# Thirteen frequencies have 27 coefficients, with the constant. These cannot be chosen
# independently, because all of them are functions of a few angles. `redundancy` computes the number
# of independent directions in which the activation changes with the angles. It is the rank of the
# Fisher information ([arXiv 2103.15191](https://arxiv.org/abs/2103.15191)).

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
# Both encodings have $2r + 1$ directions: one of the $2r + 2$ angles is redundant. The linear
# encoding has as many coefficients, the ternary one has exponentially more. So the circuit
# *reaches* exponentially many frequencies, but $O(r)$ numbers set their coefficients. A DARUAN can
# have fine detail, but not every detail.
#
# ## Trainable scales
#
# With `encoding="trainable"`, which is the default and the DARUAN of the paper, the scales are
# parameters, so the frequencies are trained. A sine of frequency 2.7 is not a sum of few whole
# frequencies over this range, but a circuit with trainable scales can learn it. It does not always
# do so: as a function of a frequency the error has many local minima, and a single scale, which
# begins at 1, ends in a wrong one. With more repetitions the frequency can be a sum of scales.

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
# Some frequencies are nearly equal, and their coefficients cancel. If nearly equal frequencies are
# added up, only the sine and a constant remain, and the bias of the layer removes the constant:

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
# * `2_fit_extend_prune_read.py` trains a network of such activations and reads it as a formula.
# * `6_your_own_ansatz.py` changes the circuit in one place, for every engine and device.
