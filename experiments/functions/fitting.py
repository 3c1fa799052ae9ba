"""Small regression models of equal size, and their training until the loss no longer falls."""

from __future__ import annotations

import functools
import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from shared.runs import Runs
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from functions.targets import Data, Pair
from qkan import KAN, QKAN, Spline, effective_parameters

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "silu": nn.SiLU}
ITERATIONS = 10
"""Of L-BFGS in a step."""
MEMORY = 20
"""Pairs of differences that L-BFGS remembers."""


@dataclass(frozen=True)
class Form:
    """A model without its width.

    Attributes:
        kind: "QKAN", "KAN" or "MLP".
        hidden: Hidden layers.
        option: Repetitions of the circuit, intervals of the spline, or the MLP's activation.
        encoding: Of a QKAN.
    """

    kind: str
    hidden: int
    option: int | str
    encoding: str = "trainable"

    def widths(self, inputs: int, width: int) -> list[int]:
        return [inputs, *[width] * self.hidden, 1]

    def build(self, inputs: int, width: int) -> nn.Module:
        """In double precision, for inputs in [-1, 1], started from torch's default generator."""
        widths, double = self.widths(inputs, width), torch.float64
        if self.kind == "QKAN":
            return QKAN(
                widths, reps=int(self.option), encoding=self.encoding, input_range=(-1, 1),
                dtype=double,
            )  # fmt: skip
        if self.kind == "KAN":
            basis = Spline(intervals=int(self.option))
            return KAN(widths, basis=basis, input_range=(-1, 1), dtype=double)
        parts: list[nn.Module] = []
        for i, o in itertools.pairwise(widths):
            parts += [nn.Linear(i, o, dtype=double), ACTIVATIONS[str(self.option)]()]
        return nn.Sequential(*parts[:-1])

    def parameters(self, inputs: int, width: int) -> int:
        """Trainable ones, those left out that only duplicate another one."""
        with torch.random.fork_rng():
            return effective_parameters(self.build(inputs, width))

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if self._has(name)}

    def _has(self, name: str) -> bool:
        return name != "encoding" or self.kind == "QKAN"


@functools.cache
def fitted_width(form: Form, inputs: int, budget: int) -> int:
    """The width whose parameters come nearest to the budget; of two equally near the smaller."""
    width = 1
    while form.parameters(inputs, width + 1) <= budget:
        width += 1
    below, above = (budget - form.parameters(inputs, width + n) for n in (0, 1))
    return width + 1 if -above < below else width


def start(form: Form, inputs: int, width: int, seed: int) -> nn.Module:
    """A model whose start repeats by seed; the global generator stays where it is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return form.build(inputs, width)


@dataclass(frozen=True)
class Stop:
    """When training ends.

    Attributes:
        steps: At the latest.
        patience: Over so many steps the training loss has to fall
        fall: by this share of itself; None asks instead for a new lowest validation error.
    """

    steps: int
    patience: int
    fall: float | None


@dataclass
class Trained:
    """How a training ended; the model has the parameters of its lowest validation error.

    Attributes:
        train_rmse: After the last step.
        validation_rmse: The lowest.
        best_step: The step with it.
        steps: Taken in all.
        converged: Whether the loss that was watched no longer fell, and not the cap ended it.
        seconds: It took, beside whatever else the machine did.
    """

    train_rmse: float
    validation_rmse: float
    best_step: int
    steps: int
    converged: bool
    seconds: float


@torch.no_grad()
def rmse(model: nn.Module, pair: Pair) -> float:
    x, y = pair
    return float((model(x) - y).square().mean().sqrt())


class _Course:
    """What `converge` follows: the losses a step, and the best parameters so far."""

    def __init__(self, model: nn.Module, train: Pair, validation: Pair, stop: Stop) -> None:
        self.model, self.train, self.validation, self.stop = model, train, validation, stop
        self.parameters = [*model.parameters()]
        self.iterations = 0
        self.losses: list[float] = []
        self.best, self.best_step = math.inf, 0
        self.kept = self.vector()
        self.converged = False

    def vector(self) -> np.ndarray:
        return nn.utils.parameters_to_vector(self.parameters).detach().numpy().copy()

    @torch.no_grad()
    def load(self, vector: np.ndarray) -> None:
        # in place, so that engines see that the parameters have changed
        sizes = [p.numel() for p in self.parameters]
        for p, part in zip(self.parameters, torch.as_tensor(vector).split(sizes), strict=True):
            p.copy_(part.view_as(p))

    def loss_and_gradient(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        self.load(vector)
        x, y = self.train
        loss = F.mse_loss(self.model(x), y)
        gradient = torch.autograd.grad(loss, self.parameters)
        return loss.item(), nn.utils.parameters_to_vector(gradient).numpy()

    def after_iteration(self, intermediate_result: OptimizeResult) -> None:
        """Look at the end of a step; raise StopIteration to end the training."""
        self.iterations += 1
        if self.iterations % ITERATIONS == 0:
            self.look(float(intermediate_result.fun), intermediate_result.x)
            if self.converged:
                raise StopIteration

    def look(self, loss: float, vector: np.ndarray) -> None:
        """Note the losses of a step that ends with these parameters."""
        self.losses.append(loss)
        self.load(vector)
        error, stop, step = rmse(self.model, self.validation), self.stop, len(self.losses)
        if error < self.best:
            self.best, self.best_step, self.kept = error, step, self.vector()
        if stop.fall is None:
            self.converged = step - self.best_step >= stop.patience
        elif step > stop.patience:
            self.converged = loss > (1 - stop.fall) * self.losses[-1 - stop.patience]


def converge(model: nn.Module, train: Pair, validation: Pair, stop: Stop) -> Trained:
    """Minimise the mean squared error with SciPy's L-BFGS until `stop` says so.

    It ends earlier where the line search finds no lower loss, which counts as converged.
    """
    begin = time.perf_counter()
    course = _Course(model, train, validation, stop)
    options = {
        "maxiter": stop.steps * ITERATIONS, "maxfun": 20 * stop.steps * ITERATIONS,
        "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0,
    }  # fmt: skip
    result = minimize(
        course.loss_and_gradient, course.kept, jac=True, method="L-BFGS-B",
        callback=course.after_iteration, options=options,
    )  # fmt: skip
    if course.iterations % ITERATIONS or not course.losses:
        course.look(float(result.fun), result.x)
    course.load(course.kept)
    return Trained(
        course.losses[-1] ** 0.5, course.best, course.best_step, len(course.losses),
        course.converged or course.iterations < stop.steps * ITERATIONS,
        time.perf_counter() - begin,
    )  # fmt: skip


def study(
    forms: Sequence[Form], budget: int, data: Data, seed: int, stop: Stop, by: str = "kind"
) -> list[dict[str, Any]]:
    """Train every form once; test of each kind the one of lowest validation error.

    Args:
        forms: Models without their widths.
        budget: Effective parameters.
        data: What they are trained, chosen and tested on.
        seed: Of the starts.
        stop: When a training ends.
        by: The attribute of a form that says what competes with what to be tested.

    Returns:
        One dictionary a form, with "test_rmse" in the chosen ones only.
    """
    inputs = data.train[0].shape[1]
    found: list[dict[str, Any]] = []
    models: list[nn.Module] = []
    for form in forms:
        width = fitted_width(form, inputs, budget)
        models.append(start(form, inputs, width, seed))
        result = converge(models[-1], data.train, data.validation, stop)
        sizes = {"width": width, "parameters": form.parameters(inputs, width)}
        found.append({**form.to_dict(), **sizes, **asdict(result)})
    kinds = [getattr(form, by) for form in forms]
    for kind in dict.fromkeys(kinds):
        of_kind = [n for n, other in enumerate(kinds) if other == kind]
        chosen = min(of_kind, key=lambda n: found[n]["validation_rmse"])
        found[chosen]["test_rmse"] = rmse(models[chosen], data.test)
    return found


def run_all(
    jobs: Sequence[dict[str, Any]], work: Callable[[dict[str, Any]], Any], runs: Runs, workers: int
) -> list[Any]:
    """`work` on every job that `runs` does not have yet, in processes; all results in order.

    Args:
        jobs: Settings as JSON values.
        work: A function of a module, so that a process can import it.
        runs: Where results are kept; this process alone writes it.
        workers: Processes of one thread, as models this small only wait for a second one; 0 works
            in this process.
    """
    known = [run["settings"] for run in runs.done]
    missing = [job for job in jobs if json.loads(json.dumps(job)) not in known]
    if not workers:
        return [runs.get(job, functools.partial(work, job)) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        waiting = {pool.submit(work, job): job for job in missing}
        for future in tqdm(as_completed(waiting), "runs", len(waiting), disable=None):
            runs.get(waiting[future], future.result)
    return [runs.get(job, _missing) for job in jobs]


def _missing() -> dict[str, Any]:
    raise AssertionError("every run is done by now")
