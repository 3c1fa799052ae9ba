"""A Markdown extension: LaTeX between dollars becomes MathML, and a picture a link to itself.

So a reader needs no script for formulas, and a small picture can be opened by itself on a phone.
pymdownx.arithmatex marks the formulas; latex2mathml writes the MathML; the font is STIX Two Math as
ziamath ships it, cut to the signs of mathematics. Whatever builds the site from Markdown takes the
extension by the name of this module.
"""

from __future__ import annotations

import html
import itertools
import re
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor
from markdown.treeprocessors import Treeprocessor

_MARKED = re.compile(
    r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>'
    r'|<div class="arithmatex">\\\[(?P<block>.*?)\\\]</div>',
    re.DOTALL,
)
_SPACE = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", _SPACE)
_SIGNS = (
    (0x20, 0x17F), (0x300, 0x33F), (0x370, 0x3FF), (0x2000, 0x206F), (0x2070, 0x209F),
    (0x2100, 0x214F), (0x2190, 0x22FF), (0x2308, 0x230B), (0x23DC, 0x23E1), (0x27E8, 0x27EB),
    (0x2A00, 0x2A06), (0x1D400, 0x1D467), (0x1D538, 0x1D56B), (0x1D6A8, 0x1D71B),
)  # fmt: skip
"""Ranges of characters that formulas use: the first and the last of each."""


class Formulas(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Take part after arithmatex and before a builder looks at the addresses of pictures."""
        md.treeprocessors.register(_Pictures(md), "pictures", 5)
        md.postprocessors.register(_Written(md), "formulas", 5)


def makeExtension(**options: Any) -> Formulas:
    """The extension, as Markdown asks a module for it."""
    return Formulas(**options)


class _Written(Postprocessor):
    """Puts MathML in the place of what arithmatex marked."""

    def run(self, text: str) -> str:
        return _MARKED.sub(lambda found: formula(**found.groupdict()), text)


class _Pictures(Treeprocessor):
    """Puts every picture that is no link yet into a link to its file."""

    def run(self, root: ElementTree.Element) -> None:
        for parent in [*root.iter()]:
            for place, child in enumerate([*parent]):
                if child.tag == "img" and parent.tag != "a":
                    link = ElementTree.Element("a", {"class": "zoom", "href": child.get("src", "")})
                    link.tail, child.tail = child.tail, None
                    link.append(child)
                    parent[place] = link


def formula(inline: str | None = None, block: str | None = None) -> str:
    """One formula as MathML; a block scrolls by itself where it is wider than the screen.

    Raises:
        ValueError: A command that the converter does not know.
    """
    latex = html.unescape((inline if block is None else block) or "").strip()
    mathml = convert(latex, display="inline" if block is None else "block")
    if "\\" in mathml or "<mi>&</mi>" in mathml:
        raise ValueError(f"${latex}$ has a command that latex2mathml does not know: {mathml}")
    mathml = _spaced(_apart(mathml))
    return mathml if block is None else f'<div class="formula" tabindex="0">{mathml}</div>'


def _apart(mathml: str) -> str:
    """A thin space between a function such as cos and what stands beside it in a row."""
    tree = ElementTree.fromstring(mathml)
    for row in tree.iter(f"{{{_SPACE}}}mrow"):
        for left, right in itertools.pairwise(list(row)):
            spaced = {"mo", "mspace"} & {_tag(left), _tag(right)}
            if not spaced and _is_function(left) != _is_function(right):
                thin = ElementTree.Element(f"{{{_SPACE}}}mspace", width="0.167em")
                row.insert(list(row).index(right), thin)
    return ElementTree.tostring(tree, encoding="unicode")


def _is_function(element: ElementTree.Element) -> bool:
    """Whether it is a name of several letters, or that with an index or a power."""
    first = element[0] if _tag(element) in ("msub", "msup") else element
    return _tag(first) == "mi" and len(first.text or "") > 1 and (first.text or "").isalpha()


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _spaced(mathml: str) -> str:
    """The spacing and the shapes of TeX, where a browser's differ."""
    mathml = re.sub(r"<mi>([Α-Ω])</mi>", r'<mi mathvariant="normal">\1</mi>', mathml)
    after = r"(<mo[^>]*>[(\[{,=|∈≤≥←→]</mo>)"
    mathml = re.sub(after + "<mo>−</mo>", r'\1<mo form="prefix">−</mo>', mathml)
    tight = r"<mo( stretchy=.false.)?>([|/])</mo>"
    return re.sub(tight, r'<mo\1 lspace="0" rspace="0">\2</mo>', mathml)


def font() -> bytes:
    """STIX Two Math, cut to `_SIGNS`; its licence, OFL, stays in its name table."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    # found, not imported: all that is wanted of the package is the file
    package = find_spec("ziamath")
    if package is None or package.origin is None:
        raise FileNotFoundError('The font is missing: pip install "qkan-hybrid[docs]".')
    whole = TTFont(Path(package.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf")
    options = Options(layout_features=["*"], name_IDs=["*"], notdef_outline=True)
    cutter = Subsetter(options)
    cutter.populate(unicodes=[code for a, b in _SIGNS for code in range(a, b + 1)])
    cutter.subset(whole)
    whole.flavor = "woff"
    buffer = BytesIO()
    whole.save(buffer)
    return buffer.getvalue()
