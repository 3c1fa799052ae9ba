"""Raise at once if another distribution installs the import name `qkan`, too.

The package imports this module first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata

OURS = "qkan-hybrid"


def refuse_other_distribution(folder: str, path: Sequence[str]) -> None:
    """Raise ImportError when another distribution has files under the import name `qkan`.

    Args:
        folder: The folder of this package.
        path: The folders in which distributions are looked for, such as `sys.path`.
    """
    # reading the files of every distribution takes long, so it is done only if something is odd
    if not _suspicious(folder, path):
        return
    others = sorted({found.name: found for found in _owners(path)}.items())
    if not others:
        return
    names = ", ".join(f"{name!r} {found.version}" for name, found in others)
    removal = " ".join(name for name, _ in others)
    raise ImportError(
        f"Another project, {names}, is installed beside {OURS!r}, and both own the import name "
        f"'qkan'. Keep only one of them: pip uninstall {removal}, then pip install "
        f"--force-reinstall --no-deps {OURS}; or use a separate environment for each. "
        "qkan.from_qkan reads the checkpoints of the distribution 'qkan'."
    )


def _suspicious(folder: str, path: Sequence[str]) -> bool:
    """Whether a distribution is named `qkan`, or files of that name are not all of this package."""
    if next(iter(metadata.distributions(name="qkan", path=[*path])), None) is not None:
        return True
    places = {os.path.realpath(os.path.join(place, "qkan")) for place in path if place}
    if any(_is_package(place) for place in places - {os.path.realpath(folder)}):
        return True
    ours = next(iter(metadata.distributions(name=OURS, path=[*path])), None)
    files = [] if ours is None else ours.files or []
    known = {file.parts[1] for file in files if file.parts[0] == "qkan" and len(file.parts) > 1}
    # an editable install keeps its files elsewhere, where no other distribution writes
    strange = set(os.listdir(folder)) - known if known else set()
    return any(name.endswith(".py") or _is_package(f"{folder}/{name}") for name in strange)


def _is_package(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "__init__.py"))


def _owners(path: Sequence[str]) -> list[metadata.Distribution]:
    """The other distributions with a file in the folder `qkan`."""
    return [
        found
        for found in metadata.distributions(path=[*path])
        if found.name == "qkan"
        or (found.name != OURS and any(file.parts[0] == "qkan" for file in found.files or ()))
    ]


refuse_other_distribution(os.path.dirname(os.path.abspath(__file__)), sys.path)
