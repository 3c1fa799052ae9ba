"""The tables of benchmarks as Markdown; every figure comes from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from records import CaseRecord
from samples import Ratio, growth, ratio, summary

Records = dict[str, CaseRecord]
MEASURES = ("forward", "step")

HEADLINE = (
    ("64-trainable", "auto"), ("64-trainable", "numba"), ("64-trainable", "chebyshev"),
    ("64-linear", "auto"), ("1-trainable", "auto"), ("4-trainable", "auto"),
)  # fmt: skip
"""Rows of the first table: case and candidate."""
LINEAR = (
    "64-linear", "256-linear", "64-trainable", "64-uniform", "256-normal", "256-uniform",
    "256-outlier",
)  # fmt: skip
SINGLES = "4-singles"
MEMORY = "128-memory"
BUSY = 3.5
"""Load average that two threads, and the starting workers before them, do not reach alone."""
SWEEPS = {"batch": "batch", "edges": "edges", "reps": "repetitions", "reach": "largest |x|"}


def section(
    records: Records,
    limit: dict[str, Any] | None = None,
    decode: dict[str, Any] | None = None,
    more: Sequence[list[str]] = (),
) -> str:
    """All tables of which the records have cases, and under what conditions they were measured."""
    parts: tuple[Callable[[Records], list[str]], ...] = (
        headline, against_linear, others, memory, growing, conditions,
    )  # fmt: skip
    blocks = [lines for lines in (part(records) for part in parts) if lines]
    if limit is not None:
        blocks.insert(-1, arithmetic(limit))
    if decode is not None:
        blocks.insert(-1, one_token(decode))
    for lines in more:
        blocks.insert(-1, lines)
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def headlines(records: Records, decode: dict[str, Any] | None) -> list[str]:
    """The README's rows: a train step beside the peer's, and a token through a folded block."""
    rows, record = [], records.get("64-trainable")
    peer = None if record is None else record.peer("step")
    if record is not None and peer is not None and record.measured("auto", "step"):
        mine, theirs = (ms(record.summary(name, "step").median) for name in ("auto", peer))
        rows.append([
            "[A train step](docs/benchmarks.md) of a layer of 64 → 64, 1,024 samples, on two cores",
            f"{mine} ms, {times(record.ratio(peer, 'auto', 'step'))} times as fast",
            f"qkan 0.2.3, its faster CPU solver: {theirs} ms",
        ])  # fmt: skip
    if decode is not None:
        rounds = decode["rounds"]
        mine, theirs = (ms(summary(rounds[name]).median) for name in ("folded", "MLP"))
        rows.append([
            f"[One token](docs/benchmarks.md) through a folded `HQKAN({decode['width']})`",
            f"{mine} ms, {times(ratio(rounds['MLP'], rounds['folded']))} times as fast",
            f"the MLP that it replaces, another function: {theirs} ms",
        ])  # fmt: skip
    return ["| " + " | ".join(row) + " |" for row in rows]


def headline(records: Records) -> list[str]:
    """Our engines against the faster of the peer's solvers, case by case."""
    rows = []
    for case, name in HEADLINE:
        record = records.get(case)
        if record is None or not any(record.measured(name, m) for m in MEASURES):
            continue
        row = [record.case["title"], record.engine(name)]
        for measure in MEASURES:
            row += _against_peer(record, name, measure)
        rows.append(row)
    if not rows:
        return []
    intro = (
        "The first table compares one layer (`pz`, 3 repetitions, float32) with the faster CPU "
        "solver of qkan 0.2.3 for that case; × is how many times as fast this package is."
    )
    header = [
        "batch × in → out", "engine", "forward ms", "qkan 0.2.3", "×", "train step ms",
        "qkan 0.2.3", "×",
    ]  # fmt: skip
    return [intro, "", *table(header, rows)]


def _against_peer(record: CaseRecord, name: str, measure: str) -> list[str]:
    if not record.measured(name, measure):
        return ["–"] * 3
    found = ms(record.summary(name, measure).median)
    peer = record.peer(measure)
    if peer is None:
        return [found, "–", "–"]
    solver = peer.removeprefix("qkan ").partition(" (")[0]
    theirs = f"{ms(record.summary(peer, measure).median)} `{solver}`"
    return [found, theirs, times(record.ratio(peer, name, measure))]


def against_linear(records: Records) -> list[str]:
    """What a layer costs beside a matrix product of the same shape."""
    rows = []
    for case in LINEAR:
        record = records.get(case)
        if record is None:
            continue
        for measure, label in (("forward", "forward"), ("still", "forward, theta unchanged"),
                               ("step", "train step")):  # fmt: skip
            if record.measured("auto", measure) and record.measured("nn.Linear", measure):
                splines = record.faster("inkan", measure)
                rows.append([
                    record.case["title"], label, ms(record.summary("auto", measure).median),
                    ms(record.summary("nn.Linear", measure).median),
                    times(record.ratio("auto", "nn.Linear", measure)),
                    times(record.ratio(splines, "nn.Linear", measure)) if splines else "–",
                ])  # fmt: skip
    if not rows:
        return []
    intro = (
        "The second table compares a layer with `torch.nn.Linear` of the same shape, which has no "
        "activation, and with the faster mode of inkan 0.5.2, the fastest layer of splines for a "
        "CPU that we know of. Both columns × are times divided by that of `nn.Linear`. Inputs are "
        "N(0, 1) and scales are 1 + 0.2·N(0, 1) unless the row says otherwise. Theta changes "
        "between two calls unless the row says that it is unchanged."
    )
    header = ["batch × in → out", "", "`auto` ms", "nn.Linear ms", "`auto` ×", "inkan ×"]
    return [intro, "", *table(header, rows)]


def others(records: Records) -> list[str]:
    """Packages that run one circuit at a time, and a spline KAN."""
    rows = [*_others(records.get(SINGLES), "auto"), *_others(records.get("64-trainable"), "pykan")]
    if not rows:
        return []
    intro = (
        "The third table compares a train step with that of other packages. Those that run "
        "circuits compute the same function to 1e-5, in float64; pykan's layer of splines is "
        "another function of the same shape, in float32. The column × says how many times as long "
        "as `auto` they take."
    )
    header = ["batch × in → out", "package", "train step ms", "× `auto`", "how"]
    return [intro, "", *table(header, rows)]


def _others(record: CaseRecord | None, only: str) -> Iterable[list[str]]:
    """All single-circuit packages of a case, or the one row of another function."""
    if record is None or not record.measured("auto", "step"):
        return
    for name in record.names("step"):
        ours = name in ("auto", "torch") or name.startswith(("qkan ", "inkan "))
        result = record.case["results"][name]
        if (only == "pykan") != (name == "pykan") or (ours and name != "auto"):
            continue
        notes = [result["note"]] if result["note"] else []
        if result["scaled"] > 1:
            part = record.case["batch"] / result["scaled"]
            notes.append(f"timed on {part:.0f} of {record.case['batch']} samples and scaled")
        shown = "this package, `auto`" if name == "auto" else name
        yield [
            record.case["title"], shown, ms(record.summary(name, "step").median),
            times(record.ratio(name, "auto", "step")) if name != "auto" else "1",
            "; ".join(notes),
        ]  # fmt: skip


def memory(records: Records) -> list[str]:
    """Peak memory of a train step."""
    record = records.get(MEMORY)
    if record is None:
        return []
    rows = []
    for name, result in record.case["results"].items():
        found = result.get("memory")
        if found is None:
            continue
        if "above" in found:
            shown = f"{found['above'] / 1e6:.0f} MB"
        else:
            last = found["points"][-1]
            shown = (
                f"not run; {last['above'] / 1e9:.1f} GB at batch {last['batch']:.0f}, so about "
                f"{found['expected'] / 1e9:.0f} GB"
            )
        rows.append([record.engine(name), shown])
    title = f"{record.case['title']}, {record.case['reps']} repetitions"
    intro = (
        "The fourth table shows the memory that a train step needs in addition to parameters, "
        f"input, output and their gradients, for {title}. It is the peak resident size above that "
        "of a small step before it."
    )
    return [intro, "", *table(["engine", "peak"], rows)] if rows else []


def growing(records: Records) -> list[str]:
    """Exponents of the growth plot."""
    parts = []
    for sweep, label in SWEEPS.items():
        for encoding in ("trainable", "linear"):
            sizes, seconds = curve(records, sweep, encoding, "auto")
            if len(sizes) >= 3:
                slope = growth(sizes[-3:], seconds[-3:])
                parts.append(f"{label}^{slope:.2f} ({encoding})")
    if not parts:
        return []
    return [
        "Over the three largest points of each sweep in the second picture, the time of a train "
        f"step of `auto` grows as {', '.join(parts)}; an exponent of 1 is linear growth."
    ]


def arithmetic(limit: dict[str, Any]) -> list[str]:
    """How far the fused kernel is from what one core can do."""
    times, operations = limit["times_the_limit"], limit["operations"]
    return [
        "How near is the kernel of `numba` to the limit of one core (`benchmarks/limit.py`)? For "
        f"1024 × 64 → 64 with trainable scales, it needs at least {operations['forward']} "
        "multiplications or fused multiply-adds for each edge and sample forward, and "
        f"{operations['backward']} backward. It takes {times['forward']:.1f} and "
        f"{times['backward']:.1f} times as long as these operations alone would, at the measured "
        f"{limit['operations_per_second'] / 1e9:.0f} billion operations a second."
    ]


def one_token(decode: dict[str, Any]) -> list[str]:
    """A block at batch 1 in its forms, beside the MLP it replaces."""
    rounds, sizes = decode["rounds"], decode["parameters"]
    rows = []
    for name, turns in rounds.items():
        faster = "1" if name == "MLP" else times(ratio(rounds["MLP"], turns))
        rows.append([name, f"{sizes[name]:,}", f"{1e3 * summary(turns).median:.3g}", faster])
    header = ["form", "parameters", "ms a token", "× as fast as the MLP"]
    intro = (
        f"The last table compares an `HQKAN({decode['width']})`, one token at a time, with the "
        f"GELU MLP that it replaces (`benchmarks/decode.py`, {decode['device']}, "
        f"{decode['threads']} threads). The row `folded` is what `fold` returns, and the others "
        "are engines. The MLP is another function."
    )
    return [intro, "", *table(header, rows)]


def curve(
    records: Records, sweep: str, encoding: str, name: str
) -> tuple[list[float], list[float]]:
    """Sizes and median seconds a step along one sweep."""
    points = []
    for record in records.values():
        case = record.case
        wanted = case["sweep"] == sweep and case["encoding"] == encoding
        if wanted and record.measured(name, "step"):
            edges = case["in_features"] * case["out_features"]
            sizes = {"edges": edges, "reach": case.get("reach", 1.0)}
            size = sizes[sweep] if sweep in sizes else case[sweep]
            points.append((float(size), record.summary(name, "step").median))
    points.sort()
    return [p[0] for p in points], [p[1] for p in points]


def conditions(records: Records) -> list[str]:
    """Machine, versions, commits and load, of every run that has a word in the tables."""
    lines = []
    runs = {record.run["run"]: record.run for record in records.values()}
    for run in runs.values():
        loads = [
            max(r.case["load_average"]) for r in records.values() if r.run["run"] == run["run"]
        ]
        machine, packages = run["machine"], run["packages"].get("own", {})
        flags = [f for f in ("avx2", "avx512f") if f in machine["vector_flags"]]
        busy = "" if max(loads) < BUSY else ", so **the machine was busy with something else**"
        changed = " with uncommitted changes" if run["uncommitted_changes"] else ""
        lines.append(
            f"Run `{run['run']}`, {run['written'][:10]}: {machine['processor']}, "
            f"{machine['cores']} cores ({', '.join(flags)}), {run['threads']} threads, "
            f"torch {packages.get('torch', '?')}, Python {packages.get('python', '?')}, commit "
            f"`{(run['commit'] or '?')[:10]}`{changed}, load average at most "
            f"{max(loads):.1f}{busy}."
        )
    method = (
        "Each candidate runs in a process of its own, and the candidates take turns. Before they "
        "are timed, all but nn.Linear, pykan and inkan, which are other functions, reproduce the "
        "outputs and all gradients of a float64 reference to 1e-5. A train step is the forward "
        "pass, a mean square and the backward pass to all parameters and x."
    )
    return [method, *lines]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def ms(seconds: float) -> str:
    """Milliseconds to three digits."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def times(found: Ratio) -> str:
    """A ratio and its range, to three digits."""

    def show(x: float) -> str:
        return f"{x:.0f}" if x >= 100 else f"{x:.3g}"

    return f"**{show(found.median)}** ({show(found.low)}–{show(found.high)})"
