"""Code on pages: it runs as a reader would type it, and shows what the page says that it shows.

A ```python block may be followed by a ```text block, which is what the code prints. Numbers may
differ as another machine's rounding makes them differ: powers of ten by a factor of five, others by
a quarter. Blocks in tabs are indented. Code of other packages is marked { .python .theirs }.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|\{ \.python \.theirs \})\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\s*^```text\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def blocks(page: Path, *, theirs: bool = False) -> list[tuple[str, str | None]]:
    """The code of a page in order, each with what it prints, or None where the page says nothing.

    Args:
        page: A file of Markdown.
        theirs: Take the code of other packages in place of ours.
    """
    return [
        (textwrap.dedent(found["code"]), found["shown"])
        for found in _BLOCK.finditer(page.read_text())
        if (found["kind"] != "python") == theirs
    ]


def run_page(page: Path, name: str = "page") -> dict[str, Any]:
    """Run all code of a page in one namespace, compare what it prints, and return the namespace."""
    space: dict[str, Any] = {"__name__": name}
    for code, shown in blocks(page):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, str(page), "exec"), space)
        if shown is not None:
            assert_shown(said.getvalue(), shown)
    return space


def assert_shown(printed: str, shown: str) -> None:
    """What was printed is what the page shows, but for the rounding of numbers."""
    message = f"printed:\n{printed}\nshown on the page:\n{shown}"
    assert _words(printed) == _words(shown), message
    pairs = zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True)
    assert all(_close(a, b) for a, b in pairs), message


def _words(text: str) -> str:
    return " ".join(_NUMBER.sub("#", text).split())


def _close(printed: str, shown: str) -> bool:
    a, b = (float(text.replace(",", "")) for text in (printed, shown))
    if "e" in shown and a > 0 and b > 0:
        return abs(math.log(a / b)) <= math.log(5)
    if "." not in shown and "e" not in shown:
        return a == b
    return abs(a - b) <= 0.25 * abs(b)


def methods(kind: type) -> Iterator[str]:
    """Names of the public methods and properties of a class that this package defines.

    A method that says no more than the one that it overrides is left out.
    """
    seen = set()
    for base in kind.__mro__:
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            ours = base.__module__.partition(".")[0] == "qkan" and name not in seen
            shown = inspect.isfunction(plain) or isinstance(plain, property)
            if ours and shown and not name.startswith("_") and plain.__doc__:
                yield name
            seen.add(name)
