# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Fast weights and recurrence
#
# A `QKANLayer` is a torch module, so it goes wherever a linear map and an activation go. Two places
# where people put it in sequence models:
#
# - **in a recurrent cell**: the gates of an LSTM become sums of DARUANs (QKAN-LSTM,
#   [arXiv 2512.05049](https://arxiv.org/abs/2512.05049));
# - **as a fast network**: a slow network reads the sequence and writes the *angles* of a QKAN, for
#   every sample its own (gated QKAN-FWP, [arXiv 2605.06734](https://arxiv.org/abs/2605.06734)).
#
# Both are built here in a few lines and compared with `torch.nn.LSTMCell` of about as many
# parameters, and with a linear regression. These are small versions of the ideas, not those papers'
# experiments, and nothing is said about time.

# %%
import os
import statistics

import matplotlib.pyplot as plt
import torch
from scipy.special import jv
from torch import Tensor, nn
from torch.func import functional_call, vmap

import qkan

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
SEEDS, STEPS = (1, 2) if SMALL else (3, 20)
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#6b6b6b"
COLOURS = {"LSTM": ORANGE, "QKAN-LSTM": BLUE, "fast weights": GREEN}

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)
torch.set_num_threads(1)  # models this small only wait for a second thread

# %% [markdown]
# ## Three series
#
# A damped sine; the Bessel function $J_2$; and the Hénon map,
# $v_{t+1} = 1 - 1.4\,v_t^2 + 0.3\,v_{t-1}$. Four values are given and the fifth is asked for. The
# models train on the first two thirds of each series and are tested on the rest.

# %%
LENGTH, WINDOW = 240, 4
time = torch.linspace(0, 30, LENGTH)
henon = [0.1, 0.3]
for _ in range(LENGTH - 2):
    henon.append(1 - 1.4 * henon[-1] ** 2 + 0.3 * henon[-2])
SERIES = {
    "damped sine": torch.exp(-time / 12) * torch.sin(2 * time),
    "Bessel J₂": torch.tensor(jv(2, time.numpy())).float(),
    "Hénon map": torch.tensor(henon),
}
SERIES = {name: values / values.abs().max() for name, values in SERIES.items()}
TRAINED = 2 * (LENGTH - WINDOW) // 3


def windows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (n, 4, 1) and what follows them (n, 1)."""
    cut = values.unfold(0, WINDOW + 1, 1)
    return cut[:, :WINDOW, None], cut[:, WINDOW:]


# %% alt="A damped sine, a Bessel function, and the Hénon map, which jumps without a pattern"
figure, axes = plt.subplots(
    3, 1, figsize=(7, 4.6), sharex=True, layout="constrained"
)
for ax, (name, values) in zip(axes, SERIES.items(), strict=True):
    ax.plot(values, color="black", linewidth=0.9, marker=".", markersize=2)
    ax.axvspan(TRAINED + WINDOW, LENGTH, color="#eeeeee", zorder=0)
    ax.set_title(name, loc="left", fontsize=10)
axes[-1].set_xlabel("step (grey: held out for the test)")
plt.show()

# %% [markdown]
# ## What a straight line does
#
# A sampled damped sine obeys $v_{t+1} = a\,v_t + b\,v_{t-1}$ exactly, with two numbers. So a linear
# regression on the last values has to be in the table: where it wins, a network was not needed.

# %%
linear = {}
for name, values in SERIES.items():
    x, y = windows(values.double())
    inputs = torch.cat([x[..., 0], torch.ones(len(x), 1)], 1)
    found = torch.linalg.lstsq(inputs[:TRAINED], y[:TRAINED]).solution
    linear[name] = (
        (inputs[TRAINED:] @ found - y[TRAINED:]).square().mean().item()
    )
    print(f"{name:12} test MSE of a linear regression {linear[name]:.1e}")
assert linear["damped sine"] < 1e-9 < 1e-2 < linear["Hénon map"]

# %% [markdown]
# The first two are nearly or exactly linear recurrences. The Hénon map has a square in it, and the
# line misses it.
#
# ## An LSTM cell whose gates are circuits
#
# An LSTM keeps a memory $c$ and an output $h$. From $[x, h]$ a linear map makes four gates,
# $c \leftarrow \sigma(f)\,c + \sigma(i)\tanh(g)$ and $h \leftarrow \sigma(o)\tanh(c)$. Here a
# `QKANLayer` takes the place of that linear map; its input and output sizes are all that it needs.


# %%
class QKANLSTMCell(nn.Module):
    """`torch.nn.LSTMCell` with a `QKANLayer` in place of its linear maps."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = qkan.QKANLayer(inputs + hidden, 4 * hidden, reps=1)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Recurrent(nn.Module):
    """Read a sequence (b, t, 1) with a cell, then say what follows (b, 1)."""

    def __init__(self, cell: nn.Module, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden, self.out = cell, hidden, nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), self.hidden),) * 2
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.out(state[0])


# %% [markdown]
# ## Angles of its own for every sample
#
# A layer's `forward` uses its own theta, the same for all samples. `torch.func.functional_call`
# calls the layer with another theta, and `vmap` does so for a batch of them at once. Under `vmap`
# the layer is computed by the engine `torch`; the values are those of one call a sample.

# %%
layer = qkan.QKANLayer(3, 2)
thetas = torch.rand(
    5, *layer.theta.shape
)  # one theta (o, i, k) for each of five samples
x = torch.randn(5, 3)


def call(theta: Tensor, x: Tensor) -> Tensor:
    return functional_call(layer, {"theta": theta}, (x,))


at_once = vmap(call)(thetas, x)
one_by_one = torch.stack([call(thetas[b], x[b]) for b in range(5)])
print("largest difference:", (at_once - one_by_one).abs().max().item())
assert torch.allclose(at_once, one_by_one, atol=1e-5)

# %% [markdown]
# ## A slow network that programs a fast one
#
# Each step the slow network, a linear map here, reads the input $x_t$ and writes angles $w_t$ and
# one gate $g_t$ between 0 and 1. The fast angles keep a share of what they were:
#
# $$\theta_t = g_t\,\theta_{t-1} + (1 - g_t)\,w_t .$$
#
# There is no hidden state: all the memory of the sequence is in the angles. As $\theta_t$ is a
# weighted mean of the start and of what was written, it cannot grow beyond them. At the end, the
# fast network with these angles is applied to the last input.


# %%
class FastWeights(nn.Module):
    """A slow linear map writes a fast `QKANLayer`'s angles, step by step."""

    def __init__(self, hidden: int, reps: int) -> None:
        super().__init__()
        self.encode = nn.Linear(1, hidden)
        self.fast = qkan.QKANLayer(hidden, hidden, reps=reps)
        self.slow = nn.Linear(hidden, 1 + self.fast.theta.numel())
        self.out = nn.Linear(hidden, 1)

    def program(self, x: Tensor) -> Tensor:
        """From a sequence (b, t, h) to one theta a sample, (b, o, i, k)."""
        gate, written = self.slow(x).tensor_split([1], -1)
        gate = gate.sigmoid()
        theta = self.fast.theta.flatten().expand(len(x), -1)
        for step in range(x.shape[1]):
            theta = (
                gate[:, step] * theta + (1 - gate[:, step]) * written[:, step]
            )
        return theta.unflatten(-1, self.fast.theta.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)

        def fast(theta: Tensor, x: Tensor) -> Tensor:
            return functional_call(self.fast, {"theta": theta}, (x,))

        return self.out(vmap(fast)(self.program(x), x[:, -1]))


MODELS = {
    "LSTM": lambda: Recurrent(nn.LSTMCell(1, 8), 8),
    "QKAN-LSTM": lambda: Recurrent(QKANLSTMCell(1, 3), 3),
    "fast weights": lambda: FastWeights(3, reps=2),
}
sizes = {
    name: qkan.effective_parameters(make()) for name, make in MODELS.items()
}
print(sizes)
assert max(sizes.values()) < 1.15 * min(sizes.values())

# %% [markdown]
# `effective_parameters` leaves out shifts that only duplicate an angle. QKAN-LSTM spends its
# parameters on activations and has fewer hidden nodes for it.
#
# ## Train them all
#
# The same for each: LBFGS, the same number of steps, no tuning, so no choice was made on the test
# part.


# %%
def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x) - y).square().mean().item()


errors: dict[str, dict[str, list[float]]] = {}
trained: dict[str, dict[str, nn.Module]] = {}
for series, values in SERIES.items():
    x, y = windows(values)
    for name, make in MODELS.items():
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = make()
            qkan.fit(
                model, (x[:TRAINED], y[:TRAINED]), steps=STEPS, progress=False
            )
            found = error(model, x[TRAINED:], y[TRAINED:])
            errors.setdefault(series, {}).setdefault(name, []).append(found)
            trained.setdefault(series, {}).setdefault(name, model)

print(f"test MSE, median of {SEEDS} seeds (lowest … highest)")
for series, by_model in errors.items():
    print(f"\n{series}\n   {'linear':13} {linear[series]:.1e}")
    for name, found in by_model.items():
        print(
            f"   {name:13} {statistics.median(found):.1e} ({min(found):.1e} "
            f"… {max(found):.1e})"
        )

# %% [markdown]
# Read it with care. One network is ahead of another where the ranges of their seeds do not overlap;
# the next lines say where. Three seeds of a small series are an illustration, no ranking.

# %%
for series, by_model in errors.items():
    first, second = sorted(
        by_model, key=lambda name: statistics.median(by_model[name])
    )[:2]
    apart = max(by_model[first]) < min(by_model[second])
    clear = "clearly" if apart and SEEDS > 1 else "not clearly"
    line = "ahead of" if linear[series] < min(by_model[first]) else "behind"
    print(
        f"{series}: first among the networks, {clear}, is {first}; the line "
        f"is {line} it"
    )
assert (
    SMALL
    or max(max(found) for found in errors["Hénon map"].values())
    < linear["Hénon map"] / 10
)

# %% [markdown]
# ## On its own feet
#
# One step ahead is easy. Fed with its own forecasts a model adds its errors up. Here each first
# seed's model goes on alone from the end of the training part; other seeds may rank otherwise.


# %%
@torch.no_grad()
def go_on(model: nn.Module, values: Tensor, steps: int) -> Tensor:
    """`steps` values after `values`, each forecast from the four before it."""
    path = values[-WINDOW:].tolist()
    for _ in range(steps):
        path.append(
            model(torch.tensor(path[-WINDOW:]).view(1, WINDOW, 1)).item()
        )
    return torch.tensor(path[WINDOW:])


# %% alt="The Bessel function after the training part, and three networks' forecasts left alone"
values, begin = SERIES["Bessel J₂"], TRAINED + WINDOW
steps = range(begin, LENGTH)
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(
    range(begin - 60, LENGTH),
    values[-len(steps) - 60 :],
    color="black",
    label="series",
)
for name, model in trained["Bessel J₂"].items():
    ahead = go_on(model, values[:begin], len(steps))
    off = (ahead - values[begin:]).abs().max()
    ax.plot(
        steps,
        ahead,
        "--",
        color=COLOURS[name],
        label=f"{name}, at most {off:.2g} off",
    )
ax.axvline(begin, color=GREY, linewidth=0.8)
ax.set(
    xlabel="step (right of the line: forecasts of forecasts)",
    ylabel="Bessel J₂, scaled",
)
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What was programmed
#
# The first activation of the fast layer, with the angles that it was given at different moments of
# the same series: one layer, another function for each sample. Grey is where its inputs lie.

# %% alt="One activation of the fast network as programmed by six windows: six different curves"
model = trained["Hénon map"]["fast weights"]
x, _ = windows(SERIES["Hénon map"])
with torch.no_grad():
    hidden = model.encode(x)
    theta = model.program(hidden)[:, :1, :1]
low, high = hidden[..., 0].min().item(), hidden[..., 0].max().item()
grid = torch.linspace(low - 2, high + 2, 200)[:, None]
scale, shift = (
    value[:1, :1].detach() for value in (model.fast.scale, model.fast.shift)
)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.axvspan(low, high, color="#eeeeee", zorder=0)
for number, at in enumerate(range(TRAINED, TRAINED + 6)):
    colour = plt.colormaps["viridis"](number / 6)
    phi = qkan.expectation(model.fast.circuit, grid, theta[at], scale, shift)
    ax.plot(grid[:, 0], phi[:, 0, 0], color=colour, label=f"window {at}")
ax.set(
    xlabel="input of the edge, in radians", ylabel="φ = ⟨Z⟩", ylim=(-1.05, 1.05)
)
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

spread = theta.std(0).mean()
print(f"standard deviation of its angles over all windows: {spread:.3f} rad")
assert spread > 1e-4

# %% [markdown]
# ## Where next
#
# - `group="inputs"` in the cell shares one activation among all outputs of an input, which leaves
#   parameters for more hidden nodes.
# - `scale`, `shift` and the weights can be programmed too: add them to the dictionary of
#   `functional_call`.
# - A programmed circuit is a circuit: `5_ibm_device.py` runs them on devices.
