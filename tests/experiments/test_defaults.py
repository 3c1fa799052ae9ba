"""The study of the estimators' defaults at a tiny size, and that these are what it chose."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkan import QKANClassifier, QKANRegressor
from qkan.cli.fit import fit_command

pytestmark = pytest.mark.source_only


@pytest.fixture(scope="module")
def defaults(load: Callable[[str], Any]) -> Any:
    return load("tables.defaults")


def test_the_estimators_come_as_the_study_chose(defaults: Any) -> None:
    for kind in (QKANRegressor, QKANClassifier):
        found = kind().get_params()
        # None is 20 steps of this optimizer
        assert found["steps"] is None and defaults.CHOSEN["steps"] == 20
        # None is a hidden node for every class, which a regressor does not have
        chosen = defaults.CHOSEN | ({"hidden": [5]} if kind is QKANRegressor else {})
        for name, value in chosen.items():
            if name != "steps":
                assert np.array_equal(found[name], value), name
    command = inspect.signature(fit_command).parameters
    for name in ("reps", "encoding", "alpha", "steps"):
        assert command[name].default == defaults.CHOSEN[name], name


def test_the_tables_are_split_in_halves(defaults: Any) -> None:
    chooses = [table.chooses for table in defaults.TABLES.values()]
    assert sum(chooses) == len(chooses) / 2
    for name in ("diabetes", "iris", "linnerud"):
        X, y = defaults.load(name)
        assert len(X) == len(y) and np.isfinite(X).all()


def test_the_error_allows_for_shared_training_rows(defaults: Any) -> None:
    values = [1.0, 2.0, 3.0]
    assert defaults.error(values) == pytest.approx(math.sqrt(1 / 3 + 1 / (defaults.FOLDS - 1)))
    others = {"linear": [2.0, 3.0, 4.0], "boosting": [5.0] * 3, "frequencies": [9.0] * 3}
    losses = {"QKAN": [1.0, 2.5, 3.0], **others}
    found = defaults.verdict(losses)
    assert found["better"] == "linear" and found["as_good_as_better"]
    assert found["not_behind_linear"] and found["not_behind_frequencies"]


def test_the_study_writes_what_it_found(
    defaults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 2))
    made = {
        "line": defaults.Table(lambda: (X, X[:, 0] + 0.1 * rng.normal(size=24)), False, True),
        "sides": defaults.Table(lambda: (X, (X[:, 0] > 0).astype(int)), True, False),
    }
    quick = {**defaults.CHOSEN, "hidden": [], "steps": 1}
    for name, value in (
        ("TABLES", made), ("MANY", {"sides": made["sides"]}), ("FOLDS", 2), ("CHOSEN", quick),
        ("BEFORE", quick),
        ("CANDIDATES", {"chosen": quick, "alpha 0": {**quick, "alpha": 0.0}}),
    ):  # fmt: skip
        monkeypatch.setattr(defaults, name, value)
    defaults.main(["--out", str(tmp_path)])
    record = json.loads((tmp_path / "defaults.json").read_text())
    assert {*record["candidates"]} == {"chosen", "alpha 0"} and {*record["summary"]} == {*made}
    kinds = record["summary"]["line"]["kinds"]
    values = kinds["QKAN"]["values"]
    assert len(values) == 4 and kinds["QKAN"]["mean"] == pytest.approx(np.mean(values))
    assert len(kinds["before"]["values"]) == 2
    done = {json.dumps(run["settings"], sort_keys=True): run["result"] for run in
            json.loads((tmp_path / "runs.json").read_text())}  # fmt: skip
    first = json.dumps({"table": "line", "options": quick, "seed": 0}, sort_keys=True)
    assert done[first]["losses"] == values[:2]
    ratios = [row["ratio"] for row in record["candidates"].values()]
    assert ratios == sorted(ratios) and "line" in capsys.readouterr().out
