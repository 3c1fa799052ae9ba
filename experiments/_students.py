"""Real transformers with smaller feed-forward blocks, distilled: what two experiments share.

The teacher is a pretrained model, a student a copy of it whose blocks are replaced by HQKANs or
by what they have to beat, all of at most the same number of parameters, and distilled.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _ffn import make_ffn, parameters
from _runs import Runs
from torch import nn
from tqdm import tqdm

from qkan.hybrid import distill_ffn, replace_ffn

Shape = dict[str, Any]
Batches = Iterable[dict[str, torch.Tensor]]

KINDS = ("HQKAN", "MLP", "SiLU", "identity")
VARIANTS: dict[str, tuple[Shape, Shape]] = {
    "HQKAN": (
        {"encoding": "linear", "reps": 1, "group": 8},
        {"encoding": "linear", "reps": 3, "group": 8, "base": None, "start": "gelu"},
    ),
    "MLP": ({"activation": "gelu"}, {"activation": "gelu", "middle": 1}),
    "SiLU": ({"activation": "silu"}, {"activation": "silu", "middle": 1, "closing": False}),
    "identity": ({"activation": "identity"}, {"activation": "identity", "middle": 1}),
}
"""Two forms of each kind; `latent` follows from the number of parameters."""

RATES = (1e-3, 4e-3)
SHARES = (2, 4, 8)
"""The students' blocks have a half, a quarter, an eighth of the parameters."""
TRIAL_SHARE = 4


@dataclass(frozen=True)
class Task:
    """A teacher, its text, and how a student is judged.

    Attributes:
        teacher: The pretrained model, in evaluation mode.
        width: Inputs of a feed-forward block.
        block_parameters: Of one of the teacher's blocks.
        batches: Training batches, the same on every iteration.
        judge: From a student and "validation" or "test" to numbers.
        better: The key of `judge`'s numbers that chooses; the highest wins.
        sizes: What else a result depends on, to be told from earlier runs: parts, batch and so on.
        loss: Of the end-to-end stage, as `distill_ffn` takes it; None for its own.
    """

    teacher: nn.Module
    width: int
    block_parameters: int
    batches: Batches
    judge: Callable[[nn.Module, str], dict[str, float]]
    better: str
    sizes: dict[str, Any]
    loss: Callable[[Any, Any, Any], torch.Tensor] | None = None


@dataclass(frozen=True)
class Steps:
    """Optimizer steps on the blocks one by one, and then on the whole model."""

    layers: int
    end_to_end: int


def fitted(width: int, shape: Shape, budget: int) -> Shape:
    """The shape with the largest `latent` that has at most `budget` parameters."""
    low, high = shape.get("group", 1), budget // width
    while low < high:
        middle = (low + high + 1) // 2
        fits = parameters(width, shape | {"latent": middle}) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return shape | {"latent": low}


def train(task: Task, shape: Shape, rate: float, seed: int, steps: Steps, part: str) -> Any:
    """Replace, distil, judge; the seed rules the start of the new blocks."""
    student = copy.deepcopy(task.teacher)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        replaced = replace_ffn(student, lambda width: make_ffn(width, shape))
    begin = time.process_time()
    history = distill_ffn(
        task.teacher, student, task.batches, names=replaced, steps=steps.layers,
        end_to_end_steps=steps.end_to_end, loss=task.loss, lr=rate, end_to_end_lr=rate / 4,
        scheduler="cosine", seed=seed, progress=False,
    )  # fmt: skip
    return {
        "before": replaced.before,
        "after": replaced.after,
        "flops": replaced.flops,
        "cpu_seconds": time.process_time() - begin,
        # the last of each, a list of none without that stage
        "block_errors": {name: errors[-1:] for name, errors in history.layers.items()},
        "end_to_end_loss": history.end_to_end[-1:],
        **task.judge(student.eval(), part),
    }


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
    """Trials at one size, then the chosen form and rate of every kind at all sizes."""

    def __init__(self, task: Task, runs: Runs, trial_steps: Steps, steps: Steps) -> None:
        self.task, self.runs = task, runs
        self.trial_steps, self.steps = trial_steps, steps

    def trials(self, seed: int) -> dict[str, list[dict[str, Any]]]:
        """As many for every kind: two forms at every rate, on the validation part."""
        jobs = [(kind, form, rate) for kind in KINDS for form in VARIANTS[kind] for rate in RATES]
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for kind, form, rate in tqdm(jobs, desc="trials", unit="run", disable=None):
            run = self._run(form, rate, seed, TRIAL_SHARE, self.trial_steps, "validation")
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
        jobs = [(seed, share, kind) for seed in seeds for share in SHARES for kind in KINDS]
        return [
            {"kind": kind}
            | self._run(best[kind]["form"], best[kind]["rate"], seed, share, self.steps, "test")
            for seed, share, kind in tqdm(jobs, desc="in full", unit="run", disable=None)
        ]

    def _run(
        self, form: Shape, rate: float, seed: int, share: int, steps: Steps, part: str
    ) -> dict[str, Any]:
        shape = fitted(self.task.width, form, self.task.block_parameters // share)
        settings = {
            "shape": shape, "rate": rate, "seed": seed, "part": part,
            "steps": [steps.layers, steps.end_to_end], **self.task.sizes,
        }  # fmt: skip
        result = self.runs.get(settings, lambda: train(self.task, shape, rate, seed, steps, part))
        return {"form": form, "shape": shape, "rate": rate, "seed": seed, "share": share} | result


Lines = dict[str, dict[str, float]]
"""What students are held against, by name: the teacher, the teacher without its blocks."""


def print_table(found: list[dict[str, Any]], lines: Lines, names: Sequence[str]) -> None:
    head = "".join(f"{name:>14}" for name in names)
    print(f"\n{'':<10} {'parameters':>12} {'latent':>7}{head}   CPU s")
    for run in found:
        values = "".join(f"{run[name]:>14.4f}" for name in names)
        latent = run["shape"]["latent"]
        print(
            f"{run['kind']:<10} {run['after']:>12,} {latent:>7}{values} {run['cpu_seconds']:>7.0f}"
        )
    for name, line in lines.items():
        print(f"{name:<31}" + "".join(f"{line[key]:>14.4f}" for key in names))


COLOURS = {"HQKAN": "#0072B2", "MLP": "#E69F00", "SiLU": "#D55E00", "identity": "#CC79A7"}


def figure(found: list[dict[str, Any]], lines: Lines, names: Sequence[str], path: Path) -> Path:
    """Each number over the blocks' share of the teacher's parameters, a line for every kind."""
    import figures
    from figures import plt

    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(names), figsize=(4.4 * len(names), 3.6), layout="constrained"
        )
        for ax, name in zip(axes, names, strict=True):
            for kind in KINDS:
                runs = [run for run in found if run["kind"] == kind]
                means = [
                    statistics.mean(run[name] for run in runs if run["share"] == share)
                    for share in SHARES
                ]
                shares = [1 / run["share"] for run in runs]
                ax.plot(shares, [run[name] for run in runs], "o", color=COLOURS[kind], alpha=0.6)
                ax.plot([1 / share for share in SHARES], means, color=COLOURS[kind], label=kind)
            for label, line in lines.items():
                ax.axhline(line[name], color=figures.GREY, linewidth=0.9, linestyle=":")
                ax.text(
                    1, line[name], label, color=figures.GREY, fontsize=7.5, ha="right",
                    va="bottom", transform=ax.get_yaxis_transform(),
                )  # fmt: skip
            ax.set(xscale="log", xlabel="share of the teacher's FFN parameters", title=name)
            ax.set_xticks([1 / share for share in SHARES], [f"1/{share}" for share in SHARES])
            ax.minorticks_off()
            if max(run[name] for run in found) > 1:
                ax.set_yscale("log")
        axes[0].legend()
        return figures._save(drawing, path)
