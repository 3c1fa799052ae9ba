"""The tutorials run as they stand, read well as notebooks, and claim no number out of thin air."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import pytest
from paths import ROOT

TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))
LINES = 400

pytestmark = pytest.mark.checkout
each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def text_of(notebook: Any) -> str:
    """What a tutorial says, between its code."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def measured_numbers(text: str) -> set[str]:
    """Decimals, powers of ten and percentages in prose: not in formulas, code or links."""
    prose = re.sub(
        r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\[arXiv[^]]*\]|\([^)\s]*//[^)]*\)", " ", text, flags=re.S
    )
    return set(re.findall(r"\d+(?:\.\d+)?e-?\d+|\d+\.\d+|\d+(?=\s?%)", prose))


def pictures(cell: Any) -> int:
    """How many figures a cell shows: by plt.show(), or as its last expression."""
    shown = cell.source.count("plt.show()")
    last = ast.parse(cell.source).body[-1]
    drawn = isinstance(last, ast.Expr) and ast.unparse(last).startswith(("qkan.plot", "figure"))
    return shown + drawn


def test_they_are_numbered() -> None:
    assert TUTORIALS
    assert [path.name.split("_")[0] for path in TUTORIALS] == [
        str(n) for n in range(len(TUTORIALS))
    ]


@each
def test_a_tutorial_reads_as_a_notebook(path: Path) -> None:
    source = path.read_text()
    notebook = jupytext.read(path)
    assert notebook.metadata["jupytext"]["text_representation"]["format_name"] == "percent"
    assert len(source.splitlines()) <= LINES
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert re.match(r"# .+\n\n\S", first.source), "a title and what it is about"
    assert last.source.split("## ")[-1].startswith("Where next")
    for cell in code_cells(notebook):
        assert pictures(cell) == ("alt" in cell.metadata), cell.source
        assert len(cell.metadata.get("alt", "long enough")) > 10
    for other in re.findall(r"`(\d_\w+\.py)`", text_of(notebook)):
        assert (path.parent / other).exists(), other


@each
def test_a_tutorial_runs_to_its_end_and_shows_its_numbers(path: Path, tmp_path: Path) -> None:
    # without a display pyplot shows nothing, and says nothing of it
    set_here = {"QKAN_TUTORIALS": "small", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    set_here["QKAN_PROGRESS"] = "0"
    env = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | set_here
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    notebook = jupytext.read(path)
    shown = done.stdout + "\n".join(cell.source for cell in code_cells(notebook))
    for number in measured_numbers(text_of(notebook)):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", shown), number


def test_numbers_are_found_in_prose_only() -> None:
    text = "At $x = 0.5$ it is 1.5e-7, in [arXiv 2008.08605](https://a.b/2008.08605) 12 % of `0.3`."
    assert measured_numbers(text) == {"1.5e-7", "12"}
