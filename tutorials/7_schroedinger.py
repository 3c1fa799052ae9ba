# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Learning from an equation: Schrödinger's
#
# This guide solves a differential equation with QKANs and without data. It is for those who use
# physics-informed learning; after it you can train a network with a loss that contains its
# derivatives.
#
# The network represents the unknown function, and the loss says how well it satisfies the equation.
# For that, the network is differentiated by its *input*, and the result by the parameters. The
# QKANs find the lowest states of a particle in one dimension, which are then compared with the
# exact ones.
#
# The *particle* is quantum mechanical and the activations come from one-qubit circuits, but
# everything here is computed classically.

# %%
import math
import os

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import qkan
from qkan.circuits import fourier_series

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
STATES = 2 if SMALL else 4
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"]
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)

# %% [markdown]
# ## The equation, as a minimum
#
# In natural units ($\hbar = m = 1$) a state $\psi$ of energy $E$ obeys
#
# $$H\psi = -\tfrac12\psi'' + V(x)\,\psi = E\psi .$$
#
# The ground state is also the function that makes the *Rayleigh quotient* smallest,
#
# $$E[\psi] = \frac{\int \tfrac12 \psi'^2 + V\psi^2\,dx}{\int \psi^2\,dx},$$
#
# and no function has a quotient below the ground state's energy. So it is a good loss: $E$ need not
# be known, and a lower value is always better. For several states at once, take several functions
# $\psi_1 \dots \psi_n$ and the matrices
#
# $$S_{ij} = \int \psi_i\psi_j\,dx, \qquad
# H_{ij} = \int \tfrac12\psi_i'\psi_j' + V\psi_i\psi_j\,dx .$$
#
# The trace of $S^{-1}H$ is smallest when the functions span the $n$ lowest states, and it is then
# the sum of the $n$ lowest energies. It depends only on this span, so the functions need not be
# orthogonal or normalised. The states are then the eigenvectors of this small matrix problem (the
# Rayleigh-Ritz method).
#
# ## The network
#
# The states must be 0 at the ends, $\pm L$. The network satisfies that by construction: its outputs
# are multiplied by $1 - (x/L)^2$. It has two small layers of circuits.

# %%
L = 5.0
x = torch.linspace(-L, L, 161, dtype=torch.float64)[:, None]
weights = torch.full_like(x, 2 * L / 160)  # of the trapezoidal rule
weights[[0, -1]] /= 2


def make_network(seed: int) -> qkan.QKAN:
    """Two layers of circuits with four hidden nodes, in double precision."""
    return qkan.QKAN(
        [1, 4, STATES],
        base=None,
        input_range=(-L, L),
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )


def functions(network: qkan.QKAN, x: Tensor) -> Tensor:
    """ψ (b, n) at the points x (b, 1)."""
    return (1 - (x / L) ** 2) * network(x)


def slopes(values: Tensor, x: Tensor) -> Tensor:
    """The derivatives (b, n) of values (b, n) by x, differentiable again."""
    columns = [
        torch.autograd.grad(v.sum(), x, create_graph=True)[0]
        for v in values.unbind(-1)
    ]
    return torch.cat(columns, -1)


def matrices(network: qkan.QKAN, potential: Tensor) -> tuple[Tensor, Tensor]:
    """S and H, integrals over the points."""
    points = x.clone().requires_grad_()
    psi = functions(network, points)
    slope = slopes(psi, points)
    overlap = psi.T @ (weights * psi)
    return overlap, slope.T @ (weights * slope) / 2 + psi.T @ (
        weights * potential * psi
    )


# %% [markdown]
# `create_graph=True` is necessary because the loss contains a derivative, so training needs a
# second derivative. The fused engines compute first derivatives with their own kernels, and use the
# engine `torch` for second ones.
#
# ## Training
#
# A QKAN is a torch module, so this is an ordinary torch loop.

# %%


def train(network: qkan.QKAN, potential: Tensor, steps: int) -> list[float]:
    """Minimise the trace of S⁻¹H; returns it after each step."""
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=20,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-12,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        overlap, energy = matrices(network, potential)
        trace = torch.linalg.solve(overlap, energy).trace()
        trace.backward()
        return trace

    return [optimizer.step(closure).item() for _ in range(steps)]


oscillator = x**2 / 2
network = make_network(seed=0)
traces = train(network, oscillator, steps=3 if SMALL else 12)
print(
    f"{qkan.effective_parameters(network)} parameters; sum of energies "
    f"{traces[-1]:.5f}"
)


# %% [markdown]
# ## Energies and states
#
# The harmonic oscillator $V = x^2/2$ has the energies $n + \tfrac12$. Every energy must be above
# the exact one, however well the training worked, except for the error of the integrals, which is
# far smaller for such smooth functions.


# %%
def states(network: qkan.QKAN, potential: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (n,), and the states as combinations of the functions (n, n)."""
    overlap, energy = matrices(network, potential)
    inverse = torch.linalg.inv(torch.linalg.cholesky(overlap.detach()))
    energies, vectors = torch.linalg.eigh(inverse @ energy.detach() @ inverse.T)
    return energies, inverse.T @ vectors


energies, vectors = states(network, oscillator)
for n, found in enumerate(energies.tolist()):
    print(
        f"state {n}: energy {found:.6f}, exact {n + 0.5}, above it by "
        f"{found - n - 0.5:.1e}"
    )
    assert 0 < found - (n + 0.5) < (2e-2 if SMALL else 1e-3)

# %% [markdown]
# The exact states are Hermite polynomials times a Gaussian. The sign of a state is arbitrary.

# %% alt="States in a parabola at the heights of their energies; exact ones on them"
psi = functions(network, x).detach() @ vectors
figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
ax.plot(x, oscillator, color="#6b6b6b", linewidth=1, label="potential V(x)")
for n, colour in zip(range(STATES), COLOURS, strict=False):
    hermite = torch.special.hermite_polynomial_h(x[:, 0], n)
    exact = (
        hermite
        * torch.exp(-(x[:, 0] ** 2) / 2)
        / math.sqrt(2**n * math.factorial(n) * math.pi**0.5)
    )
    learned = psi[:, n] * torch.sign(psi[:, n] @ exact)
    off = ((learned - exact).square() * weights[:, 0]).sum().sqrt().item()
    print(
        f"state {n}: distance from the exact state {off:.1e} (both have "
        "length 1)"
    )
    assert off < (0.3 if SMALL else 0.05)
    ax.plot(
        x,
        n + 0.5 + 0.6 * learned,
        color=colour,
        linewidth=2,
        label=f"learned ψ, n = {n}",
    )
    ax.plot(x, n + 0.5 + 0.6 * exact, color="black", linewidth=1, linestyle=":")
ax.plot([], [], color="black", linewidth=1, linestyle=":", label="exact")
ax.set(
    xlabel="x (natural units)",
    ylabel="energy (natural units)",
    ylim=(0, STATES + 0.6),
)
figure.legend(frameon=False, loc="outside right center")
plt.show()

# %% [markdown]
# ## Is the equation satisfied?
#
# The loss contains only $\psi'$, but the equation has $\psi''$. The *residual* $H\psi - E\psi$
# should be 0 everywhere. It is a stricter test than the energy, because it is not an average. It is
# largest where the state is small, because there it hardly changes the loss:

# %% alt="The residual of each state against x: ripples, the largest at the ends"
points = x.clone().requires_grad_()
values = functions(network, points)
second = slopes(slopes(values, points), points)
residual = (
    -second / 2 + oscillator * values
).detach() @ vectors - psi * energies
figure, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
for n, colour in zip(range(STATES), COLOURS, strict=False):
    size = (residual[:, n].square() * weights[:, 0]).sum().sqrt().item()
    print(
        f"state {n}: length of the residual {size:.1e}, of Eψ {energies[n]:.2f}"
    )
    ax.plot(x, residual[:, n], color=colour, label=f"n = {n}")
ax.set(xlabel="x (natural units)", ylabel="Hψ − Eψ")
ax.legend(frameon=False, ncols=STATES)
plt.show()

# %% [markdown]
# ## On every engine
#
# Second derivatives work with every engine. With fixed scales an activation is a finite Fourier
# series, so its second derivative is known exactly: $-k^2$ times each term. Each engine is compared
# with it:

# %%
series = {"reps": 3, "encoding": "linear", "base": None, "dtype": torch.float64}
for engine in ("torch", "fourier", "chebyshev", "numba"):
    generator = torch.Generator().manual_seed(0)
    layer = qkan.QKANLayer(1, 1, engine=engine, generator=generator, **series)
    k, a, b = map(
        torch.from_numpy,
        fourier_series(layer.circuit, layer.theta[0, 0].tolist()),
    )
    exact = -(k**2 * (a * torch.cos(k * x) + b * torch.sin(k * x))).sum(
        -1, keepdim=True
    )
    points = x.clone().requires_grad_()
    found = slopes(slopes(layer(points), points), points) / layer.weight
    difference = (found - exact).abs().max().item()
    print(f"{engine:10s} largest error of φ'': {difference:.0e}")
    assert difference < 1e-10

# %% [markdown]
# ## Another potential
#
# The code does not depend on the potential. In a double well, the energies of the two lowest states
# are almost equal, because the particle tunnels between the left and the right. There is no formula
# for these states, so they are compared with a textbook method, the matrix of second differences on
# a fine grid.

# %%
double_well = (x**2 - 4) ** 2 / 8


def by_differences(count: int) -> Tensor:
    """Energies of the double well from second differences on `count` points."""
    step = 2 * L / (count + 1)
    inner = torch.linspace(-L + step, L - step, count, dtype=torch.float64)
    beside = torch.full((count - 1,), -0.5 / step**2, dtype=torch.float64)
    hamiltonian = torch.diag(1 / step**2 + (inner**2 - 4) ** 2 / 8)
    hamiltonian += torch.diag(beside, 1) + torch.diag(beside, -1)
    return torch.linalg.eigvalsh(hamiltonian)[:STATES]


coarse, fine = by_differences(300), by_differences(601)
reference = (
    fine + (fine - coarse) / 3
)  # their error goes as step², and the step was halved
network = make_network(seed=1)
train(network, double_well, steps=5 if SMALL else 12)
energies, vectors = states(network, double_well)
for n, (found, wanted) in enumerate(
    zip(energies.tolist(), reference.tolist(), strict=True)
):
    print(f"state {n}: energy {found:.5f}, by differences {wanted:.5f}")
    assert abs(found - wanted) < (5e-2 if SMALL else 2e-3)

# %% alt="The double well and its states; the lowest two have two bumps each"
psi = functions(network, x).detach() @ vectors
psi *= torch.sign(psi[x[:, 0] > 0].sum(0))
figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
ax.plot(x, double_well, color="#6b6b6b", linewidth=1, label="potential V(x)")
for n, colour in zip(range(STATES), COLOURS, strict=False):
    ax.axhline(energies[n].item(), color=colour, linewidth=0.6, linestyle=":")
    ax.plot(
        x,
        energies[n] + 0.5 * psi[:, n],
        color=colour,
        linewidth=2,
        label=f"n = {n}",
    )
ax.set(
    xlabel="x (natural units)",
    ylabel="energy (natural units)",
    xlim=(-4.2, 4.2),
    ylim=(0, 4),
)
figure.legend(frameon=False, loc="outside right center")
plt.show()

# %% [markdown]
# In one dimension the matrix of differences is faster and more accurate than a network. A grid
# grows exponentially with the number of dimensions, and a network need not: physics-informed
# learning is used there.
#
# ## Where next
#
# * `1_daruan_by_hand.py` computes one of these activations by hand.
# * `6_your_own_ansatz.py` uses another circuit, which has second derivatives too.
