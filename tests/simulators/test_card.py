"""Everything that runs on the card of `host_card`, in a process of its own.

The device type that PyTorch leaves to accelerators it does not know belongs to a process for its
whole life, so `tests/card` and `tests/gpu` run in one that ends after them. Here their report is
passed on, and it is made sure that nothing in them was left out.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from card_combinations import EVERY, covering
from paths import TESTS

# a process of a minute, which computes the same from a wheel
pytestmark = pytest.mark.source_only

FOLDERS = ("card", "gpu")
NEEDS = "needs a real card: "


class Outcome(NamedTuple):
    """What came of one test.

    Attributes:
        function: Its file and name without parameters, "card/test_models.py::test_it".
        name: Its name with parameters.
        state: "passed", "failed" or "skipped".
        message: What the report says of a failure or a skip.
    """

    function: str
    name: str
    state: str
    message: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """The report of the other process."""
    report = tmp_path_factory.mktemp("card") / "report.xml"
    command = [
        sys.executable, "-m", "pytest", *(str(TESTS / folder) for folder in FOLDERS),
        "--host-card", "-q", "--tb=short", "--show-capture=no", f"--junitxml={report}",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=900
    )
    # 0: all passed; 1: some failed; anything else: it did not come to an end
    assert done.returncode in (0, 1), (done.stdout + done.stderr)[-4000:]
    return [*map(_outcome, ElementTree.parse(report).iter("testcase"))]


def _outcome(case: ElementTree.Element) -> Outcome:
    file = case.attrib["classname"].removeprefix("tests.").replace(".", "/") + ".py"
    function = f"{file}::{case.attrib['name'].partition('[')[0]}"
    for tag, state in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            lines = (found.text or "").strip().splitlines()[-6:]
            message = "\n".join([found.attrib.get("message", "")[:500], *lines])
            message = found.attrib.get("message", "") if state == "skipped" else message
            return Outcome(function, case.attrib["name"], state, message)
    return Outcome(function, case.attrib["name"], "passed", "")


def _functions(marked: str = "") -> set[str]:
    """The test functions of the two folders; only those with a decorator of that name."""
    found = set()
    for file in sorted(path for folder in FOLDERS for path in (TESTS / folder).glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                if marked in "".join(map(ast.unparse, node.decorator_list)):
                    found.add(f"{file.parent.name}/{file.name}::{node.name}")
    return found


def test_all_that_runs_on_the_card_passes(outcomes: list[Outcome]) -> None:
    failed = [one for one in outcomes if one.state == "failed"]
    said = "\n\n".join(f"{one.function} {one.name}\n{one.message}" for one in failed)
    assert not failed, f"{len(failed)} of {len(outcomes)} tests on the card failed:\n\n{said}"


def test_no_test_of_the_card_is_left_out(outcomes: list[Outcome]) -> None:
    assert {one.function for one in outcomes} == _functions()
    ran = Counter(one.function for one in outcomes if one.state != "skipped")
    layers = "card/test_layers.py::test_values_and_gradients_are_those_of_the_cpu"
    assert ran[layers] == len(covering(EVERY)) >= 30


def test_what_needs_a_real_card_is_named_and_nothing_else_is_skipped(
    outcomes: list[Outcome],
) -> None:
    skipped = [one for one in outcomes if one.state == "skipped"]
    unnamed = [one for one in skipped if not one.message.startswith(NEEDS)]
    assert not unnamed
    assert {one.function for one in skipped} == _functions("real_card")
    for one in skipped:
        print(f"{one.function} {one.name}: {one.message}")


def test_the_report_of_the_other_process_is_read_as_it_is_written(tmp_path: Path) -> None:
    """A process in which one test fails, one is skipped and one passes."""
    (tmp_path / "tests" / "card").mkdir(parents=True)
    (tmp_path / "tests" / "card" / "test_three.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.parametrize('n', [1])\n"
        "def test_bad(n): assert n == 2, 'two is wanted'\n"
        "@pytest.mark.skip('needs a real card: time')\n"
        "def test_skipped(): pass\n"
    )
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "tests", f"--junitxml={report}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    good, bad, skipped = map(_outcome, ElementTree.parse(report).iter("testcase"))
    assert good == Outcome("card/test_three.py::test_good", "test_good", "passed", "")
    assert (bad.function, bad.name, bad.state) == (
        "card/test_three.py::test_bad", "test_bad[1]", "failed"
    )  # fmt: skip
    assert "two is wanted" in bad.message
    assert skipped[2:] == ("skipped", "needs a real card: time")
