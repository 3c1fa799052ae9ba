"""Run one of the studies.

Run     python experiments NAME [options]       python experiments NAME --help lists the options
        python experiments                      lists the studies
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

STUDIES = {
    "functions": (
        "regression", "formula", "extension", "transfer", "functions", "scales", "starts", "noise",
        "device",
    ),
    "images": ("digits", "mnist", "cifar", "activation_images"),
    "language": ("char_lm", "activations", "minilm", "albert", "tuning"),
    "sequences": ("sunspots", "dynamics"),
    "tables": ("tables", "defaults"),
}  # fmt: skip
"""The studies by subject, which is the folder that they stand in."""


def overview() -> str:
    """Every study with the first line of its docstring, without importing any."""
    lines = [__doc__]
    for subject, names in STUDIES.items():
        lines.append(f"{subject}:")
        for name in names:
            text = (Path(__file__).parent / subject / f"{name}.py").read_text()
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            lines.append(f"  {name:<12} {first}")
    return "\n".join(lines)


def main() -> None:
    subjects = {name: subject for subject, names in STUDIES.items() for name in names}
    if len(sys.argv) == 1 or sys.argv[1] in ("-h", "--help"):
        print(overview())
    elif (name := sys.argv[1]) not in subjects:
        sys.exit(f"There is no study {name!r}. There are: {', '.join(subjects)}.")
    else:
        # argparse calls the program by its first argument
        sys.argv = [f"python experiments {name}", *sys.argv[2:]]
        importlib.import_module(f"{subjects[name]}.{name}").main()


if __name__ == "__main__":
    main()
