"""The tutorials as pages: jupytext reads them, nbclient runs them, this file writes markdown."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("circuits", "simulators", "backends", "qkan")
SIZES = ("full", "small", "none")
PLUMBING = "plumbing"
"""The tag of a cell that a reader can skip: sizes for the tests, colours, threads."""
_PLUMBING = "Sizes and colours of this page, which a reader can skip"
_LINE = (
    "[Download this guide as a notebook]({name}.ipynb){{ .download download }}; it needs a clone "
    'of the project and `pip install ".[docs]"`.'
)
_ENVIRONMENT = {"QKAN_PROGRESS": "0"}
"""No line on stderr says that the kernels are compiled, which a fresh checkout would bring."""
_SETUP = """\
import warnings
# a package that would like to draw its progress bar as a widget
warnings.filterwarnings("ignore", message="IProgress not found")
%config InlineBackend.figure_formats = ['retina']
"""


class TutorialError(Exception):
    """A tutorial that does not run, or cannot be shown."""


@dataclass(frozen=True)
class Tutorial:
    """One page.

    Attributes:
        name: The file's name without its ending.
        title: Its first heading.
        about: Its first paragraph.
        markdown: The page.
        pictures: File names, relative to the page, and PNG content.
        notebook: The same as a Jupyter notebook, not run.
    """

    name: str
    title: str
    about: str
    markdown: str
    pictures: dict[str, bytes]
    notebook: str


def tutorials() -> list[Path]:
    """The tutorials in order."""
    return sorted((ROOT / "tutorials").glob("[0-9]*.py"))


def render(path: Path, size: str = "full", store: Path | None = None) -> Tutorial:
    """Run a tutorial and write its page.

    Args:
        path: Percent text.
        size: What `QKAN_TUTORIALS` is while it runs: "full" or "small"; "none" runs nothing.
        store: Where what ran is kept; it runs again when the text or the package changes.

    Raises:
        TutorialError: A cell that fails, with its traceback, or that writes to stderr; a picture
            without alternative text; no heading.
    """
    if size not in SIZES:
        raise TutorialError(f"QKAN_TUTORIALS={size!r}: one of {', '.join(SIZES)}.")
    notebook = jupytext.read(path, fmt="py:percent")
    download = _download(notebook)
    if size != "none":
        notebook = _kept(path, notebook, size, store)
    pictures: dict[str, bytes] = {}
    blocks = [block for cell in notebook.cells for block in _cell(cell, path, pictures)]
    text = "\n\n".join(blocks) + "\n"
    heading = re.search(r"^# (.+)\n+((?:.+\n)+)?", text, re.MULTILINE)
    if heading is None:
        raise TutorialError(f"{path.name} has no heading; begin it with a markdown cell, # Title.")
    about = " ".join((heading[2] or "").split())
    line = _LINE.format(name=path.stem)
    text = text[: heading.end()] + f"\n{line}\n" + text[heading.end() :]
    return Tutorial(path.stem, heading[1], about, text, pictures, download)


def _download(notebook: Any) -> str:
    """The notebook for a reader, in which Jupyter folds what is plumbing."""
    copied = copy.deepcopy(notebook)
    for number, cell in enumerate(copied.cells):
        # the same notebook at every build
        cell.id = f"cell-{number}"
        if PLUMBING in cell.metadata.get("tags", ()):
            cell.metadata["jupyter"] = {"source_hidden": True}
    copied.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python"
    }  # fmt: skip
    copied.metadata.pop("jupytext", None)
    nbformat.validate(copied)
    return str(nbformat.writes(copied)) + "\n"


def _kept(path: Path, notebook: Any, size: str, store: Path | None) -> Any:
    """The notebook as it ran, from the store if nothing changed since."""
    if store is None:
        return _run(path, notebook, size)
    digest = hashlib.sha256(f"{size}\n{_SETUP}\n{path.read_text()}".encode())
    sources = (file for room in ROOMS for file in (ROOT / room).rglob("*"))
    for source in sorted(file for file in sources if file.suffix in (".py", ".cu", ".cuh")):
        digest.update(source.read_bytes())
    kept = store / f"{path.stem}-{digest.hexdigest()[:16]}.ipynb"
    if not kept.exists():
        done = _run(path, notebook, size)
        store.mkdir(parents=True, exist_ok=True)
        for old in store.glob(f"{path.stem}-*.ipynb"):
            old.unlink()
        nbformat.write(done, kept)
    return nbformat.read(kept, as_version=4)


def _run(path: Path, notebook: Any, size: str) -> Any:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook.cells.insert(0, nbformat.v4.new_code_cell(_SETUP))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}},
            # the kernel warns that it listens on this machine without encryption
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )  # fmt: skip
        try:
            with client.setup_kernel(env={**os.environ, **_ENVIRONMENT, "QKAN_TUTORIALS": size}):
                for number, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, number)
        except CellExecutionError as error:
            raise TutorialError(f"{path.name} fails:\n{_plain(str(error))}") from error
    del notebook.cells[0]
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if output.get("name") == "stderr":
            raise TutorialError(f"{path.name} writes to stderr:\n{output.text}")
    return notebook


def _cell(cell: Any, path: Path, pictures: dict[str, bytes]) -> Iterator[str]:
    """A cell's text or code, and what it printed and drew."""
    if cell.cell_type == "markdown":
        yield cell.source
        return
    if not cell.source.strip():
        return
    code = f"````python\n{cell.source}\n````"
    if PLUMBING in cell.metadata.get("tags", ()):
        yield f'??? note "{_PLUMBING}"\n\n' + textwrap.indent(code, "    ")
    else:
        yield code
    printed = "".join(_text(output) for output in cell.get("outputs", ())).strip("\n")
    if printed:
        yield f"```` {{ .text .printed }}\n{printed}\n````"
    for output in cell.get("outputs", ()):
        content = output.get("data", {}).get("image/png")
        if content is not None:
            alt = cell.metadata.get("alt", "")
            if not alt:
                raise TutorialError(f'{path.name}: a picture needs # %% alt="…":\n{cell.source}')
            file = f"{path.stem}-{len(pictures) + 1}.png"
            pictures[file] = base64.b64decode(content)
            yield f"![{alt.replace(']', chr(92) + ']')}]({file})"


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return _plain(output.text)
    data = output.get("data", {})
    return "" if "image/png" in data else _plain(data.get("text/plain", "")) + "\n"


def _plain(text: str) -> str:
    """Without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
