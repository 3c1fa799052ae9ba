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
# There are two ways to use circuits in a transformer: as trainable activations in a model of the
# same size, and as feed-forward blocks that are much smaller than the old ones. This guide shows
# both. It is for those who train transformers; after it you can replace, distil, save and fold
# blocks of your own model.
#
# Most parameters of a transformer are in its feed-forward blocks: Linear → GELU → Linear, with an
# inner layer four times as wide as the model. An `HQKAN` does the opposite: it maps to a few latent
# nodes, has a circuit on each edge between them, and maps back.
#
# The guide trains a tiny GPT-2 on characters and makes its activations trainable. Then it replaces
# the blocks with HQKANs, distils the old blocks into them, generates text, and saves and folds the
# model. The control is an MLP with as many parameters that is treated in the same way. All circuits
# are simulated exactly.

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
# The training text is what Python's `help()` shows. The last tenth of it is held out.

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
# This works with any model of transformers; this one is small enough to train here. A uniform guess
# among all characters would have the loss $\ln(\text{number of characters})$.

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
# ## Trainable activations
#
# `replace_activation` replaces every activation with a `DARUAN`: GELU plus an amplitude times the
# expectation value of a circuit. The amplitude begins at 0, so the outputs are bitwise the same.

# %%
learning = copy.deepcopy(teacher)
activations = qkan.replace_activation(learning)
print(activations)
with torch.no_grad():
    assert torch.equal(learning(held_out).logits, teacher(held_out).logits)


# %% [markdown]
# Now all parameters of the model are trained a little longer. `param_groups` gives angles and
# amplitudes ten times the learning rate of the weights and no weight decay. The control is trained
# for as many steps with GELU.


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
# Each line is one group of a block, and each is a cosine: with one repetition and a trained scale a
# circuit adds exactly $A\cos(wx + b) + C$. A classical activation of that form can learn the same.
# A circuit can also run on a device, and its spectrum is known exactly for any number of
# repetitions. One run does not show which is better: `python experiments activations` compares them
# with several seeds and classical controls.

# %% [markdown]
# ## Replace
#
# `replace_ffn` finds the feed-forward blocks. It checks all of them before it changes the model, so
# a model is never half replaced. Pass a function that makes a new block for a given width. `print`
# shows the replaced blocks and their numbers of parameters.

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
# `undo` puts the old blocks back, with the same parameters:

# %%
trial = copy.deepcopy(teacher)
undone = qkan.replace_ffn(trial, qkan.HQKAN)
assert not torch.allclose(trial(held_out).logits, teacher(held_out).logits)
undone.undo()
assert torch.equal(trial(held_out).logits, teacher(held_out).logits)

# %% [markdown]
# The control is the old kind of block, but narrow, with as many parameters as the HQKANs. It begins
# as they do, with inner nodes of variance 1 and a small output. A model without feed-forward blocks
# shows how much the blocks contribute.

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
# The new blocks have random parameters. `distill_ffn` runs the original model, the teacher, and
# trains each new block to return what the old one returns for the same input. A second stage trains
# the predictions of the new model, the student, towards those of the teacher. Only the new blocks
# are trained, and no labels are needed.

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
# ## What the smaller models have lost
#
# The loss on held-out text is in nats a character. $e^{\text{loss}}$ is the number of equally
# likely characters among which a guess would have the same loss.

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
# The worth of the blocks is the loss without them minus the loss with them. The table shows how
# much of it the smaller blocks regain, and that an MLP of the same size must be compared. This is
# one run of one small model. `experiments/language/char_lm.py` and `experiments/language/minilm.py`
# compare such blocks with several seeds, tuning and more controls.
#
# ## Generate text
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
# ## Save and load
#
# `save_pretrained` records the replaced blocks in `config.json`, and `qkan.from_pretrained` builds
# them again.

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
# The encoding of an HQKAN is fixed, so each activation is a short Fourier series. During training
# its coefficients are computed from the angles at every call. `fold` computes them once, which
# makes text generation, with one character at a time, faster. The folded model is for inference
# only.

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
# - `replace_activation(model, make, where="*.h.0.mlp.act")` replaces one activation, and `make`
#   chooses groups, repetitions and encoding.
# - In a trained model of your own, `replace_ffn(model, make, where="*.h.0.mlp")` replaces one block
#   at a time, and `qkan.param_groups` excludes angles from weight decay.
# - `HQKAN(…, start="identity")`, `group=8` and `gate=True` change the start of a block and its
#   functions; see its documentation.
# - `benchmarks/decode.py` compares the speed of a folded block with that of the MLP it replaces.
# - `distill_ffn(…, checkpoint="file")` continues after an interruption with the same result.
