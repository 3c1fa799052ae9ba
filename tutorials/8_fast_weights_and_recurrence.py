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
# This guide uses circuits in models of sequences. It is for those who work with recurrent networks;
# after it you can use a QKAN-LSTM and a network with fast weights, and compare them with controls.
#
# - **In a recurrent cell**, circuits make the gates of an LSTM trainable (QKAN-LSTM,
#   [arXiv 2512.05049](https://arxiv.org/abs/2512.05049)). The module is `qkan.QKANLSTM`.
# - **With fast weights**, a slow network reads the sequence and writes the *angles* of a QKAN,
#   which differ from sample to sample (gated QKAN-FWP, [arXiv
#   2605.06734](https://arxiv.org/abs/2605.06734)). The module is `qkan.FastWeightQKAN`.
#
# Both are compared with a `torch.nn.LSTM` of about as many parameters and with a linear regression.
# The examples are small and do not repeat the experiments of these papers. Their speed is not
# compared.

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
# The series are a damped sine, the Bessel function $J_2$ and the Hénon map,
# $v_{t+1} = 1 - 1.4\,v_t^2 + 0.3\,v_{t-1}$. A model reads four values and predicts the fifth. It is
# trained on the first two thirds of each series and tested on the rest.

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
# ## Linear regression
#
# A sampled damped sine satisfies $v_{t+1} = a\,v_t + b\,v_{t-1}$ exactly. So the comparison needs a
# linear regression on the last values: where it is the best, no network is needed.

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
# The first series is a linear recurrence and the second is nearly one. The Hénon map is quadratic,
# so linear regression cannot fit it.
#
# ## An LSTM with trainable gates
#
# An LSTM has a memory $c$ and an output $h$. A linear map of $[x, h]$ computes the inputs $f$, $i$,
# $g$ and $o$ of four gates, and then $c \leftarrow \sigma(f)\,c + \sigma(i)\tanh(g)$ and $h
# \leftarrow \sigma(o)\tanh(c)$, where $\sigma$ is the sigmoid function. `QKANLSTM` adds a circuit
# to each gate: $\sigma(z) + a\,\varphi(z)$ replaces $\sigma(z)$. The amplitudes $a$ begin at 0, so
# it begins as a `torch.nn.LSTM`. It has the same arguments and can load its weights.

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
# ## Fast weights
#
# In each step the slow network, which is a linear map here, reads the input $x_t$ and writes a
# change $\delta_t$ of the fast layer's angles. A gate $g_t$ between 0 and 1 decides how much of the
# previous changes is kept:
#
# $$\theta_t = g_t\,\theta_{t-1} + (1 - g_t)\,\delta_t .$$
#
# Every sample and every step has its own angles. There is no hidden state: the angles are the
# memory of the sequence. Since $\theta_t$ is a weighted mean of the start and of the written
# changes, it cannot grow beyond them. `FastWeightQKAN` is called like torch's recurrent modules. It
# returns the outputs and a state, which is the change of the angles.

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
# The gate does not depend on the angles, so a chunk of steps is computed at once, and only the
# angles between chunks are stored for the backward pass. With `final=True` only the last output is
# computed, with one set of angles for each sample.


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
# `effective_parameters` leaves out shifts that only duplicate an angle. QKAN-LSTM has parameters in
# its gates, so it has fewer hidden nodes than the LSTM.
#
# ## Train all models
#
# All models are trained with LBFGS for the same number of steps. Nothing is tuned, so the test part
# decides nothing.


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
# One network is clearly ahead of another if the ranges of their seeds do not overlap; the next
# lines say where that is so. Three seeds of a small series are an illustration and not a ranking.

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
# ## Forecasts of forecasts
#
# A forecast of one step is easy. If a model reads its own forecasts, its errors add up. Here the
# models of the first seed forecast in this way from the end of the training part; other seeds may
# rank the models differently.


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
# ## The activations that the slow network writes
#
# The picture shows the first activation of the fast layer with the angles of different windows of
# the same series: one layer computes a different function for each sample. The grey area is the
# range of its inputs.

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
# - `gate="qkan"` puts a `QKANLayer` of $[x, h]$ before the gates. `QKANGRU` is the same for a GRU.
#   Both accept packed sequences, several layers and two directions, as torch's modules do.
# - `qkan.plot(model.memory.gates.l0, …)` draws the trained gates.
# - With `programs=("theta", "scale", "weight")` the slow network also writes scales and weights;
#   `rank=1` gives it fewer parameters; with `slow="qkan"` it is a QKAN.
# - `python experiments sunspots` and `python experiments dynamics` compare fast weights with
#   recurrent networks and simple rules on longer series.
# - `qkan.run` does not accept models whose circuits differ from sample to sample, so networks with
#   fast weights do not run on devices.
