"""A block 128 → 512 → 128 with activations that learn, beside the same block with GELU.

Run     python benchmarks/activation.py, a minute on a quiet machine
Writes  benchmarks/results/activation.json

Batch 1,024, float32, two threads. A step is forward and backward, with the gradient by the inputs
and without an optimizer. The candidates take turns, and each is compared with GELU turn by turn. A
`QKANLayer` with groups takes the place of the activation and of the second linear map together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import machine
import torch
from block import Measure
from process import THREADS
from run import compact
from samples import measure, ratio, summary
from torch import Tensor, nn

from qkan import DARUAN, QKANLayer

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HIDDEN, BATCH, GROUPS = 128, 512, 1024, 8
REFERENCE = "GELU"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.15, help="length of a turn")
    parser.add_argument("--only", nargs="+", help="names of candidates, to be compared with GELU")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "activation.json"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    blocks = candidates()
    if arguments.only:
        blocks = {n: b for n, b in blocks.items() if n in (REFERENCE, *arguments.only)}
    x = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1))
    calls = {name: step(block, x) for name, block in blocks.items()}
    rounds = measure(calls, arguments.rounds, arguments.seconds)
    steps: dict[str, Any] = {}
    for name, turns in rounds.items():
        found, times = summary(turns), ratio(turns, rounds[REFERENCE])
        steps[name] = {"seconds": found.median, "ratio": times.median, "quiet": times.quiet,
                       "turns": [sorted(turn)[len(turn) // 2] for turn in turns]}  # fmt: skip
        print(f"{name:<28} {1e3 * found.median:7.3f} ms; {times.median:.2f} times GELU's step")
    record = {
        "run": "activation", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "threads": THREADS, "seeds": {"model": 0, "x": 1},
        "packages": {"torch": torch.__version__}, "batch": BATCH, "widths": [WIDTH, HIDDEN, WIDTH],
        "group": GROUPS, "load_average": machine.load()["average"], "steps": steps,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(record))


def candidates() -> dict[str, nn.Module]:
    """The blocks by name. The amplitudes are as after some training, when nothing is 0."""

    def block(activation: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, HIDDEN), activation, nn.Linear(HIDDEN, WIDTH))

    def daruan(**options: Any) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        return block(DARUAN(HIDDEN, group=GROUPS, amplitude=0.1, generator=generator, **options))

    def layer(**options: Any) -> nn.Module:
        made = QKANLayer(HIDDEN, WIDTH, group=GROUPS, start="gelu", base=None, **options)
        return nn.Sequential(nn.Linear(WIDTH, HIDDEN), made)

    torch.manual_seed(0)
    return {
        REFERENCE: block(nn.GELU()),
        "DARUAN": daruan(),
        "DARUAN linear": daruan(encoding="linear"),
        "DARUAN 3 reps": daruan(reps=3),
        "DARUAN 3 reps linear": daruan(reps=3, encoding="linear"),
        "QKANLayer": layer(),
        "QKANLayer linear": layer(encoding="linear"),
    }


def step(block: nn.Module, x: Tensor) -> Measure:
    """Forward and backward of a block inside a network."""
    slope = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(2))

    def call() -> None:
        block.zero_grad()
        block(x.detach().requires_grad_()).backward(slope)

    return call


if __name__ == "__main__":
    main()
