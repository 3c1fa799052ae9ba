"""Every study is found by its name, says what it can do, and has a section on the results page."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from paths import EXPERIMENTS

pytestmark = pytest.mark.source_only

MAIN = ast.parse((EXPERIMENTS / "__main__.py").read_text())
STUDIES: dict[str, tuple[str, ...]] = next(
    ast.literal_eval(node.value)
    for node in MAIN.body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STUDIES"
)
NAMES = [name for names in STUDIES.values() for name in names]


def run(*arguments: str) -> str:
    command = [sys.executable, str(EXPERIMENTS), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("subject", STUDIES)
def test_every_study_of_a_subject_has_options_and_a_first_sentence(
    load: Callable[[str], Any], capsys: pytest.CaptureFixture[str], subject: str
) -> None:
    for name in STUDIES[subject]:
        study = load(f"{subject}.{name}")
        with pytest.raises(SystemExit) as end:
            study.main(["--help"])
        assert end.value.code == 0 and "--out" in capsys.readouterr().out
        assert f"python experiments {name}" in study.__doc__


def test_without_a_name_all_studies_are_listed() -> None:
    text = run()
    assert all(f"  {name} " in text for name in NAMES)


def test_a_study_runs_by_its_name_and_an_unknown_one_is_refused() -> None:
    assert "usage: python experiments regression" in run("regression", "--help")
    assert "There is no study 'loud'. There are: regression" in run("loud")


def test_every_record_has_a_section_beside_its_study(load: Callable[[str], Any]) -> None:
    report = load("report")
    places = {name: subject for subject, names in STUDIES.items() for name in names}
    for part in report.SECTIONS:
        study = part.name.removesuffix("_small")
        assert part.lines.__module__ == f"{places[study]}.{study}_report"
        recorded = (report.RESULTS / f"{part.name}.json").exists()
        assert (f"## {part.title}\n" in report.results_page()) == recorded
