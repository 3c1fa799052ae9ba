"""The devices that `qkan devices` lists: fake devices, and those of an IBM account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.backends import BackendError, Calibration, QiskitBackend
from qkan.backends.qiskit.runtime import account
from qkan.backends.qiskit.snapshot import fake_classes, snapshot


@dataclass(frozen=True)
class Device:
    """One line of the list; None means that a value was not asked for or is not available.

    Attributes:
        name: The name for `--backend`.
        kind: "fake" or "ibm".
        qubits: The number of qubits.
        queue: The number of jobs in the queue.
        calibrated: The time of the calibration, ISO 8601.
        age_hours: The hours since then.
        readout_error: The median over the qubits of (P(1|0) + P(0|1))/2.
        sx_error: The median infidelity of SX.
        seconds_left: The seconds left in the account's plan, if it has a limit.
    """

    name: str
    kind: str
    qubits: int | None = None
    queue: int | None = None
    calibrated: str | None = None
    age_hours: float | None = None
    readout_error: float | None = None
    sx_error: float | None = None
    seconds_left: float | None = None


def fake_names() -> list[Device]:
    """List all fake devices by name, without loading them."""
    return [Device(f"fake_{name}", "fake") for name in sorted(fake_classes())]


def look_at(name: str) -> Device:
    """Look at one device: its calibration, and for an IBM device its queue and the time left.

    Raises:
        BackendError: There is no such device, or no account.
    """
    if name.startswith("ibm_"):
        return account_devices(name)[0]
    calibration = QiskitBackend(name, emulator="closed_form").calibration()
    return Device(name, "fake", **_figures(calibration))


def account_devices(name: str | None = None) -> list[Device]:
    """List the devices of the account, or the one of that name.

    Raises:
        BackendError: There is no account, or no answer.
    """
    service = _service()
    with _plain_errors(name or "The service"):
        devices = service.backends() if name is None else [service.backend(name)]
        remaining = service.usage().get("usage_remaining_seconds")
        left = None if remaining is None else float(remaining)
        return [
            Device(
                str(device.name), "ibm", queue=int(device.status().pending_jobs),
                seconds_left=left, **_figures(snapshot(device)),
            )
            for device in devices
        ]  # fmt: skip


def _service() -> Any:
    with _plain_errors("The account"):
        return account()


def _figures(calibration: Calibration) -> dict[str, Any]:
    taken = calibration.taken
    return {
        "qubits": len(calibration.qubits),
        "calibrated": None if taken is None else taken.isoformat(timespec="minutes"),
        "age_hours": None if taken is None else calibration.age_hours,
        "readout_error": _median((calibration.p + calibration.q) / 2),
        "sx_error": _median(calibration.sx_error),
    }


def _median(values: Any) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmedian(values))


@contextlib.contextmanager
def _plain_errors(what: str) -> Iterator[None]:
    """Turn the errors of the service into one line that says what to do."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        # the text may quote what was sent, even a token, so only the kind of error is shown
        raise BackendError(
            f"{what} could not be reached ({type(error).__name__}). Save an account with "
            "QiskitRuntimeService.save_account(token=…), or set QISKIT_IBM_TOKEN."
        ) from None
