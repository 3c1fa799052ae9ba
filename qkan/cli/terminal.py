"""What all commands share: exit codes, one line for an error, tables, common options."""

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
    "Exit codes: 0 done; 1 a device, an account or a package refused or is not there; 2 wrong "
    "usage or input; 3 values are missing; 4 jobs are in the queue; 130 interrupted."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Model = Annotated[Path, typer.Argument(help="A model that `qkan fit` or qkan.save wrote.")]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", help="A column to leave out; again for more.", show_default=False),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="Between cells; found out if not said. tab for a tab.", show_default=False),
]
Decimal = Annotated[
    str | None,
    typer.Option(help="Before decimals, . or a comma; found out if not said.", show_default=False),
]


@contextlib.contextmanager
def explaining(folder: Path | None = None) -> Iterator[None]:
    """One line for what went wrong, and how to go on, in place of a traceback."""
    try:
        yield
    except KeyboardInterrupt as stop:
        tell(str(stop) or "Interrupted.")
        if folder is not None and folder.exists():
            tell("Jobs that were submitted stay in the queue and are kept.")
            tell(f"Go on: qkan collect {folder}\nGive up: qkan cancel {folder}")
        raise typer.Exit(INTERRUPTED) from None
    except QKANError as error:
        raise _stop(error, WRONG) from None
    except ImportError as error:
        raise _stop(error, FAILED) from None
    except BrokenPipeError:
        # whoever reads the output has seen enough; typer ends quietly
        raise
    except OSError as error:
        raise _stop(error, WRONG) from None
    except _refusals(WRONG) as error:
        raise _stop(error, WRONG) from None
    except _refusals(FAILED) as error:
        raise _stop(error, FAILED) from None


def _refusals(code: int) -> tuple[type[Exception], ...]:
    """The errors of the other rooms, which are imported only once something went wrong."""
    from qkan.backends import BackendError
    from qkan.circuits import CircuitError
    from qkan.simulators import SimulatorError

    return (BackendError,) if code == FAILED else (CircuitError, SimulatorError)


def _stop(error: Exception, code: int) -> Any:
    tell(f"Error: {error}")
    for note in getattr(error, "__notes__", ()):
        tell(note)
    return typer.Exit(code)


def show(content: Any) -> None:
    """Write a result to standard output: a text as it is, anything else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write what is no result to standard error."""
    sys.stderr.write(text + "\n")


def show_table(title: str, header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> None:
    """Write lines of cells to standard output, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title)
    for number, name in enumerate(header):
        made.add_column(name, no_wrap=number == 0)
    for line in lines:
        made.add_row(*map(cell, line))
    # in a pipe nothing may be cut off; what is in brackets is text, such as "qkan-hybrid[plot]"
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False).print(made)


def cell(value: Any) -> str:
    """A value in few characters; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
