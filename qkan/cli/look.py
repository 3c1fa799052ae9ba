"""The options of `qkan demo` and `qkan info`; the modules `demo` and `info` do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .terminal import Json, Quiet, typer

ENCODINGS = ("trainable", "linear")


def demo_command(
    out: Annotated[Path, typer.Option(help="The folder to write all files to.")] = Path(
        "qkan-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Do less, with less exact results.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The seed of points, initial values and device.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn a function, find its formula, draw it, and measure it on a simulated IBM device.

    This takes less than a minute on one core. The formula needs the extra symbolic, the pictures
    need plot, and the device needs qiskit. The demo leaves out what is not installed, and says how
    to install it.
    """
    from . import demo

    size = demo.QUICK if quick else demo.Size()
    demo.demonstrate(size, seed, out, quiet=quiet, as_json=as_json)


def info_command(
    batch: Annotated[int, typer.Option(min=0, help="The number of samples in a batch.")] = 1024,
    inputs: Annotated[int, typer.Option("--in", help="The number of inputs of the layer.")] = 64,
    outputs: Annotated[int, typer.Option("--out", help="The number of outputs of the layer.")] = 64,
    reps: Annotated[int, typer.Option(help="How often the data enter each circuit.")] = 3,
    encoding: Annotated[
        list[str] | None,
        typer.Option(help=f"The encoding; may be repeated. By default {' and '.join(ENCODINGS)}."),
    ] = None,
    ansatz: Annotated[str, typer.Option(help="The circuit by name.")] = "pz",
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; by default cuda if there is a card.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is installed, which engine runs a layer, and why the others do not."""
    from .info import show_info

    options = {"reps": reps, "ansatz": ansatz}
    show_info((batch, inputs, outputs), encoding or ENCODINGS, options, device, as_json=as_json)
