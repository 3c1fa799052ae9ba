"""The public names of the package, and where each is defined."""

from __future__ import annotations

import ast
import importlib
from types import ModuleType
from typing import Any

ROOMS = ("qkan", "qkan.circuits", "qkan.simulators", "qkan.backends")


def public_names(room: str) -> list[str]:
    """What a room's `__init__` exports: `from .x import y as y` says that y is public."""
    path = importlib.import_module(room).__file__
    assert path is not None
    with open(path) as file:
        tree = ast.parse(file.read())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = {a.name for node in imports for a in node.names if a.asname == a.name}
    return sorted(f"{room}.{name}" for name in found if not name.startswith("_"))


def value(name: str) -> Any:
    """The object of a public name."""
    room, _, last = name.rpartition(".")
    return getattr(importlib.import_module(room), last)


def canonical(name: str) -> str:
    """Where the documented object is defined, for the reader of the API does not follow imports.

    A function may have its module's name, as `qkan.fit` does. Values have no home: theirs is the
    module of the room that assigns to the name.
    """
    found = value(name)
    if not isinstance(found, ModuleType) and hasattr(found, "__qualname__"):
        return f"{found.__module__}.{found.__qualname__}"
    room, _, last = name.rpartition(".")
    path = importlib.import_module(room).__file__
    assert path is not None
    with open(path) as file:
        for node in ast.walk(ast.parse(file.read())):
            if isinstance(node, ast.ImportFrom) and any(a.name == last for a in node.names):
                return f"{room}.{node.module}.{last}" if node.level else f"{node.module}.{last}"
    return name
