"""One token at a time: an HQKAN block of GPT-2's width beside the MLP that it replaces.

Run     python benchmarks/decode.py, a minute on a quiet machine; --device cuda on a GPU
Writes  benchmarks/results/decode.json

Batch 1, no gradients, float32. The forms of the block share their parameters and must first
reproduce its output in float64; then all take turns, A B A B. The MLP is another function: what a
block costs is measured here, what it can do is not.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from process import THREADS
from run import compact
from samples import measure, ratio, summary
from torch import Tensor, nn

from qkan import HQKAN, QKANLayer, fold

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 768
AGREE = 1e-5
"""Largest difference of a form's output from the float64 truth, over the truth's largest value."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="the folded block by inductor, too")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "decode.json")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    forms = candidates(torch.device(arguments.device), arguments.compiled)
    x = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1)).to(arguments.device)
    record: dict[str, Any] = {
        "run": "decode", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "device": _device(arguments.device), "threads": THREADS,
        "packages": {"torch": torch.__version__}, "width": WIDTH, "batch": 1,
        "parameters": {name: _numbers(form) for name, form in forms.items()},
        "errors": check(forms, x),
    }  # fmt: skip
    calls = {name: call_of(form, x) for name, form in forms.items()}
    rounds = measure(calls, arguments.rounds, arguments.seconds)
    record["rounds"] = rounds
    record["load_average"] = machine.load()["average"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(record))
    for name, turns in rounds.items():
        times = ratio(rounds["MLP"], turns)
        print(
            f"{name:<18} {1e6 * summary(turns).median:8.1f} µs, quiet "
            f"{1e6 * summary(turns).quiet:8.1f} µs; the MLP takes {times.median:.2f} times as long"
        )


def candidates(device: torch.device, compiled: bool) -> dict[str, nn.Module]:
    """The block as people run it, and the MLP."""
    generator = torch.Generator().manual_seed(0)
    block = HQKAN(WIDTH, generator=generator).eval().requires_grad_(False)
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
    forms: dict[str, nn.Module] = {"folded": fold(block), "auto": block}
    for engine in ("fourier", *(("numba",) if device.type == "cpu" else ())):
        forms[engine] = copy.deepcopy(block)
        for part in forms[engine].modules():
            if isinstance(part, QKANLayer):
                part.engine = engine
    forms["MLP"] = mlp.eval().requires_grad_(False)
    forms = {name: form.to(device) for name, form in forms.items()}
    if compiled:
        forms["folded, compiled"] = torch.compile(forms["folded"])  # type: ignore[assignment]
    return forms


def check(forms: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """The error of each form of the block.

    Raises:
        SystemExit: One of them computes something else.
    """
    truth = copy.deepcopy(forms["auto"]).double()(x.double())
    errors = {
        name: float((form(x) - truth).abs().max() / truth.abs().max())
        for name, form in forms.items()
        if name != "MLP"
    }
    wrong = {name: error for name, error in errors.items() if not error <= AGREE}
    if wrong:
        raise SystemExit(f"Not the same function, so nothing is measured: {wrong}")
    return errors


def call_of(form: nn.Module, x: Tensor) -> Callable[[], None]:
    """A token through a form, until it is there."""

    def call() -> None:
        with torch.inference_mode():
            form(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    return call


def _numbers(form: nn.Module) -> int:
    """Parameters, and what they were folded into."""
    return sum(value.numel() for value in form.state_dict().values())


def _device(name: str) -> str:
    return torch.cuda.get_device_name(name) if name.startswith("cuda") else name


if __name__ == "__main__":
    main()
