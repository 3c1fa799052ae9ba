"""`noisy`: train with a device's noise in closed form, before paying for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.backends import Backend
from qkan.circuits import DeviceNoise, PulseNoise, isa_expectation
from qkan.errors import QKANError

from .layer_circuits import Evaluate, LayerCircuits, overriding_activations
from .named import as_backend


def device_noise(
    backend: Backend | str,
    *,
    qubits: Sequence[int] | None = None,
    readout: bool | None = None,
) -> DeviceNoise:
    """Return the noise of a backend's median qubit, from its calibration.

    Args:
        backend: The device.
        qubits: The physical qubits over which the median is taken; None takes those that the
            backend uses.
        readout: Whether readout errors are included. None includes them unless the backend corrects
            them.

    Returns:
        The noise of the pulses and the readout, for `noisy` and `qkan.circuits.isa_expectation`.

    Raises:
        QKANError: The calibration lacks a value, or the device has no such qubit.
    """
    backend = as_backend(backend)
    calibration = backend.calibration()
    known = [int(number) for number in calibration.qubits]
    unknown = sorted(set(qubits or ()) - set(known))
    if unknown:
        raise QKANError(
            f"{backend.name} has no qubits {unknown}; its {len(known)} qubits have numbers from 0 "
            "on."
        )
    noise = calibration.device_noise(backend.layout if qubits is None else qubits)
    if readout is None:
        readout = not backend.corrects_readout

    def median(what: str, values: object) -> float:
        array = np.asarray(values, dtype=np.float64)
        if np.isnan(array).all():
            raise QKANError(
                f"The calibration of {backend.name} says nothing about its {what}. Pass a noise of "
                "your own, DeviceNoise(…), or train with the exact simulator."
            )
        return float(np.nanmedian(array))

    return _changed(noise, median, readout)


@contextmanager
def noisy(
    model: nn.Module, device: Backend | DeviceNoise | str, *, fused: bool | None = None
) -> Iterator[None]:
    """Make a model compute the mean values that a device would measure, inside a `with` block.

    Every gate is computed as the device's pulses, each with its relaxation and gate error, and with
    readout errors unless the backend corrects them: in closed form, differentiable, on any torch
    device. Call `fit` in the block to fine-tune the model for the device.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        device: A backend, with which each edge gets the mean noise of the qubits that will measure
            it; the edges with the largest weights get the best qubits. Or a noise from
            `device_noise`, which all edges get.
        fused: Whether each circuit runs as one rotation; None means as on the backend.

    Raises:
        QKANError: The model has no circuits, or the calibration lacks a value.

    Example:
        >>> import torch
        >>> from qkan import QKAN
        >>> from qkan.circuits import DeviceNoise, PulseNoise
        >>> perfect = PulseNoise(1.0, 1.0, 0.0)
        >>> model = QKAN([2, 1])
        >>> x = torch.zeros(3, 2)
        >>> with noisy(model, DeviceNoise(perfect, perfect)):
        ...     out = model(x)
        >>> torch.allclose(out, model(x), atol=1e-6)
        True
    """
    if not isinstance(device, DeviceNoise):
        device = as_backend(device)
    if fused is None:
        fused = isinstance(device, Backend) and device.fused
    expectation = noisy_expectation(device, fused=fused)

    def activate(circuits: LayerCircuits) -> Tensor:
        return circuits.readout(expectation(circuits))

    # `fit` trains amplitudes that begin at 0
    with overriding_activations(model, activate, idle=True):
        yield


def noisy_expectation(device: Backend | DeviceNoise, *, fused: bool = False) -> Evaluate:
    """Return a function from a layer's circuits to the noisy ⟨M⟩ of the edges in use, (n, e)."""
    noise_of = _placed(device) if isinstance(device, Backend) else lambda circuits: device

    def expectation(circuits: LayerCircuits) -> Tensor:
        if not circuits.values:
            return circuits.x * 0
        circuit, noise = circuits.circuit, noise_of(circuits)
        z: Tensor = isa_expectation(circuit, circuits.angles(), torch, noise, fused=fused)
        return z

    return expectation


def _placed(backend: Backend) -> Callable[[LayerCircuits], DeviceNoise]:
    """The noise of each edge of a layer, by the qubits to which a backend assigns its values."""
    device_noise(backend)  # raises if the calibration lacks a value
    noise = backend.calibration().device_noise(backend.layout)

    def of(circuits: LayerCircuits) -> DeviceNoise:
        heaviest_first = torch.argsort(circuits.weights(), descending=True, stable=True).cpu()

        def share(what: str, values: object) -> Tensor:
            found = torch.empty(len(heaviest_first), dtype=torch.double)
            found[heaviest_first] = torch.from_numpy(_means(np.asarray(values), len(found)))
            return found.to(circuits.x.device)

        return _changed(noise, share, not backend.corrects_readout)

    return of


def _means(values: np.ndarray[Any, np.dtype[np.float64]], parts: int) -> Any:
    """Means over equal parts of a row, which may divide an entry; NaN counts as the median."""
    known = np.where(np.isnan(values), np.nanmedian(values), values)
    total = np.concatenate([[0.0], np.cumsum(known)])
    ends = np.linspace(0, len(known), parts + 1)
    return np.diff(np.interp(ends, np.arange(len(total)), total)) * parts / len(known)


def _changed(
    noise: DeviceNoise, change: Callable[[str, object], Any], readout: bool
) -> DeviceNoise:
    """Return the noise with all numbers changed by a function of what they belong to."""
    p, q = (change("readout", e) for e in (noise.p, noise.q)) if readout else (0.0, 0.0)
    sx, x = (
        PulseNoise(*(change("gates and relaxation", n) for n in (pulse.xy, pulse.z, pulse.offset)))
        for pulse in (noise.sx, noise.x)
    )
    return DeviceNoise(sx, x, p, q)
