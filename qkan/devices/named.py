"""Backends by name and options: what a run's directory keeps, so that it can go on anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from qkan.backends import Backend, BackendError, QiskitBackend
from qkan.errors import QKANError


def describe_backend(backend: Backend) -> dict[str, Any]:
    """The name, and the options of a `QiskitBackend`, as JSON values; no account is among them."""
    options: dict[str, Any] | None = None
    if isinstance(backend, QiskitBackend):
        options = dataclasses.asdict(backend.options)
        del options["wait"]
        options = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return {"name": backend.name, "options": options}


def find_backend(
    folder: Path, described: dict[str, Any], backend: Backend | str | None, *, wait: bool = True
) -> Backend:
    """The backend of a run: the given one, or the one that its directory describes.

    One that is made again waits for jobs in the queue, unless told not to.

    Raises:
        QKANError: Another backend than the run's, or one that cannot be made again by its name.
    """
    name, options = described["name"], described["options"]
    given = backend if backend is None or isinstance(backend, str) else backend.name
    if given not in (None, name):
        raise QKANError(f"The run in {folder} is {name}'s, and the backend is {given}.")
    if isinstance(backend, Backend):
        return backend
    asked = f"The backend {name!r} of {folder} cannot be made again from its name"
    if options is None:
        raise QKANError(f"{asked}, for it is no QiskitBackend; pass the backend itself.")
    try:
        return QiskitBackend(name, **options, wait=wait)
    except BackendError as error:
        raise QKANError(f"{asked}: {error} Or pass the backend itself.") from error
