"""One body, several heads: what the image experiments share.

A model is a convolutional body and a head that reads its features. Every kind of head is trained
jointly with a new body of the same shape, has as many trials, and is tested once a seed.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from shared.record import spread
from shared.runs import Runs
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from images.datasets import Images, Pair
from qkan import HQKAN, QKAN, effective_parameters, fit, param_groups

BATCH = 128
WEIGHT_DECAY = 0.01
WARM_UP = 0.2
TRIAL_SEED = 0
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
CIRCUITS: tuple[dict[str, Any], dict[str, Any]] = (
    {"encoding": "linear", "reps": 2, "base": None},
    {"encoding": "linear", "reps": 2, "ansatz": "rpz"},
)
"""Two forms of a layer of circuits, both with 7 parameters an edge."""

Head = dict[str, Any]
"""A kind and its options: `{"kind": "MLP", "hidden": [34], "activation": "relu"}`."""

Trial = tuple[Head, float]
"""A head and a learning rate."""

Run = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What is classified, and with what body.

    Attributes:
        images: Their parts.
        body: Makes a body, from (b, channels, height, width) to (b, features).
        features: Outputs of the body.
        classes: Outputs of a head.
        flip: Whether images are mirrored at random in training.
    """

    images: Images
    body: Callable[[], nn.Module]
    features: int
    classes: int = 10
    flip: bool = False


def make_head(inputs: int, outputs: int, head: Head) -> nn.Module:
    """Return the head that the settings describe; started by torch's global generator."""
    options = {name: value for name, value in head.items() if name != "kind"}
    match head["kind"]:
        case "QKAN":
            return QKAN([inputs, outputs], **options)
        case "HQKAN":
            return HQKAN(inputs, outputs, **options)
        case "linear":
            return nn.Linear(inputs, outputs)
        case "MLP":
            widths = [inputs, *options["hidden"], outputs]
            parts: list[nn.Module] = []
            for a, b in itertools.pairwise(widths):
                parts += [nn.Linear(a, b), ACTIVATIONS[options["activation"]]()]
            return nn.Sequential(*parts[:-1])
    raise ValueError(f"No head of kind {head['kind']!r}.")


def head_parameters(inputs: int, outputs: int, head: Head) -> int:
    """Trainable numbers of the head, duplicates among them."""
    with torch.random.fork_rng():
        return plain_parameters(make_head(inputs, outputs, head))


def plain_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Prepare(nn.Module):
    """Bytes (b, c, h, w) to numbers with the mean 0 and spread 1 of the training images' channels.

    In training, `flip` mirrors half of the images, drawn from torch's global generator.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, images: Tensor, *, flip: bool) -> None:
        super().__init__()
        channels = images.movedim(1, 0).flatten(1)
        counts = torch.stack([c.bincount(minlength=256) for c in channels]).double()
        values = torch.arange(256, dtype=torch.float64)
        mean = counts @ values / counts.sum(1)
        square = counts @ values**2 / counts.sum(1)
        self.register_buffer("mean", mean.float()[:, None, None])
        self.register_buffer("spread", (square - mean**2).sqrt().float()[:, None, None])
        self.flip = flip

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - self.mean) / self.spread).contiguous(memory_format=torch.channels_last)
        if self.flip and self.training:
            mirrored = torch.rand(len(x), 1, 1, 1) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        return x


def block(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> Iterator[nn.Module]:
    """Convolution, batch norm, ReLU."""
    yield nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU()


def train(task: Task, trial: Trial, epochs: int, seed: int, *, test: bool) -> Run:
    """Train one body with one head; the seed rules start, mirroring and batches.

    The parameters of the epoch with the lowest validation loss are judged.
    """
    head, rate = trial
    images = task.images
    steps = epochs * -(-len(images.train[0]) // BATCH)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = task.body().to(memory_format=torch.channels_last)
        last = make_head(task.features, task.classes, head)
        model = nn.Sequential(Prepare(images.train[0], flip=task.flip), body, last)
        groups = param_groups(model, rate, WEIGHT_DECAY)
        begin = time.process_time()
        history = fit(
            model, images.train, validation=images.validation, loss="cross_entropy",
            optimizer=torch.optim.AdamW(groups, lr=rate, fused=True), steps=steps,
            batch_size=BATCH, seed=seed, progress=False,
            scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(
                o, rate, total_steps=steps + 1, pct_start=WARM_UP
            ),
        )  # fmt: skip
        seconds = time.process_time() - begin
    if history.interrupted:
        raise KeyboardInterrupt
    model.eval()
    loss, accuracy = judge(model, images.validation)
    return {
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "test_accuracy": judge(model, images.test)[1] if test else None,
        "head_parameters": plain_parameters(last),
        "head_effective": effective_parameters(last),
        "parameters": plain_parameters(model),
        "effective": effective_parameters(model),
        "cpu_seconds": seconds,
        "validation_losses": [value for value in history.validation_loss if value is not None],
    }


@torch.no_grad()
def judge(model: nn.Module, pair: Pair) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    loss, right = 0.0, 0
    for x, y in zip(pair[0].split(500), pair[1].split(500), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += int((logits.argmax(-1) == y).sum())
    return loss / len(pair[1]), right / len(pair[1])


class Study:
    """Runs of one task, each computed once."""

    def __init__(self, task: Task, runs: Runs) -> None:
        self.task, self.runs = task, runs

    def run(self, trial: Trial, epochs: int, seed: int, *, test: bool) -> Run:
        """One model: its settings, and what came out."""
        images = self.task.images
        settings = {
            "head": trial[0], "rate": trial[1], "epochs": epochs, "seed": seed, "test": test,
            "images": [images.name, *(len(part[0]) for part in _parts(images))],
        }  # fmt: skip
        done = self.runs.get(settings, lambda: train(self.task, trial, epochs, seed, test=test))
        named = {name: settings[name] for name in ("head", "rate", "epochs", "seed")}
        return named | done

    def trials(self, planned: Mapping[str, Sequence[Trial]], epochs: int) -> dict[str, list[Run]]:
        """Short runs of one seed by kind, judged on the validation part."""
        return {
            kind: [self.run(trial, epochs, TRIAL_SEED, test=False) for trial in trials]
            for kind, trials in tqdm(planned.items(), desc="trials", unit="kind", disable=None)
        }

    def in_full(
        self, chosen: Mapping[str, Trial], epochs: int, seeds: Sequence[int]
    ) -> dict[str, list[Run]]:
        """Runs by name that are tested, all of one seed before the next: an early end leaves
        whole seeds.
        """
        found: dict[str, list[Run]] = {name: [] for name in chosen}
        jobs = [(seed, name) for seed in seeds for name in chosen]
        for seed, name in tqdm(jobs, desc="in full", unit="run", disable=None):
            found[name].append(self.run(chosen[name], epochs, seed, test=True))
        return found


def choose(tried: Sequence[Run]) -> Run:
    """The trial with the lowest validation loss."""
    return min(tried, key=lambda run: run["validation_loss"])


def summary(found: Sequence[Run]) -> dict[str, Any]:
    """One head's runs, a seed each."""
    tests = [run["test_accuracy"] for run in found]
    same = ("head", "rate", "head_parameters", "head_effective", "parameters", "effective")
    return {
        **{name: found[0][name] for name in same},
        "test_accuracy": spread(tests),
        "validation_accuracy": spread([run["validation_accuracy"] for run in found]),
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in found),
    }


def differences(found: Sequence[Run], others: Sequence[Run]) -> dict[str, Any]:
    """Test accuracy of one head minus that of another, seed by seed."""
    return spread(
        [a["test_accuracy"] - b["test_accuracy"] for a, b in zip(found, others, strict=True)]
    )


def print_trials(tried: dict[str, list[Run]]) -> None:
    for kind, runs in tried.items():
        print(f"\n{kind}, {len(runs)} trials by validation loss:")
        for run in sorted(runs, key=lambda run: run["validation_loss"]):
            options = {name: value for name, value in run["head"].items() if name != "kind"}
            print(f"  {run['validation_loss']:.4f}  rate {run['rate']:g}  {options}")


def print_row(name: str, row: dict[str, Any]) -> None:
    found = row["test_accuracy"]
    print(
        f"{name:<12} head {row['head_parameters']:>7,}  in all {row['parameters']:>7,}  test "
        f"{found['mean']:.2%} ± {found['sd'] or 0:.2%}  {row['cpu_seconds']:.0f} CPU s"
    )


def settings(task: Task) -> dict[str, Any]:
    """What every run of a task has in common."""
    images = task.images
    return {
        "images": images.name,
        "parts": [len(part[0]) for part in _parts(images)],
        "batch": BATCH,
        "flip": task.flip,
        "optimizer": f"AdamW, weight decay {WEIGHT_DECAY} (none on angles, biases and norms)",
        "schedule": f"one cycle, {WARM_UP:.0%} warm-up",
        "selection": "lowest validation cross-entropy, of the epoch and of the trial",
        "trial_seed": TRIAL_SEED,
        "threads": 1,
    }


def _parts(images: Images) -> tuple[Pair, Pair, Pair]:
    return images.train, images.validation, images.test
