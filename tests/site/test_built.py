"""The built site answers what people ask: its search finds their words, its code fits a screen."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from paths import ROOT

WORDS = {
    "overfitting": "overfit", "cite": "(?:cite|citing|citation)", "migrate": "migrat",
    "categorical": "categor", "diverge": "diverg", "troubleshooting": "troubleshoot",
}  # fmt: skip
"""What newcomers search for, and how every word begins that the search takes for the same."""
COLUMNS = 80


def found(index: list[dict[str, str]], word: str) -> list[str]:
    """The sections that have a word in their title or text, in one of its forms."""
    start = re.compile(rf"\b{WORDS[word]}", re.IGNORECASE)
    return [s["location"] for s in index if start.search(f"{s['title']} {s['text']}")]


@pytest.mark.parametrize("word", WORDS)
def test_the_search_knows_the_words_of_newcomers(word: str, site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    places = [place for place in found(index, word) if not place.startswith("changelog")]
    assert places, f"no page but the changelog has the word {word!r} in its titles or its text"


def test_a_word_is_found_where_it_is_and_nowhere_else() -> None:
    index = [{"location": "a/", "title": "Citing", "text": ""}]
    index.append({"location": "b/", "title": "", "text": "It overfits, or diverges."})
    assert found(index, "overfitting") == found(index, "diverge") == ["b/"]
    assert found(index, "cite") == ["a/"] and found(index, "categorical") == []


class Code(HTMLParser):
    """The lines of Python and shell on a page: not what was printed, nor the API's signatures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.inside = False
        self.lines: list[str] = [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div":
            self.kinds.append(dict(attrs).get("class") or "")
        kinds = " ".join(self.kinds)
        wanted = re.search(r"language-(?:python|sh|bash|console)", kinds)
        if tag == "pre" and wanted and "doc" not in kinds.split():
            self.inside = True
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.kinds.pop()
        if tag == "pre":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            first, *rest = data.split("\n")
            self.lines[-1] += first
            self.lines += rest


def test_code_fits_a_screen(site: Path) -> None:
    pages = {page.relative_to(site): Code(page.read_text()) for page in site.rglob("*.html")}
    assert sum(len(page.lines) for page in pages.values()) > 500
    wide = [f"{p}: {line}" for p, c in pages.items() for line in c.lines if len(line) > COLUMNS]
    assert not wide, "\n".join(wide)


def test_code_of_the_readme_fits_a_screen() -> None:
    blocks = re.findall(
        r"^```(?:python|sh)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    wide = [line for block in blocks for line in block.splitlines() if len(line) > COLUMNS]
    assert blocks and not wide, "\n".join(wide)


def test_every_guide_is_a_notebook_too(site: Path) -> None:
    guides = [path.stem for path in sorted((ROOT / "tutorials").glob("[0-9]*.py"))]
    for name in guides:
        notebook = json.loads((site / "guides" / f"{name}.ipynb").read_text())
        assert notebook["cells"][0]["source"][0].startswith("# ")
        assert f'href="../{name}.ipynb"' in (site / "guides" / name / "index.html").read_text()
