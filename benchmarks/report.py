"""Write the page of benchmarks and its figures from the committed JSON.

Run     python benchmarks/report.py
Writes  docs/benchmarks.md, and docs/images/benchmark.png and growth.png
Checks  --check fails if the page says anything else than the JSON
Prints  --print --results build/benchmarks shows the tables of a quick run and changes nothing;
        --headlines shows the rows that experiments/report.py writes into the README
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from block_tables import compiled_blocks, folded_layers, wide_layers
from records import CaseRecord, load, load_other
from tables import headlines, section

ROOT = Path(__file__).resolve().parent.parent
CHARTS = {
    "benchmark.png": "Milliseconds a call of each engine, of qkan 0.2.3, pykan and nn.Linear",
    "growth.png": "Milliseconds a train step over batch, edges and repetitions, with guides of "
    "linear growth",
}
PAGE = """# Benchmarks

This page says how long a layer takes and how much memory it needs, beside other packages and beside
`torch.nn.Linear`. `benchmarks/report.py` generates it from the JSON in `benchmarks/results/`, which
holds every sample, the machine, the versions and the commit. `make bench` measures everything
again. [Engines](engines.md) explains the names in the column *engine*.

A time is a median. A ratio × is the median over pairs of interleaved rounds, and the range in
parentheses is that of all pairs: its upper end is large where the other program stalled in one
round.

"""


def main() -> int:
    arguments = _arguments()
    try:
        records = load(arguments.results)
    except FileNotFoundError as reason:
        print(reason, file=sys.stderr)
        return 1
    limit, decode = (load_other(arguments.results, name) for name in ("limit", "decode"))
    if arguments.headlines:
        print("\n".join(headlines(records, decode)))
        return 0
    written = {"block": compiled_blocks, "fold": folded_layers, "wide": wide_layers}
    more = ((make, load_other(arguments.results, name)) for name, make in written.items())
    text = section(records, limit, decode, [make(found) for make, found in more if found])
    if arguments.print:
        print(text)
        return 0
    charts = "\n\n".join(f"![{said}](images/{name})" for name, said in CHARTS.items())
    wanted = f"{PAGE}{charts}\n\n{text}"
    if arguments.check:
        return _check(arguments.page, wanted)
    arguments.page.write_text(wanted)
    _draw(records, arguments.images)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    parser.add_argument("--print", action="store_true", help="change nothing, print the tables")
    parser.add_argument("--headlines", action="store_true", help="print the README's rows")
    return parser.parse_args()


def _check(page: Path, wanted: str) -> int:
    found = page.read_text() if page.exists() else ""
    if found == wanted:
        return 0
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), str(page), "from the JSON", lineterm=""
    )
    print("\n".join(lines), file=sys.stderr)
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
