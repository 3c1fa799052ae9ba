"""All commands together; only `main` imports this module, since it needs the extra "cli".

A command imports torch and whatever else it needs only when it runs. So help, the version,
completion and errors about options appear at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from qkan._version import __version__

from .fit import fit_command
from .look import demo_command, info_command
from .plot import plot_command, view_command
from .predict import predict_command
from .runs import (
    cancel_command,
    collect_command,
    devices_command,
    estimate_command,
    status_command,
    submit_command,
)
from .terminal import EXIT_CODES, explaining, show, typer
from .warm import warm_up_command

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Look around": (demo_command, info_command, warm_up_command),
    "Tables": (fit_command, predict_command, plot_command, view_command),
    "Devices": (
        devices_command, estimate_command, submit_command, status_command, collect_command,
        cancel_command,
    ),
}  # fmt: skip


def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Train networks of single-qubit circuits, draw them, and run them on devices."""
    if version:
        show(__version__)
        raise typer.Exit


app = typer.Typer(
    name="qkan", no_args_is_help=True, pretty_exceptions_enable=False,
    epilog=EXIT_CODES, invoke_without_command=True, callback=main_options,
    rich_markup_mode="markdown",
)  # fmt: skip
for panel, commands in PANELS.items():
    for command in commands:
        name = command.__name__.removesuffix("_command").replace("_", "-")
        app.command(name, epilog=EXIT_CODES, rich_help_panel=panel)(explaining()(command))
