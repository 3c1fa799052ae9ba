"""`qkan demo`: learn a function, find its formula, draw and measure the model, in a minute.

`experiments/demo.py` is another demo, for this repository; it compares many models.
"""

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

from qkan._files import write_whole
from qkan.backends import QiskitBackend
from qkan.devices.plan import estimate
from qkan.devices.run import run
from qkan.interpret.formula import Formula
from qkan.interpret.importance import sparse_loss
from qkan.interpret.plot import plot, plot_bloch, plot_circuit, plot_spectrum
from qkan.interpret.symbolic import symbolic
from qkan.io.files import save
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
    """The size of the demo.

    Attributes:
        points: The number of points for training, and of other points for the test.
        steps: The number of steps of LBFGS in each of the three trainings.
        measured: The number of inputs that are measured on the device.
        emulator: The emulator of the device.
    """

    points: int = 1000
    steps: int = 20
    measured: int = 20
    emulator: str = "aer"


QUICK = Size(points=300, steps=5, measured=4, emulator="closed_form")


def demonstrate(size: Size, seed: int, out: Path, *, quiet: bool, as_json: bool) -> None:
    """Run all parts of the demo, write its files and show its results."""
    out.mkdir(parents=True, exist_ok=True)
    say = (lambda text: None) if as_json else show
    results = Demo(size, seed, out, say, progress=not quiet).play()
    text = json.dumps(results, indent=1, ensure_ascii=False)
    write_whole(out / "demo.json", text.encode())
    show(results if as_json else f"\nWrote {', '.join(results['files'])}, demo.json in {out}")


class Demo:
    """The parts of the demo, in order; each shows its results and returns them as JSON values.

    Args:
        size: The size of the demo.
        seed: The seed of points, initial values and device.
        out: The folder for all files.
        say: A function that shows a line of results.
        progress: Whether to show progress bars.
    """

    def __init__(
        self, size: Size, seed: int, out: Path, say: Callable[[str], None], *, progress: bool
    ) -> None:
        self.size, self.seed, self.out, self.say, self.progress = size, seed, out, say, progress
        generator = torch.Generator().manual_seed(seed)
        points = 2 * torch.rand(2 * size.points, 2, generator=generator, dtype=torch.float64) - 1
        self.x, self.test = points.split(size.points)
        self.model = QKAN(WIDTHS, input_range=(-1, 1), generator=generator, dtype=torch.float64)
        self.formula: Formula | None = None

    def play(self) -> dict[str, Any]:
        """Run all parts, one after the other."""
        begin = time.perf_counter()
        self.say(f"1  {FORMULA} on [-1, 1]², {self.size.points} points, seed {self.seed}")
        results = {
            "function": FORMULA, "seed": self.seed, **asdict(self.size),
            "training": self.learn(), "formula": optional(self.formulate),
            "pictures": optional(self.draw), "device": optional(self.measure),
        }  # fmt: skip
        files = ["model.safetensors", *results["pictures"].get("files", ())]
        seconds = time.perf_counter() - begin
        return {**results, "files": files, "seconds": seconds, "environment": about()}

    def learn(self) -> dict[str, Any]:
        """Train, train with a penalty on edges, prune, and train the remaining edges."""
        stages = [self._trained("trained")]
        with sparse_loss(self.model, STRENGTH) as loss:
            stages.append(self._trained("for few edges", loss))
        self.model = prune(self.model, self.x)
        stages.append(self._trained("pruned, trained"))
        save(self.model, self.out / "model.safetensors")
        return {"input_range": self.model.input_range, "stages": stages}

    def _trained(self, name: str, loss: Any = None) -> dict[str, Any]:
        begin = time.perf_counter()
        history = fit(
            self.model, (self.x, target(self.x)), loss=loss, steps=self.size.steps,
            progress=self.progress,
        )  # fmt: skip
        if history.interrupted:
            raise KeyboardInterrupt
        with torch.no_grad():
            error = float((self.model(self.test) - target(self.test)).square().mean())
        edges = sum(int(layer.mask.sum()) for layer in self.model.rows)
        found = {
            "stage": name, "widths": self.model.widths, "edges": edges,
            "parameters": effective_parameters(self.model), "steps": len(history),
            "test_mse": error, "seconds": time.perf_counter() - begin,
        }  # fmt: skip
        self.say(
            f"   {name + ':':17} QKAN{self.model.widths}, {edges:2} edges, "
            f"{found['parameters']:3} parameters, test MSE {error:.1e}, {found['seconds']:.1f} s"
        )
        return found

    def formulate(self) -> dict[str, Any]:
        """Write the model in elementary functions, and measure the error of the formula."""
        self.say("2  Its formula, in elementary functions where they fit")
        formula = self.formula = symbolic(self.model, self.x, forms="elementary", names=NAMES)
        self.say("   " + repr(formula).replace("\n", "\n   "))
        return {
            "text": str(formula), "latex": formula.latex(), "error": formula.error,
            "rmse": formula.rmse,
        }  # fmt: skip

    def draw(self) -> dict[str, Any]:
        """Draw the network, and the first edge that is left after pruning, in three ways."""
        self.say("3  Pictures of the network, and of one of its edges")
        output, input_ = self.model.rows[0].mask.nonzero()[0].tolist()
        edge = (0, output, input_)
        pictures = {
            "network.svg": plot(self.model, self.x, names=NAMES, formula=self.formula),
            "circuit.svg": plot_circuit(self.model, edge),
            "spectrum.svg": plot_spectrum(self.model, edge),
            "bloch.svg": plot_bloch(self.model, self.x, edge, name=NAMES[input_]),
        }
        for name, figure in pictures.items():
            figure.savefig(self.out / name)
        return {"files": [*pictures], "edge": edge}

    def measure(self) -> dict[str, Any]:
        """Measure the model's values on an emulated device, and compare with the simulator."""
        x, size = self.test[: self.size.measured], self.size
        self.say(
            f"4  Measured on {DEVICE}, with an IBM device's noise, {SHOTS} shots for each value"
        )
        backend = QiskitBackend(DEVICE, shots=SHOTS, emulator=size.emulator, seed=self.seed)
        plan = estimate(self.model, x, backend)
        self.say(f"   estimated: {plan}".replace("\n", "\n   "))
        result = run(self.model, x, backend, progress=self.progress)
        with torch.no_grad():
            exact = self.model(x)
        difference, bars = result.values - exact, result.stderr
        rms, rms_bar = (float(value.square().mean().sqrt()) for value in (difference, bars))
        self.say(
            f"   {len(x)} values differ from the simulator's by {rms:.3f}, and their standard "
            f"error is {rms_bar:.3f} (root mean squares); the first ones:"
        )
        found = torch.cat([x, exact, result.values, bars], 1).tolist()
        for a, b, wanted, value, bar in found[:SHOWN]:
            self.say(f"   f({a:+.3f}, {b:+.3f}) = {value:.3f} ± {bar:.3f}, simulator {wanted:.3f}")
        return {
            "device": result.backend, "emulator": size.emulator, "shots": SHOTS,
            "jobs": plan.jobs, "executions": plan.executions, "device_seconds": plan.seconds,
            "rms_difference": rms, "rms_stderr": rms_bar,
            "columns": [*NAMES, "simulator", "device", "stderr"], "values": found,
        }  # fmt: skip


def optional(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of a part, or a message that says how to install what it needs."""
    try:
        return part()
    except ImportError as error:
        tell(f"Left out. {error}")
        return {"left_out": str(error)}


def target(x: Tensor) -> Tensor:
    """Map (n, 2) → (n, 1)."""
    return torch.exp(torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2)
