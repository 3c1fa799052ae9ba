"""The studies of sequences at a tiny size: windows that share nothing, rules, records, sections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.source_only


@pytest.fixture(scope="module")
def series(load: Callable[[str], Any]) -> Any:
    return load("sequences.series")


def test_no_part_sees_what_the_next_one_forecasts(series: Any) -> None:
    values = np.arange(200.0)
    given = series.task(values, 20, 7)
    ends = [float(part.y.max()) for part in (given.train, given.validation, given.test)]
    starts = [float(part.y.min()) for part in (given.train, given.validation, given.test)]
    assert ends[0] < starts[1] and ends[1] < starts[2] and ends[2] == 199
    assert len(given.train.x) == int(0.8 * 174) - 6 and len(given.test.x) == 174 - 139 - 17
    assert (given.low, given.low + given.unit) == (0.0, ends[0])
    whole = torch.cat([given.test.x[0], given.test.y[0]])
    assert torch.equal(whole.diff(), torch.ones(26))
    leaking = series.task(values, 20, 7, whole=True)
    assert float(leaking.train.y.max()) >= float(leaking.validation.y.min())
    assert leaking.unit == 199.0
    with pytest.raises(ValueError, match="too few"):
        series.task(values[:40], 20, 7)


def test_a_missing_file_is_named_with_its_source(
    series: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QKAN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"sunspots_monthly.csv is missing: .*WDC-SILSO"):
        series.sunspots()


def test_networks_have_about_the_parameters_that_are_asked_for(load: Any) -> None:
    models = load("sequences.models")
    for name, make in models.networks(30.0).items():
        size = models.sized(make, 60, 20, 6000)
        model = make(60, 20, size)
        assert abs(models.effective_parameters(model) / 6000 - 1) < 0.15, name
        forecast = model(torch.randn(3, 60))
        assert forecast.shape == (3, 20), name
        forecast.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters()), name


def test_ridge_finds_a_linear_rule_and_the_last_cycle_is_repeated(load: Any) -> None:
    sunspots, series = load("sequences.sunspots"), load("sequences.series")
    time = torch.arange(400.0)
    given = series.task(torch.sin(time / 5).numpy() + 2, 40, 10)
    forecast = sunspots.ridge(given.train, 1e-9)(given.test.x)
    assert (forecast - given.test.y).abs().max() < 1e-3
    x = torch.arange(2.0 * sunspots.HORIZON)[None]
    assert torch.equal(sunspots.again(x), x[:, -sunspots.HORIZON :])


def test_exponential_smoothing_follows_a_season(load: Any) -> None:
    pytest.importorskip("statsmodels", reason="pip install statsmodels==0.15.0")
    sunspots = load("sequences.sunspots")
    months = torch.arange(float(sunspots.LENGTH + sunspots.HORIZON))
    values = 50 + 40 * torch.sin(months * 2 * torch.pi / sunspots.HORIZON)
    forecast = sunspots.smoothed(values[None, : sunspots.LENGTH])
    assert (forecast[0] - values[sunspots.LENGTH :]).abs().max() < 1


def test_regression_of_any_length_is_tested_on_the_same_steps(load: Any) -> None:
    dynamics = load("sequences.dynamics")
    values = np.sin(np.arange(3000) / 7)
    assert dynamics.regression(values, 16)["mse"] < 1e-20
    noise = np.random.default_rng(0).normal(size=3000)
    short, long = (dynamics.regression(noise, length) for length in (16, 499))
    assert 0.9 < short["mse"] < long["mse"] < 2 and long["parameters"] == 500


def test_a_study_goes_on_and_is_reported(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamics = load("sequences.dynamics")
    values = np.sin(np.arange(300) / 9)
    monkeypatch.setattr(dynamics, "traces", lambda: {"a sine": values})
    monkeypatch.setattr(dynamics, "PARAMETERS", 120)
    arguments = ["--steps", "4", "--seeds", "2", "--out", str(tmp_path), "--rows", "LSTM"]
    dynamics.main(arguments)
    path = tmp_path / "dynamics.json"
    first = json.loads(path.read_text())["runs"]
    dynamics.main([*arguments, "GRU"])
    record = json.loads(path.read_text())
    assert record["runs"][: len(first)] == first and len(record["runs"]) == 1 + 4
    assert (tmp_path / "dynamics.png").exists()
    text = "\n".join(load("sequences.dynamics_report").section(record))
    assert text.startswith("**A linear regression is ahead of every network on every trace.**")
    assert "| LSTM |" in text and "4 steps of 64 windows" in text and "2 seeds" in text


def test_the_sections_first_sentence_says_who_won(load: Any) -> None:
    report = load("sequences.sunspots_report")

    def record(ours: float, linear: float) -> dict[str, Any]:
        settings = {"parameters": report.MAIN, "steps": 3, "published": False}
        known = {"validation_rmse": 1.0, "peak": 1.0, "scaled_mse": 0.1, "curve": []}
        runs = [{"settings": {"rows": "rules"}, "result": {"linear map": result(linear)}}]
        for name, error in ((report.OURS, ours), ("LSTM", 30.0)):
            for seed in (1, 2):
                found = {**known, **result(error + seed), "cpu_seconds": 1.0}
                runs.append({"settings": {**settings, "row": name, "seed": seed}, "result": found})
        chosen = {
            "length": 528, "horizon": 132, "optimizer": "Adam", "batch": 32, "selection": "lowest",
            "data": "data",
        }  # fmt: skip
        return {"runs": runs, "settings": chosen}

    def result(error: float) -> dict[str, Any]:
        return {"parameters": 5, "rmse": error, "peak": 1.0}

    won = report.section(record(10.0, 20.0))[0]
    assert won.startswith(f"The model `{report.OURS}` has the lowest test error, 11.5")
    assert "lower test error than LSTM on 2 of 2 seeds" in won
    lost = report.section(record(40.0, 20.0))[0]
    assert lost.startswith("**No network is needed here: a linear map has the lowest test error**")
    assert "lower test error than LSTM on 0 of 2 seeds" in lost
