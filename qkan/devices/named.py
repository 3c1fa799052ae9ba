"""Find backends by name, or by the description that a run's directory keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qkan.backends import Backend, BackendError, QiskitBackend
from qkan.backends.qiskit.devices import device_name
from qkan.errors import QKANError


def as_backend(backend: Backend | str) -> Backend:
    """Return a backend unchanged, or the `QiskitBackend` of a name.

    Raises:
        QKANError: The argument is neither.
        BackendError: There is no such device, or it is a real one, which needs a budget.
    """
    if isinstance(backend, str):
        return QiskitBackend(backend)
    if not isinstance(backend, Backend):
        raise QKANError(
            f"The backend is of type {type(backend).__name__}; pass a device's name, such as "
            "'FakeTorino', or a backend, such as QiskitBackend('ibm_…', budget_seconds=60)."
        )
    return backend


def find_backend(
    folder: Path, described: dict[str, Any], backend: Backend | str | None, *, wait: bool = True
) -> Backend:
    """Return the backend of a run: the given one, or the one that its directory describes.

    A backend from a description waits for jobs in the queue, unless `wait` is False.

    Raises:
        QKANError: The backend is another one, or cannot be made from its description.
    """
    name = described["name"]
    if backend is not None and not isinstance(backend, str):
        as_backend(backend)
    given = backend.name if isinstance(backend, Backend) else backend
    if given not in (None, name) and device_name(str(given)) != name:
        raise QKANError(
            f"The run in {folder} belongs to {name}, but the backend is {given}; pass that of the "
            "run, or none."
        )
    if isinstance(backend, Backend):
        return backend
    try:
        return Backend.made_again(described, wait=wait)
    except BackendError as error:
        raise QKANError(
            f"The backend {name!r} of {folder} cannot be made again: {error} Or pass the backend "
            "itself."
        ) from error
