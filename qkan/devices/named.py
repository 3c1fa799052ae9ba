"""Backends by name and by description: what a run's directory keeps, so that it can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qkan.backends import Backend, BackendError, QiskitBackend
from qkan.backends.qiskit.devices import device_name
from qkan.errors import QKANError


def as_backend(backend: Backend | str) -> Backend:
    """A backend as it is, or the `QiskitBackend` of a name.

    Raises:
        QKANError: It is neither.
        BackendError: No such device; a real one, which needs a budget.
    """
    if isinstance(backend, str):
        return QiskitBackend(backend)
    if not isinstance(backend, Backend):
        raise QKANError(
            f"The backend is {type(backend).__name__}: pass a device's name, such as "
            "'FakeTorino', or a backend, such as QiskitBackend('ibm_…', budget_seconds=60)."
        )
    return backend


def find_backend(
    folder: Path, described: dict[str, Any], backend: Backend | str | None, *, wait: bool = True
) -> Backend:
    """The backend of a run: the given one, or the one that its directory describes.

    One that is made again waits for jobs in the queue, unless told not to.

    Raises:
        QKANError: Another backend than the run's, or one that cannot be made from its description.
    """
    name = described["name"]
    if backend is not None and not isinstance(backend, str):
        as_backend(backend)
    given = backend.name if isinstance(backend, Backend) else backend
    if given not in (None, name) and device_name(str(given)) != name:
        raise QKANError(f"The run in {folder} is {name}'s, and the backend is {given}.")
    if isinstance(backend, Backend):
        return backend
    try:
        return Backend.made_again(described, wait=wait)
    except BackendError as error:
        raise QKANError(
            f"The backend {name!r} of {folder} cannot be made again: {error} Or pass the backend "
            "itself."
        ) from error
