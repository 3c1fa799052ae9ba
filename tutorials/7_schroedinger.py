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
# Physics-informed learning has no data. A network stands for the unknown function, and the loss
# says how far it is from obeying the equation; for that the network is differentiated by its
# *input*, and the result once more by the parameters. Here QKANs find the lowest states of a
# particle in one dimension, and we check them against the exact ones.
#
# A word to keep apart what this title may mix up: the *particle* is quantum mechanical, the
# activations are those of one-qubit circuits, and everything is computed classically.

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
# and no function comes below the true ground energy. That is a good loss: it needs no $E$
# beforehand, and training can only come closer. For several states at once take several functions
# $\psi_1 \dots \psi_n$ and the matrices
#
# $$S_{ij} = \int \psi_i\psi_j\,dx, \qquad
# H_{ij} = \int \tfrac12\psi_i'\psi_j' + V\psi_i\psi_j\,dx .$$
#
# The trace of $S^{-1}H$ is smallest, and then the sum of the $n$ lowest energies, when the
# functions span the $n$ lowest states. It depends on that span alone, so nothing has to push the
# functions apart or to give them a length. The single states are then the eigenvectors of this
# small matrix problem (the Rayleigh-Ritz method).
#
# ## The network
#
# The states must vanish far out, at $\pm L$. That is built in, not asked for: the network's outputs
# are multiplied by $1 - (x/L)^2$. Between them are two small layers of circuits: each function is a
# sum of activations of activations.

# %%
L = 5.0
x = torch.linspace(-L, L, 161, dtype=torch.float64)[:, None]
weights = torch.full_like(x, 2 * L / 160)  # of the trapezoidal rule
weights[[0, -1]] /= 2


def make_network(seed: int) -> qkan.QKAN:
    """Circuits of circuits: four hidden nodes, in double precision."""
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
# `create_graph=True` is all that is special: the loss contains a derivative, so training needs a
# derivative of a derivative. The fused engines compute first derivatives by kernels of their own,
# and hand second ones to the `torch` engine, without being asked.
#
# ## Training
#
# A QKAN is a torch module, and this is a plain torch loop.

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
# The harmonic oscillator $V = x^2/2$ has the energies $n + \tfrac12$. Every energy found must be
# above its exact one, whatever the training did (but for the error of the integrals, which for such
# smooth functions is far smaller still).


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
# ## Does it obey the equation?
#
# The loss only saw $\psi'$. The equation has $\psi''$, and $H\psi/\psi$ should be the same number
# everywhere. This *residual* $H\psi - E\psi$ is the stricter test, for it is not an average. It is
# largest where the state is small and the loss hardly looks:

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
# Second derivatives are no privilege of one engine. With fixed scales an activation is a finite
# Fourier series, whose second derivative is known exactly: $-k^2$ times each term. Engine by
# engine:

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
# Nothing above knew that the well was a parabola. In a double well the two lowest states are almost
# equal in energy: the particle is left or right, and tunnels. There is no formula; a textbook
# method has to be the judge, the matrix of second differences on a fine grid.

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
# In one dimension the matrix of differences is faster and more exact than any network, and no more
# than a judge here. Grids grow exponentially with the dimension and networks need not: that is
# where physics-informed learning is used.
#
# ## Where next
#
# * `1_daruan_by_hand.py`: what one of these activations is, and why its derivatives are cheap.
# * `6_your_own_ansatz.py`: another circuit in place of this one, with second derivatives for free.
