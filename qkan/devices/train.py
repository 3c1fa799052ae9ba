"""`on_device`: train a model whose circuits run on a device, by parameter shift."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from qkan.backends import Backend, Run
from qkan.circuits import Rotation
from qkan.errors import QKANError
from qkan.simulators.bloch import angle

from .checks import check_stage, folder_of
from .named import as_backend
from .noisy import noisy_expectation
from .plan import GRADIENTS
from .shift import shifted_gates
from .stage import Evaluate, Stage, quantum_layers, tapped


def on_device(
    model: nn.Module,
    backend: Backend | str,
    *,
    gradient: str = "parameter-shift",
    store: str | os.PathLike[str] | None = None,
) -> OnDevice:
    """Let a model's circuits run on a device inside a `with`, forward and backward.

    ∂φ/∂α = (φ(α + π/2) - φ(α - π/2))/2 for the angle α of each rotation of the lowered circuit,
    all edges and samples shifted at once: two row sets for each rotation that carries a parameter
    or x, gates that merge counted once ("pz" at 3 repetitions: 16). They travel in the forward
    pass's job. From ∂φ/∂α follow those of theta, scale (times x), shift and x (times scale), so
    networks of several layers train; where |e| ≥ 1 an arccos has the derivative 0. Weights, bases
    and whatever stands between the layers are differentiated in torch. First derivatives only.

    Args:
        model: Any module with `QKANLayer`s in it; `fit`, an optimizer or plain calls use it as
            always.
        backend: The device.
        gradient: "parameter-shift", or "hybrid": forward on the device, backward through its
            closed form by the calibration (as in `noisy`), which needs no further shots.
        store: The run's directory, as in `run`.

    Returns:
        A context; inside it `model(x)` measures. It counts `jobs` and `seconds`.

    Raises:
        QKANError: A model without circuits or already on a device; an unknown gradient; inside,
            a NaN or an infinity (named) or values that a failed job did not bring.

    Source: parameter shift, arXiv 1811.11184.
    """
    if gradient not in GRADIENTS:
        raise QKANError(f"gradient={gradient!r}; wanted {' or '.join(map(repr, GRADIENTS))}.")
    quantum_layers(model)
    return OnDevice(model, as_backend(backend), gradient, folder_of(store))


class OnDevice:
    """A model on a device: `with on_device(model, backend) as device: fit(model, …)`.

    Attributes:
        model: The model; between the ends of the `with` its activations are measured.
        backend: The device.
    """

    def __init__(
        self, model: nn.Module, backend: Backend, gradient: str, store: Path | None
    ) -> None:
        self.model, self.backend = model, backend
        self._gradient, self._store = gradient, store
        self._stack: ExitStack | None = None
        self._run: Run | None = None
        self._simulate = Stage.simulate if gradient != "hybrid" else _calibrated(backend)

    def __enter__(self) -> OnDevice:
        with ExitStack() as stack:
            stack.enter_context(tapped(self.model, self._activate, once=False))
            about = {"mode": "on_device", "gradient": self._gradient}
            self._run = stack.enter_context(self.backend.open(self._store, about))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def __call__(self, x: Tensor) -> Tensor:
        """The model's output, measured; only inside the `with`."""
        if self._stack is None:
            raise QKANError("The model is not on the device; use `with on_device(…) as device:`.")
        out: Tensor = self.model(x)
        return out

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of the jobs submitted so far."""
        return self._opened().jobs

    @property
    def seconds(self) -> float:
        """Time on the device that is billed so far."""
        return self._opened().seconds

    def _opened(self) -> Run:
        if self._run is None:
            raise QKANError("No run was opened yet; use `with on_device(…) as device:`.")
        return self._run

    def _activate(self, stage: Stage) -> Tensor:
        check_stage(stage)
        if not stage.values:
            return stage.x * 0
        rotations = _needed(stage) if self._gradient == "parameter-shift" else ()
        (found,) = self._opened().measure([stage.task(_offsets(stage, rotations))])
        z = torch.as_tensor(found.z, dtype=torch.double, device=stage.x.device)
        _require_all(stage, z)
        if self._gradient == "hybrid":
            moving = self._simulate(stage)
        else:
            slopes = (z[1::2] - z[2::2]) / 2
            moving = _surrogate(stage, rotations, slopes)
        return stage.readout(Measured.apply(moving, z[0]))  # type: ignore[no-untyped-call]


class Measured(torch.autograd.Function):
    """Measured values with the first derivatives of another tensor."""

    @staticmethod
    def forward(ctx: Any, moving: Tensor, z: Tensor) -> Tensor:
        """The measured values z."""
        ctx.dtype = moving.dtype
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient goes to `moving`."""
        if torch.is_grad_enabled():
            # the slopes are numbers: differentiated again they would count as constants
            raise QKANError(
                "create_graph=True: what is measured has first derivatives only. Differentiate "
                "the simulated model for second ones."
            )
        return grad.to(ctx.dtype), None


def _calibrated(backend: Backend) -> Evaluate:
    """φ as the device would give it without shots; of an ideal device, as it is."""
    if backend.calibration().is_missing:
        return Stage.simulate
    return noisy_expectation(backend, fused=backend.fused)


def _needed(stage: Stage) -> tuple[tuple[Rotation, int], ...]:
    """The shifts that some wanted gradient depends on."""
    if not torch.is_grad_enabled():
        return ()
    data = any(t.requires_grad for t in (stage.x, stage.scale, stage.shift))
    return tuple(
        (rotation, gate)
        for rotation, gate in shifted_gates(stage.layer.circuit)
        if (rotation.thetas and stage.theta.requires_grad)
        or (rotation.encoding is not None and data)
    )


def _offsets(stage: Stage, rotations: tuple[tuple[Rotation, int], ...]) -> Tensor:
    """(1 + 2r, p): no shift, then ±π/2 at one gate of each rotation."""
    offsets = torch.zeros(1 + 2 * len(rotations), len(stage.layer.circuit.parametric_gates))
    offsets = offsets.double()
    for number, (_, gate) in enumerate(rotations):
        offsets[1 + 2 * number, gate] = math.pi / 2
        offsets[2 + 2 * number, gate] = -math.pi / 2
    return offsets


def _surrogate(stage: Stage, rotations: tuple[tuple[Rotation, int], ...], slopes: Tensor) -> Tensor:
    """Σ_r slope_r·α_r, (n, e): its derivatives are those of φ, whatever it is worth itself."""
    theta, shift = stage.theta[None], stage.shift[None]
    scale = stage.layer.fixed_scale or stage.scale[None]
    total = torch.zeros_like(stage.x, dtype=torch.double)
    for (rotation, _), slope in zip(rotations, slopes, strict=True):
        total = total + slope * angle(rotation, stage.x, theta, scale, shift).squeeze(-2)
    return total


def _require_all(stage: Stage, z: Tensor) -> None:
    lost = int(z.isnan().sum())
    if lost:
        raise QKANError(
            f"Layer {stage.name}: {lost} of {z.numel()} values did not come back, because a job "
            "failed, so this step has no gradient and was not taken. Take it again."
        )
