"""The documentation site: its code runs, nothing public is missing, and the built pages hold."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import page_code
import pytest
import torch
from paths import ROOT
from selection import selection

DOCS = ROOT / "docs"
pytestmark = pytest.mark.checkout


def written() -> list[Path]:
    """The pages that are written by hand."""
    return sorted(p for p in DOCS.rglob("*.md") if p.name not in ("results.md", "benchmarks.md"))


WITH_CODE = [page for page in written() if page_code.blocks(page)]


# the code of the first page is that of the README, which has a test of its own
@pytest.mark.parametrize(
    "page",
    selection(WITH_CODE, chosen=[page for page in WITH_CODE if page != DOCS / "index.md"]),
    ids=lambda page: str(page.relative_to(DOCS)),
)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    page_code.run_page(page)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that write the site's pages, as they see each other."""
    monkeypatch.syspath_prepend(str(DOCS / "builder"))


@pytest.mark.usefixtures("builder")
def test_every_public_name_is_in_the_api_once() -> None:
    import names

    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    public = {name for room in names.ROOMS for name in names.public_names(room)}
    assert {"qkan.fit", "qkan.circuits.H", "qkan.QKANRegressor"} <= public
    assert set(shown) <= public
    found = Counter(map(names.canonical, shown))
    assert {name for name, count in found.items() if count > 1} == set()
    missing = {name for name in public if names.canonical(name) not in found}
    assert missing == set(), "add them to a page of docs/api"


@pytest.mark.usefixtures("builder")
def test_formulas_become_mathml() -> None:
    import formulas as mathml

    block = mathml.formula(block=r"\sum_{k&gt;K} \frac{a}{b}")
    assert block.startswith('<div class="formula"')
    assert "<munder>" in block and "<mfrac>" in block and "\\" not in block
    assert mathml.formula(inline="x").startswith("<math")
    # TeX's spaces, and none after a sign
    assert mathml.formula(inline=r"a \cos wx").count("mspace") == 2
    assert 'form="prefix">−' in mathml.formula(inline=r"(-\pi, \pi)")
    with pytest.raises(ValueError, match="notacommand"):
        mathml.formula(inline=r"\notacommand{x}")


@pytest.mark.usefixtures("builder")
def test_the_extension_of_markdown() -> None:
    import markdown

    text = "$a_1$ and [![in a link](x.png)](y.md)\n\n![A curve](c.png) as drawn"
    extensions = ["formulas", "pymdownx.arithmatex"]
    options = {"pymdownx.arithmatex": {"generic": True}}
    page = markdown.markdown(text, extensions=extensions, extension_configs=options)
    assert "<math" in page and "arithmatex" not in page
    assert '<a class="zoom" href="c.png"><img alt="A curve" src="c.png" /></a> as drawn' in page
    assert page.count("zoom") == 1 and 'href="y.md"' in page
    with pytest.raises(ValueError, match="notacommand"):
        markdown.markdown("$\\notacommand$", extensions=extensions, extension_configs=options)


TUTORIAL = """\
# %% [markdown]
# # A title
#
# What it is about,
# in two lines.

# %%
import os
print("sizes:", os.environ["QKAN_TUTORIALS"], "progress:", os.environ["QKAN_PROGRESS"])

# %% tags=["plumbing"]
colour = "blue"

# %% alt="A line that rises"
import matplotlib.pyplot as plt
plt.plot([0, 1])
plt.show()
"""


@pytest.mark.usefixtures("builder")
def test_a_tutorial_becomes_a_page(tmp_path: Path) -> None:
    import guides

    path = tmp_path / "1_title.py"
    path.write_text(TUTORIAL)
    page = guides.render(path, "small", tmp_path / "store")
    assert (page.title, page.about) == ("A title", "What it is about, in two lines.")
    # a kernel that is compiled for the first time says so on stderr, unless it is told not to
    assert "sizes: small progress: 0" in page.markdown
    assert '??? note "' in page.markdown and '    colour = "blue"' in page.markdown
    assert "[Download this guide as a notebook](1_title.ipynb)" in page.markdown
    notebook = nbformat.reads(page.notebook, as_version=4)
    folded = [cell.source for cell in notebook.cells if "jupyter" in cell.metadata]
    assert folded == ['colour = "blue"'] and "outputs" in notebook.cells[1]
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert "![A line that rises](1_title-1.png)" in page.markdown
    assert page.pictures["1_title-1.png"].startswith(b"\x89PNG")
    assert page == guides.render(path, "small", tmp_path / "store")
    assert len(list((tmp_path / "store").iterdir())) == 1
    quick = guides.render(path, "none")
    assert "plt.plot" in quick.markdown and not quick.pictures
    with pytest.raises(guides.TutorialError, match="one of full, small, none"):
        guides.render(path, "tiny")


BROKEN = {
    "an error": ("# %%\nprint(1 / 0)", "ZeroDivisionError"),
    "stderr": ("# %%\nimport sys\nsys.stderr.write('careful')", "stderr:\ncareful"),
    "no alt": (
        "# %%\nimport matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()",
        "needs # %% alt",
    ),
}


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize("case", BROKEN)
def test_a_tutorial_that_cannot_be_shown_stops_the_build(case: str, tmp_path: Path) -> None:
    import guides

    code, message = BROKEN[case]
    path = tmp_path / "1_broken.py"
    path.write_text(f"# %% [markdown]\n# # Title\n\n{code}\n")
    with pytest.raises(guides.TutorialError, match=message):
        guides.render(path, "small")


@pytest.mark.usefixtures("builder")
def test_a_tutorial_needs_a_title(tmp_path: Path) -> None:
    import guides

    path = tmp_path / "1_broken.py"
    path.write_text("# %%\nprint(1)\n")
    with pytest.raises(guides.TutorialError, match="no heading"):
        guides.render(path, "none")


class Links(HTMLParser):
    """What a page refers to, what can be referred to in it, and pictures without a description."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and "href" in found and found.get("rel") not in ("canonical", "prev"):
            self.loads.append(found["href"])
        if tag == "img" and not found.get("alt"):
            self.silent.append(found.get("src", "?"))


def faults(site: Path) -> list[str]:
    """What is wrong with a built site: broken links, things from elsewhere, silent pictures."""
    parsed = {page: Links(page.read_text()) for page in site.rglob("*.html")}
    wrong = []
    for page, found in parsed.items():
        if page.name == "404.html":
            # its addresses are those of the root, wherever it is shown
            continue
        where = page.relative_to(site)
        wrong += [f"{where}: no alt: {src}" for src in found.silent]
        for address in [*found.links, *found.loads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in found.loads and parts.scheme != "data":
                    wrong.append(f"{where}: loads {address}")
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{where}: no {address}")
            elif parts.fragment and target in parsed and not parts.fragment.startswith("__"):
                if unquote(parts.fragment) not in parsed[target].ids:
                    wrong.append(f"{where}: no anchor {address}")
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text())
        wrong += [f"{sheet.name}: loads from elsewhere"] if urls else []
    return wrong


def test_the_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="away/">x</a><a href="#no">x</a><a href="#yes" id="yes">x</a>'
        '<img src="https://elsewhere.org/x.png"><a href="https://elsewhere.org">x</a>'
    )
    (tmp_path / "x.css").write_text('@import url("https://elsewhere.org/x.css");')
    assert faults(tmp_path) == [
        "index.html: no alt: https://elsewhere.org/x.png",
        "index.html: no away/",
        "index.html: no anchor #no",
        "index.html: loads https://elsewhere.org/x.png",
        "x.css: loads from elsewhere",
    ]


def without_entry(api: Path) -> list[str]:
    """Public methods of public classes that no page of the built API has."""
    import names

    ids = set().union(*(Links(page.read_text()).ids for page in api.rglob("*.html")))
    public = [name for room in names.ROOMS for name in names.public_names(room)]
    assert "qkan.QKANRegressor" in public
    return [
        f"{name}.{method}"
        for name in public
        if inspect.isclass(names.value(name))
        for method in page_code.methods(names.value(name))
        if f"{names.canonical(name)}.{method}" not in ids
    ]


@pytest.mark.usefixtures("builder")
def test_pages_are_written_once_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pages

    made = {"a.md": "one", "guides/b.png": b"two"}
    monkeypatch.setattr(pages, "PAGES", tmp_path)
    monkeypatch.setattr(pages, "link_farm", lambda: None)
    monkeypatch.setattr(pages, "rendered", list)
    monkeypatch.setattr(pages, "generated", dict)
    monkeypatch.setattr(pages, "by_hand", lambda guides: made)
    pages.write_pages()
    before = (tmp_path / "a.md").stat().st_mtime_ns
    del made["guides/b.png"]
    pages.write_pages()
    assert [file.name for file in tmp_path.rglob("*.*")] == ["a.md"]
    # a server that watches is not woken by what did not change
    assert (tmp_path / "a.md").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="wanted nothing, or --while and a command"):
        pages.main(["--watch"])


@pytest.mark.usefixtures("builder")
def test_pages_follow_their_sources_while_a_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import pages

    moments, written = iter([1.0, 1.0, 2.0, 2.0, *[2.0] * 1000]), list[int]()
    monkeypatch.setattr(pages, "_newest", lambda: next(moments))
    monkeypatch.setattr(pages, "write_pages", lambda: written.append(1))
    monkeypatch.setattr(pages.time, "sleep", lambda seconds: None)
    code = "import time, sys; time.sleep(1); sys.exit(3)"
    monkeypatch.setattr(pages.subprocess, "Popen", Ends)
    assert pages.main(["--while", sys.executable, "-c", code]) == 3
    assert len(written) == 2


class Ends:
    """A process that ends after some looks at it."""

    def __init__(self, command: list[str]) -> None:
        self.looks, self.returncode = 0, 3

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def poll(self) -> int | None:
        self.looks += 1
        return 3 if self.looks > 5 else None


def test_the_site_builds_without_a_warning_and_its_links_hold(tmp_path: Path) -> None:
    environment = {**os.environ, "QKAN_TUTORIALS": "none", "QKAN_PROGRESS": "0"}
    environment |= {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": "docs/builder"}
    for command in (
        ["docs/builder/pages.py"], ["-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path]
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not done.stderr
    assert faults(tmp_path) == []
    assert without_entry(tmp_path / "api") == []
    page = (tmp_path / "concepts" / "spectrum" / "index.html").read_text()
    assert "<math" in page and "arithmatex" not in page
    ranks = (tmp_path / "claims" / "index.html").read_text()
    assert re.search(r"<code>pz</code></td>\s*<td>ternary</td>\s*<td>27</td>\s*<td>8</td>", ranks)
