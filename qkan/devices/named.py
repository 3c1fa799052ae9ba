"""Backends by name and options: what a run's directory keeps, so that it can go on anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from qkan.backends import Backend, BackendError, Options, QiskitBackend
from qkan.backends.book import refuse_gone
from qkan.backends.options import GONE
from qkan.errors import QKANError

_OF_A_PROCESS = ("wait",)
"""Options that belong to whoever opens a run, not to the run."""


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


def describe_backend(backend: Backend) -> dict[str, Any]:
    """The name, and the options of a `QiskitBackend`, as JSON values; no account is among them."""
    options: dict[str, Any] | None = None
    if isinstance(backend, QiskitBackend):
        options = dataclasses.asdict(backend.options)
        for name in _OF_A_PROCESS:
            del options[name]
        if options["store"] is not None:
            # the budget is kept there, wherever the run is gone on with
            options["store"] = str(Path(options["store"]).expanduser().resolve())
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
    if backend is not None and not isinstance(backend, str):
        as_backend(backend)
    given = backend if backend is None or isinstance(backend, str) else backend.name
    if given not in (None, name) and _name_of(given) != name:
        raise QKANError(f"The run in {folder} is {name}'s, and the backend is {given}.")
    if isinstance(backend, Backend):
        return backend
    asked = f"The backend {name!r} of {folder} cannot be made again from its name"
    if options is None:
        raise QKANError(f"{asked}, for it is no QiskitBackend; pass the backend itself.")
    try:
        return QiskitBackend(name, **_known(options), wait=wait)
    except BackendError as error:
        raise QKANError(f"{asked}: {error} Or pass the backend itself.") from error


def _name_of(given: str) -> str:
    """The name of a fake device, however it is spelt; any other name as it is."""
    if given.lower().startswith("fake"):
        try:
            return QiskitBackend(given, emulator="closed_form").name
        except BackendError:
            pass
    return given


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """The options that this version has.

    Raises:
        BackendError: The run was made with one that it lacks.
    """
    names = {field.name for field in dataclasses.fields(Options)}
    for name in options.keys() - names - GONE.keys():
        raise BackendError(
            f"a newer version of qkan wrote the run, with the option {name!r}. Update qkan."
        )
    refuse_gone(options)
    return {name: value for name, value in options.items() if name in names}
