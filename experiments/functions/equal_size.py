"""What `functions.py`, `scales.py` and `noise.py` share: models of equal size on drawn targets.

Each study trains several forms on every target, chooses among the forms of one name by validation,
and tests the chosen one. A sample is what one target and seed gave: its settings, and "forms" with
a dictionary a form, "test_rmse" in the chosen ones only.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.compare import TIE
from shared.record import ROOT
from shared.runs import Runs

from functions.fitting import ITERATIONS, MEMORY, Form, Stop, run_all

Sample = dict[str, Any]


def study_parser(
    study: str, text: str, seeds: Sequence[int], stop: Stop
) -> argparse.ArgumentParser:
    """The options that every one of the studies has; `text` is its docstring."""
    options = argparse.ArgumentParser(description=text.splitlines()[0])
    options.add_argument("--seeds", type=int, default=len(seeds), help="how many")
    options.add_argument("--first", type=int, default=seeds[0], help="the first of them")
    options.add_argument("--steps", type=int, default=stop.steps, help="the cap")
    options.add_argument("--workers", type=int, default=2, help="processes")
    options.add_argument("--out", type=Path, default=ROOT / "out" / study)
    return options


def seeds_of(options: argparse.Namespace) -> range:
    return range(options.first, options.first + options.seeds)


def run_cache(options: argparse.Namespace) -> Runs:
    """The cache of the runs that are done."""
    return Runs(options.out / "runs.json")


def run_samples(
    jobs: Sequence[dict[str, Any]],
    run: Callable[[dict[str, Any]], dict[str, Any]],
    keys: Iterable[str],
    options: argparse.Namespace,
) -> list[Sample]:
    """Run every job that has not been run yet; results in order, with the job's `keys`."""
    found = run_all(jobs, run, run_cache(options), options.workers)
    pairs = zip(jobs, found, strict=True)
    return [{key: job[key] for key in keys} | result for job, result in pairs]


def errors(
    samples: Sequence[Sample], by: str, names: Iterable[str], **where: Any
) -> dict[str, list[float]]:
    """Test errors of the chosen forms.

    Args:
        samples: In the order that the errors shall have.
        by: What names a form: "kind" or "encoding".
        names: The names.
        **where: Settings that a sample must have to be read.

    Returns:
        A list a name.
    """
    table: dict[str, list[float]] = {name: [] for name in names}
    for sample in samples:
        if all(sample[key] == value for key, value in where.items()):
            for form in sample["forms"]:
                if "test_rmse" in form:
                    table[form[by]].append(form["test_rmse"])
    return table


def forms_of(samples: Sequence[Sample], by: str, name: str) -> list[dict[str, Any]]:
    """All trainings of one name."""
    return [form for sample in samples for form in sample["forms"] if form[by] == name]


def ended(forms: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many trainings there were, and how many of them the cap ended."""
    capped = sum(not form["converged"] for form in forms)
    return {"trainings": len(forms), "ended_by_the_cap": capped}


def over_budget(samples: Sequence[Sample], kind: str) -> list[float]:
    """Least, mean and greatest share of the budget that a kind's parameters take."""
    shares = [
        form["parameters"] / sample["budget"]
        for sample in samples
        for form in forms_of([sample], "kind", kind)
    ]
    return [min(shares), statistics.mean(shares), max(shares)]


def common_settings(
    samples: Sequence[Sample],
    sizes: Sequence[int],
    budget: tuple[Form, int],
    forms: Sequence[Form],
    stop: Stop,
    steps: int,
) -> dict[str, Any]:
    """What the record of each study says of its choices; `steps` replaces the cap of `stop`."""
    form, width = budget
    return {
        "points": dict(zip(("train", "validation", "test"), sizes, strict=True)),
        "seeds": sorted({sample["seed"] for sample in samples}),
        "dtype": "float64",
        "budget": {**form.to_dict(), "width": width},
        "forms": [form.to_dict() for form in forms],
        "tie": TIE,
        "optimizer": f"L-BFGS of SciPy, memory {MEMORY}",
        "iterations_a_step": ITERATIONS,
        "stop": asdict(stop) | {"steps": steps},
    }
