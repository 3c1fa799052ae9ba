"""GPT-2's feed-forward block, 8 × 128 tokens of width 768, beside HQKAN in its place.

Run     python benchmarks/block.py, some five minutes on a quiet machine
Writes  benchmarks/results/block.json

Float32. The MLP is what an HQKAN replaces; the bottleneck is a GELU MLP of as many parameters as
the HQKAN. They are three functions: what a block costs is measured here, what it can do is not.
Forward is without gradients; a step is forward, backward and AdamW. Each is measured eager and
compiled by inductor, which must first give the same outputs and gradients; then all take turns.

A compiler has little to gain here, and may lose: nearly all of a step is in narrow products, which
inductor hands to the same library, with copies of what it transposes, and each call checks its
guards. In an HQKAN the layer of circuits is a call of its own there, apart from the base activation
that the eager kernel computes with it.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from process import THREADS
from run import compact
from samples import Rounds, calls_for, ratio, summary
from torch import Tensor, nn

from qkan import HQKAN, effective_parameters, param_groups

ROOT = Path(__file__).resolve().parent.parent
WIDTH, TOKENS = 768, (8, 128)
AGREE = 1e-4
"""Largest difference of a compiled form from the eager one, over the largest value."""

Measure = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn")
    parser.add_argument("--latent", type=int, nargs="+", default=[10, 64])
    parser.add_argument("--eager", action="store_true", help="nothing is compiled")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "block.json")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    blocks = candidates(arguments.latent)
    x = torch.randn(*TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    forms = dict(blocks)
    if not arguments.eager:
        # one by one: the compiler counts the graphs of all blocks together
        torch._dynamo.config.recompile_limit = 64
        forms |= {f"{name}, compiled": compiled(block) for name, block in blocks.items()}
    record: dict[str, Any] = {
        "run": "block", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "threads": THREADS,
        "packages": {"torch": torch.__version__}, "width": WIDTH, "tokens": [*TOKENS],
        "parameters": {name: effective_parameters(block) for name, block in blocks.items()},
        "errors": check(forms, x),
        "measures": {
            "forward": measure({n: forward(f, x) for n, f in forms.items()}, arguments),
            "step": measure({n: step(f, x) for n, f in forms.items()}, arguments),
        },
    }  # fmt: skip
    record["load_average"] = machine.load()["average"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(record))
    for kind, rounds in record["measures"].items():
        report(kind, rounds)


def candidates(latents: list[int]) -> dict[str, nn.Module]:
    """The MLP, and for each number of latent nodes an HQKAN and a bottleneck of its size."""
    blocks = {"MLP": mlp(4 * WIDTH)}
    for latent in latents:
        block = HQKAN(WIDTH, latent=latent, generator=torch.Generator().manual_seed(0))
        # two biases, and a weight from and to each hidden unit
        hidden = round((effective_parameters(block) - WIDTH) / (2 * WIDTH + 1))
        blocks[f"HQKAN {latent}"] = block
        blocks[f"bottleneck {latent}"] = mlp(hidden)
    return blocks


def mlp(hidden: int) -> nn.Module:
    torch.manual_seed(0)
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


def measure(calls: dict[str, Measure], options: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Seconds of single calls, turn by turn."""
    counts = {}
    for name, call in calls.items():
        times = [_time(call) for _ in range(8)]
        counts[name] = calls_for(options.seconds, sorted(times)[len(times) // 2])
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            found[name].append([_time(call) for _ in range(counts[name])])
    return found


def _time(call: Measure) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(kind: str, rounds: dict[str, Rounds]) -> None:
    """Print times, and for an HQKAN the ratio to the bottleneck of its size."""
    for name, turns in rounds.items():
        line = f"{kind:<8} {name:<24} {1e3 * summary(turns).median:8.2f} ms"
        other = name.replace("HQKAN", "bottleneck")
        if other != name:
            line += f"; {ratio(turns, rounds[other]).median:.2f} times the bottleneck"
        eager = name.removesuffix(", compiled")
        if eager != name:
            line += f"; {ratio(turns, rounds[eager]).median:.2f} times eager"
        print(line)


if __name__ == "__main__":
    main()
