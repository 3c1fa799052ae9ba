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
# A convolutional network is a *body* that turns an image into features and a *head* that turns
# features into classes. Here the head is an `HQKAN`: Linear → QKAN → Linear, with a circuit on each
# edge between its latent nodes. Beside it stand an MLP head of as many parameters, and a head that
# is one linear map. Without them nobody could say what the circuits are good for.
#
# All of it is computed on this machine: circuits of one qubit are simulated exactly, and the
# convolutions are ordinary ones.

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
# scikit-learn ships 1,797 handwritten digits of 8 × 8 pixels. A third is the test part, which is
# looked at once, at the end. Of the rest a fifth is the validation part, which makes all choices:
# when to stop, and which learning rate.

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
# Two convolutions leave 48 features. An HQKAN begins well where its inputs have a variance near 1,
# as after the norm of a transformer, so the body ends with a norm, for all heads. The HQKAN takes
# the features to 8 latent nodes, joins those by 64 edges, and maps the result to 10 classes. The
# width of the MLP's hidden layer is what gives both heads as many parameters.

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
# AdamW, the same epochs, and the same learning rates to choose from for each head; so each gets the
# same number of trials. `fit` leaves the model with the parameters of its lowest validation loss,
# and among the rates the lowest validation loss wins. Angles get no weight decay: 0 means nothing
# to an angle, and `fit` knows.


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
# Now the test part, once.

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
# How far apart must two of them be to mean anything? With $n$ test images an accuracy $p$ has a
# standard error of $\sqrt{p(1-p)/n}$ from the choice of images alone, the difference of two at most
# $\sqrt2$ times that, and seeds scatter on top. A gap of less than two may be chance.

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
# So read the table as it is. A head of circuits learns this task with the recipe and the number of
# parameters of an MLP; that it does so better is not shown, and what a linear head solves about as
# well is no task to show it. The HQKAN spends its parameters otherwise: more than half of them sit
# on the edges between its few latent nodes, the MLP's all lie in its linear maps.

# %%
head = hqkan_head()
inside = qkan.effective_parameters(head.qkan) / wanted
print(
    f"of the HQKAN's parameters {inside:.0%} sit on its "
    f"{head.qkan.layers[0].weight.numel()} edges"
)
assert inside > 0.5

# %% [markdown]
# ## Where it errs

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
# Take the circuits out of the trained head and leave everything else: the base activation (SiLU)
# beside them, the linear maps, the body. If nothing changed, they would be idle.

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
# These are the activations of the eight edges that vary most: each times its weight, over the
# inputs that the test images bring (the grey ticks).

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
# ## For use: fold it
#
# The head's encoding is fixed, so each activation is a short Fourier series. `fold` computes the
# coefficients once; what is left is a few ordinary operators and no circuit. It runs where
# torch does, and elsewhere through `qkan.to_onnx`.

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
# - `experiments/images/digits.py` compares a QKAN and an MLP on these digits with more care: five
#   splits, and equally many trials of each.
# - `qkan.QKANConv2d` puts circuits into the convolution itself.
# - `4_transformer_ffn.py` puts an `HQKAN` where a transformer has its feed-forward block.
