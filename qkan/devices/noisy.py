"""`noisy`: train for a device in closed form, before paying for it."""

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
    """The noise of a backend's median qubit from its calibration, as numbers.

    Args:
        backend: The device.
        qubits: The physical qubits to take the median of; None: those that the backend uses.
        readout: Whether readout errors belong to it. None: unless the backend corrects them.

    Returns:
        What each pulse and the readout do, for `noisy` and `qkan.circuits.isa_expectation`.

    Raises:
        QKANError: The calibration lacks what is asked for.
    """
    backend = as_backend(backend)
    calibration = backend.calibration()
    known = [int(number) for number in calibration.qubits]
    unknown = sorted(set(qubits or ()) - set(known))
    if unknown:
        raise QKANError(f"{backend.name} has no qubits {unknown}; it has {len(known)} of them.")
    noise = calibration.device_noise(backend.layout if qubits is None else qubits)
    if readout is None:
        readout = not backend.corrects_readout

    def median(what: str, values: object) -> float:
        array = np.asarray(values, dtype=np.float64)
        if np.isnan(array).all():
            raise QKANError(
                f"The calibration of {backend.name} says nothing of its {what}. Pass a noise of "
                "your own, DeviceNoise(…), or train with the exact simulator."
            )
        return float(np.nanmedian(array))

    return _changed(noise, median, readout)


@contextmanager
def noisy(
    model: nn.Module, device: Backend | DeviceNoise | str, *, fused: bool | None = None
) -> Iterator[None]:
    """Let a model compute what a device would measure without shots, inside a `with`.

    Every gate runs as the pulses that the device has, each with its relaxation and gate error, and
    the readout errs unless the backend corrects it: in closed form, differentiable, on any torch
    device. `fit` inside it fine-tunes the model for the device.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        device: A backend: each edge gets the mean noise of the qubits that will measure it, the
            heaviest edges those of the best. Or a noise from `device_noise` for all alike.
        fused: Whether each circuit runs as one rotation; None: as it does on the backend.

    Raises:
        QKANError: A model without circuits; a calibration that lacks something.

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
    """From a layer's circuits to the noisy ⟨M⟩ of their edges in use, (n, e)."""
    noise_of = _placed(device) if isinstance(device, Backend) else lambda circuits: device

    def expectation(circuits: LayerCircuits) -> Tensor:
        if not circuits.values:
            return circuits.x * 0
        circuit, noise = circuits.circuit, noise_of(circuits)
        z: Tensor = isa_expectation(circuit, circuits.angles(), torch, noise, fused=fused)
        return z

    return expectation


def _placed(backend: Backend) -> Callable[[LayerCircuits], DeviceNoise]:
    """The noise of each edge of a layer, of the qubits that a backend deals its values to."""
    device_noise(backend)  # raises where the calibration lacks something
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
    """Means over equal parts of a row, whose ends may cut an entry; NaN counts as the median."""
    known = np.where(np.isnan(values), np.nanmedian(values), values)
    total = np.concatenate([[0.0], np.cumsum(known)])
    ends = np.linspace(0, len(known), parts + 1)
    return np.diff(np.interp(ends, np.arange(len(total)), total)) * parts / len(known)


def _changed(
    noise: DeviceNoise, change: Callable[[str, object], Any], readout: bool
) -> DeviceNoise:
    """The noise with all its numbers changed, each together with what it belongs to."""
    p, q = (change("readout", e) for e in (noise.p, noise.q)) if readout else (0.0, 0.0)
    sx, x = (
        PulseNoise(*(change("gates and relaxation", n) for n in (pulse.xy, pulse.z, pulse.offset)))
        for pulse in (noise.sx, noise.x)
    )
    return DeviceNoise(sx, x, p, q)
