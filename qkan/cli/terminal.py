"""Parts that all commands share: common options, exit codes, errors on one line, tables."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from qkan.circuits.require import require
from qkan.errors import QKANError

typer = require("typer", "cli")
require("rich", "cli")

FAILED, WRONG, PARTIAL, PENDING, INTERRUPTED = 1, 2, 3, 4, 130

EXIT_CODES = (
    "The exit code is 0 after success, 1 if a device or an account refused or a package is "
    "missing, 2 after wrong usage or input, 3 if values are missing, 4 while jobs are in the "
    "queue, and 130 after an interruption."
)

FEW_CLASSES = 10
"""A target of whole numbers with at most this many values is taken for classes."""

TASKS = ("auto", "regression", "classification")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Model = Annotated[Path, typer.Argument(help="A model that `qkan fit` or qkan.save wrote.")]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        "--drop",
        help="A column to leave out; for more, repeat it: --drop a --drop b.",
        show_default=False,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="The character between cells, or tab; by default it is found.", show_default=False
    ),
]
Decimal = Annotated[
    str | None,
    typer.Option(
        help="The decimal mark, . or a comma; by default it is found.", show_default=False
    ),
]


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """Turn an error into one line and an exit code in place of a traceback."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise _ended(stop, str(stop) or "Interrupted.", INTERRUPTED) from None
    except BrokenPipeError:
        # the reader of the output has closed it, and typer ends quietly
        raise
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        raise _ended(error, f"Error: {error}", code) from None


def _ended(error: BaseException, text: str, code: int) -> Any:
    tell("\n".join([text, *getattr(error, "__notes__", ())]))
    return typer.Exit(code)


def _code_of(error: Exception) -> int | None:
    """Return the exit code of an error that a message explains; None for any other one, a bug."""
    # the other rooms are imported only after an error
    from qkan.backends import BackendError
    from qkan.circuits import CircuitError
    from qkan.simulators import SimulatorError

    if isinstance(error, ImportError | BackendError):
        return FAILED
    known = isinstance(error, QKANError | OSError | CircuitError | SimulatorError)
    return WRONG if known else None


def show(content: Any) -> None:
    """Write a result to standard output: a text unchanged, anything else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a message that is not a result to standard error."""
    sys.stderr.write(text + "\n")


def show_table(title: str, header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> None:
    """Write lines of cells to standard output, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title)
    for number, name in enumerate(header):
        made.add_column(name, no_wrap=number == 0)
    for line in lines:
        made.add_row(*map(_cell, line))
    # a pipe has room for whole lines; brackets, as in "qkan-hybrid[plot]", are text, not markup
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False).print(made)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
