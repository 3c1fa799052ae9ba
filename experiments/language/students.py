"""Real transformers with smaller feed-forward blocks, distilled: what two experiments share.

The teacher is a pretrained model, a student a copy of it whose blocks are replaced by HQKANs or
by what they have to beat, all of at most the same number of parameters. Each new block is fitted
by itself to inputs and outputs of the teacher's block that were written down once, and then all of
them are distilled end to end.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shared.runs import Runs
from torch import nn
from tqdm import tqdm

from language.ffn import make_ffn, parameters
from qkan import distill_ffn, ffn_names, fit, replace_ffn

Shape = dict[str, Any]
Batch = dict[str, torch.Tensor]
Pairs = tuple[torch.Tensor, torch.Tensor]
"""Inputs and outputs of a block, (tokens, width) each."""

KINDS = ("HQKAN", "Linear → QKANLayer", "MLP", "identity")
GUIDED = ("HQKAN, self-guided", "MLP, self-guided")
"""The first and third kind again, whose old blocks help during a part of the end-to-end stage."""
SELF_GUIDED = 0.5
"""That part, as `distill_ffn` takes it."""
SHARED: Shape = {"group": 8, "base": None, "start": "gelu"}
"""Eight activations for all nodes, so that parameters go to nodes and not to edges."""
VARIANTS: dict[str, tuple[Shape, Shape]] = {
    "HQKAN": ({"encoding": "trainable", **SHARED}, {"encoding": "linear", "reps": 1, "group": 8}),
    "Linear → QKANLayer": (
        {"up": False, "encoding": "trainable", **SHARED},
        {"up": False, "encoding": "trainable", **SHARED, "group": "inputs"},
    ),
    "MLP": ({"activation": "gelu"}, {"activation": "gelu", "middle": 1}),
    "identity": ({"activation": "identity"}, {"activation": "identity", "middle": 1}),
}
"""Two forms of each kind; `latent` follows from the number of parameters."""

RATES = (3e-3, 1e-2)
"""Of the fit; the end-to-end stage has `Task.end_to_end_rate` times that."""
SHARES = (2, 4, 8)
"""The students' blocks have a half, a quarter, an eighth of the parameters."""
ROWS = 512
"""Tokens in a batch of the fit."""


@dataclass(frozen=True)
class Task:
    """A teacher, its text, and how a student is judged.

    Attributes:
        teacher: The pretrained model, in evaluation mode.
        writes: From the name of a new block to that of the teacher's module that makes the output
            of the block it stands for.
        width: Inputs of a feed-forward block.
        block_parameters: Of one of the teacher's blocks.
        batches: Training batches, the same on every iteration.
        judge: From a student and "validation" or "test" to numbers.
        better: The key of `judge`'s numbers that chooses; the highest wins.
        sizes: What else a result depends on, to be told from earlier runs: parts, batch and so on.
        seen: Batches from which the blocks' inputs and outputs come.
        end_to_end_rate: Learning rate of the end-to-end stage, over that of the fit.
        loss: Of the end-to-end stage, as `distill_ffn` takes it; None for its own.
    """

    teacher: nn.Module
    writes: Callable[[str], str]
    width: int
    block_parameters: int
    batches: list[Batch]
    judge: Callable[[nn.Module, str], dict[str, float]]
    better: str
    sizes: dict[str, Any]
    seen: int
    end_to_end_rate: float
    loss: Callable[[Any, Any, Any], torch.Tensor] | None = None


@dataclass(frozen=True)
class Steps:
    """Optimizer steps of the fit of each block, and then on the whole model."""

    blocks: int
    end_to_end: int


def fitted(width: int, shape: Shape, budget: int) -> Shape:
    """The shape with the largest `latent` that has at most `budget` parameters."""
    groups = shape.get("group", 1)
    low, high = groups if isinstance(groups, int) else 1, budget // width
    while low < high:
        middle = (low + high + 1) // 2
        fits = parameters(width, shape | {"latent": middle}) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return shape | {"latent": low}


class Lessons:
    """What the teacher does, computed once for all students.

    Args:
        task: Whose teacher it is.

    Attributes:
        teacher: A copy that computes the output of a batch once; `id` tells batches apart.
        pairs: Inputs and outputs of every block, by name.
    """

    def __init__(self, task: Task) -> None:
        self.pairs = see_pairs(task)
        self.teacher = copy.deepcopy(task.teacher)
        self._forward, self._known = self.teacher.forward, dict[int, Any]()
        self.teacher.forward = self._remembered

    def _remembered(self, **batch: torch.Tensor) -> Any:
        key = id(batch["input_ids"])
        if key not in self._known:
            self._known[key] = self._forward(**batch)
        return self._known[key]


def train(
    task: Task, lessons: Lessons, shape: Shape, rate: float, seed: int, steps: Steps,
    self_guided: float = 0.0,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Replace, fit, distil; the seed rules the start of the new blocks and the fit's batches."""
    student = copy.deepcopy(task.teacher)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        replaced = replace_ffn(student, lambda width: make_ffn(width, shape))
    begin = time.process_time()
    errors = {
        name: fit(
            student.get_submodule(name), lessons.pairs[name], loss=relative_error,
            optimizer="adamw", lr=rate, steps=steps.blocks, batch_size=ROWS, scheduler="cosine",
            seed=seed, progress=False,
        ).train_loss[-1]
        for name in replaced
    }  # fmt: skip
    history = distill_ffn(
        lessons.teacher, student, task.batches, names=replaced, steps=0,
        end_to_end_steps=steps.end_to_end, self_guided=self_guided, loss=task.loss,
        lr=task.end_to_end_rate * rate, scheduler="cosine", seed=seed, progress=False,
    )  # fmt: skip
    return student.eval(), {
        "before": replaced.before,
        "after": replaced.after,
        "flops": replaced.flops,
        "cpu_seconds": time.process_time() - begin,
        "block_errors": errors,
        "end_to_end_loss": history.end_to_end[-1:],
    }


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of ‖found - wanted‖² / (‖wanted‖² + the batch's median of ‖wanted‖²).

    A few tokens' outputs are many times larger than the rest; divided by their own size, they do
    not rule the mean, nor does a token with hardly any output.
    """
    size = wanted.square().sum(-1)
    return ((found - wanted).square().sum(-1) / (size + size.median())).mean()


@torch.no_grad()
def see_pairs(task: Task) -> dict[str, Pairs]:
    """What the teacher's blocks get and give on the first batches, padding left out."""
    rows: dict[str, tuple[list[torch.Tensor], list[torch.Tensor]]] = {
        name: ([], []) for name in ffn_names(task.teacher)
    }
    kept = torch.empty(0)

    def reads(name: str, _: nn.Module, inputs: Any) -> None:
        rows[name][0].append(inputs[0].flatten(0, 1)[kept])

    def writes(name: str, _: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        rows[name][1].append(output.flatten(0, 1)[kept])

    handles = []
    for name in rows:
        before, after = map(task.teacher.get_submodule, (name, task.writes(name)))
        handles.append(before.register_forward_pre_hook(functools.partial(reads, name)))
        handles.append(after.register_forward_hook(functools.partial(writes, name)))
    for batch in task.batches[: task.seen]:
        kept = batch["attention_mask"].flatten().bool()
        task.teacher(**batch)
    for handle in handles:
        handle.remove()
    return {name: (torch.cat(x), torch.cat(y)) for name, (x, y) in rows.items()}


def alike(texts: Sequence[str], batch: int) -> list[list[str]]:
    """Batches of texts of about one length, so that little is padded, in an order drawn at 0."""
    row = sorted(texts, key=len)
    found = [row[start : start + batch] for start in range(0, len(row), batch)]
    random.Random(0).shuffle(found)
    return found


def packaged(package: str, folder: str, install: str) -> Path:
    """A folder of an installed package, which is not imported.

    Raises:
        SystemExit: It is not installed; the message says how to get it.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"The model is part of the package {package}: {install}")
    return Path(found.submodule_search_locations[0]) / folder


class Zero(nn.Module):
    """Gives 0: what is left of a transformer without its feed-forward blocks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def without_blocks(teacher: nn.Module) -> nn.Module:
    """A copy of the teacher whose feed-forward blocks give 0, for a floor."""
    model = copy.deepcopy(teacher)
    replace_ffn(model, lambda width: Zero())
    return model.eval()


class Study:
    """Trials at one size, then the chosen form and rate of every kind at all sizes.

    Args:
        task: The teacher and its text.
        runs: Where finished runs are kept.
        trial_steps: Of a trial.
        steps: Of a run in full.
        kinds: What is compared; a kind of `GUIDED` has the forms of its name before the comma.
        shares: The sizes; the trials have the middle one.
    """

    def __init__(
        self, task: Task, runs: Runs, trial_steps: Steps, steps: Steps,
        kinds: Sequence[str] = KINDS, shares: Sequence[int] = SHARES,
    ) -> None:  # fmt: skip
        self.task, self.runs = task, runs
        self.trial_steps, self.steps = trial_steps, steps
        self.kinds, self.shares = kinds, shares

    @functools.cached_property
    def lessons(self) -> Lessons:
        """What all students learn from."""
        return Lessons(self.task)

    def trials(self, seed: int) -> dict[str, list[dict[str, Any]]]:
        """As many for every kind: two forms at every rate, on the validation part."""
        share = self.shares[len(self.shares) // 2]
        jobs = [
            (kind, form, rate)
            for kind in self.kinds
            for form in VARIANTS[kind.partition(",")[0]]
            for rate in RATES
        ]
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in self.kinds}
        for kind, form, rate in tqdm(jobs, desc="trials", unit="run", disable=None):
            run = self._run(kind, form, rate, seed, share, self.trial_steps, "validation")
            found[kind].append(run)
        return found

    def finals(
        self, trials: dict[str, list[dict[str, Any]]], seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The best trial's form and rate, at every size, tested once a seed."""
        best = {
            kind: max(tried, key=lambda run: run[self.task.better])
            for kind, tried in trials.items()
        }
        jobs = [
            (seed, share, kind) for seed in seeds for share in self.shares for kind in self.kinds
        ]
        return [
            {"kind": kind}
            | self._run(
                kind, best[kind]["form"], best[kind]["rate"], seed, share, self.steps, "test"
            )
            for seed, share, kind in tqdm(jobs, desc="in full", unit="run", disable=None)
        ]

    def _run(
        self, kind: str, form: Shape, rate: float, seed: int, share: int, steps: Steps, part: str
    ) -> dict[str, Any]:
        guided = SELF_GUIDED if kind in GUIDED else 0.0
        shape = fitted(self.task.width, form, self.task.block_parameters // share)
        settings = {
            "shape": shape, "rate": rate, "seed": seed, "part": part, "steps": asdict(steps),
            "self_guided": guided, **self.task.sizes,
        }  # fmt: skip

        def do() -> dict[str, Any]:
            student, course = train(self.task, self.lessons, shape, rate, seed, steps, guided)
            return course | self.task.judge(student, part)

        result = self.runs.get(settings, do)
        return {"form": form, "shape": shape, "rate": rate, "seed": seed, "share": share} | result


Lines = dict[str, dict[str, float]]
"""What students are held against, by name: the teacher, the teacher without its blocks."""


def print_table(found: list[dict[str, Any]], lines: Lines, names: Sequence[str]) -> None:
    head = "".join(f"{name:>14}" for name in names)
    print(f"\n{'':<18} {'parameters':>12} {'latent':>7}{head}   CPU s")
    for run in found:
        values = "".join(f"{run[name]:>14.4f}" for name in names)
        latent = run["shape"]["latent"]
        print(
            f"{run['kind']:<18} {run['after']:>12,} {latent:>7}{values} {run['cpu_seconds']:>7.0f}"
        )
    for name, line in lines.items():
        print(f"{name:<39}" + "".join(f"{line[key]:>14.4f}" for key in names))


COLOURS = {
    "HQKAN": "#0072B2", "Linear → QKANLayer": "#009E73", "MLP": "#E69F00", "identity": "#CC79A7",
    "HQKAN, self-guided": "#56B4E9", "MLP, self-guided": "#D55E00",
}  # fmt: skip


def figure(found: list[dict[str, Any]], lines: Lines, names: Sequence[str], path: Path) -> Path:
    """Each number over the blocks' share of the teacher's parameters, a line for every kind."""
    from shared import figures
    from shared.figures import plt

    sizes = sorted({run["share"] for run in found})
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(names), figsize=(4.4 * len(names), 3.6), layout="constrained"
        )
        for ax, name in zip(axes, names, strict=True):
            for kind in dict.fromkeys(run["kind"] for run in found):
                runs = [run for run in found if run["kind"] == kind]
                means = [
                    statistics.mean(run[name] for run in runs if run["share"] == share)
                    for share in sizes
                ]
                shares = [1 / run["share"] for run in runs]
                ax.plot(shares, [run[name] for run in runs], "o", color=COLOURS[kind], alpha=0.6)
                ax.plot([1 / share for share in sizes], means, color=COLOURS[kind], label=kind)
            for label, line in lines.items():
                ax.axhline(line[name], color=figures.GREY, linewidth=0.9, linestyle=":")
                ax.text(
                    1, line[name], label, color=figures.GREY, fontsize=7.5, ha="right",
                    va="bottom", transform=ax.get_yaxis_transform(),
                )  # fmt: skip
            ax.set(xscale="log", xlabel="share of the teacher's FFN parameters", title=name)
            ax.set_xticks([1 / share for share in sizes], [f"1/{share}" for share in sizes])
            ax.minorticks_off()
            if max(run[name] for run in found) > 1:
                ax.set_yscale("log")
        axes[0].legend()
        return figures.save(drawing, path)
