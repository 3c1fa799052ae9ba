"""GPT-2's feed-forward block, 8 × 128 tokens of width 768, beside HQKAN in its place.

Run     python benchmarks/block.py, some five minutes on a quiet machine
        python benchmarks/block.py --cases "block 10" measures one case again, and keeps the others
Writes  benchmarks/results/block.json

Float32. The MLP is what an HQKAN replaces; the bottleneck is a GELU MLP of as many parameters as
the HQKAN. They are three functions: what a block costs is measured here, what it can do is not.
Forward is without gradients; a step is forward, backward and AdamW. Each is measured eager and
compiled by inductor, which must first give the same outputs and gradients; then all take turns.

A case is a number of latent nodes: "block 10" is one block alone, "row 10" are six of them, each
behind a LayerNorm and beside its residual, and compiled as one. A call of something compiled costs
a certain time of its own, whatever is in it: its guards are checked, and its forward and backward
pass are called by Python. One block of a few milliseconds shows that time, and six share it.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from process import THREADS
from run import compact
from samples import Rounds, measure, ratio, summary
from torch import Tensor, nn

from qkan import HQKAN, effective_parameters, param_groups

ROOT = Path(__file__).resolve().parent.parent
WIDTH, TOKENS, LAYERS = 768, (8, 128), 6
CASES = ("block 10", "block 64", "row 10", "row 64")
AGREE = 1e-4
"""Largest difference of a compiled form from the eager one, over the largest value."""

Measure = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a turn")
    parser.add_argument("--cases", nargs="+", default=CASES, help='"block" or "row", and a number')
    parser.add_argument("--eager", action="store_true", help="nothing is compiled")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "block.json")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    # one by one: the compiler counts the graphs of all blocks together
    torch._dynamo.config.recompile_limit = 64
    record: dict[str, Any] = {
        "run": "block", "machine": machine.machine(), "threads": THREADS,
        "packages": {"torch": torch.__version__}, "width": WIDTH, "tokens": [*TOKENS],
        "layers": LAYERS, "cases": {},
    }  # fmt: skip
    if arguments.out.exists():
        record["cases"] = json.loads(arguments.out.read_text())["cases"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for case in arguments.cases:
        record["cases"][case] = found = measured(case, arguments)
        arguments.out.write_text(compact(record))
        report(case, found)


def measured(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """What is recorded of a case, once all compiled forms have been found right."""
    kind, latent = case.split()
    forms = candidates(int(latent), LAYERS if kind == "row" else 0)
    sizes = {name: effective_parameters(form) for name, form in forms.items()}
    if not options.eager:
        forms |= {f"{name}, compiled": compiled(form) for name, form in forms.items()}
    x = torch.randn(*TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    turns = (options.rounds, options.seconds)
    return {
        "written": machine.now(), **machine.commit(), "parameters": sizes,
        "errors": check(forms, x),
        "measures": {
            "forward": measure({name: forward(form, x) for name, form in forms.items()}, *turns),
            "step": measure({name: step(form, x) for name, form in forms.items()}, *turns),
        },
        "load_average": machine.load()["average"],
    }  # fmt: skip


def candidates(latent: int, layers: int) -> dict[str, nn.Module]:
    """An HQKAN, a bottleneck of its size, and for one block alone the MLP that they replace."""

    def hqkan(seed: int) -> nn.Module:
        return HQKAN(WIDTH, latent=latent, generator=torch.Generator().manual_seed(seed))

    # two biases, and a weight from and to each hidden unit
    hidden = round((effective_parameters(hqkan(0)) - WIDTH) / (2 * WIDTH + 1))

    def bottleneck(seed: int) -> nn.Module:
        return mlp(hidden, seed)

    if layers:
        rows = {"HQKAN": hqkan, "bottleneck": bottleneck}
        return {
            name: nn.Sequential(*(Residual(make(seed)) for seed in range(layers)))
            for name, make in rows.items()
        }
    return {"MLP": mlp(4 * WIDTH, 0), "HQKAN": hqkan(0), "bottleneck": bottleneck(0)}


class Residual(nn.Module):
    """A block as it stands in a transformer: x + block(norm(x))."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm, self.block = nn.LayerNorm(WIDTH), block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(self.norm(x))  # type: ignore[no-any-return]


def mlp(hidden: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, hidden), nn.GELU("tanh"), nn.Linear(hidden, WIDTH))


def compiled(block: nn.Module) -> nn.Module:
    made: nn.Module = torch.compile(copy.deepcopy(block))  # type: ignore[assignment]
    return made


def check(forms: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """The largest error of each compiled form, in outputs and gradients.

    Raises:
        SystemExit: One of them computes something else.
    """
    errors = {}
    for name, form in forms.items():
        if name.endswith(", compiled"):
            wanted, found = (gradients(one, x) for one in (forms[name[: -len(", compiled")]], form))
            pairs = zip(found, wanted, strict=True)
            errors[name] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    wrong = {name: error for name, error in errors.items() if not error <= AGREE}
    if wrong:
        raise SystemExit(f"Not the same function, so nothing is measured: {wrong}")
    return errors


def gradients(form: nn.Module, x: Tensor) -> list[Tensor]:
    out = form(x)
    return [out.detach(), *torch.autograd.grad(out.square().mean(), [*form.parameters()])]


def forward(form: nn.Module, x: Tensor) -> Measure:
    def call() -> None:
        with torch.inference_mode():
            form(x)

    return call


def step(form: nn.Module, x: Tensor) -> Measure:
    """Inside a network: the gradient comes from the layers behind, and goes on to those before."""
    optimizer = torch.optim.AdamW(param_groups(form, lr=1e-4))
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))

    def call() -> None:
        optimizer.zero_grad()
        form(x.detach().requires_grad_()).backward(slope)
        optimizer.step()

    return call


def report(case: str, found: dict[str, Any]) -> None:
    """Print times, and for an HQKAN the ratio to the bottleneck of its size."""
    for kind, forms in found["measures"].items():
        for name, turns in forms.items():
            line = f"{case:<9} {kind:<8} {name:<21} {1e3 * summary(turns).median:8.2f} ms"
            line += "".join(f"; {one}" for one in compared(forms, name))
            print(line, flush=True)


def compared(forms: dict[str, Rounds], name: str) -> list[str]:
    """The ratios of a form to the bottleneck and to its eager form, in words."""
    pairs = {
        "the bottleneck": name.replace("HQKAN", "bottleneck"),
        "eager": name.removesuffix(", compiled"),
    }
    return [
        f"{ratio(forms[name], forms[other]).median:.2f} times {said}"
        for said, other in pairs.items()
        if other != name
    ]


if __name__ == "__main__":
    main()
