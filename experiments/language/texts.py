"""Text to train on: a public file a user has fetched, and what installed packages ship."""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from shared.data import data_folder

SHAKESPEARE = "tinyshakespeare.txt"
SOURCE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


def tinyshakespeare() -> str:
    """Return the 1,115,394 characters of char-rnn's corpus.

    Raises:
        SystemExit: The file is missing; the message says where it comes from and where it goes.
    """
    path = data_folder() / SHAKESPEARE
    if not path.exists():
        raise SystemExit(
            f"{path} is missing. Fetch {SOURCE}, save it under that name, or set QKAN_DATA to the "
            "folder that has it."
        )
    return path.read_text(encoding="utf-8")


DOCUMENTED = ("sklearn", "scipy", "numpy", "matplotlib")
"""Installed packages whose docstrings are read, each source file a document."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_SHORTEST, _LONGEST = 5, 40
"""Words in a sentence that is kept."""
_FEWEST = 5
"""Sentences in a document that is kept."""


SPEECHES = 20
"""Speeches of Shakespeare in a document."""


def documents() -> dict[str, list[str]]:
    """Sentences of English by document: Shakespeare's speeches, and docstrings.

    Every sentence stands only where it comes first, so no two documents share one.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, sentences in (*_speeches(), *_docstrings()):
        fresh = dict.fromkeys(sentence for sentence in sentences if sentence not in seen)
        seen.update(fresh)
        if len(fresh) >= _FEWEST:
            found[name] = list(fresh)
    return found


def _speeches() -> Iterator[tuple[str, list[str]]]:
    speeches = [" ".join(text.split("\n")[1:]) for text in tinyshakespeare().split("\n\n")]
    for start in range(0, len(speeches), SPEECHES):
        text = speeches[start : start + SPEECHES]
        kept = [s for speech in text for s in _SENTENCE.split(speech) if _fits(s)]
        yield f"Shakespeare {start}", kept


def _docstrings() -> Iterator[tuple[str, list[str]]]:
    """First paragraphs of the docstrings of each source file, which is parsed, not imported."""
    for package in DOCUMENTED:
        folder = _folder(package)
        for path in sorted(folder.rglob("*.py")):
            name = str(path.relative_to(folder))
            if "test" not in name and not path.name.startswith("_"):
                yield f"{package}/{name}", list(_sentences(path))


def _fits(sentence: str) -> bool:
    return _SHORTEST <= len(sentence.split()) <= _LONGEST and "---" not in sentence


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The text is the docstrings of {DOCUMENTED}; {package} is missing.")
    return Path(spec.origin).parent


def _sentences(path: Path) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    with warnings.catch_warnings():
        # other people's escapes in strings
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        for paragraph in (text or "").split("\n\n")[:2]:
            for sentence in _SENTENCE.split(" ".join(paragraph.split())):
                if _fits(sentence):
                    yield sentence
