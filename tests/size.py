"""How large the package is: lines, and lines of code proper, by room.

Run     python tests/size.py
Prints  a row a room; the sum of all rooms; and the core, which a test holds below `MOST_CORE`

Code proper is what is left without blank lines, comments and docstrings. The core is `circuits`,
`simulators` and `qkan/nn`; the CUDA engine is not counted in it.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT

FOLDERS = ("circuits", "simulators", "backends", "qkan")
MOST_CORE = 10800
"""Lines of code proper that the core may have."""

_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


@dataclass
class Size:
    """Sums over files; lines of code proper are those of Python files alone."""

    files: int = 0
    lines: int = 0
    code: int = 0

    def add(self, other: Size) -> None:
        self.files += other.files
        self.lines += other.lines
        self.code += other.code


def code_proper(text: str) -> int:
    """The number of lines of Python that are neither blank nor comment nor docstring."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for part in body if isinstance(body, list) else ():
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                if isinstance(part.value.value, str):
                    documentation.update(_lines(part.lineno, part.end_lineno))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            code.update(_lines(token.start[0], token.end[0]))
    return len(code - documentation)


def sizes(root: Path = ROOT) -> dict[str, Size]:
    """The size of every room, by its folder."""
    found: dict[str, Size] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh"):
                text = path.read_text()
                code = code_proper(text) if path.suffix == ".py" else 0
                room = path.parent.relative_to(root).as_posix()
                found.setdefault(room, Size()).add(Size(1, len(text.splitlines()), code))
    return found


def core(rooms: dict[str, Size]) -> int:
    """Lines of code proper of the core."""
    return sum(
        size.code
        for room, size in rooms.items()
        if room.startswith(("circuits", "simulators", "qkan/nn")) and "cuda" not in room
    )


def _lines(first: int, last: int | None) -> range:
    return range(first, (last or first) + 1)


def main() -> None:
    rooms, everything = sizes(), Size()
    for size in rooms.values():
        everything.add(size)
    for room, size in [*sorted(rooms.items()), ("all", everything)]:
        print(f"{room:<22} {size.files:>4} files {size.lines:>7,} lines {size.code:>7,} of code")
    print(f"core without CUDA: {core(rooms):,} lines of code proper, at most {MOST_CORE:,}")


if __name__ == "__main__":
    main()
