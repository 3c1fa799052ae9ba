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
# A network of activations that can be looked at one by one can be understood. We give a QKAN points
# of a function, without the function, and try to get the formula back:
#
# 1. **fit** a network that is larger than it needs to be, with a loss that asks for few edges,
# 2. **prune** what does not matter,
# 3. **extend** the circuits that are left, to make them exact,
# 4. **read** the formula off.

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
# $f(x, y) = \exp(\sin \pi x + y^2)$ on the square: a sum inside a function, as Kolmogorov-Arnold
# networks are built. A second set of points is only looked at after training.

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
# Two inputs, five hidden nodes, one output: 15 edges, each a circuit with a single repetition for
# now. `input_range` maps the inputs to $\pm\pi/2$. `sparse_loss` adds a penalty on the sizes of the
# edges' outputs and on their entropy, so that a few strong edges are cheaper than many weak ones.

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
# In the picture inputs are at the bottom, and the box on an edge shows what the edge adds to its
# node. Dark edges matter, pale ones do not:

# %% alt="The network after sparse training: three of its fifteen edges are dark"
qkan.plot(model, train[0], names=["x", "y"], outputs=["f"])

# %% [markdown]
# `importance` has the same as numbers: of each edge the share of the output's spread that it
# carries.

# %%
for name, found in qkan.importance(model, train[0]).items():
    print(name, "edges (output, input):")
    print(found.edges.round(decimals=3))

# %% [markdown]
# ## Prune
#
# Edges below a threshold are cut, and hidden nodes that nothing feeds or reads are taken out. The
# result is a smaller model, not a masked one.

# %%
pruned = qkan.prune(model, train[0])
print(model.widths, "→", pruned.widths)
print(
    f"{qkan.effective_parameters(pruned)} parameters, test error "
    f"{test_error(pruned):.1e}"
)
assert pruned.widths == [2, 1, 1]

# %% [markdown]
# Cutting has hardly changed the error. What is left of it is the penalty's doing, which pulls all
# outputs towards zero, and that of the single repetition. Both mend when the small model is trained
# without the penalty and with more repetitions.
#
# ## Extend
#
# One repetition is one frequency an edge: enough to find the shape, too little to be exact. An
# *extension* adds repetitions whose angles are chosen so that the function stays the same at first
# ([arXiv 2509.14026](https://arxiv.org/abs/2509.14026)). Training goes on from where it was.

# %%
longer = qkan.extend(pruned, 3)
print("repetitions:", [layer.circuit.num_encodings for layer in longer.layers])
change = (longer(test[0]) - pruned(test[0])).abs().max().item()
print(f"largest change of the function by the extension: {change:.0e}")
assert change < 1e-12

# %% [markdown]
# `fit_extending` trains, extends and trains again in one call, with more and more repetitions.

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
# Each of the three activations is now one curve. `symbolic` with `forms="elementary"` tries a
# library of functions $a\,f(bx + c) + d$ on each, puts the simplest that is close enough in its
# place, and fits all numbers of the composed formula once more to the model.

# %%
formula = qkan.symbolic(grown, train[0], forms="elementary", names=["x", "y"])
print(formula)
print(formula.table())

# %% [markdown]
# Is that the function? Where the sample comes from is forgotten here: the formula is compared with
# the held-out points.

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
# The formula is closer to the truth than the model that it was read from: a few numbers cannot
# follow the model's errors. That needs luck too. The target was a composition of forms in the
# library, and nothing promises that of your data. Where no form fits, the table says so, and the
# edge keeps its trigonometric polynomial.
#
# ## A formula without guessing
#
# Without `forms` nothing is recognised or fitted: an activation *is* a finite trigonometric sum, so
# the model is a formula already. It is long. `tolerance` drops what is small, under a bound on what
# that can change in the data's range, and the bound is proven, not estimated:

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
# * `7_schroedinger.py`: the target is not data but a differential equation.
# * `3_images.py`: the same activations behind a convolutional network.
# * `qkan.to_kan` writes the model as a spline KAN, which pykan loads.
