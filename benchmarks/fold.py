"""What `fold` returns beside what it was made of, from a token to a batch.

Run     python benchmarks/fold.py, some two minutes on a quiet machine
        python benchmarks/fold.py --latent 64 measures these again, and keeps the others
Writes  benchmarks/results/fold.json

The QKAN in the middle of an HQKAN, for a number of latent nodes and of rows, float32, without
gradients, and a bank of eight HQKANs as experts, of which each row asks two. `folded` decides for
itself whether it computes a product or calls the layer that it keeps; `product` may not call it.
All must first give the outputs of float64; then they take turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from process import THREADS
from run import compact
from samples import measure, ratio, summary
from torch import Tensor, nn

from qkan import HQKAN, QKANExperts, fold
from qkan.surgery.fold import FoldedLayer

ROOT = Path(__file__).resolve().parent.parent
LATENT, ROWS = (10, 16, 32, 64, 128), (1, 16, 128, 1024, 4096)
ENCODINGS = ("linear", "ternary")
WIDTH, EXPERTS, ASKED, EXPERT_LATENT = 128, 8, 2, (10, 64)
AGREE = 1e-5
"""Largest difference of an output from the float64 truth, over the truth's largest value."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a turn")
    parser.add_argument("--latent", type=int, nargs="+", default=LATENT)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--encodings", nargs="+", default=ENCODINGS)
    parser.add_argument("--experts", type=int, nargs="*", help="latent nodes of the experts")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "fold.json")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    record: dict[str, Any] = {
        "run": "fold", "machine": machine.machine(), "threads": THREADS,
        "packages": {"torch": torch.__version__}, "seed": 0, "cases": {},
    }  # fmt: skip
    if arguments.out.exists():
        record["cases"] = json.loads(arguments.out.read_text())["cases"]
    experts = EXPERT_LATENT if arguments.experts is None else arguments.experts
    makers: dict[str, Callable[[int], dict[str, Callable[[], Tensor]]]] = {
        f"{latent} nodes, {encoding}": layers(latent, encoding)
        for encoding in arguments.encodings
        for latent in arguments.latent
    }
    makers |= {
        f"experts of {latent} nodes, {encoding}": banks(latent, encoding)
        for encoding in arguments.encodings
        for latent in experts
    }
    commit = machine.commit()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name, forms in makers.items():
        for rows in arguments.rows:
            case = f"{name}, {rows} rows"
            calls = forms(rows)
            turns = measure(calls, arguments.rounds, arguments.seconds)
            # of thousands of calls a median for each turn is kept
            rounds = {
                form: [[statistics.median(turn)] for turn in found] for form, found in turns.items()
            }
            record["cases"][case] = {
                "written": machine.now(), **commit, "rounds": rounds,
                "load_average": machine.load()["average"],
            }  # fmt: skip
            times = [f"{n} {1e6 * summary(found).median:.0f} µs" for n, found in rounds.items()]
            slower = ratio(rounds["folded"], rounds["unfolded"])
            print(f"{case}: {', '.join(times)}; folded {slower.median:.3f} times", flush=True)
        arguments.out.write_text(compact(record))


@torch.inference_mode()
def called(
    forms: dict[str, nn.Module], truth: nn.Module, *inputs: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """A call of each form, once their outputs have been found right.

    Raises:
        SystemExit: One of them computes something else.
    """
    wide = [t.double() if t.is_floating_point() else t for t in inputs]
    wanted = copy.deepcopy(truth).double()(*wide)
    calls: dict[str, Callable[[], Tensor]] = {}
    for name, form in forms.items():
        error = float((form(*inputs) - wanted).abs().max() / wanted.abs().max())
        if not error <= AGREE:
            raise SystemExit(f"{name} is {error} off, so nothing is measured.")
        calls[name] = torch.inference_mode()(lambda form=form: form(*inputs))
    return calls


def layers(latent: int, encoding: str) -> Callable[[int], dict[str, Callable[[], Tensor]]]:
    """The forms of the QKAN in an HQKAN, for a number of rows."""
    generator = torch.Generator().manual_seed(0)
    options: Any = {"latent": latent, "encoding": encoding, "generator": generator}
    block = HQKAN(WIDTH, **options)
    qkan = block.qkan.eval().requires_grad_(False)
    forms: dict[str, nn.Module] = {"unfolded": qkan, "folded": fold(qkan)}
    forms["product"] = FoldedLayer(qkan.layers[0])  # type: ignore[arg-type]

    def calls(rows: int) -> dict[str, Callable[[], Tensor]]:
        return called(forms, qkan, torch.randn(rows, latent, generator=generator))

    return calls


def banks(latent: int, encoding: str) -> Callable[[int], dict[str, Callable[[], Tensor]]]:
    """The forms of a bank of experts, for a number of rows."""
    generator = torch.Generator().manual_seed(0)
    options: Any = {"latent": latent, "encoding": encoding, "generator": generator}
    each = [HQKAN(WIDTH, **options) for _ in range(EXPERTS)]
    bank = QKANExperts(each).eval().requires_grad_(False)
    forms = {"unfolded": bank, "folded": fold(bank)}

    def calls(rows: int) -> dict[str, Callable[[], Tensor]]:
        x = torch.randn(rows, WIDTH, generator=generator)
        scores = torch.rand(rows, EXPERTS, generator=generator)
        weights, indices = scores.topk(ASKED)
        return called(forms, bank, x, indices, weights)

    return calls


if __name__ == "__main__":
    main()
