"""Measure the CUDA engine against qkan 0.2.3 and torch on one card, and write one JSON file.

Run     python benchmarks/gpu.py, on a card nobody else uses; --quick takes few samples
Writes  benchmarks/results/gpu.json, or build/benchmarks/gpu-quick.json
Peers   qkan 0.2.3 takes part where python benchmarks/peers.py qkan-gpu, which installs it, has run

It installs nothing and ends within `--seconds`; of the ten minutes that a borrowed card may give,
the default is what `make test-gpu` has left. Where time is short there are fewer turns, and a part
that finds no time is named in the JSON.

Layers: each candidate in a process of its own, all turns interleaved, every call synchronised, and
first a gate: outputs and gradients of the float64 truth. Then, in this process: a call as a CUDA
graph, a transformer block at batch 1 beside the MLP that it replaces, the card's rate of
multiplications, and all launch shapes beside the one that the rule takes. It works with torch, CuPy
and numba; a candidate that is not there is left out with its reason.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gpu_shapes
import gpu_time
import machine
import torch
from cases import Case
from limit import BACKWARD, FORWARD
from process import Worker
from run import compact
from samples import summary
from session import Plan, Session
from torch import Tensor, nn

import qkan

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("qkan flash (GPU)", "qkan exact (GPU)")
MEASURES = ("forward", "step", "peak")
CASES = (
    Case("100-trainable", 1000, 100, 100, ("auto", "cupy", "chebyshev", "torch", *PEERS,
         "nn.Linear"), measures=MEASURES),
    Case("1024-linear", 8192, 1024, 1024, ("auto", "fourier", "nn.Linear"), encoding="linear",
         measures=MEASURES),
    Case("4-trainable", 8, 4, 4, ("auto", "cupy", "torch", *PEERS), measures=MEASURES),
)  # fmt: skip
Action = Callable[[], object]


class GpuProcess(Worker):
    """A worker on the GPU."""

    script = "gpu_worker.py"


class GpuSession(Session):
    """A case on the GPU; its measure "peak" is memory, once for each candidate."""

    def _rounds(self, measure: str) -> None:
        if measure != "peak":
            super()._rounds(measure)
            return
        for name in [*self.workers]:
            self._try(name, lambda name=name: self._ask_peak(name))

    def _ask_peak(self, name: str) -> None:
        self.results[name]["memory"] = self.workers[name].ask("peak")


def main() -> None:
    arguments = _arguments()
    _require_card()
    plan = Plan(*((2, 0.2) if arguments.quick else (9, 0.6)))
    tests = gpu_time.test_report(ROOT / "build" / "gpu-tests.xml")
    clock = gpu_time.Clock(arguments.seconds or gpu_time.left_by(tests))
    record: dict[str, Any] = {
        "run": arguments.out.stem,
        "quick": arguments.quick,
        "written": machine.now(),
        **machine.commit(),
        "machine": machine.machine(),
        "gpu": _card(),
        "packages": _packages(),
        "plan": vars(plan),
        "tests": tests,
        "seconds": clock.seconds,
        "no_time_for": [],
        "cases": [],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    parts = _parts(clock)
    clock.turns = sum(part.turns for part in parts)
    for part in parts:
        shorter = clock.fitting(plan, part.turns)
        if shorter is None:
            record["no_time_for"].append(part.name)
        else:
            print(f"{part.name}, {shorter.rounds} turns", flush=True)
            part.run(shorter, record)
        # after every part: a run cut short keeps what it has
        arguments.out.write_text(compact(record))
    print(arguments.out)


class _Part(NamedTuple):
    """A part of the measurements, which writes what it finds into the record."""

    name: str
    turns: int
    run: Callable[[Plan, dict[str, Any]], None]


def _parts(clock: gpu_time.Clock) -> list[_Part]:
    """All parts in order; a turn is one of one candidate, or the like."""
    sweep = functools.partial(gpu_shapes.sweep, clock=clock)
    others: dict[str, tuple[int, Callable[[Plan], Any]]] = {
        "limits": (3, limits), "graphs": (3, graphs), "decode": (5, decode), "shapes": (9, sweep),
    }  # fmt: skip
    return [
        *(_Part(case.id, 2 * len(case.candidates), functools.partial(_case, case))
          for case in CASES),
        *(_Part(name, turns, functools.partial(_other, name, part))
          for name, (turns, part) in others.items()),
    ]  # fmt: skip


def _case(case: Case, plan: Plan, record: dict[str, Any]) -> None:
    print(f"{case.title}, r = {case.reps}", flush=True)
    found = GpuSession(case, plan, print, case.candidates, GpuProcess).run()
    record["cases"].append({**found, "rounds": plan.rounds})
    _print(found)


def _other(name: str, part: Callable[[Plan], Any], plan: Plan, record: dict[str, Any]) -> None:
    record[name] = part(plan)
    print(_short(record[name]), flush=True)


def interleaved(actions: dict[str, Action], plan: Plan) -> dict[str, list[list[float]]]:
    """Seconds of synchronised calls, by rounds in which all take turns."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in actions}
    for action in actions.values():
        for _ in range(3):
            action()
    for _ in range(plan.rounds):
        for name, action in actions.items():
            samples: list[float] = []
            end = time.perf_counter() + plan.seconds / 4
            while time.perf_counter() < end:
                torch.cuda.synchronize()
                start = time.perf_counter()
                action()
                torch.cuda.synchronize()
                samples.append(time.perf_counter() - start)
            rounds[name].append([float(f"{one:.4g}") for one in samples])
    return rounds


def limits(plan: Plan) -> dict[str, Any]:
    """What no version can be faster than: a launch, and the multiplications of the first case.

    Multiplications and FMAs alone, as `limit.py` counts them; a GPU adds in the same units.
    """
    import cupy

    terms, elements = 512, 1 << 22
    kernel = cupy.RawKernel(_RATE, "rate")
    out = cupy.zeros(elements, cupy.float32)
    one = torch.zeros(1, device="cuda")
    found = interleaved(
        {
            "launch": lambda: one.add_(1),
            "rate": lambda: kernel((elements // 256,), (256,), (out, terms)),
        },
        plan,
    )
    rate = 4 * terms * elements / summary(found["rate"]).quiet
    work = CASES[0].batch * CASES[0].edges
    return {
        "rounds": found,
        "multiplications_per_second": rate,
        "operations": {"forward": FORWARD, "step": FORWARD + BACKWARD},
        "seconds": {
            "forward": FORWARD * work / rate,
            "step": (FORWARD + BACKWARD) * work / rate,
            "launch": summary(found["launch"]).median,
        },
    }


_RATE = """
extern "C" __global__ void rate(float* out, int terms) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    float a = at * 1e-9f, b = a + 1, c = a + 2, d = a + 3, x = out[at];
    for (int n = 0; n < terms; ++n) {
        a = fmaf(a, x, 0.5f); b = fmaf(b, x, 0.5f); c = fmaf(c, x, 0.5f); d = fmaf(d, x, 0.5f);
    }
    out[at] = a + b + c + d;
}
"""


def graphs(plan: Plan) -> dict[str, Any]:
    """The first case as CUDA graphs: what is left without the time to launch from Python."""
    case = CASES[0]
    torch.manual_seed(0)
    layer = qkan.QKANLayer(case.in_features, case.out_features, engine="cupy").cuda()
    x = torch.randn(case.batch, case.in_features, device="cuda", requires_grad=True)

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def step() -> None:
        layer(x).square().mean().backward()

    return {"rounds": interleaved({"forward": _captured(forward), "step": _captured(step)}, plan)}


def decode(plan: Plan) -> dict[str, Any]:
    """A feed-forward block of GPT-2's size, one token: HQKAN beside the MLP that it replaces."""
    torch.manual_seed(0)
    blocks: dict[str, nn.Module] = {
        "HQKAN 768, latent 10": qkan.HQKAN(768, latent=10).cuda().eval(),
        "GELU MLP 768, 3072": nn.Sequential(
            nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768)
        ).cuda().eval(),
    }  # fmt: skip
    x = torch.randn(1, 768, device="cuda")
    actions: dict[str, Action] = {}
    for name, block in blocks.items():
        actions[name] = lambda block=block: _quietly(block, x)
        actions[f"{name}, graph"] = _captured(lambda block=block: _quietly(block, x))
    return {
        "launches": {name: _launches(actions[name]) for name in blocks},
        "rounds": interleaved(actions, plan),
    }


def _quietly(block: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = block(x)
    return out


def _captured(action: Action) -> Action:
    """An action as a CUDA graph; gradients add up in place."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            action()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def _launches(action: Action) -> list[str]:
    """The kernels of one call, by name."""
    action()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        action()
        torch.cuda.synchronize()
    kind = torch.autograd.DeviceType.CUDA
    return [event.name for event in profile.events() if event.device_type == kind]


def _require_card() -> None:
    if torch.version.cuda is None or not torch.cuda.is_available():
        sys.exit(
            f"benchmarks/gpu.py measures an NVIDIA GPU, and torch {torch.__version__} finds none."
        )
    try:
        import cupy  # noqa: F401
    except ImportError:
        sys.exit('benchmarks/gpu.py needs CuPy: pip install "qkan-hybrid[cuda]" (or cuda12).')


def _card() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cuda": torch.version.cuda,
        "tf32": torch.get_float32_matmul_precision() != "highest",
    }


def _packages() -> dict[str, str]:
    import cupy
    import numba

    modules = {"torch": torch, "cupy": cupy, "numba": numba}
    return {name: str(module.__version__) for name, module in modules.items()}


def _print(found: dict[str, Any]) -> None:
    for name, result in found["results"].items():
        if result["status"] != "measured":
            continue
        parts = [
            f"{measure} {1e3 * summary(one['rounds']).median:.4g} ms"
            for measure, one in result["measures"].items()
        ]
        parts += [f"{result['memory']['above'] / 2**20:.1f} MiB"] if "memory" in result else []
        print(f"    {name:<20} {', '.join(parts)}", flush=True)


def _short(part: dict[str, Any]) -> str:
    """Medians of a part in milliseconds, and whatever is no list of samples."""
    shown = {k: v for k, v in part.items() if k not in ("rounds", "sweeps")}
    shown |= {k: f"{1e3 * summary(v).median:.4g} ms" for k, v in part.get("rounds", {}).items()}
    return ", ".join(f"{k} {v}" for k, v in shown.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples, not recorded")
    parser.add_argument("--seconds", type=float, help="how long it may take")
    parser.add_argument("--out", type=Path, help="the JSON; its name is the run's")
    arguments = parser.parse_args()
    if arguments.out is None:
        quick, full = "build/benchmarks/gpu-quick.json", "benchmarks/results/gpu.json"
        arguments.out = ROOT / (quick if arguments.quick else full)
    return arguments


if __name__ == "__main__":
    main()
