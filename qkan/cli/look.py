"""`qkan demo` and `qkan info`: their options; the modules of these names do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .terminal import Json, Quiet, explaining, typer

ENCODINGS = ("trainable", "linear")


def demo_command(
    out: Annotated[Path, typer.Option(help="The folder of all files.")] = Path("qkan-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Smaller and less exact.")] = False,
    seed: Annotated[int, typer.Option(help="Of points, start and device.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn a function, find its formula, draw it, and measure it on a simulated IBM device.

    Under a minute on one core. The formula needs the extra symbolic, the pictures plot, the device
    qiskit; what is not installed is left out, and the demo says how to get it.
    """
    with explaining():
        from . import demo

        size = demo.QUICK if quick else demo.Size()
        demo.demonstrate(size, seed, out, quiet=quiet, as_json=as_json)


def info_command(
    batch: Annotated[int, typer.Option(min=0, help="Samples.")] = 1024,
    inputs: Annotated[int, typer.Option("--in", help="Inputs of the layer.")] = 64,
    outputs: Annotated[int, typer.Option("--out", help="Its outputs.")] = 64,
    reps: Annotated[int, typer.Option(help="Repetitions.")] = 3,
    encoding: Annotated[
        list[str] | None,
        typer.Option(help=f"Its encoding; again for more. {' and '.join(ENCODINGS)} if none."),
    ] = None,
    ansatz: Annotated[str, typer.Option(help="Its circuits.")] = "pz",
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; cuda if none and there is one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is installed, and for a layer which engine runs it and why not the others."""
    with explaining():
        from .info import show_info

        options = {"reps": reps, "ansatz": ansatz}
        sizes = (batch, inputs, outputs)
        show_info(sizes, encoding or ENCODINGS, options, device, as_json=as_json)
