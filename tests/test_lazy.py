"""What an import and a word of help cost: torch comes in when it is used, and names stay right."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qkan


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = """
import sys
from qkan.cli import main
sys.argv = ["qkan", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    code = stop.code
heavy = ("torch", "scipy", "numba", "sklearn", "pandas", "qiskit")
print([name for name in heavy if name in sys.modules], code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--help"], 0), (["--version"], 0),
        (["fit", "--help"], 0), (["submit", "--help"], 0), (["demo", "--help"], 0),
        (["fitt"], 2), (["fit", "x.csv", "--no-such-option"], 2), (["fit"], 2),
        (["fit", "x.csv", "--target", "y", "--steps", "many"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_help_and_wrong_options_import_nothing_heavy(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(arguments=arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == f"[] {code}", done.stderr


def test_a_shell_completes_without_torch() -> None:
    asked = {"_QKAN_COMPLETE": "complete_bash", "COMP_WORDS": "qkan pre", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(arguments=[])],
        capture_output=True, text=True, check=False, env={**os.environ, **asked},
    )  # fmt: skip
    assert done.stdout.split() == ["predict"], done.stderr
    assert done.stderr.splitlines()[-1] == "[] 0"


def test_the_package_alone_imports_no_torch() -> None:
    assert run("import sys, qkan; print('torch' in sys.modules)").strip() == "False"
    assert run("import sys, qkan; qkan.QKAN; print('torch' in sys.modules)").strip() == "True"


def test_an_old_module_leaves_the_function_of_its_name() -> None:
    code = """
import importlib, types
import qkan
from qkan._old_paths import OLD_PATHS
for old, new in OLD_PATHS.items():
    if "estimator" not in old:
        assert importlib.import_module(old) is importlib.import_module(new), old
shared = [name for name in qkan._HOMES if f"qkan.{name}" in OLD_PATHS]
assert {"fit", "plot", "symbolic", "extend"} <= {*shared}, shared
print([name for name in shared if isinstance(getattr(qkan, name), types.ModuleType)])
from qkan.fit import fit
print(fit is qkan.fit)
"""
    assert run(code).split("\n")[:2] == ["[]", "True"]


def test_type_checkers_and_python_see_the_same_names() -> None:
    tree = ast.parse(Path(qkan.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module is not None
        home = node.module.removeprefix("qkan.")
        seen |= {alias.asname: f".{home}" for alias in node.names}
    assert seen == qkan._HOMES
    for name in qkan.__all__:
        assert getattr(qkan, name) is not None and name in dir(qkan)
    with pytest.raises(AttributeError, match="no attribute 'QKANN'"):
        qkan.QKANN  # noqa: B018
