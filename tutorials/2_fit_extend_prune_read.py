# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Fit, prune, extend, read
#
# This guide recovers a formula from points of a function. It is for those who want to understand a
# trained network; after it you can train a QKAN with few edges, prune and extend it, and write it
# as a formula.
#
# There are four steps:
#
# 1. **Fit** a network that is larger than necessary, with a penalty on its edges.
# 2. **Prune** the edges that do not matter.
# 3. **Extend** the circuits of the other edges, to make them accurate.
# 4. **Read** the formula.

# %%
import os

import matplotlib.pyplot as plt
import torch

import qkan

torch.set_default_dtype(torch.float64)

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
STEPS = 8 if SMALL else 20
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)

# %% [markdown]
# ## The data
#
# The function is $f(x, y) = \exp(\sin \pi x + y^2)$ for $x$ and $y$ between -1 and 1. It is a
# function of a sum of functions, which is also the structure of a Kolmogorov-Arnold network. A
# second set of points is used only to test the trained models.

# %%
generator = torch.Generator().manual_seed(0)


def points(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs in [-1, 1]² and the function there."""
    inputs = torch.rand(count, 2, generator=generator) * 2 - 1
    x, y = inputs.T
    return inputs, torch.exp(torch.sin(torch.pi * x) + y**2)[:, None]


train, test = points(300 if SMALL else 1000), points(1000)


def test_error(model: torch.nn.Module) -> float:
    """Mean squared error on the points that are held out."""
    with torch.no_grad():
        return float(torch.nn.functional.mse_loss(model(test[0]), test[1]))


print(f"spread of the target: variance {test[1].var():.2f}")

# %% [markdown]
# ## Fit with few edges
#
# Two inputs, five hidden nodes and one output have 15 edges. Each edge begins as a circuit with one
# repetition. `input_range` scales the inputs to $\pm\pi/2$. `sparse_loss` adds a penalty on the
# sizes of the edges' outputs and on their entropy, so a few strong edges cost less than many weak
# ones.

# %%
start = torch.Generator().manual_seed(1)
model = qkan.QKAN([2, 5, 1], reps=1, input_range=(-1, 1), generator=start)
with qkan.sparse_loss(model, 2e-2) as loss:
    qkan.fit(model, train, loss=loss, steps=20, progress=False)
print(
    f"{qkan.effective_parameters(model)} parameters, test error "
    f"{test_error(model):.1e}"
)

# %% [markdown]
# In the picture the inputs are at the bottom. The box on an edge shows what the edge adds to its
# node. Dark edges are important, and pale edges are not:

# %% alt="The network after sparse training: three of its fifteen edges are dark"
qkan.plot(model, train[0], names=["x", "y"], outputs=["f"])

# %% [markdown]
# `importance` returns the same as numbers: the share of the output's spread that each edge
# contributes.

# %%
for name, found in qkan.importance(model, train[0]).items():
    print(name, "edges (output, input):")
    print(found.edges.round(decimals=3))

# %% [markdown]
# ## Prune
#
# `prune` removes edges whose importance is below a threshold, and hidden nodes that have lost all
# edges on one side. The result is a smaller model.

# %%
pruned = qkan.prune(model, train[0])
print(model.widths, "→", pruned.widths)
print(
    f"{qkan.effective_parameters(pruned)} parameters, test error "
    f"{test_error(pruned):.1e}"
)
assert pruned.widths == [2, 1, 1]

# %% [markdown]
# Pruning has hardly changed the error. The error that remains has two causes: the penalty, which
# pulls all outputs towards zero, and the single repetition. The next step trains the small model
# without the penalty and with more repetitions.
#
# ## Extend
#
# With one repetition an edge has one frequency. That is enough to find its shape, but not to be
# accurate. An *extension* adds repetitions whose angles are chosen so that the function does not
# change ([arXiv 2509.14026](https://arxiv.org/abs/2509.14026)). Training then continues from there.

# %%
longer = qkan.extend(pruned, 3)
print("repetitions:", [layer.circuit.num_encodings for layer in longer.layers])
change = (longer(test[0]) - pruned(test[0])).abs().max().item()
print(f"largest change of the function by the extension: {change:.0e}")
assert change < 1e-12

# %% [markdown]
# `fit_extending` does this in one call: it trains, extends and trains again.

# %%
stages = [1, 3] if SMALL else [1, 3, 5]
grown, history = qkan.fit_extending(
    pruned, train, reps=stages, steps=STEPS, progress=False
)
print(
    f"{qkan.effective_parameters(grown)} parameters, test error "
    f"{test_error(grown):.1e}"
)
assert test_error(grown) < 1e-4

# %% alt="Training error over the steps: it falls again after each extension"
figure, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
for n, (reps, colour) in enumerate(
    zip(stages, ("#0072B2", "#E69F00", "#009E73"), strict=False)
):
    steps = slice(n * STEPS, (n + 1) * STEPS)
    label = f"{reps} repetition{'s' if reps > 1 else ''}"
    ax.semilogy(
        history.step[steps],
        history.train_loss[steps],
        color=colour,
        label=label,
    )
ax.set(xlabel="LBFGS step (20 iterations each)", ylabel="mean squared error")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Read
#
# `symbolic` with `forms="elementary"` compares each of the three activations with functions
# $a\,f(bx + c) + d$ of a library, and takes the simplest that is close enough. It then fits all
# numbers of the whole formula to the model once more.

# %%
formula = qkan.symbolic(grown, train[0], forms="elementary", names=["x", "y"])
print(formula)
print(formula.table())

# %% [markdown]
# To check the formula, compare it with the points that were held out:

# %%
error = float((formula(test[0]) - test[1]).square().mean())
print(
    f"test error of the model {test_error(grown):.1e}, of the formula "
    f"{error:.1e}"
)
assert str(formula.expr) == "exp(y**2 + sin(pi*x))"
assert error < 1e-10

# %% alt="The pruned network with sin, x² and exp over its boxes, the formula on top"
qkan.plot(grown, train[0], names=["x", "y"], outputs=["f"], formula=formula)

# %% [markdown]
# The formula has a lower error than the model that it was read from, because its few numbers cannot
# reproduce the model's errors. This works only because the target is a composition of functions in
# the library, which your data need not be. If no function of the library fits an edge, the table
# says so, and the formula has the trigonometric polynomial of that edge.
#
# ## A formula without a fit
#
# An activation *is* a finite trigonometric sum, so every model is a formula already. Without
# `forms`, `symbolic` returns that formula, which is long. `tolerance` leaves out small terms. The
# result then has a proven bound on how much that changes the outputs in the range of the data:

# %%
exact = qkan.symbolic(grown, train[0], names=["x", "y"])
short = qkan.symbolic(grown, train[0], names=["x", "y"], tolerance=1e-3)
for what, found in (("exact", exact), ("shortened", short)):
    terms = sum(len(expr.args) for nodes in found.layers for _, expr in nodes)
    print(
        f"{what}: {terms} terms, error {found.error:.1e}, bound "
        f"{found.bound:.1e}"
    )
    assert found.error <= found.bound + 1e-12

# %% [markdown]
# ## Where next
#
# * `7_schroedinger.py` learns from a differential equation instead of data.
# * `3_images.py` uses such activations behind a convolutional network.
# * `qkan.to_kan` turns the model into a spline KAN, which pykan can load.
