"""`qkan warm-up`: compile the CPU kernels, for container images and new machines."""

from __future__ import annotations

from typing import Annotated

from .terminal import FAILED, Json, show, tell, typer


def warm_up_command(
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="float32 or float64; may be repeated. By default both are compiled."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile all CPU kernels once, so that no later process waits for them.

    The output says how long it took and in which folder the kernels are kept. NUMBA_CACHE_DIR names
    another folder. If no folder can be written to, the exit code is 1.
    """
    from qkan.nn.warm_up import warm_up

    found = warm_up(dtype or ("float32", "float64"))
    if as_json:
        folder = None if found.folder is None else str(found.folder)
        show({"seconds": found.seconds, "folder": folder, "kernels": found.kernels})
    elif found.folder is not None:
        show(f"{found.kernels} kernels are compiled, after {found.seconds:.1f} s: {found.folder}")
    if found.folder is None:
        tell(
            "No folder for compiled kernels can be written to; set NUMBA_CACHE_DIR to one that can."
        )
        raise typer.Exit(FAILED)
