# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Fast weights and recurrent cells
#
# A `QKANLayer` is a torch module, so it goes wherever a linear map and an activation go. Two places
# where people put it in sequence models:
#
# - **in a recurrent cell**: the gates of an LSTM learn what they do with their input (QKAN-LSTM,
#   [arXiv 2512.05049](https://arxiv.org/abs/2512.05049));
# - **as a fast layer**: a slow network reads the sequence and writes the *angles* of a QKAN, for
#   every sample its own (gated QKAN-FWP, [arXiv 2605.06734](https://arxiv.org/abs/2605.06734)).
#   `qkan.FastWeightQKAN` does that.
#
# Both are compared here with a `torch.nn.LSTM` of about as many parameters, and with a linear
# regression. These are small versions of the ideas, not those papers' experiments, and nothing is
# said about time.
#
# The tests run this with less: `QKAN_TUTORIALS=small` trains one seed for two steps.

# %%
import os
import statistics

import matplotlib.pyplot as plt
import torch
from scipy.special import jv
from torch import Tensor, nn

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
# ## An LSTM whose gates learn
#
# An LSTM keeps a memory $c$ and an output $h$. From $[x, h]$ a linear map makes the inputs of four
# gates, $c \leftarrow \sigma(f)\,c + \sigma(i)\tanh(g)$ and $h \leftarrow \sigma(o)\tanh(c)$.
# `QKANLSTM` adds a circuit's value to each: $\sigma(z) + a\,\varphi(z)$ takes the place of
# $\sigma(z)$. The amplitudes $a$ begin at 0, so it begins as `torch.nn.LSTM`, whose name is the
# only word that changes, and takes over its weights.

# %%
classical = nn.LSTM(1, 6, batch_first=True)
learning = qkan.QKANLSTM.from_torch(
    classical, group="inputs"
)  # a circuit for each unit of a gate
x, _ = windows(SERIES["Bessel J₂"])
difference = (learning(x)[0] - classical(x)[0]).abs().max().item()
print(f"largest difference before training: {difference:.1e}")
assert difference < 1e-5


class Recurrent(nn.Module):
    """Read a sequence (b, t, 1), then say what follows (b, 1)."""

    def __init__(self, memory: nn.LSTM | qkan.QKANLSTM) -> None:
        super().__init__()
        self.memory, self.out = memory, nn.Linear(memory.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.memory(x)[0][:, -1])


# %% [markdown]
# ## A slow network that programs a fast one
#
# Each step the slow network, a linear map here, reads the input $x_t$ and writes a change of the
# fast layer's angles, and one gate $g_t$ between 0 and 1 says how much of the changes before is
# kept:
#
# $$\theta_t = g_t\,\theta_{t-1} + (1 - g_t)\,\delta_t .$$
#
# Every sample and every step has angles of its own. There is no hidden state: all the memory of the
# sequence is in the angles, and as $\theta_t$ is a weighted mean of the start and of what was
# written, it cannot grow beyond them. `FastWeightQKAN` is called as torch's recurrent modules are:
# it returns the outputs and a state, which is what the angles have changed by.

# %%
layer = qkan.FastWeightQKAN(3, 2, batch_first=True)
x = torch.randn(5, 40, 3)
outputs, state = layer(x)
print("outputs", tuple(outputs.shape), "changes", tuple(state.shape))

state, one_by_one = None, []
for step in range(
    40
):  # a sequence may come in parts, here one step after the other
    output, state = layer(x[:, step : step + 1], state)
    one_by_one.append(output)
assert torch.allclose(torch.cat(one_by_one, 1), outputs, atol=1e-5)

# %% [markdown]
# The gate does not read the angles, so steps can be put together in any order: a chunk of steps is
# computed at once, and only the angles between chunks are kept for the backward pass. With
# `final=True` only the last output is wanted, and one set of angles a sample is all that is made.


# %%
class FastWeights(nn.Module):
    """A `FastWeightQKAN` between two linear maps, for a sequence (b, t, 1)."""

    def __init__(self, hidden: int, reps: int) -> None:
        super().__init__()
        self.encode = nn.Linear(1, hidden)
        self.fast = qkan.FastWeightQKAN(
            hidden, hidden, hidden=4, reps=reps, final=True, batch_first=True
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        last, _ = self.fast(self.encode(x))
        return self.out(last)


MODELS = {
    "LSTM": lambda: Recurrent(nn.LSTM(1, 8, batch_first=True)),
    "QKAN-LSTM": lambda: Recurrent(
        qkan.QKANLSTM(1, 6, batch_first=True, group="inputs")
    ),
    "fast weights": lambda: FastWeights(3, reps=2),
}
sizes = {
    name: qkan.effective_parameters(make()) for name, make in MODELS.items()
}
print(sizes)
assert max(sizes.values()) < 1.15 * min(sizes.values())

# %% [markdown]
# `effective_parameters` leaves out shifts that only duplicate an angle. QKAN-LSTM spends a part of
# its parameters on gates and has fewer hidden nodes for it.
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
    _, state = model.fast(hidden)
    theta = model.fast.programmed(state)["theta"][
        :, :1, :1
    ]  # (window, 1, 1, k)
first, circuit = (
    model.fast.fast,
    model.fast.fast.circuit,
)  # the layer before any change
low, high = hidden[..., 0].min().item(), hidden[..., 0].max().item()
grid = torch.linspace(low - 2, high + 2, 200)[:, None]
scale, shift = (value[:1, :1].detach() for value in (first.scale, first.shift))
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.axvspan(low, high, color="#eeeeee", zorder=0)
for number, at in enumerate(range(TRAINED, TRAINED + 6)):
    colour = plt.colormaps["viridis"](number / 6)
    phi = qkan.expectation(circuit, grid, theta[at], scale, shift)
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
# - `gate="qkan"` puts a `QKANLayer` of $[x, h]$ before the gates; `QKANGRU` is the same for a GRU,
#   and both take packed sequences, layers and directions as torch's do.
# - `qkan.plot(model.memory.gates.l0, …)` draws what the gates have become.
# - `programs=("theta", "scale", "weight")` has scales and weights written too; `rank=1` takes a
#   head of fewer parameters; `slow="qkan"` programs a QKAN by a QKAN.
# - `python experiments sunspots` and `python experiments dynamics` compare fast weights with
#   recurrent networks and simple rules on longer series.
# - A programmed circuit is a circuit, which any backend measures; but `qkan.run` takes no model
#   whose circuits differ from sample to sample.
