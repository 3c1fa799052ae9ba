"""The experiments on functions, scales and noise at tiny sizes: they do what their records say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import special

import qkan

pytestmark = pytest.mark.source_only

PNG = b"\x89PNG"
MODULES = (
    "functions.functions", "functions.scales", "functions.noise", "functions.fitting",
    "functions.targets", "functions.functions_report", "functions.scales_report",
    "functions.noise_report", "functions.starts", "functions.starts_report", "shared.compare",
    "shared.runs",
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(load: Callable[[str], Any]) -> Any:
    """The studies and what they share, by the last part of their names."""
    return SimpleNamespace(**{name.partition(".")[2]: load(name) for name in MODULES})


def parabola(points: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(points, 2, generator=generator, dtype=torch.float64) - 1
    return x, x[:, :1] ** 2 - x[:, 1:]


def test_every_target_is_finite_and_standardised(lab: Any) -> None:
    assert (len(lab.targets.SPECIAL), len(lab.targets.FEYNMAN)) == (15, 16)
    for target in lab.targets.TARGETS.values():
        data = lab.targets.draw(target, (200, 20, 20), 3)
        again = lab.targets.draw(target, (200, 20, 20), 3)
        x, y = data.train
        assert x.shape == (200, len(target.ranges)) and y.shape == (200, 1)
        assert x.abs().max() <= 1 and data.test[1].isfinite().all()
        assert math.isclose(y.std().item(), 1, rel_tol=1e-9) and abs(y.mean()) < 1e-9
        assert torch.equal(y, again.train[1]) and torch.equal(data.test[0], again.test[0])
        assert not torch.equal(data.test[0], data.validation[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jv(v, x)", special.jv(2.5, 5)),
        ("lpmv(1, v, x)", special.lpmv(1, 2.5, 0)),
        ("Y(1, 0)", special.sph_harm_y(1, 0, math.pi / 2, math.pi).real),
        ("I.16.6", qkan.feynman("I.16.6")(torch.tensor([[3.0, 3.0, 3.0]])).item()),
        ("xy", 0.0),
        ("J₀(20x)", 1.0),
    ],
    ids=str,
)
def test_the_middle_of_the_inputs_is_the_middle_of_the_ranges(
    lab: Any, name: str, value: float
) -> None:
    target = lab.targets.TARGETS[name]
    middle = torch.tensor([[sum(ends) / 2 for ends in target.ranges]], dtype=torch.float64)
    assert math.isclose(target.formula(middle).item(), value, rel_tol=1e-6, abs_tol=1e-12)
    x, y = target.sample(50, torch.Generator().manual_seed(0))
    low, high = torch.tensor(target.ranges, dtype=torch.float64).unbind(-1)
    torch.testing.assert_close(target.formula(low + (high - low) * (x + 1) / 2), y)


def test_a_target_with_a_pole_is_refused(lab: Any) -> None:
    pole = lab.targets.Target("pole", "example", ((0.0, 1.0),), lambda x: x.log() / 0)
    with pytest.raises(ValueError, match="pole is not finite"):
        pole.sample(10, torch.Generator().manual_seed(0))


def test_all_kinds_have_equally_many_forms_and_tried_ones(lab: Any) -> None:
    for forms in (lab.functions.FORMS, lab.functions.TRIED):
        kinds = [form.kind for form in forms]
        assert len({kinds.count(kind) for kind in lab.functions.KINDS}) == 1
    assert set(lab.functions.FORMS) <= set(lab.functions.TRIED)
    assert len({len(reps) for reps in lab.scales.ENCODINGS.values()}) == 1
    assert lab.functions.TUNING_SEED not in lab.functions.SEEDS


@pytest.mark.parametrize("inputs", [1, 2, 9])
def test_a_fitted_width_is_the_nearest_to_the_budget(lab: Any, inputs: int) -> None:
    state = torch.get_rng_state()
    form, width = lab.functions.BUDGET
    budget = form.parameters(inputs, width)
    for form in lab.functions.FORMS:
        near = lab.fitting.fitted_width(form, inputs, budget)
        misses = [abs(form.parameters(inputs, near + n) - budget) for n in (0, 1)]
        if near > 1:
            misses.append(abs(form.parameters(inputs, near - 1) - budget))
        assert misses[0] == min(misses)
    assert lab.fitting.fitted_width(lab.functions.BUDGET[0], inputs, budget) == width
    assert torch.equal(state, torch.get_rng_state())


def test_an_mlp_counts_every_weight_and_a_form_builds_what_it_says(lab: Any) -> None:
    mlp = lab.fitting.Form("MLP", 2, "tanh")
    assert mlp.parameters(3, 4) == (3 * 4 + 4) + (4 * 4 + 4) + (4 + 1)
    assert [type(part).__name__ for part in mlp.build(3, 4)] == [*["Linear", "Tanh"] * 2, "Linear"]
    circuits = lab.fitting.Form("QKAN", 1, 2, "binary").build(3, 4)
    assert circuits.widths == [3, 4, 1] and circuits.layers[0].encoding == "binary"
    splines = lab.fitting.Form("KAN", 2, 7).build(3, 4)
    assert splines.widths == [3, 4, 4, 1] and splines.layers[0].bases[0].intervals == 7
    assert "encoding" in lab.fitting.Form("QKAN", 1, 2).to_dict()
    assert "encoding" not in mlp.to_dict()


def test_two_trained_repetitions_cost_what_three_fixed_ones_do(lab: Any) -> None:
    trained, fixed = (
        lab.fitting.Form("QKAN", 1, n, e) for n, e in ((2, "trainable"), (3, "binary"))
    )
    assert trained.parameters(2, 5) == fixed.parameters(2, 5)


def test_training_is_scipys_minimum_of_the_mean_square(lab: Any) -> None:
    form, (x, y) = lab.fitting.Form("QKAN", 1, 1), parabola(40, 0)
    model, other = (lab.fitting.start(form, 2, 2, 1) for _ in range(2))
    stop = lab.fitting.Stop(steps=2, patience=2, fall=0.0)
    result = lab.fitting.converge(model, (x, y), (x, y), stop)

    def loss(vector: Any) -> float:
        torch.nn.utils.vector_to_parameters(torch.tensor(vector), other.parameters())
        with torch.no_grad():
            return (other(x) - y).square().mean().item()

    begin = torch.nn.utils.parameters_to_vector(other.parameters()).detach().numpy().copy()
    course = lab.fitting._Course(model, (x, y), (x, y), stop)
    _, gradient = course.loss_and_gradient(begin)
    slope = (loss(begin + 1e-6 * gradient) - loss(begin - 1e-6 * gradient)) / 2e-6
    assert math.isclose(slope, (gradient**2).sum(), rel_tol=1e-6)
    assert loss(begin) > 10 * result.train_rmse**2 and result.steps == 2 and not result.converged


def test_training_stops_by_its_rule_and_keeps_the_best_step(lab: Any) -> None:
    pair, other = parabola(12, 0), (torch.zeros(5, 2, dtype=torch.float64), torch.ones(5, 1))
    form = lab.fitting.Form("MLP", 1, "tanh")
    model = lab.fitting.start(form, 2, 4, 1)
    result = lab.fitting.converge(model, pair, other, lab.fitting.Stop(50, 3, None))
    assert result.converged and result.steps == result.best_step + 3 < 50
    assert lab.fitting.rmse(model, other) == result.validation_rmse
    model = lab.fitting.start(form, 2, 1, 1)
    result = lab.fitting.converge(model, pair, pair, lab.fitting.Stop(50, 3, 0.9))
    assert result.converged and result.steps < 50


def test_the_form_of_lowest_validation_error_alone_is_tested(lab: Any) -> None:
    data = lab.targets.Data(parabola(40, 0), parabola(20, 1), parabola(20, 2))
    forms = [lab.fitting.Form("MLP", 1, "tanh"), lab.fitting.Form("MLP", 1, "silu"),
             lab.fitting.Form("KAN", 1, 2)]  # fmt: skip
    found = lab.fitting.study(forms, 30, data, 0, lab.fitting.Stop(3, 3, 0.0))
    first, second, splines = found
    chosen, other = sorted((first, second), key=lambda row: row["validation_rmse"])
    assert "test_rmse" in chosen and "test_rmse" in splines and "test_rmse" not in other


def test_errors_are_compared_by_ratio_interval_and_sign(lab: Any) -> None:
    compare, wins = lab.compare.compare, lab.compare.wins
    same = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.ratio, same.low, same.high, same.ties, same.p) == (1, 1, 1, 3, 1)
    half = compare([1.0] * 6, [2.0, 2.0, 2.0, 2.0, 2.0, 1.04])
    assert half.low <= half.ratio <= half.high < 1
    assert (half.lower, half.higher, half.ties) == (5, 0, 1)
    assert math.isclose(half.ratio, (2**5 * 1.04) ** (-1 / 6)) and math.isclose(half.p, 2 / 2**5)
    assert wins({"a": [1.0, 2.0, 1.0], "b": [2.0, 1.0, 1.04]}) == {"a": 1, "b": 1, "tie": 1}


def test_noise_has_its_level_and_leaves_the_test_alone(lab: Any) -> None:
    data = lab.targets.draw(lab.targets.TARGETS["xy"], (4000, 10, 10), 0)
    clean, some, much = (lab.noise.noisy(data, level, 7) for level in (None, 20, 0))
    added = [part.train[1] - data.train[1] for part in (clean, some, much)]
    assert not added[0].any() and math.isclose(added[2].std().item(), 1, rel_tol=0.05)
    torch.testing.assert_close(10 * added[1], added[2])
    for part in (clean, some, much):
        assert torch.equal(part.test[1], data.test[1])
        assert torch.equal(part.train[0], data.train[0])


@pytest.mark.parametrize("variables", [1, 2])
def test_waves_lie_in_their_band(lab: Any, monkeypatch: Any, variables: int) -> None:
    monkeypatch.setattr(lab.scales, "WAVES", 1)
    for seed in range(5):
        target = lab.scales.target(variables, 8, seed)
        x = torch.full((1, variables), 0.3, dtype=torch.float64)
        curvature = torch.autograd.functional.hessian(target.formula, x)
        ratio = -curvature.reshape(variables, variables).trace() / target.formula(x).item()
        assert 4 <= ratio.sqrt().item() * 2 / math.pi <= 8


def test_runs_of_another_process_are_kept(lab: Any, tmp_path: Path) -> None:
    stop = lab.fitting.Stop(1, 1, 0.0)
    jobs = [lab.scales.job(1, 2, seed, stop) for seed in (3, 1)]
    runs = lab.runs.Runs(tmp_path / "runs.json")
    found = lab.fitting.run_all(jobs, lab.scales.run, runs, 1)
    again = lab.fitting.run_all(jobs[::-1], print, lab.runs.Runs(runs.path), 1)
    assert found == again[::-1]
    fresh = lab.scales.run(jobs[0])
    errors = [[form["validation_rmse"] for form in run["forms"]] for run in (found[0], fresh)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("functions", ["--targets", "xy", "I.16.6", "jv(v, x)"]),
        ("scales", []),
        ("noise", []),
    ],
)
def test_a_study_records_draws_and_reports(
    lab: Any, tmp_path: Path, monkeypatch: Any, name: str, arguments: list[str]
) -> None:
    script = getattr(lab, name)
    monkeypatch.setattr(script, "SIZES", (60, 20, 20))
    if name == "scales":
        monkeypatch.setattr(script, "BANDS", {1: (2,), 2: (2, 4)})
    if name == "noise":
        monkeypatch.setattr(script, "LEVELS", (None, 10))
        monkeypatch.setattr(script, "EXAMPLES", script.EXAMPLES[:2])
    options = ["--seeds", "1", "--steps", "1", "--workers", "0", "--out", str(tmp_path)]
    script.main([*arguments, *options])
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    tested = [[f for f in s["forms"] if "test_rmse" in f] for s in record["samples"]]
    groups = 4 if name == "scales" else 3
    assert tested and all(len(forms) == groups for forms in tested)
    written = getattr(lab, f"{name}_report")
    text = "\n".join(getattr(written, "page", written.section)(record))
    assert f"experiments/functions/{name}.py" in text and "nan" not in text
    for table in text.split("\n\n"):
        rows = [line.count("|") for line in table.splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1
    numbers = [f"{form['test_rmse']:.1e}" for forms in tested for form in forms]
    if name != "noise":
        assert all(number in text for number in numbers)


def test_starts_are_chosen_on_some_tasks_and_compared_on_all(
    lab: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    starts = lab.starts
    monkeypatch.setattr(starts, "CHOSEN_ON", ("xy",))
    monkeypatch.setattr(starts, "OTHERS", ("diabetes", "digits"))
    monkeypatch.setattr(starts, "STARTS", dict([*starts.STARTS.items()][:2]))
    monkeypatch.setattr(starts, "SIZES", {"train": 40, "test": 20})
    monkeypatch.setattr(starts, "STEPS", {"lbfgs": 1, "adam": 2})
    monkeypatch.setattr(starts, "CHOOSING_SEEDS", range(5, 7))
    monkeypatch.setattr(starts, "SEEDS", range(2))
    starts.main(["--workers", "0", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "starts.json").read_text())
    assert record["choice"]["best"] == "1.25"
    assert [row["task"] for row in record["summary"]] == ["xy", "diabetes", "digits"]
    for row in record["summary"]:
        errors = [
            [run["test_error"] for run in record["runs"]
             if run["task"] == row["task"] and run["start"] == start]
            for start in ("1.25", "1")
        ]  # fmt: skip
        assert row["ratios"] == [one / other for one, other in zip(*errors, strict=True)]
    text = "\n".join(lab.starts_report.section(record))
    assert "1.25" in text and "diabetes" in text and "nan" not in text


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_start_that_is_worse_is_called_so(lab: Any, factor: float) -> None:
    table = {"xy": [factor * (1 + 0.1 * n) for n in range(10)], "same": [0.9, 1.1] * 5}
    assert [row["worse"] for row in lab.starts.verdict(table)] == [factor > 1, False]


def test_starts_of_scales(lab: Any) -> None:
    layer = qkan.QKANLayer(3, 4, reps=3)
    for name, scales in lab.starts.STARTS.items():
        drawn = scales(layer, torch.Generator().manual_seed(0))
        assert drawn.shape == layer.scale.shape, name
        assert 0.5 <= drawn.min() and drawn.max() <= 2, name
    assert torch.equal(lab.starts.STARTS["1"](layer, torch.Generator()), layer.scale.detach())
