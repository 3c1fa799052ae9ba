"""The tables of `block.py`, `fold.py` and `wide.py`, Markdown lines as `tables.py` makes them."""

from __future__ import annotations

from typing import Any

from samples import Rounds, ratio, summary
from tables import ms, table, times

COMPILED = ", compiled"


def compiled_blocks(record: dict[str, Any]) -> list[str]:
    """A block that compiles beside the block that does not, and beside a bottleneck."""
    rows = []
    for case, found in record["cases"].items():
        for kind, forms in found["measures"].items():
            if f"HQKAN{COMPILED}" in forms:
                rows.append([case, kind, *_row(forms)])
    header = [
        "case", "measure", "HQKAN, ms", "× the bottleneck", "HQKAN compiled, × eager", "ms more",
        "bottleneck compiled, × eager", "ms more",
    ]  # fmt: skip
    intro = (
        f"The feed-forward block of GPT-2 (`benchmarks/block.py`): width {record['width']}, "
        f"{record['tokens'][0]} × {record['tokens'][1]} tokens, {record['threads']} threads. "
        "`block 10` is an `HQKAN` of 10 latent nodes beside a GELU MLP of as many parameters, the "
        f"bottleneck; `row 10` has {record['layers']} of them, each behind a LayerNorm and beside "
        "its residual, and compiled as one:"
    )
    return [intro, "", *table(header, rows)]


def _row(forms: dict[str, Rounds]) -> list[str]:
    cells = [
        ms(summary(forms["HQKAN"]).median),
        times(ratio(forms["HQKAN"], forms["bottleneck"])),
    ]
    for name in ("HQKAN", "bottleneck"):
        eager, compiled = forms[name], forms[name + COMPILED]
        more = 1e3 * (summary(compiled).median - summary(eager).median)
        cells += [times(ratio(compiled, eager)), f"{more:+.2f}"]
    return cells


def folded_layers(record: dict[str, Any]) -> list[str]:
    """How many times as long folded layers take as unfolded ones."""
    found: dict[str, dict[str, str]] = {}
    for case, entry in record["cases"].items():
        name, _, rows = case.removesuffix(" rows").rpartition(", ")
        rounds = entry["rounds"]
        shown = f"{ratio(rounds['folded'], rounds['unfolded']).median:.2f}"
        found.setdefault(name, {})[rows] = shown
    counts = sorted({int(rows) for cells in found.values() for rows in cells})
    header = ["layer", *(f"{rows:,} row{'s' * (rows > 1)}" for rows in counts)]
    lines = [
        [name, *(cells.get(str(rows), "–") for rows in counts)] for name, cells in found.items()
    ]
    intro = (
        "What `fold` returns takes so many times as long as what it was made of, for a number of "
        f"rows a call (`benchmarks/fold.py`, {record['threads']} threads). Where a layer of many "
        "harmonics is faster as it is, the folded layer calls it, which costs some microseconds:"
    )
    return [intro, "", *table(header, lines)]


def wide_layers(record: dict[str, Any]) -> list[str]:
    """Wide layers beside `nn.Linear`, and how much of the time is that of their products."""
    rows = []
    for case, found in record["cases"].items():
        width, encoding, inputs = case.split(" ", 2)
        cells = [f"{width} → {width}, {encoding}", inputs, str(found["columns"])]
        for measure in ("forward", "step"):
            one = found[measure]
            cells += [ms(one["qkan"]), f"{one['ratio']:.1f}", f"{one['products_ratio']:.1f}"]
        rows.append(cells)
    header = [
        "layer", "inputs", "columns", "forward, ms", "× nn.Linear", "its products ×",
        "train step, ms", "× nn.Linear", "its products ×",
    ]  # fmt: skip
    intro = (
        f"Where the time of a wide layer goes (`benchmarks/wide.py`, batch {record['batch']}, "
        f"medians of {record['rounds']}). A layer is a matrix product with so many columns for "
        "each input: its features, and its base. A column *its products* is the time of these "
        "products alone; the rest is spent on features, on the coefficients of the edges and, for "
        "N(0, 1), on the few inputs outside the common range. N is N(0, 1), and U is uniform in "
        "[-1, 1]:"
    )
    return [intro, "", *table(header, rows)]
