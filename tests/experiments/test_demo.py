"""The demo at a small size: it runs, writes what it says, and its numbers mean what they say."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.source_only

PNG = b"\x89PNG"
QUICK = {"points": 60, "steps": 2}


@pytest.fixture(scope="module")
def demo(load: Callable[[str], Any]) -> Any:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    return load("demo")


@pytest.fixture(scope="module")
def results(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("demo")
    regression = demo.regress(range(2), out, **QUICK)
    halves = {
        "regression": regression,
        "device": demo.device.study(regression["shown"], out, points=5, steps=1, checked=1),
        "digits": demo.classify(range(2), out, epochs=3),
    }
    return halves, out


def test_it_draws_every_figure(results: tuple[dict[str, Any], Path]) -> None:
    halves, out = results
    figures = [path for half in halves.values() for path in half["figures"]]
    assert {path.name for path in figures} == {
        "activations.png",
        "fit.png",
        "device.png",
        "digits.png",
    }
    assert all(path.parent == out and path.read_bytes().startswith(PNG) for path in figures)


def test_it_reports_all_samples(
    demo: Any, results: tuple[dict[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    halves, out = results
    demo.print_regression(halves["regression"])
    demo.device.print_study(halves["device"])
    demo.print_digits(halves["digits"])
    demo.report(halves, out, seconds=1.0)
    printed = capsys.readouterr().out
    assert "QKAN" in printed and "MLP" in printed and "demo.json" in printed
    record = json.loads((out / "demo.json").read_text())
    assert {"commit", "torch", "python", "processor", "qkan"} <= set(record["environment"])
    errors = [sample["test_mse"] for sample in record["samples"]["regression"]]
    assert record["summary"]["regression"]["median_test_mse"] == statistics.median(errors)
    assert len(record["summary"]["device"]["runs"]) == 5
    for run in record["samples"]["device"]["runs"]:
        assert min(run["stderr"]) > 0
    for kind in ("QKAN", "MLP"):
        assert len(record["samples"]["digits"][kind]) == 2
        assert record["summary"]["digits"][kind]["parameters"][0] < 5000


def test_the_models_compared_have_equally_many_parameters(demo: Any) -> None:
    from qkan import effective_parameters

    for recipes in zip(*demo.digits.TRIALS.values(), strict=True):
        counts = [effective_parameters(demo.digits.build(recipe)) for recipe in recipes]
        assert max(counts) / min(counts) < 1.005
        assert max(counts) < demo.digits.LIMIT


def test_the_three_parts_of_a_split_share_no_digit(demo: Any) -> None:
    pytest.importorskip("sklearn")
    split = demo.digits.load_split(0)
    sizes = [len(part[0]) for part in (split.train, split.validation, split.test)]
    assert sizes == [958, 240, 599]


def test_a_seed_repeats_its_numbers(demo: Any) -> None:
    first, again, other = (demo.regression.run(seed, **QUICK).test_mse for seed in (0, 0, 1))
    assert first == again != other


def test_the_global_random_state_is_left_alone(demo: Any) -> None:
    before = torch.get_rng_state()
    split = demo.digits.load_split(0)
    demo.digits.run(demo.RECIPES["MLP"], split, seed=0, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_both_precisions_see_the_same_points(demo: Any) -> None:
    single, double = (
        demo.regression.sample(7, torch.Generator().manual_seed(0), dtype)[0]
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(single, double.float())


@pytest.mark.parametrize(
    ("package", "extra"),
    [("matplotlib", "plot"), ("sklearn", "sklearn"), ("qiskit_ibm_runtime", "qiskit")],
)
def test_a_missing_extra_is_named(
    demo: Any, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=rf"needs {package}.*\n.*\[{extra}\]"):
        demo.require_extras()
