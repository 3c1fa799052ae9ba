"""The README's headlines and the tables of decisions say what the records say, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def headlines(load: Callable[[str], Any]) -> Any:
    return load("headlines")


def activations(steps: int, losses: dict[str, tuple[str, list[float]]]) -> dict[str, Any]:
    """A record of learnt activations: for each row its kind and its losses, seed by seed."""
    runs = [
        {
            "settings": {
                "test": True, "steps": steps, "row": row, "seed": seed, "kind": kind, "rate": 1e-3,
            },
            "result": {"test_loss": loss, "validation_loss": loss},
        }
        for row, (kind, found) in losses.items()
        for seed, loss in enumerate(found)
    ]  # fmt: skip
    return {"runs": runs}


ROWS = {
    "GELU": ("known", [1.80, 1.82]),
    "DARUAN": ("daruan", [1.70, 1.84]),
    "sine": ("control", [1.75, 1.75]),
}


def test_learnt_activations_have_a_row_once_they_were_trained_for_long(headlines: Any) -> None:
    row = headlines.activations(activations(2000, ROWS))
    assert "after 2,000 steps **1.770**, ahead of GELU on 1 of 2 seeds |" in row
    assert "steps GELU 1.810 and the best classical activation that learns, sine, 1.750 |" in row
    later = {**ROWS, "DARUAN, rate × 1": ("daruan", [1.6, 1.7])}
    both = {"runs": [*activations(2000, ROWS)["runs"], *activations(6000, later)["runs"]]}
    said = "; after 6,000 steps **1.650** (angles at the rate of the weights), ahead of GELU on 2 "
    assert said in headlines.activations(both)
    assert headlines.activations(activations(500, ROWS)) == ""
    without = {name: row for name, row in ROWS.items() if name != "sine"}
    assert headlines.activations(activations(2000, without)) == ""


def test_a_study_without_a_record_has_no_line(
    headlines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(headlines.verdicts()) == 5
    monkeypatch.setattr(headlines, "RESULTS", tmp_path)
    assert headlines.verdicts() == []


def test_a_verdict_turns_with_its_record(headlines: Any) -> None:
    behind = headlines.blocks({"qkan_minus_mlp": {"mean": -0.0045}})
    ahead = headlines.blocks({"qkan_minus_mlp": {"mean": 0.01}})
    assert "0.45 points" in behind and "behind it on MNIST" in behind
    assert "1.00 points" in ahead and "ahead of it on MNIST" in ahead


def test_what_stands_between_markers_is_replaced(
    load: Callable[[str], Any], tmp_path: Path
) -> None:
    decisions, page = load("decisions"), tmp_path / "page.md"
    page.write_text("a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n")
    assert decisions.written(page, "x", "new") == "a\n<!-- x:start -->\nnew\n<!-- x:end -->\nb\n"
    with pytest.raises(SystemExit, match="y:start"):
        decisions.written(page, "y", "new")


def test_a_formula_is_read_and_reported(load: Callable[[str], Any]) -> None:
    study, written = load("functions.formula"), load("functions.formula_report")
    reading, model, formula, x = study.read(0, points=40, steps=1)
    assert reading.widths == [*model.widths] and reading.found == (reading.formula == study.WANTED)
    assert formula(x).shape == model(x).shape
    record = {
        "settings": {"points": 40, "steps": 1, "starts": 4, "dtype": "float64"},
        "summary": study.summary([reading]),
        "samples": [study.asdict(reading)],
    }
    text = "\n".join(written.section(record))
    assert f"on {int(reading.found)} of 1 seeds" in text
