"""`on_device`: train a model whose circuits run on a device, by parameter shift."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan._options import check_choice
from qkan.backends import Backend, Run
from qkan.circuits import Rotation
from qkan.errors import QKANError
from qkan.simulators.bloch import angle as rotation_angle

from .checks import check_circuits, folder_of
from .layer_circuits import Evaluate, LayerCircuits, overriding_activations, quantum_layers
from .named import as_backend
from .noisy import noisy_expectation
from .parameter_shift import (
    ShiftedRotation,
    angle_offsets,
    differentiable,
    needed_shifts,
    trained_rotations,
    with_slopes_of,
)
from .plan import GRADIENTS


def on_device(
    model: nn.Module,
    backend: Backend | str,
    *,
    gradient: str = "parameter-shift",
    store: str | os.PathLike[str] | None = None,
) -> OnDevice:
    """Make a model's circuits run on a device inside a `with` block, forward and backward.

    Gradients are measured by parameter shift, ∂φ/∂α = (φ(α + π/2) - φ(α - π/2))/2 for the angle α
    of each rotation of the lowered circuit, for all edges and samples at once. This takes two more
    measurements for each rotation that depends on a parameter or x (16 for "pz" with 3
    repetitions), in the same job as the forward pass. The derivatives by theta, scale, shift and x
    follow from ∂φ/∂α, so networks of several layers can be trained; for |e| ≥ 1 the derivative of
    an arccos is 0. Every feature of a `DARUAN` is measured, even if its amplitude is 0, since the
    amplitude has a gradient there. Weights, base activations and modules between the layers are
    differentiated in torch. There are first derivatives only.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it; use it with `fit`, an optimizer or
            by plain calls, as always.
        backend: The device.
        gradient: "parameter-shift", or "hybrid" for a backward pass through the device's closed
            form from its calibration (as in `noisy`), which needs no further shots.
        store: The run's directory, as in `run`.

    Returns:
        A context, inside which `model(x)` measures. It counts `jobs` and `seconds`.

    Raises:
        QKANError: The model has no circuits or is on a device already; `gradient` is unknown;
            inside the block, a value is NaN or infinite (the message names it) or missing because
            of a failed job.

    Source: parameter shift, arXiv 1811.11184.
    """
    check_choice("gradient", gradient, GRADIENTS)
    quantum_layers(model)
    return OnDevice(model, as_backend(backend), gradient, folder_of(store))


class OnDevice:
    """A model on a device, used as `with on_device(model, backend) as device: fit(model, …)`.

    Attributes:
        model: The model; inside the `with` block its activations are measured.
        backend: The device.
    """

    def __init__(
        self, model: nn.Module, backend: Backend, gradient: str, store: Path | None
    ) -> None:
        self.model, self.backend = model, backend
        self._gradient, self._store = gradient, store
        self._stack: ExitStack | None = None
        self._run: Run | None = None
        # φ as the device would measure it with infinitely many shots; exact for an ideal device
        ideal = gradient != "hybrid" or backend.calibration().is_missing
        self._simulate: Evaluate = (
            LayerCircuits.simulate if ideal else noisy_expectation(backend, fused=backend.fused)
        )

    def __enter__(self) -> OnDevice:
        with ExitStack() as stack:
            # amplitudes that begin at 0 have gradients
            stack.enter_context(overriding_activations(self.model, self._activate, idle=True))
            about = {"mode": "on_device", "gradient": self._gradient}
            self._run = stack.enter_context(self.backend.open(self._store, about))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the measured output of the model; only inside the `with` block."""
        if self._stack is None:
            raise QKANError("The model is not on the device; use `with on_device(…) as device:`.")
        out: Tensor = self.model(x)
        return out

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of the jobs submitted so far."""
        return self._opened().jobs

    @property
    def seconds(self) -> float:
        """The time on the device billed so far."""
        return self._opened().seconds

    def _opened(self) -> Run:
        if self._run is None:
            raise QKANError("There is no run yet; use `with on_device(…) as device:`.")
        return self._run

    def _activate(self, circuits: LayerCircuits) -> Tensor:
        """The readout of measured values, with the derivatives that are needed."""
        check_circuits(circuits)
        if not circuits.values:
            return circuits.x * 0
        shifts: tuple[ShiftedRotation, ...] = ()
        if self._gradient == "parameter-shift":
            encoded = (circuits.x, circuits.scale, circuits.shift)
            needed = needed_shifts(circuits.circuit, circuits.theta, encoded)
            trained = trained_rotations(circuits.circuit, circuits.layer.circuit)
            shifts = tuple(shift for shift in needed if shift in trained)
        task = circuits.task(angle_offsets(circuits.circuit, shifts))
        z = torch.as_tensor(self._opened().measure([task])[0].z, dtype=torch.double)
        z = z.to(circuits.x.device)
        lost = int(z.isnan().sum())
        if lost:
            raise QKANError(
                f"Layer {circuits.name}: {lost} of {z.numel()} values did not come back, because a "
                "job failed, so this step has no gradient and was not taken. Take it again."
            )
        if self._gradient == "hybrid":
            return circuits.readout(with_slopes_of(self._simulate(circuits), z[0]))
        return circuits.readout(differentiable(z, shifts, lambda r: _angle(circuits, r)))


def _angle(circuits: LayerCircuits, rotation: Rotation) -> Tensor:
    """Return the angle of a rotation on every edge, (n, e), differentiable."""
    theta, shift = circuits.theta[None], circuits.shift[None]
    scale = circuits.layer.fixed_scale or circuits.scale[None]
    return rotation_angle(rotation, circuits.x, theta, scale, shift).squeeze(-2)
