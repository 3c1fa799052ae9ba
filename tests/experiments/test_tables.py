"""The experiment on tables at a tiny size: nested folds, equal trials, and the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.source_only


@pytest.fixture(scope="module")
def scripts(load: Callable[[str], Any]) -> dict[str, Any]:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    return {"tables": load("tables.tables"), "report": load("tables.tables_report")}


@pytest.fixture
def tables(scripts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    found = scripts["tables"]
    for name, value in (("FOLDS", 2), ("INNER_FOLDS", 2), ("TRIALS", 2)):
        monkeypatch.setattr(found, name, value)
    monkeypatch.setitem(found.SPACES, "QKAN", {**found.SPACES["QKAN"], "steps": [5]})
    return found


def line() -> tuple[np.ndarray, np.ndarray]:
    """A target far from standard units that two of three features set."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    return X, 500 + 100 * X[:, 0] - 50 * X[:, 1]


def halves() -> tuple[np.ndarray, np.ndarray]:
    X, y = line()
    return X, (y > 500).astype(int)


def test_every_kind_knows_every_setting_it_may_draw(scripts: dict[str, Any]) -> None:
    tables = scripts["tables"]
    for kind in tables.SPACES:
        for classes in (False, True):
            known = tables.estimator(kind, classes, 0).get_params()
            assert tables.space(kind, classes).keys() <= known.keys()


def test_the_loaded_tables_are_the_named_ones(scripts: dict[str, Any]) -> None:
    tables = scripts["tables"]
    shapes = {name: table.load()[0].shape for name, table in tables.TABLES.items()}
    assert shapes == {
        "diabetes": (442, 10), "friedman1": (600, 10), "breast_cancer": (569, 30),
        "wine": (178, 13), "digits": (1797, 64),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["QKAN", "gradient boosting", "MLP", "linear"])
def test_the_score_is_that_of_samples_never_seen(
    tables: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = line()
    table = tables.Table(lambda: (X, y), classes=False, inner=2)
    train, test = next(iter(tables.splitter(table.classes, 2, 0).split(X)))
    assert not {*train} & {*test} and len({*train} | {*test}) == len(X)
    first = tables.run(table, kind, 0)
    assert len(first["inner_scores"]) == 2
    assert first["inner_score"] == max(first["inner_scores"])
    # other test targets change the score and nothing before it
    y = y.copy()
    y[test] = y[test][::-1]
    second = tables.run(table, kind, 0)
    assert second["inner_scores"] == first["inner_scores"]
    assert second["chosen"] == first["chosen"] and second["score"] != first["score"]
    if kind == "linear":
        assert first["score"] > 0.5 > second["score"]


def test_the_study_writes_what_it_found(
    scripts: dict[str, Any], tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "line": tables.Table(line, classes=False, inner=2),
        "halves": tables.Table(halves, classes=True, inner=1),
    }
    monkeypatch.setattr(tables, "TABLES", made)
    tables.main(["--out", str(tmp_path)])
    assert (tmp_path / "tables.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "tables.json").read_text())
    assert len(record["samples"]) == 2 * 4 * 2
    scores = {
        kind: [run["score"] for run in record["samples"]
               if (run["table"], run["kind"]) == ("halves", kind)]
        for kind in tables.SPACES
    }  # fmt: skip
    found = record["summary"]["halves"]
    assert {kind: row["values"] for kind, row in found["kinds"].items()} == scores
    ahead = [a - b for a, b in zip(scores["QKAN"], scores["MLP"], strict=True)]
    assert found["qkan_minus_others"]["MLP"]["values"] == ahead
    assert record["settings"]["spaces"]["QKAN"]["lr"] == "log-uniform, 0.003 to 0.03"
    text = scripts["report"].section(record)
    assert "chosen by 2 inner folds (1 of them for halves) and tested once" in text[0]
    assert text[2] == "| | QKAN | gradient boosting | MLP | linear |"
    assert text[4].startswith("| line, R² | ") and text[5].startswith("| halves, accuracy | ")
    means = {kind: row["mean"] for kind, row in record["summary"]["line"]["kinds"].items()}
    assert max(means, key=lambda kind: means[kind]) in text[-1].partition("line: ")[2].split(";")[0]
    wins = f"halves {sum(v > 0 for v in ahead)}–{sum(v < 0 for v in ahead)}"
    assert wins in text[-1].partition("MLP: ")[2].partition(";")[0]
