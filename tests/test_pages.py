"""What the pages promise: messages that exist, methods that are listed, words that are found."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import page_code
import pytest
from paths import EXPERIMENTS, ROOT

DOCS = ROOT / "docs"
FOLDERS = ("qkan", "circuits", "simulators", "backends")
pytestmark = pytest.mark.checkout


def texts(folders: tuple[str, ...] = FOLDERS) -> str:
    """Every piece of text in the code, as it is written between the braces of f-strings."""
    found = []
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found += [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    return "\n".join(found)


def quoted(page: str) -> list[str]:
    """The messages of the page's last section: the code in the first cells of its tables."""
    section = page.partition("## What the messages mean")[2]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]


def test_every_message_that_is_explained_exists() -> None:
    messages = quoted((DOCS / "troubleshooting.md").read_text())
    assert len(messages) > 25
    known = texts()
    names = re.compile(r"\w+Warning")
    missing = [text for text in messages if not names.fullmatch(text) and text not in known]
    assert missing == []


def test_a_message_that_nobody_writes_is_found() -> None:
    page = "## What the messages mean\n| `The moon is` … `made of cheese` | eat it |\n"
    assert quoted(page) == ["The moon is", "made of cheese"]
    assert "The moon is" not in texts()


def test_every_warning_of_training_is_explained() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    tree = ast.parse((ROOT / "qkan" / "errors.py").read_text())
    kinds = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {"AliasingWarning", "DivergenceWarning"} <= set(kinds)
    assert [name for name in kinds if name.endswith("Warning") and name not in page] == []


WORDS = ("overfitting", "cite", "migrate", "categorical", "diverge", "troubleshooting")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_strangers_search_for_is_on_a_page(word: str) -> None:
    found = [page for page in DOCS.rglob("*.md") if word in page.read_text().lower()]
    assert found


@pytest.mark.parametrize("number", range(3))
def test_the_code_of_other_packages_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = page_code.blocks(DOCS / "migrate.md", theirs=True)[number]
    for package in ("kan", "pennylane"):
        if f"import {package}" in code or f"from {package} " in code:
            assert importlib.util.find_spec(package), f"the extra test installs {package}"
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_pages_say_what_the_records_say() -> None:
    done = subprocess.run(
        [sys.executable, str(EXPERIMENTS / "report.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
