"""`qkan demo`: a function learned, cut down to its formula, drawn and measured; under a minute."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qkan.backends import QiskitBackend
from qkan.devices.plan import estimate
from qkan.devices.run import run
from qkan.interpret.formula import Formula
from qkan.interpret.importance import sparse_loss
from qkan.interpret.plot import plot, plot_bloch, plot_circuit, plot_spectrum
from qkan.interpret.symbolic import symbolic
from qkan.io.files import save, write_whole
from qkan.nn.layer import effective_parameters
from qkan.nn.network import QKAN
from qkan.surgery.prune import prune
from qkan.training.fit import fit

from .info import about
from .terminal import show, tell

FORMULA = "exp(sin πx + y²)"
NAMES = ("x", "y")
WIDTHS = (2, 5, 1)
STRENGTH = 3e-3
DEVICE, SHOTS, SHOWN = "FakeTorino", 8192, 5


@dataclass(frozen=True)
class Size:
    """How much the demo does.

    Attributes:
        points: To train on, and as many others to test on.
        steps: Of LBFGS in each of the three trainings.
        measured: Inputs that the device is given.
        emulator: What stands in for the device.
    """

    points: int = 1000
    steps: int = 20
    measured: int = 20
    emulator: str = "aer"


QUICK = Size(points=300, steps=5, measured=4, emulator="closed_form")


@dataclass(frozen=True)
class Setting:
    """What every part of the demo is given.

    Attributes:
        x: (n, 2) points to train on, uniform in the square.
        test: (n, 2) others, looked at once after each training.
        size: How much to do.
        seed: Of points, start and device.
        out: The folder that files go to.
        progress: Whether to show bars.
        say: Prints a part's results.
    """

    x: Tensor
    test: Tensor
    size: Size
    seed: int
    out: Path
    progress: bool
    say: Callable[[str], None]


def demonstrate(size: Size, seed: int, out: Path, *, quiet: bool, as_json: bool) -> None:
    """Play all parts, and write and show what came of them."""
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    points = 2 * torch.rand(2 * size.points, 2, generator=generator, dtype=torch.float64) - 1
    x, test = points.split(size.points)
    say = (lambda text: None) if as_json else show
    results = play(Setting(x, test, size, seed, out, not quiet, say), generator)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    write_whole(out / "demo.json", text.encode())
    show(results if as_json else f"\nWrote {', '.join(results['files'])}, demo.json in {out}")


def play(setting: Setting, generator: torch.Generator) -> dict[str, Any]:
    """All parts in turn; the results as JSON values."""
    begin = time.perf_counter()
    setting.say(f"1  {FORMULA} on [-1, 1]², {setting.size.points} points, seed {setting.seed}")
    model, learned = learn(setting, generator)
    formula, written = optional(lambda: formulate(model, setting))
    files, drawn = optional(lambda: draw(model, setting, formula))
    _, measured = optional(lambda: measure(model, setting))
    return {
        "function": FORMULA, "seed": setting.seed, **asdict(setting.size),
        "training": learned, "formula": written, "pictures": drawn, "device": measured,
        "files": ["model.safetensors", *(files or ())],
        "seconds": time.perf_counter() - begin, "environment": about(),
    }  # fmt: skip


def optional(part: Callable[[], tuple[Any, dict[str, Any]]]) -> tuple[Any, dict[str, Any]]:
    """A part's product and results, or how to install what it needs."""
    try:
        return part()
    except ImportError as error:
        tell(f"Left out. {error}")
        return None, {"left_out": str(error)}


def target(x: Tensor) -> Tensor:
    """(n, 2) → (n, 1)."""
    return torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)


def learn(setting: Setting, generator: torch.Generator) -> tuple[QKAN, dict[str, Any]]:
    """Train, then train for few edges, prune, and train what is left."""
    model = QKAN(WIDTHS, input_range=(-1, 1), generator=generator, dtype=torch.float64)
    rows = [_trained(model, setting, "trained")]
    with sparse_loss(model, STRENGTH) as loss:
        rows.append(_trained(model, setting, "for few edges", loss))
    model = prune(model, setting.x)
    rows.append(_trained(model, setting, "pruned, trained"))
    save(model, setting.out / "model.safetensors")
    return model, {"input_range": model.input_range, "stages": rows}


def _trained(model: QKAN, setting: Setting, name: str, loss: Any = None) -> dict[str, Any]:
    begin = time.perf_counter()
    history = fit(
        model, (setting.x, target(setting.x)), loss=loss, steps=setting.size.steps,
        progress=setting.progress,
    )  # fmt: skip
    if history.interrupted:
        raise KeyboardInterrupt
    with torch.no_grad():
        error = float((model(setting.test) - target(setting.test)).square().mean())
    layers: list[Any] = [*model.layers]
    edges = sum(int(layer.mask.sum()) for layer in layers)
    found = {
        "stage": name, "widths": model.widths, "edges": edges,
        "parameters": effective_parameters(model), "steps": len(history), "test_mse": error,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    setting.say(
        f"   {name + ':':17} QKAN{model.widths}, {edges:2} edges, {found['parameters']:3} "
        f"parameters, test MSE {error:.1e}, {found['seconds']:.1f} s"
    )
    return found


def formulate(model: QKAN, setting: Setting) -> tuple[Formula, dict[str, Any]]:
    """The model in elementary functions, with its error against the model."""
    setting.say("2  Its formula, in elementary functions where they fit")
    formula = symbolic(model, setting.x, forms="elementary", names=NAMES)
    setting.say("   " + repr(formula).replace("\n", "\n   "))
    return formula, {
        "text": str(formula), "latex": formula.latex(), "error": formula.error,
        "rmse": formula.rmse,
    }  # fmt: skip


def draw(
    model: QKAN, setting: Setting, formula: Formula | None
) -> tuple[list[str], dict[str, Any]]:
    """The network, and one of its edges three ways."""
    setting.say("3  Pictures of the network, and of one of its edges")
    # the first edge that pruning left
    first: Any = model.layers[0]
    output, input_ = first.mask.nonzero()[0].tolist()
    edge = (0, output, input_)
    pictures = {
        "network.svg": plot(model, setting.x, names=NAMES, formula=formula),
        "circuit.svg": plot_circuit(model, edge),
        "spectrum.svg": plot_spectrum(model, edge),
        "bloch.svg": plot_bloch(model, setting.x, edge, name=NAMES[edge[2]]),
    }
    for name, figure in pictures.items():
        figure.savefig(setting.out / name)
    return [*pictures], {"files": [*pictures], "edge": edge}


def measure(model: QKAN, setting: Setting) -> tuple[None, dict[str, Any]]:
    """The model's values from a simulated device, beside the simulator's."""
    x = setting.test[: setting.size.measured]
    setting.say(f"4  Measured on {DEVICE}, an IBM device's noise, {SHOTS} shots a circuit")
    backend = QiskitBackend(DEVICE, shots=SHOTS, emulator=setting.size.emulator, seed=setting.seed)
    plan = estimate(model, x, backend)
    setting.say(f"   estimated: {plan}".replace("\n", "\n   "))
    result = run(model, x, backend, progress=setting.progress)
    with torch.no_grad():
        exact = model(x)
    difference, bars = result.values - exact, result.stderr
    rms, rms_bar = (float(value.square().mean().sqrt()) for value in (difference, bars))
    setting.say(
        f"   {len(x)} values differ from the simulator's by {rms:.3f}, their standard error is "
        f"{rms_bar:.3f} (root mean squares); the first:"
    )
    found = torch.cat([x, exact, result.values, bars], 1).tolist()
    for a, b, wanted, value, bar in found[:SHOWN]:
        setting.say(f"   f({a:+.3f}, {b:+.3f}) = {value:.3f} ± {bar:.3f}, simulator {wanted:.3f}")
    return None, {
        "device": result.backend, "emulator": setting.size.emulator, "shots": SHOTS,
        "jobs": plan.jobs, "executions": plan.executions, "device_seconds": plan.seconds,
        "rms_difference": rms, "rms_stderr": rms_bar,
        "columns": [*NAMES, "simulator", "device", "stderr"], "values": found,
    }  # fmt: skip
