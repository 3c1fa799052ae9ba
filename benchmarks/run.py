"""Measure the cases against the peers and write everything to one JSON file.

Before  python benchmarks/peers.py, once: the peers' environments
Run     python benchmarks/run.py, about half an hour on two quiet cores; --quick has the table's
        cases alone, in under five minutes
Writes  benchmarks/results/main.json, or build/benchmarks/quick.json
After   python benchmarks/report.py: README table and figures

Each candidate runs in a process of its own with two threads and must first reproduce outputs and
gradients of the float64 truth; then they take turns, A B A B. The JSON holds every sample, the
machine, its load, all versions and the commit.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import machine
from candidates import CANDIDATES
from cases import CASES, Case
from process import THREADS
from samples import summary
from session import Plan, Session

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    # as with Ctrl-C, the workers are ended on the way out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    arguments = _arguments()
    plan = _plan(arguments)
    chosen = _chosen(arguments)
    record: dict[str, Any] = {
        "run": arguments.out.stem,
        "quick": arguments.quick,
        "written": machine.now(),
        **machine.commit(),
        "machine": machine.machine(),
        "threads": THREADS,
        "plan": vars(plan),
        "packages": {},
        "cases": [],
    }
    start = time.monotonic()
    for case in chosen:
        _say(f"{case.id}: {case.title}, r = {case.reps}")
        wanted = arguments.candidates or case.candidates
        left_out = case.slow if arguments.quick else ()
        names = tuple(n for n in case.candidates if n in wanted and n not in left_out)
        found = Session(case, _plan_for(case, plan), _say, names).run()
        _gather_packages(record["packages"], found["results"])
        record["cases"].append(found)
        _print(found)
        # after every case: a run cut short keeps what it has
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(compact(record))
    record["minutes"] = round((time.monotonic() - start) / 60, 1)
    arguments.out.write_text(compact(record))
    _say(f"{arguments.out}: {len(record['cases'])} cases in {record['minutes']} minutes")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the table's cases, few samples")
    parser.add_argument("--case", nargs="+", metavar="ID", help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--candidates", nargs="+", metavar="NAME", help=f"of {', '.join(CANDIDATES)}"
    )
    parser.add_argument("--rounds", type=int, help="turns of each candidate in each measure")
    parser.add_argument("--seconds", type=float, help="length of a turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the JSON; its name is the run's")
    arguments = parser.parse_args()
    for given, known in ((arguments.case, CASES), (arguments.candidates, CANDIDATES)):
        unknown = set(given or ()) - set(known)
        if unknown:
            parser.error(f"unknown {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if arguments.out is None:
        quick, full = "build/benchmarks/quick.json", "benchmarks/results/main.json"
        arguments.out = ROOT / (quick if arguments.quick else full)
    return arguments


def _plan(arguments: argparse.Namespace) -> Plan:
    rounds, seconds = (2, 0.25) if arguments.quick else (9, 0.6)
    return Plan(arguments.rounds or rounds, arguments.seconds or seconds, arguments.seed)


def _plan_for(case: Case, plan: Plan) -> Plan:
    """Points of the growth plot need no tight ratios."""
    if case.kind != "growth":
        return plan
    return Plan(min(3, plan.rounds), min(0.3, plan.seconds), plan.seed, plan.tolerance)


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    if arguments.case:
        return [CASES[name] for name in arguments.case]
    return [case for case in CASES.values() if case.quick or not arguments.quick]


def _gather_packages(packages: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """Move what every worker of an environment says alike to one place."""
    for name, result in results.items():
        hello = result.pop("hello", None)
        if hello is not None:
            environment = CANDIDATES[name].environment or "own"
            packages[environment] = {"python": hello["python"], **hello["packages"]}


def _print(found: dict[str, Any]) -> None:
    for name, result in found["results"].items():
        if result["status"] != "measured":
            continue
        parts = []
        for measure, record in result["measures"].items():
            times = summary(record["rounds"])
            scale = 1e3 * result["scaled"]
            middle, quiet = times.median * scale, times.quiet * scale
            parts.append(f"{measure} {middle:.4g} ms (quiet {quiet:.4g})")
        memory = result.get("memory")
        if memory and "above" in memory:
            parts.append(f"train step needs {memory['above'] / 1e6:.1f} MB")
        elif memory:
            parts.append(f"not run: would need {memory['expected'] / 1e9:.1f} GB")
        _say(f"    {name:<26} {', '.join(parts)}")


def compact(record: dict[str, Any]) -> str:
    """JSON with an indent, but every list of numbers on a line of its own."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[[-+.\deE,\s]*\]", lambda m: re.sub(r"\s+", " ", m[0]), text) + "\n"


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)


if __name__ == "__main__":
    main()
