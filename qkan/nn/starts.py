"""The initial values of a layer: random angles with a known second moment, or an activation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from qkan._options import check_choice, check_one_observable
from qkan.circuits import Circuit, Program, resolve_scale
from qkan.errors import QKANError
from qkan.simulators import BASES, edge_values

from .functional import READOUTS, amplitude

LARGEST_ERROR = 0.1
"""The largest `error` of an `ActivationFit` from which a layer may start."""

_POINTS = 1 << 14
_TRIES = 6
# relative to the activation's size; it limits the gain, which multiplies every later error
_RIDGE = 3e-3
_REACH = {"trainable": 4.0, "fixed": 2.0}
_STEP = 1e-5
# no further start is tried once the least squares cost is below this
_CLOSE = 1e-4
_P = ParamSpec("_P")
_R = TypeVar("_R")


def outside_modes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function compute in a thread of its own, where none of torch's modes is active.

    A layer may be built under `FakeTensorMode`, a default device, a function transform or autocast.
    Its initial values need real numbers even then, and a mode applies to one thread only.
    """

    @functools.wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function, *args, **kwargs).result()

    return alone


def write(target: Tensor, value: Tensor | Sequence[float]) -> None:
    """Copy values into the target: a tensor of its shape, or one row for its last axis.

    A target that is sharded over processes gets its own part of an ordinary tensor.
    """
    if not isinstance(value, Tensor):
        row = torch.tensor([*value], dtype=target.dtype, device=target.device)
        value = row.expand(target.shape)
    if hasattr(target, "device_mesh") and not hasattr(value, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(target, DTensor)
        value = distribute_tensor(value, target.device_mesh, target.placements)
    target.copy_(value)


def register_tensor(module: nn.Module, name: str, value: Tensor, *, trainable: bool) -> None:
    """Register a tensor in a module, as a parameter if it is trainable and as a buffer if not."""
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


@functools.lru_cache(maxsize=256)
@outside_modes
@torch.no_grad()
def second_moment(program: Program, scale: tuple[float, ...], readout: str) -> float:
    """Return E φ² for x ~ N(0, 1), theta ~ U(-π/2, π/2) and shift 0, by quasi-Monte Carlo.

    The points are fixed, so that equal options give equal weights; the error is about 0.003.
    """
    points = _additive_recurrence(_POINTS, program.num_theta + 1)
    x = torch.erfinv(2 * torch.from_numpy(points[:, :1]) - 1) * math.sqrt(2)
    theta = (torch.from_numpy(points[:, 1:]) - 0.5) * math.pi
    scales = torch.tensor(scale, dtype=torch.float64)
    values = edge_values(program, x, theta[:, None, None, :], scales, torch.zeros_like(scales))
    values = amplitude(values) if readout == "amplitude" else values
    return float(values.square().mean())


@functools.lru_cache(maxsize=32)
@outside_modes
def base_moment(name: str) -> float:
    """Return E act² of a base activation for x ~ N(0, 1)."""
    x, density = _normal(8.0, 2001)
    return float(density @ BASES[name](torch.from_numpy(x)).numpy() ** 2)


def _additive_recurrence(points: int, dimensions: int) -> np.ndarray:
    """(points, dimensions) numbers in (0, 1): the R_d sequence of the generalised golden ratio."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.arange(1, points + 1)[:, None] * steps) % 1.0


@dataclass(frozen=True)
class ActivationFit:
    """Angles of one edge with gain·φ(x) + offset ≈ a known activation of x.

    Attributes:
        theta: (k,) radians.
        scale: (u,).
        shift: (u,) radians.
        gain: The factor of φ, or of its amplitude readout.
        offset: The constant that is added; 0 if the fit was made without one.
        moment: E (gain·φ(x) + offset)² for x ~ N(0, 1), over all x.
        reach: The fit holds for |x| ≤ reach.
        error: Root mean square of the difference there, for x ~ N(0, 1), divided by the
            activation's standard deviation.
    """

    theta: tuple[float, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    gain: float
    offset: float
    moment: float
    reach: float
    error: float


def fit_activation(
    circuit: Circuit,
    activation: str,
    *,
    encoding: str | Sequence[float] = "trainable",
    readout: str = "z",
    offset: bool = True,
) -> ActivationFit:
    """Find angles with which an edge begins as a known activation, such as GELU.

    gain·φ(x) + offset is fitted by least squares under x ~ N(0, 1), from several starts with a
    fixed seed. The interval is |x| ≤ 4, or |x| ≤ 2 with fixed scales, where φ has the period 2π and
    needs the rest of the period to return to its value. Gain and offset are solved exactly for
    every trial of the angles. Results are cached.

    Args:
        circuit: Any circuit.
        activation: "identity", "gelu", "silu", "relu" or "tanh".
        encoding: As in `QKANLayer`.
        readout: As in `QKANLayer`.
        offset: Whether a constant may be added.

    Returns:
        The angles, and the error of the fit.

    Raises:
        QKANError: The activation or the readout is unknown.
        CircuitError: The scales do not fit the circuit.

    Example:
        >>> from qkan import ansatz, fit_activation
        >>> fit_activation(ansatz("pz", reps=3), "gelu").error < 0.01
        True
    """
    check_choice("activation", activation, BASES)
    check_choice("readout", readout, READOUTS)
    check_one_observable("fit_activation", circuit, "Choose one by circuit.with_observable(…).")
    fixed = None if encoding == "trainable" else resolve_scale(circuit, encoding)
    return fit_program(circuit.program, fixed, activation, readout, offset)


def check_close(
    fit: ActivationFit, activation: str, fixed_scale: tuple[float, ...] | None, offset: bool
) -> None:
    """Raise `QKANError` unless the error is small enough for a layer to start from the fit."""
    if not fit.error <= LARGEST_ERROR:
        scales = "trainable scales" if fixed_scale is None else f"scales {fixed_scale}"
        raise QKANError(
            f"start={activation!r}: the best fit of this circuit with "
            f"{scales}{'' if offset else ' and no bias'} has a root mean square error of "
            f"{fit.error:.2g} of the activation's standard deviation, for x ~ N(0, 1) within "
            f"±{fit.reach:g}; at most {LARGEST_ERROR} is allowed. Use more reps, "
            "encoding='trainable', a bias, another ansatz, or start='random'."
        )


@functools.lru_cache(maxsize=256)
@outside_modes
@torch.no_grad()
def fit_program(
    program: Program,
    fixed_scale: tuple[float, ...] | None,
    activation: str,
    readout: str,
    offset: bool,
) -> ActivationFit:
    """Return the best of several least squares fits; `fixed_scale` is None for trainable scales."""
    from scipy.optimize import least_squares

    problem = _Problem(program, fixed_scale, activation, readout, offset)
    rng, best = np.random.default_rng(0), None
    if not problem.draw(rng).size:
        return problem.result(np.empty(0))
    for _ in range(_TRIES):
        found = least_squares(
            lambda values: problem.residuals(values[None])[:, 0],
            problem.draw(rng), jac=problem.jacobian, ftol=1e-4, xtol=1e-6, max_nfev=40,
        )  # fmt: skip
        best = found if best is None or found.cost < best.cost else best
        if best.cost < _CLOSE:
            break
    assert best is not None
    return problem.result(best.x)


class _Problem:
    """The least squares problem for the n free parameters of an edge: theta, shift, scale."""

    def __init__(
        self,
        program: Program,
        fixed_scale: tuple[float, ...] | None,
        activation: str,
        readout: str,
        offset: bool,
    ) -> None:
        self.program, self.fixed_scale = program, fixed_scale
        self.readout, self.offset = readout, offset
        self.reach = _REACH["trainable" if fixed_scale is None else "fixed"]
        u = program.num_encodings
        # where every shift merges with a theta, only their sum has an effect
        self.shifts = 0 if len(program.merged_shifts) == u else u
        # between two points no frequency turns by more than about one radian
        band = program.bandwidth(fixed_scale or (1.2,) * u)
        self.x, self.density = _normal(self.reach, max(81, math.ceil(2 * self.reach * band)))
        target: np.ndarray = BASES[activation](torch.from_numpy(self.x)).numpy()
        mean = self.density @ target
        self.mean = mean if offset else 0.0
        self.size = math.sqrt(self.density @ (target - mean) ** 2)
        self.goal = (target - self.mean) / self.size

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return random numbers to start from; an arccos needs its argument within ±1."""
        near = 0.3 if self.program.uses_arccos else 1.0
        theta = rng.uniform(-math.pi / 2, math.pi / 2, self.program.num_theta)
        shift = rng.uniform(-math.pi / 2, math.pi / 2, self.shifts) * near
        u = self.program.num_encodings if self.fixed_scale is None else 0
        return np.concatenate([theta, shift, rng.uniform(0.3, 1.2, u) * near])

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Theta (m, k), scale (m, u) and shift (m, u) from values (m, n)."""
        k, u = self.program.num_theta, self.program.num_encodings
        shift = values[:, k : k + self.shifts] if self.shifts else np.zeros((len(values), u))
        if self.fixed_scale is not None:
            return values[:, :k], np.tile(self.fixed_scale, (len(values), 1)), shift
        return values[:, :k], values[:, k + self.shifts :], shift

    def phi(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The readout of φ at x, (n points, m), for values (m, n)."""
        angles = [torch.from_numpy(part)[:, None] for part in self.split(values)]
        z = edge_values(self.program, torch.from_numpy(x)[:, None], *angles)[..., 0]
        found: Tensor = amplitude(z) if self.readout == "amplitude" else z
        return found.numpy()

    def solve(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best gain of each column, relative to `size`, and φ without its mean."""
        centred = phi - self.density @ phi if self.offset else phi
        size = self.density @ centred**2
        return (self.density * self.goal) @ centred / (size + _RIDGE**2), centred

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Weighted differences at each point, and the ridge, (points + 1, m)."""
        gain, centred = self.solve(self.phi(values, self.x))
        difference = np.sqrt(self.density)[:, None] * (gain * centred - self.goal[:, None])
        return np.concatenate([difference, _RIDGE * gain[None]])

    def jacobian(self, values: np.ndarray) -> np.ndarray:
        """Derivatives by central differences."""
        steps = _STEP * np.eye(len(values))
        above, below = self.residuals(values + steps), self.residuals(values - steps)
        derivatives: np.ndarray = (above - below) / (2 * _STEP)
        return derivatives

    def result(self, values: np.ndarray) -> ActivationFit:
        """The fit with these values, and its error."""
        values = values[None]
        phi = self.phi(values, self.x)
        relative, centred = self.solve(phi)
        gain = self.size * float(relative[0])
        offset = float(self.mean - gain * (self.density @ phi)[0]) if self.offset else 0.0
        error = math.sqrt(self.density @ (relative * centred - self.goal[:, None])[:, 0] ** 2)
        x, density = _normal(6.0, 3 * len(self.x))
        moment = density @ (gain * self.phi(values, x)[:, 0] + offset) ** 2
        theta, scale, shift = (tuple(part[0].tolist()) for part in self.split(values))
        return ActivationFit(theta, scale, shift, gain, offset, float(moment), self.reach, error)


def _normal(reach: float, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Points within ±reach, and the weights of N(0, 1) at them by the trapezoidal rule."""
    x = np.linspace(-reach, reach, points)
    density = np.exp(-(x**2) / 2)
    density[[0, -1]] /= 2
    return x, density / density.sum()
