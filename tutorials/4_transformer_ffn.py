# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Circuits in a transformer
#
# There are two ways to put circuits into a transformer: as activations that learn, in a model that
# stays as large as it is, and as feed-forward blocks that are much smaller than the old ones.
#
# Most of a transformer's parameters sit in its feed-forward blocks: Linear → GELU → Linear, with an
# inner layer four times as wide as the model. An `HQKAN` goes the other way: down to a few latent
# nodes, a circuit on each edge between them, and up again.
#
# This tutorial trains a tiny GPT-2 on characters and lets its activations learn. Then it puts
# HQKANs in the place of its blocks, teaches them what the old blocks did, writes text with the
# result, saves it, and folds it for use. Beside it goes an MLP of as many parameters, treated the
# same in everything: without that control a good result would say nothing about circuits.
#
# The circuits are of one qubit each and are simulated exactly; the attention, the linear maps and
# the training are classical.

# %%
import copy
import math
import os
import tempfile
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import torch
import transformers
from torch import Tensor, nn

import qkan

# %% tags=["plumbing"]
# The tests run this page with less: QKAN_TUTORIALS=small says so.
SMALL = os.environ.get("QKAN_TUTORIALS") == "small"
WIDTH, STEPS, DISTILLED, BATCH = (16, 4, 2, 2) if SMALL else (64, 1000, 150, 16)
CONTEXT = 64
BLUE, ORANGE = "#0072B2", "#E69F00"

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
plt.rcParams.update(
    {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)
torch.set_num_threads(1)  # models this small only wait for a second thread
torch.manual_seed(0)

# %% [markdown]
# ## Text
#
# Python ships the text that its `help()` shows. Its last tenth is held out.

# %%
text = "\n".join(topics.values())
symbols = sorted(set(text))
number = {symbol: n for n, symbol in enumerate(symbols)}
tokens = torch.tensor([number[symbol] for symbol in text])
split = 9 * len(tokens) // 10
print(f"{len(text):,} characters, {len(symbols)} different ones")
print(text[20_000:20_200])


def windows(part: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Windows of the text at random places, (count, context)."""
    starts = torch.randint(len(part) - CONTEXT, (count,), generator=generator)
    return torch.stack([part[start : start + CONTEXT] for start in starts])


draw = torch.Generator().manual_seed(0)
held_out = windows(tokens[split:], 8 if SMALL else 256, draw)


@torch.no_grad()
def loss_of(model: nn.Module) -> float:
    """Mean loss of the next character on the held-out windows, in nats."""
    return model.eval()(held_out, labels=held_out).loss.item()


# %% [markdown]
# ## A small GPT-2, trained
#
# Any model of transformers would do; this one is small enough to train here. A guess among all
# characters would have the loss $\ln(\text{characters})$.

# %%
config = transformers.GPT2Config(
    vocab_size=len(symbols), n_positions=CONTEXT, n_embd=WIDTH,
    n_layer=2, n_head=4,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip
teacher = transformers.GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
for _ in range(STEPS):
    batch = windows(tokens[:split], BATCH, draw)
    optimizer.zero_grad()
    teacher(batch, labels=batch).loss.backward()
    optimizer.step()
    schedule.step()

print(f"guessing {math.log(len(symbols)):.3f}, trained {loss_of(teacher):.3f}")

# %% [markdown]
# ## Activations that learn
#
# `replace_activation` puts a `DARUAN` in the place of every activation: GELU, as before, plus an
# amplitude times a circuit. The amplitude begins at 0, so the model computes what it did, to the
# bit.

# %%
learning = copy.deepcopy(teacher)
activations = qkan.replace_activation(learning)
print(activations)
with torch.no_grad():
    assert torch.equal(learning(held_out).logits, teacher(held_out).logits)


# %% [markdown]
# Now the model is trained a little longer, with everything in it. `param_groups` lets the angles
# and amplitudes learn ten times as fast as the weights and spares them weight decay. The control
# goes on for as many steps with its GELUs.


# %%
def train_on(model: nn.Module, steps: int) -> float:
    """Train a copy further, on the same batches for every model; its loss."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(qkan.param_groups(model.train(), lr=1e-3))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = windows(tokens[:split], BATCH, generator)
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        schedule.step()
    return loss_of(model)


print(f"before              {loss_of(teacher):.3f}")
print(f"GELU, longer        {train_on(copy.deepcopy(teacher), STEPS // 2):.3f}")
print(f"GELU + DARUAN       {train_on(learning, STEPS // 2):.3f}")

# %% alt="What the circuits added to GELU in each of the two blocks, one line for each group"
x = torch.linspace(-4, 4, 200)
figure, axes = plt.subplots(
    1, 2, figsize=(6.5, 2.8), layout="constrained", sharey=True
)
for n, (ax, name) in enumerate(zip(axes, activations, strict=True)):
    activation = learning.get_submodule(name)
    every = x[:, None].expand(-1, activation.features)
    with torch.no_grad():
        added = activation(every) - activation.base(every)
    ax.plot(
        x,
        added[:, :: activation.features // activation.group],
        color=BLUE,
        linewidth=1,
    )
    ax.set(title=f"block {n}", xlabel="x")
axes[0].set_ylabel("added to GELU(x)")
plt.show()

# %% [markdown]
# Each line is one of the groups of a block, and each is a cosine: with one repetition and a trained
# scale a DARUAN is exactly $A\cos(wx + b) + C$. A classical activation of that form can learn the
# same. What a circuit has beyond it is that it runs on a device, and an exact spectrum with any
# number of repetitions. One run says little about which is better: `python experiments activations`
# compares them with seeds, trials and classical controls.

# %% [markdown]
# ## Replace
#
# `replace_ffn` finds the feed-forward blocks by itself, checks everything, and only then changes
# the model: never half of it. It takes a function from a block's width to what replaces it. `print`
# shows what was replaced by what, and what it costs.

# %%
print(qkan.ffn_names(teacher))
student = copy.deepcopy(teacher)
replaced = qkan.replace_ffn(
    student, lambda width: qkan.HQKAN(width, latent=WIDTH // 4)
)
print(replaced)

share = replaced.before / sum(
    parameter.numel() for parameter in teacher.parameters()
)
print(f"\nthe old blocks are {share:.0%} of the teacher's parameters")
assert SMALL or share > 0.5

# %% [markdown]
# It can be taken back: the old blocks return, with the same parameters.

# %%
trial = copy.deepcopy(teacher)
undone = qkan.replace_ffn(trial, qkan.HQKAN)
assert not torch.allclose(trial(held_out).logits, teacher(held_out).logits)
undone.undo()
assert torch.equal(trial(held_out).logits, teacher(held_out).logits)

# %% [markdown]
# The control: the same sort of block as before, only narrow, with as many parameters as the HQKANs
# have, and started as they are: inner nodes of variance 1, a small output. And a model without
# feed-forward blocks at all, which shows what they are worth.

# %%
narrow = round((replaced.after / len(replaced) - WIDTH) / (2 * WIDTH + 1))


def mlp(width: int) -> nn.Module:
    block = nn.Sequential(
        nn.Linear(width, narrow), nn.GELU(), nn.Linear(narrow, width)
    )
    for linear, size in ((block[0], 1.0), (block[2], 0.1)):
        nn.init.normal_(linear.weight, std=size / linear.in_features**0.5)
        nn.init.zeros_(linear.bias)
    return block


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


control, empty = copy.deepcopy(teacher), copy.deepcopy(teacher)
narrowed = qkan.replace_ffn(control, mlp)
qkan.replace_ffn(empty, lambda width: Nothing())
print(
    f"an inner width of {narrow}: {narrowed.after:,} parameters, the HQKANs "
    f"{replaced.after:,}"
)
assert abs(narrowed.after - replaced.after) < 0.05 * replaced.after

# %% [markdown]
# ## Distil
#
# The new blocks know nothing yet. `distill_ffn` runs the teacher, and each new block learns to give
# what the old one gave for the same input; then, end to end, the student's predictions are drawn to
# the teacher's. Only the new blocks learn, and no label is needed.

# %%
batches = [
    {"input_ids": windows(tokens[:split], BATCH, draw)}
    for _ in range(DISTILLED)
]
courses = {}
for name, model, names in (
    ("HQKAN", student, replaced),
    ("MLP", control, narrowed),
):
    courses[name] = qkan.distill_ffn(
        teacher, model, batches, names=names,
        end_to_end_steps=DISTILLED, lr=5e-3,
        scheduler="cosine", seed=0, progress=False,
    )  # fmt: skip
    for block, errors in courses[name].layers.items():
        print(
            f"{name:5} {block}: relative squared error {errors[0]:.3f} → "
            f"{errors[-1]:.3f}"
        )
    kept, old = model.transformer.wte.weight, teacher.transformer.wte.weight
    assert torch.equal(kept, old), "the rest of the model stays as it was"

# %% alt="Relative squared error of each replaced block over the steps of distillation"
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for (name, course), colour in zip(courses.items(), (BLUE, ORANGE), strict=True):
    for n, errors in enumerate(course.layers.values()):
        ax.plot(
            errors, ("-", "--")[n], color=colour, label=f"{name}, block {n}"
        )
ax.set(xlabel="step", ylabel="relative squared error", yscale="log")
ax.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# ## What is left of the model
#
# The loss on held-out text, in nats a character; $e^{\text{loss}}$ is among how many characters the
# model is as unsure as a fair die.

# %%
models = {"teacher": teacher, "HQKAN": student, "MLP": control, "no FFN": empty}
losses = {name: loss_of(model) for name, model in models.items()}
for name, loss in losses.items():
    print(f"{name:8} loss {loss:.3f}   e^loss {math.exp(loss):.2f}")

worth = losses["no FFN"] - losses["teacher"]
for name, names in (("HQKAN", replaced), ("MLP", narrowed)):
    regained = (losses["no FFN"] - losses[name]) / worth
    print(
        f"{name}: {names.after / names.before:.0%} of the size, "
        f"{regained:.1%} of the worth"
    )
ahead = min(("HQKAN", "MLP"), key=losses.__getitem__)
print(f"{ahead} is ahead by {abs(losses['HQKAN'] - losses['MLP']):.3f} nats")
assert SMALL or losses["teacher"] < losses["HQKAN"] < losses["no FFN"]

# %% [markdown]
# One run of one small model with one recipe: a demonstration, not a comparison. For those, with
# seeds, tuning and more controls, see the results of `experiments/language/char_lm.py` and
# `experiments/language/minilm.py`. What the table does show is how much of the blocks' worth, the
# loss that the model has without them less the loss with them, a replacement of a fraction of their
# size takes over; and that an MLP of that size has to be asked, too.
#
# ## Write
#
# `generate` works as before.

# %%
prompt = torch.tensor([[number[symbol] for symbol in "The statement "]])


def write(model: nn.Module) -> str:
    torch.manual_seed(1)
    found = model.eval().generate(
        prompt, attention_mask=torch.ones_like(prompt),
        max_new_tokens=CONTEXT - prompt.shape[1],
        do_sample=True, top_k=5,
    )  # fmt: skip
    return "".join(symbols[n] for n in found[0])


for name in ("teacher", "HQKAN", "MLP"):
    print(f"{name:8} {write(models[name])!r}")

# %% [markdown]
# ## Keep
#
# `save_pretrained` writes into `config.json` what was replaced by what, and `qkan.from_pretrained`
# builds it again.

# %%
with tempfile.TemporaryDirectory() as folder:
    student.save_pretrained(folder)
    loaded = qkan.from_pretrained(folder)
with torch.no_grad():
    assert torch.equal(loaded.eval()(held_out).logits, student(held_out).logits)
print(type(loaded.transformer.h[0].mlp).__name__, "in place")

# %% [markdown]
# ## Fold
#
# An HQKAN's encoding is fixed, so each activation is a short Fourier series. While training, its
# coefficients are computed from the angles at every call. Trained, they stay what they are: `fold`
# computes them once and leaves a handful of operators, which is what writing one character at a
# time needs. The folded model is for inference only.

# %%
folded = qkan.fold(student)
print(folded.transformer.h[0].mlp)
with torch.no_grad():
    difference = (
        (folded(held_out).logits - student(held_out).logits).abs().max().item()
    )
print(f"largest difference of the logits: {difference:.1e}")
assert difference < 1e-2
print(repr(write(folded)))

# %% [markdown]
# ## Where next
#
# - `replace_activation(model, make, where="*.h.0.mlp.act")` takes one activation at a time, and
#   `make` chooses groups, repetitions and encoding.
# - Start from a trained model of your own: `replace_ffn(model, make, where="*.h.0.mlp")` takes one
#   block at a time, and `qkan.param_groups` makes optimizer groups without weight decay on angles.
# - `HQKAN(…, start="identity")`, `group=8` and `gate=True` change how a block begins and what it
#   can do; its documentation says how.
# - `benchmarks/decode.py` measures a folded block beside the MLP that it replaces.
# - `distill_ffn(…, checkpoint="file")` goes on where it was stopped, bit for bit.
