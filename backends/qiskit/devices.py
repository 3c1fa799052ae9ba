"""Find the `Provider` for a device or its name."""

from __future__ import annotations

import contextlib
from typing import Any

from qkan.backends.calibration import Calibration
from qkan.backends.closed_form import ClosedFormProvider
from qkan.backends.errors import BackendError
from qkan.backends.options import Options
from qkan.backends.provider import Provider
from qkan.circuits import did_you_mean, require

from .local import AerNoise, SamplerProvider, coupled, ideal_calibration, local_sampler
from .runtime import RuntimeProvider, connect
from .snapshot import fake_classes, snapshot

IDEAL = "aer"
IDEAL_QUBITS = 32


def provider_of(device: Any, options: Options) -> Provider:
    """Return the provider that runs the jobs of a device.

    Args:
        device: "ibm_…", "least_busy", "aer", a fake device's name, or a Qiskit backend.
        options: The options of the backend.

    Raises:
        BackendError: There is no such device.
    """
    if not isinstance(device, str):
        return _of_object(device, options)
    if device == IDEAL:
        return _ideal(options)
    if device == "least_busy" or device.startswith("ibm_"):
        return connect(device, options)
    return _emulated(fake_device(device), options)


def fake_device(name: str) -> Any:
    """Return a fake device by the name of its class, in camel case or in snake case.

    Raises:
        BackendError: There is no such device; the nearest name is suggested.
    """
    classes = fake_classes()
    key = name.lower().replace("_", "").removeprefix("fake")
    found = classes.get(key) or classes.get(key + "v2")
    if found is None:
        known = [IDEAL, "least_busy", *(f"fake_{short}" for short in classes)]
        raise BackendError(
            f"There is no device {name!r}. {did_you_mean(name, known)} `qkan devices` lists all."
        )
    return found()


def device_name(given: str) -> str:
    """Return the name of a fake device, however it is spelt, and any other name unchanged."""
    if given.lower().startswith("fake"):
        with contextlib.suppress(BackendError):
            return str(fake_device(given).name)
    return given


def _of_object(device: Any, options: Options) -> Provider:
    if not hasattr(device, "target") or not hasattr(device, "name"):
        raise BackendError(
            f"{device!r:.80} is not a device; pass a name such as 'ibm_…', 'least_busy', "
            "'fake_sherbrooke' or 'aer', or a Qiskit BackendV2."
        )
    if hasattr(device, "service"):
        return RuntimeProvider(device.service, device, options)
    fake = require("qiskit_ibm_runtime.fake_provider.fake_backend", "qiskit").FakeBackendV2
    if isinstance(device, fake):
        return _emulated(device, options)
    aer = require("qiskit_aer", "qiskit").AerSimulator
    if isinstance(device, aer):
        return _on_aer(device, snapshot(device))
    generic = require("qiskit.primitives", "qiskit").BackendSamplerV2
    return SamplerProvider(
        device, snapshot(device),
        lambda _, seed: generic(backend=device, options={"seed_simulator": seed}),
    )  # fmt: skip


def _ideal(options: Options) -> Provider:
    calibration = ideal_calibration(IDEAL, IDEAL_QUBITS)
    if options.emulator == "closed_form":
        return ClosedFormProvider(calibration)
    return _on_aer(require("qiskit_aer", "qiskit").AerSimulator(), calibration)


def _on_aer(device: Any, calibration: Calibration) -> Provider:
    return SamplerProvider(device, calibration, lambda _, seed: local_sampler(device, seed))


def _emulated(device: Any, options: Options) -> Provider:
    calibration = snapshot(device)
    native_rx = options.use_fractional_gates and "rx" in device.target.operation_names
    if options.emulator == "closed_form":
        return ClosedFormProvider(calibration, coupled(device), native_rx)
    noise = AerNoise(device, calibration)
    return SamplerProvider(device, calibration, noise.sampler, native_rx)
