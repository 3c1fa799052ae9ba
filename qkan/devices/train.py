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
    """Let a model's circuits run on a device inside a `with`, forward and backward.

    Gradients are measured by parameter shift, ∂φ/∂α = (φ(α + π/2) - φ(α - π/2))/2 for the angle α
    of each rotation of the lowered circuit, all edges and samples at once. This takes two row sets
    for each rotation that carries a parameter or x, gates that merge counted once ("pz" at 3
    repetitions: 16), in the same job as the forward pass. From ∂φ/∂α follow those of theta, scale
    (times x), shift and x (times scale), so networks of several layers train; where |e| ≥ 1 an
    arccos has the derivative 0. Every feature of a `DARUAN` is measured, also where its amplitude
    is 0, for the amplitude has a gradient there. Weights, bases and whatever stands between the
    layers are differentiated in torch. There are first derivatives only.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it; `fit`, an optimizer or plain calls
            use it as always.
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
    check_choice("gradient", gradient, GRADIENTS)
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
        # φ as the device would give it without shots; of an ideal device, exactly
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

    def _activate(self, circuits: LayerCircuits) -> Tensor:
        """The readout of measured values, with the derivatives that were asked for."""
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
    """The angle of a rotation on every edge, (n, e), differentiable."""
    theta, shift = circuits.theta[None], circuits.shift[None]
    scale = circuits.layer.fixed_scale or circuits.scale[None]
    return rotation_angle(rotation, circuits.x, theta, scale, shift).squeeze(-2)
