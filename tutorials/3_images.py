# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Images: an HQKAN head on a small CNN
#
# This guide trains an image classifier with circuits and compares it with two controls. It is for
# those who work with convolutional networks; after it you can put an `HQKAN` into one, judge the
# result, and fold it for inference.
#
# A convolutional network has a *body*, which turns an image into features, and a *head*, which
# turns features into classes. Here one head is an `HQKAN`, Linear → QKAN → Linear, with a circuit
# on each edge between its latent nodes. The controls are an MLP head with as many parameters and a
# linear head. The circuits are simulated exactly, and the convolutions are ordinary ones.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import qkan

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
SEEDS, RATES, EPOCHS = (1, [0.01], 3) if SMALL else (3, [0.003, 0.01, 0.03], 20)
BLUE, GREY = "#0072B2", "#6b6b6b"

plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)
torch.set_num_threads(1)  # models this small only wait for a second thread

# %% [markdown]
# ## The images
#
# scikit-learn has 1,797 handwritten digits of 8 × 8 pixels. A third of them is the test part, which
# is used once, at the end. A fifth of the others is the validation part, which decides when to stop
# and which learning rate to use.

# %%
images, classes = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(classes)
rest, test = train_test_split(
    range(len(y)), test_size=1 / 3, random_state=0, stratify=y
)
train, validation = train_test_split(
    rest, test_size=1 / 5, random_state=0, stratify=y[rest]
)
print(
    len(train), "to train,", len(validation), "to choose,", len(test), "to test"
)

# %% alt="Twelve of the handwritten digits, eight by eight pixels each"
figure, axes = plt.subplots(1, 12, figsize=(8, 0.9), layout="constrained")
for ax, n in zip(axes, train, strict=False):
    ax.imshow(x[n, 0].numpy(), cmap="gray_r")
    ax.axis("off")
plt.show()

# %% [markdown]
# ## Three heads on the same body
#
# The body has two convolutions and returns 48 features. The start of an HQKAN is made for inputs of
# variance 1, as after the norm of a transformer, so the body ends with a norm, for all heads. The
# HQKAN maps the features to 8 latent nodes, has 64 edges between these and 8 others, and maps the
# result to 10 classes. The width of the MLP is chosen so that both heads have equally many
# parameters.

# %%
FEATURES, CLASSES, LATENT = 48, 10, 8


def body() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.BatchNorm1d(FEATURES),
    )  # fmt: skip


def hqkan_head() -> nn.Module:
    return qkan.HQKAN(FEATURES, CLASSES, latent=LATENT)


wanted = qkan.effective_parameters(hqkan_head())
HIDDEN = round((wanted - CLASSES) / (FEATURES + 1 + CLASSES))


def mlp_head() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, CLASSES)
    )


def linear_head() -> nn.Module:
    return nn.Linear(FEATURES, CLASSES)


HEADS = {"HQKAN": hqkan_head, "MLP": mlp_head, "linear": linear_head}
sizes = {
    name: qkan.effective_parameters(head()) for name, head in HEADS.items()
}
print(
    "parameters of the heads:",
    sizes,
    "and of the body:",
    qkan.effective_parameters(body()),
)
assert abs(sizes["MLP"] - sizes["HQKAN"]) < 0.05 * sizes["HQKAN"]

# %% [markdown]
# ## Train them alike
#
# Each head is trained with AdamW, for the same number of epochs and with the same learning rates.
# `fit` returns the parameters with the lowest validation loss, and the learning rate with the
# lowest validation loss is chosen. `fit` applies no weight decay to angles, because an angle of 0
# is not simpler than another.


# %%
def pair(part: list[int]) -> tuple[Tensor, Tensor]:
    return x[part], y[part]


def trained(head: str, rate: float, seed: int) -> tuple[float, nn.Module]:
    """The lowest validation loss of one trial, and the model that had it."""
    torch.manual_seed(seed)
    model = nn.Sequential(body(), HEADS[head]())
    history = qkan.fit(
        model, pair(train), validation=pair(validation), loss="cross_entropy",
        optimizer="adamw", lr=rate, scheduler="cosine", batch_size=64,
        steps=EPOCHS * -(-len(train) // 64), seed=seed, progress=False,
    )  # fmt: skip
    return history.validation_loss[history.best_step - 1], model


@torch.no_grad()
def predict(model: nn.Module, part: list[int]) -> Tensor:
    return model.eval()(x[part]).argmax(-1)


chosen = {
    head: [
        min(
            (trained(head, rate, seed) for rate in RATES),
            key=lambda trial: trial[0],
        )[1]
        for seed in range(SEEDS)
    ]
    for head in HEADS
}

# %% [markdown]
# Now the test part is used, once.

# %%
right = {
    head: np.array(
        [
            (predict(model, test) == y[test]).float().mean().item()
            for model in models
        ]
    )
    for head, models in chosen.items()
}
for head, found in right.items():
    each = "  ".join(f"{accuracy:.1%}" for accuracy in found)
    print(
        f"{head:7} {sizes[head]:5,} parameters   mean {found.mean():.2%}   "
        f"each seed {each}"
    )

# %% [markdown]
# How large must a difference be to mean anything? With $n$ test images, an accuracy $p$ has a
# standard error of $\sqrt{p(1-p)/n}$ from the choice of images, and the difference of two
# accuracies at most $\sqrt2$ times that. Seeds add to it. A difference of less than two standard
# errors may be chance.

# %%
p = right["MLP"].mean()
noise = (2 * p * (1 - p) / len(test)) ** 0.5
gap = right["HQKAN"].mean() - p
print(
    f"one image is {1 / len(test):.2%}, the standard error of a difference "
    f"{noise:.2%}"
)
ahead = (right["MLP"] > right["HQKAN"]).sum()
print(
    f"HQKAN minus MLP: {100 * gap:+.2f} percentage points, "
    f"{abs(gap) / noise:.1f} standard errors"
)
print(f"the MLP is ahead in {ahead} of {SEEDS} seeds")
assert SMALL or min(found.min() for found in right.values()) > 0.9

# %% [markdown]
# So the table shows that a head with circuits learns this task with the recipe and the number of
# parameters of an MLP. It does not show that the circuits are better, and a task that a linear head
# solves about as well cannot show it. The HQKAN uses its parameters differently: more than half of
# them are on the edges between its few latent nodes, whereas those of the MLP are all in its linear
# layers.

# %%
head = hqkan_head()
inside = qkan.effective_parameters(head.qkan) / wanted
print(
    f"of the HQKAN's parameters {inside:.0%} sit on its "
    f"{head.qkan.layers[0].weight.numel()} edges"
)
assert inside > 0.5

# %% [markdown]
# ## Which digits are misread

# %% alt="Confusion matrix of the HQKAN head: nearly all test digits lie on the diagonal"
model = chosen["HQKAN"][0]
predicted = predict(model, test)
figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    y[test].numpy(), predicted.numpy(), ax=ax, cmap="Blues", colorbar=False
)
ax.set(
    title=f"HQKAN head, seed 0: {right['HQKAN'][0]:.1%} of "
    f"{len(test)} test digits"
)
plt.show()

# %% alt="Test digits that the HQKAN head misreads, with what they are and what they were read as"
wrong = [n for n, found in zip(test, predicted, strict=True) if found != y[n]]
read = {n: int(found) for n, found in zip(test, predicted, strict=True)}
figure, axes = plt.subplots(1, 8, figsize=(8, 1.5), layout="constrained")
for ax in axes:
    ax.axis("off")
for ax, n in zip(axes, wrong, strict=False):
    ax.imshow(x[n, 0].numpy(), cmap="gray_r")
    ax.set_title(f"{int(y[n])}, not {read[n]}", fontsize=9)
plt.show()
print(f"{len(wrong)} misread, of which at most eight are shown")

# %% [markdown]
# ## What the circuits do
#
# To see whether the circuits contribute, set their weights to zero in the trained head and keep
# everything else: the base activation (SiLU) on the edges, the linear layers and the body.

# %%
layer = model[1].qkan.layers[0]
kept = layer.weight.detach().clone()
with torch.no_grad():
    layer.weight.zero_()
    without = (predict(model, test) == y[test]).float().mean().item()
    layer.weight.copy_(kept)
print(f"with circuits {right['HQKAN'][0]:.1%}, without them {without:.1%}")
assert SMALL or without < right["HQKAN"][0]

# %% [markdown]
# The picture shows the activations of the eight edges that vary most, multiplied by their weights.
# The grey ticks are the inputs of the edges for the test images.

# %% alt="The eight strongest activations of the head over the range of their inputs: smooth waves"
with torch.no_grad():
    latent = model[1].down(model[0](x[test]))
    phi = qkan.expectation(
        layer.circuit, latent, layer.theta, layer.scale, layer.shift
    )
strength = (layer.weight * phi.std(0)).abs().detach()
floor = -1.3 * (layer.weight * phi).abs().max().item()
figure, axes = plt.subplots(
    2, 4, figsize=(8, 3.4), sharey=True, layout="constrained"
)
for ax, edge in zip(
    axes.flat, strength.flatten().argsort(descending=True), strict=False
):
    o, i = divmod(int(edge), LATENT)
    order = latent[:, i].argsort()
    curve = (layer.weight[o, i] * phi[:, o, i]).detach()
    ax.plot(latent[order, i], curve[order], color=BLUE)
    ax.plot(
        latent[:, i], torch.full_like(curve, floor), "|", color=GREY, alpha=0.1
    )
    ax.set_title(f"node {i} → {o}", fontsize=9)
figure.supxlabel("input of the edge, in radians", fontsize=10)
figure.supylabel("weight · φ", fontsize=10)
plt.show()

# %% [markdown]
# ## Fold it for inference
#
# The encoding of the head is fixed, so each activation is a short Fourier series. `fold` computes
# the coefficients once. The folded head consists of a few ordinary operators without a circuit, and
# `qkan.to_onnx` can export it.

# %%
folded = qkan.fold(model)
with torch.no_grad():
    difference = (folded(x[test]) - model(x[test])).abs().max().item()
print(folded[1].qkan)
print(f"largest difference of the outputs: {difference:.1e}")
assert difference < 1e-3

# %% [markdown]
# ## Where next
#
# - `experiments/images/digits.py` compares a QKAN and an MLP on these digits more carefully, with
#   five splits and equally many trials of each.
# - `qkan.QKANConv2d` uses circuits in the convolution itself.
# - `4_transformer_ffn.py` replaces the feed-forward block of a transformer with an `HQKAN`.
