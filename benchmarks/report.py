"""Write the README's benchmark section and the figures from the committed JSON.

Run     python benchmarks/report.py
Writes  README.md, between its markers, and docs/images/benchmark.png and growth.png
Checks  --check fails if README.md says anything else than the JSON
Prints  --print --results build/benchmarks shows the section of a quick run and changes nothing
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from records import CaseRecord, load, load_other
from tables import section

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- benchmark:start -->", "<!-- benchmark:end -->"


class MarkersMissing(Exception):
    """The README has no place for the section."""


def main() -> int:
    arguments = _arguments()
    try:
        records = load(arguments.results)
    except FileNotFoundError as reason:
        print(reason, file=sys.stderr)
        return 1
    limit, decode = (load_other(arguments.results, name) for name in ("limit", "decode"))
    text = section(records, limit, decode)
    if arguments.print:
        print(text)
        return 0
    readme = arguments.readme.read_text()
    try:
        wanted = replaced(readme, text)
    except MarkersMissing as reason:
        print(f"{arguments.readme}: {reason}", file=sys.stderr)
        return 1
    if arguments.check:
        return _check(readme, wanted, arguments.readme)
    arguments.readme.write_text(wanted)
    _draw(records, arguments.images)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    parser.add_argument("--print", action="store_true", help="change nothing, print the section")
    return parser.parse_args()


def replaced(readme: str, text: str) -> str:
    """The README with `text` between its markers.

    Raises:
        MarkersMissing: It has not each of the two once, in order.
    """
    head, start, rest = readme.partition(START)
    _, end, tail = rest.partition(END)
    if not (start and end) or START in rest or END in tail:
        raise MarkersMissing(f"needs one {START} and after it one {END}, each on a line")
    return f"{head}{START}\n{text}{END}{tail}"


def _check(readme: str, wanted: str, path: Path) -> int:
    if readme == wanted:
        return 0
    found = difflib.unified_diff(
        readme.splitlines(), wanted.splitlines(), str(path), "from the JSON", lineterm=""
    )
    print("\n".join(found), file=sys.stderr)
    print("Run: python benchmarks/report.py", file=sys.stderr)
    return 1


def _draw(records: dict[str, CaseRecord], folder: Path) -> None:
    # the text needs no matplotlib
    import charts

    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in charts.FIGURES.items():
        path = draw(records, folder / f"{name}.png")
        print(f"{path} drawn" if path else f"{name}.png: no such cases in the JSON")


if __name__ == "__main__":
    sys.exit(main())
