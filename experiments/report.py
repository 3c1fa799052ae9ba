"""Write the README's headlines and the results page from the JSON of the experiments.

Run     python experiments/report.py            after make demo and make experiments
        python experiments/report.py --check    fails if a page and the JSON disagree
Reads   experiments/results/*.json, as far as they are there, and what benchmarks/report.py says
Writes  between markers in README.md, docs/should-i.md and docs/choosing.md; docs/results.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import decisions
import headlines
from functions import (
    extension_report,
    formula_report,
    functions_report,
    noise_report,
    regression_report,
    scales_report,
    starts_report,
    transfer_report,
)
from images import activation_images_report, cifar_report, digits_report, mnist_report
from language import (
    activations_report,
    albert_report,
    char_lm_report,
    minilm_report,
    tuning_report,
)
from sequences import dynamics_report, sunspots_report
from tables import defaults_report, tables_report

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"


@dataclass(frozen=True)
class Section:
    """One study on the pages.

    Attributes:
        name: Its JSON, `experiments/results/NAME.json`.
        title: Its heading on the results page.
        lines: From the record to lines of markdown.
        picture: A file in docs/images and its alternative text, shown on the results page.
    """

    name: str
    title: str
    lines: Callable[[dict[str, Any]], list[str]]
    picture: tuple[str, str] | None = None

    def markdown(self) -> str:
        """The study's paragraph and table; empty while it has no record."""
        path = RESULTS / f"{self.name}.json"
        return "\n".join(self.lines(json.loads(path.read_text()))) if path.exists() else ""


SECTIONS = (
    Section("regression", "A regression with fifteen seeds", regression_report.section),
    Section("digits", "Handwritten digits", digits_report.section),
    Section(
        "formula",
        "A formula read back from points",
        formula_report.section,
        picture=(
            "network.png",
            "The pruned network: a sine of x and a square of y are added, and exp of that is f",
        ),
    ),
    Section(
        "extension",
        "Growing repetition by repetition",
        extension_report.section,
        picture=(
            "extension.png",
            "Training error over steps: growing from 1 to 20 repetitions ends below 20 from the "
            "start",
        ),
    ),
    Section(
        "transfer",
        "From circuits to splines",
        transfer_report.section,
        picture=(
            "transfer.png",
            "Test errors of spline KANs that begin as a trained QKAN, and from scratch",
        ),
    ),
    Section(
        "functions",
        "Special functions and the Feynman equations",
        functions_report.page,
        picture=(
            "functions.png",
            "Test errors of QKANs, spline KANs and MLPs, function by function",
        ),
    ),
    Section(
        "scales",
        "Fixed and trained scales",
        scales_report.section,
        picture=("scales.png", "Test errors of the encodings over the targets' bandwidth"),
    ),
    Section("starts", "Where trained scales begin", starts_report.section),
    Section(
        "noise",
        "Label noise",
        noise_report.section,
        picture=("noise.png", "Test errors of QKANs, spline KANs and MLPs over the label noise"),
    ),
    Section(
        "tables",
        "Five tables",
        tables_report.section,
        picture=("tables.png", "Scores of every fold by table and kind of model"),
    ),
    Section("defaults", "The estimators with default settings", defaults_report.section),
    Section(
        "sunspots",
        "Sunspots eleven years ahead",
        sunspots_report.section,
        picture=("sunspots.png", "Test errors of networks and simple rules on the sunspots"),
    ),
    Section(
        "dynamics",
        "The next step of three traces",
        dynamics_report.section,
        picture=("dynamics.png", "Test errors of networks and linear regressions on three traces"),
    ),
    Section(
        "mnist",
        "MNIST with under 1,934 parameters",
        mnist_report.section,
        picture=("mnist.png", "Validation loss and test accuracy of a QKAN and an MLP head"),
    ),
    Section(
        "cifar",
        "CIFAR-10 (JPEG): heads of three sizes",
        cifar_report.section,
        picture=("cifar.png", "Test accuracy over the parameters of the head"),
    ),
    Section(
        "char_lm",
        "A character language model",
        char_lm_report.section,
        picture=(
            "char_lm.png",
            "A character language model: HQKAN, MLP and bottlenecks of equal size, and the full "
            "MLP",
        ),
    ),
    Section(
        "activations",
        "Activations that learn",
        activations_report.section,
        picture=(
            "learnt_activations.png",
            "Validation loss of a character GPT with known and learnt activations, over steps and "
            "over seconds",
        ),
    ),
    Section(
        "activation_images",
        "Activations that learn, on images",
        activation_images_report.section,
        picture=(
            "activation_images.png",
            "Test accuracy of a small vision transformer with known and learnt activations",
        ),
    ),
    Section(
        "tuning",
        "Tuning only activations",
        tuning_report.section,
        picture=("tuning.png", "Test accuracy of MiniLM with adapters of equal size"),
    ),
    Section(
        "minilm",
        "MiniLM with smaller blocks",
        minilm_report.section,
        picture=("minilm.png", "Cosine to MiniLM's embeddings over the size of the blocks"),
    ),
    Section(
        "albert",
        "ALBERT with smaller blocks",
        albert_report.section,
        picture=("albert.png", "Accuracy and perplexity of ALBERTs over the size of their blocks"),
    ),
    Section(
        "albert_small",
        "ALBERT with blocks of a 32nd",
        albert_report.small_section,
        picture=("albert_small.png", "Accuracy and perplexity of ALBERTs with very small blocks"),
    ),
)


PARTS = {
    (ROOT / "README.md", "results"): headlines.readme_section,
    (ROOT / "docs" / "should-i.md", "decisions"): decisions.whether,
    (ROOT / "docs" / "choosing.md", "choices"): decisions.choices,
}
"""What is written between the markers of a page."""


def results_page() -> str:
    """The results page: every study, its table and its picture."""
    parts = [
        "# Results",
        "This page shows every study of this package beside its controls, for readers who want the "
        "evidence and for those who want to repeat it. All outcomes are reported, also those in "
        "which a control is better. [Should I use a QKAN?](should-i.md) draws the conclusions.",
        "`experiments/report.py` generates every number from a JSON file in "
        "`experiments/results/`, which holds all samples, the machine, the versions, the seeds and "
        "the commit. The script named in a section runs its study again. MSE is the mean squared "
        "error on test points and RMSE its square root; *effective parameters* leave out shifts "
        'that only duplicate an angle. "Lowest … highest" is the range over the seeds.',
    ]
    for part in SECTIONS:
        if text := part.markdown():
            parts += [f"## {part.title}", text]
            if part.picture:
                file, description = part.picture
                parts.append(f"![{description}](images/{file})")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    wanted = {path: decisions.written(path, name, write()) for (path, name), write in PARTS.items()}
    wanted[ROOT / "docs" / "results.md"] = results_page()
    if parser.parse_args().check:
        stale = [p.name for p, text in wanted.items() if not p.exists() or p.read_text() != text]
        sys.exit(f"{', '.join(stale)}: run experiments/report.py" if stale else None)
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
