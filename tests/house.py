"""The rooms of the house and what its files import, read from the source without running it."""

from __future__ import annotations

import ast
import graphlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from paths import ROOT

FOLDERS = ("circuits", "simulators", "backends", "qkan")
"""The folders of the checkout that are installed, `qkan` as itself and the others below it."""

FLOORS = (
    ("circuits",),
    ("simulators", "backends"),
    ("leaves",),
    ("nn",),
    ("training", "interpret", "io"),
    ("surgery",),
    ("hybrid", "devices", "tabular"),
    ("cli",),
    ("front door",),
)
"""The rooms from the ground upwards: a file imports from its own room and from lower floors.

"leaves" are the modules that stand directly in `qkan/`, such as `qkan.errors`. The "front door" is
`qkan` itself, which collects the public names, and `qkan.__main__`.
"""

_FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """A line on which one module of the package imports another.

    Attributes:
        importer: Name of the module that holds the line.
        imported: Name of the module that it asks for.
        line: Its number.
    """

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        """The import as a sentence that names both files."""
        return (
            f"{shown(self.importer)}, line {self.line} (room: {room(self.importer)}), imports "
            f"{shown(self.imported)} (room: {room(self.imported)})"
        )


@cache
def files() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join(parts if folder == "qkan" else ["qkan", *parts])] = path
    return found


def room(module: str) -> str:
    """The room in which a module stands."""
    if module in ("qkan", "qkan.__main__"):
        return "front door"
    name = module.split(".")[1]
    return name if name in _FLOOR else "leaves"


def shown(module: str) -> str:
    """The file of a module, from the root of the checkout."""
    return files()[module].relative_to(ROOT).as_posix()


@cache
def imports() -> tuple[Import, ...]:
    """All imports between modules: at the top, inside functions, and under TYPE_CHECKING."""
    return tuple(
        Import(module, imported, node.lineno)
        for module, path in files().items()
        for node in ast.walk(ast.parse(path.read_text()))
        for imported in _imported(module, node)
        if imported != module
    )


def against_the_direction() -> list[Import]:
    """The imports that do not run downwards: from a higher floor, or from next door."""
    return [
        found
        for found in imports()
        if room(found.importer) != room(found.imported)
        and _FLOOR[room(found.importer)] <= _FLOOR[room(found.imported)]
    ]


def circles() -> list[list[Import]]:
    """Files that import each other in a loop, each as the imports that make it.

    The front door is left out: it imports from everywhere, and nobody may import it, which
    `against_the_direction` watches.
    """
    lines = {
        (found.importer, found.imported): found
        for found in imports()
        if "front door" not in (room(found.importer), room(found.imported))
    }
    graph: dict[str, set[str]] = {name: set() for name in files()}
    for importer, imported in lines:
        graph[importer].add(imported)
    circles = []
    while (loop := _loop(graph)) is not None:
        circles.append([lines[step] for step in loop])
        # without one of its imports the loop is open, and the next one is found
        importer, imported = loop[0]
        graph[importer].remove(imported)
    return circles


def _loop(graph: dict[str, set[str]]) -> list[tuple[str, str]] | None:
    """The steps (importer, imported) of some loop, or None where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # each node of this list is imported by the next one
        loop = error.args[1][::-1]
        return list(itertools.pairwise(loop))
    return None


def _imported(module: str, node: ast.AST) -> Iterator[str]:
    """The modules of the package that a node of the source imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in files())
    elif isinstance(node, ast.ImportFrom):
        origin = _origin(module, node)
        for alias in node.names:
            inner = f"{origin}.{alias.name}"
            if inner in files() or origin in files():
                yield inner if inner in files() else origin
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        names = [part.value for part in node.args if isinstance(part, ast.Constant)]
        yield from (name for name in names if name in files())


def _origin(module: str, node: ast.ImportFrom) -> str:
    """The absolute name of what stands between `from` and `import`."""
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    # a package's __init__ counts its own name as the first level
    up = node.level - (files()[module].name == "__init__.py")
    return ".".join([*parents[: len(parents) - up], *filter(None, [node.module])])
