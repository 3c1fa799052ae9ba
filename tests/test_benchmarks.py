"""The benchmark harness: its statistics, its gate, a case end to end, and the report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.checkout

if BENCHMARKS.is_dir():
    # at the end: the suite has a `cases` of its own, which nothing imported here needs
    sys.path.append(str(BENCHMARKS))
    import block_tables
    import gate
    import gpu_time
    import records
    import samples
    import tables


def test_a_summary_knows_the_quiet_calls_from_the_disturbed() -> None:
    found = samples.summary([[1.0, 1.0, 9.0], [2.0, 2.0, 8.0], []])
    assert (found.median, found.quiet, found.low, found.high) == (2.0, 1.0, 1.0, 2.0)
    assert found.count == 6
    with pytest.raises(ValueError, match="never had a turn"):
        samples.summary([[]])


def test_a_ratio_pairs_rounds_so_that_a_slow_machine_cancels() -> None:
    slowdown = (1.0, 3.0, 1.5)
    fast = [[0.01 * s, 0.01 * s] for s in slowdown]
    slow = [[2.0 * s] for s in slowdown]
    found = samples.ratio(slow, fast)
    assert found.median == pytest.approx(200)
    assert found.low == pytest.approx(200)
    assert found.high == pytest.approx(200)
    assert found.pairs == 3


def test_a_ratio_of_rounds_that_do_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="not run interleaved"):
        samples.ratio([[1.0]], [[1.0], [1.0]])


def test_a_turn_has_as_many_calls_as_fit_and_at_least_one() -> None:
    assert samples.calls_for(0.5, 0.01) == 50
    assert samples.calls_for(0.5, 7.0) == 1
    assert samples.calls_for(0.5, 0.0, most=400) == 400


def test_growth_is_the_exponent() -> None:
    sizes = [1.0, 2.0, 4.0]
    assert samples.growth(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def arrays() -> dict[str, np.ndarray]:
    g = np.random.default_rng(0)
    return {"y": g.standard_normal((7, 3)), "grad theta": 1e-4 * g.standard_normal((3, 5, 8))}


def test_the_gate_lets_float32_rounding_pass() -> None:
    verdict = gate.judge({k: v.astype(np.float32) for k, v in arrays().items()}, arrays())
    assert verdict.passed
    assert 0 < max(verdict.errors.values()) < 1e-6


def wrong(kind: str) -> dict[str, np.ndarray]:
    found = arrays()
    if kind == "one gradient entry":
        found["grad theta"][2, 4, 7] += 1e-8
    elif kind == "nan":
        found["y"][0, 0] = np.nan
    elif kind == "shape":
        found["y"] = found["y"][:, :1]
    elif kind == "missing":
        del found["grad theta"]
    elif kind == "extra":
        found["grad scale"] = found["y"]
    return found


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("one gradient entry", "grad theta is off"),
        ("nan", "y is off"),
        ("shape", "y has shape"),
        ("missing", "no grad theta"),
        ("extra", "grad scale"),
    ],
)
def test_the_gate_rejects_a_wrong_candidate(kind: str, reason: str) -> None:
    verdict = gate.judge(wrong(kind), arrays())
    assert not verdict.passed
    assert reason in str(verdict.reason)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_case_runs_end_to_end_and_says_what_it_left_out(tmp_path: Path) -> None:
    out = tmp_path / "tiny.json"
    done = run(
        "run.py", "--case", "4-trainable", "--candidates", "torch", "auto", "--rounds", "2",
        "--seconds", "0.001", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (case,) = record["cases"]
    assert set(case["results"]) == {"auto", "torch"}
    for result in case["results"].values():
        assert result["status"] == "measured", result
        assert max(result["gate"].values()) <= 1e-5
        assert {"forward", "y", "grad x", "grad theta", "grad scale"} <= set(result["gate"])
        for measure in ("forward", "step"):
            rounds = result["measures"][measure]["rounds"]
            assert len(rounds) == 2
            assert all(one > 0 for turn in rounds for one in turn)
    assert record["packages"]["own"]["torch"]
    assert {"commit", "machine", "threads", "plan", "written"} <= set(record)


def candidate(milliseconds: float, **about: Any) -> dict[str, Any]:
    turns = [[milliseconds / 1e3 * s] * 2 for s in (1.0, 2.0)]
    measures = {name: {"rounds": turns, "idle_cpu": 0.0} for name in ("forward", "step")}
    return {
        "status": "measured", "note": "", "scaled": 1.0, "same_function": True, "about": about,
        "measures": measures,
    }  # fmt: skip


def recorded(folder: Path) -> Path:
    """A run as run.py writes it, with times that make the ratios known."""
    case = {
        "id": "64-trainable", "batch": 1024, "in_features": 64, "out_features": 64, "reps": 3,
        "encoding": "trainable", "title": "1024 × 64 → 64, trainable", "kind": "time", "sweep": "",
        "load_average": [0.1, 0.2],
        "results": {
            "auto": candidate(4, engine="chebyshev"), "numba": candidate(8, engine="numba"),
            "qkan exact": candidate(3000), "qkan cutn": candidate(2000),
            "fourier": {"status": "left out", "reason": "not available"},
        },
    }  # fmt: skip
    run = {
        "run": "tiny", "written": "2026-01-02T00:00:00Z", "commit": "0123456789abcdef",
        "uncommitted_changes": False, "threads": 2, "cases": [case],
        "machine": {"processor": "Abacus", "cores": 2, "vector_flags": ["avx2"]},
        "packages": {"own": {"torch": "2.13.0", "python": "3.11.7"}},
    }  # fmt: skip
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(run))
    return folder


def test_the_section_is_against_the_faster_solver(tmp_path: Path) -> None:
    text = tables.section(records.load(recorded(tmp_path / "results")))
    assert "| `auto` (`chebyshev`) | 6 | 3000 `cutn` | **500** (500–500) |" in text
    assert "| `numba` | 12 | 3000 `cutn` | **250** (250–250) |" in text
    assert "Abacus" in text
    assert "0123456789" in text


def test_the_report_writes_and_checks_its_page(tmp_path: Path) -> None:
    folder, page = recorded(tmp_path / "results"), tmp_path / "benchmarks.md"
    options = ("--results", str(folder), "--page", str(page), "--images", str(tmp_path))
    assert run("report.py", "--check", *options).returncode == 1
    done = run("report.py", *options)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "**500**" in text
    assert run("report.py", "--check", *options).returncode == 0
    page.write_text(text.replace("**500**", "**501**"))
    done = run("report.py", "--check", *options)
    assert done.returncode == 1
    assert "**501**" in done.stderr
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000


def test_the_page_says_what_the_records_say() -> None:
    done = run("report.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_headlines_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    (case,) = records.load(recorded(tmp_path / "results")).values()
    (row,) = tables.headlines({"64-trainable": case}, None)
    assert "3000 ms" in row and "**500** (500–500) times as fast" in row
    assert tables.headlines({}, None) == []


def test_a_missing_peer_names_the_command_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import peers

    monkeypatch.setattr(peers, "FOLDER", Path("nowhere"))
    assert "python benchmarks/peers.py pykan" in str(peers.missing("pykan"))


def test_the_distance_from_the_limit_has_a_line_of_its_own(tmp_path: Path) -> None:
    assert records.load_other(tmp_path, "limit") is None
    limit = {
        "times_the_limit": {"forward": 1.54, "backward": 1.81},
        "operations": {"forward": 55, "backward": 98},
        "operations_per_second": 54e9,
    }
    (tmp_path / "limit.json").write_text(json.dumps(limit))
    (line,) = tables.arithmetic(records.load_other(tmp_path, "limit"))
    assert "55 multiplications" in line and "1.5 and 1.8 times" in line and "54 billion" in line


def test_a_token_is_timed_in_every_form_and_told(tmp_path: Path) -> None:
    out = tmp_path / "decode.json"
    done = run("decode.py", "--rounds", "2", "--seconds", "0.001", "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert {"folded", "auto", "fourier", "numba", "MLP"} == set(record["rounds"])
    assert set(record["errors"]) == set(record["rounds"]) - {"MLP"}
    assert max(record["errors"].values()) <= 1e-5
    assert record["parameters"]["folded"] < record["parameters"]["MLP"] / 100
    text = "\n".join(tables.one_token(records.load_other(tmp_path, "decode")))
    assert "| folded | " in text and "| MLP | 4,722,432 | " in text


def test_measurements_on_a_card_take_the_time_that_its_tests_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "gpu-tests.xml"
    assert gpu_time.test_report(report) is None
    report.write_text(
        '<testsuites><testsuite tests="3" skipped="1" time="250.5"><testcase name="good"/>'
        '<testcase name="bad"><failure/></testcase><testcase name="none"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    found = gpu_time.test_report(report)
    assert found == {"tests": 3, "skipped": 1, "failed": ["bad"], "seconds": 250.5}
    left = gpu_time.left_by(found)
    assert left + 250.5 < gpu_time.TOTAL and gpu_time.left_by(None) == left + 250.5
    now = 100.0
    monkeypatch.setattr(gpu_time.time, "monotonic", lambda: now)
    clock = gpu_time.Clock(left, now, turns=12)
    plan = make_dataclass("Plan", ["rounds", "seconds"])(9, 0.6)
    assert clock.fitting(plan, 6) == plan and clock.turns == 6
    now += left - gpu_time.BEGIN - 6 * 0.7 * 4.5
    assert clock.fitting(plan, 6).rounds == 4 and clock.turns == 0
    # half of what is left belongs to what comes later
    clock.turns = 12
    assert clock.fitting(plan, 6) is None
    now += 6 * 0.7 * 2
    assert clock.fitting(plan, 6) is None


@pytest.mark.full
def test_a_block_is_timed_beside_a_bottleneck_of_its_size(tmp_path: Path) -> None:
    out = tmp_path / "block.json"
    options = ("--rounds", "2", "--seconds", "0.001", "--eager", "--out", str(out))
    # one case at a time: what was measured before stays
    for case in ("block 10", "row 3"):
        done = run("block.py", *options, "--cases", case)
        assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())["cases"]
    assert [*cases] == ["block 10", "row 3"]
    for case, names in zip(cases.values(), (["MLP"], []), strict=True):
        for rounds in case["measures"].values():
            assert [*rounds] == [*names, "HQKAN", "bottleneck"]
            assert all(len(turns) == 2 and min(map(min, turns)) > 0 for turns in rounds.values())
        sizes = case["parameters"]
        assert abs(sizes["HQKAN"] / sizes["bottleneck"] - 1) < 0.05
    assert "times the bottleneck" in done.stdout and "block.json" in records.OTHERS


@pytest.mark.full
def test_a_folded_layer_is_timed_beside_what_it_was_made_of(tmp_path: Path) -> None:
    out = tmp_path / "fold.json"
    options = ("--rounds", "2", "--seconds", "0.001", "--rows", "3", "--out", str(out))
    done = run("fold.py", *options, "--latent", "4", "--encodings", "ternary", "--experts", "3")
    assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())["cases"]
    assert [*cases] == ["4 nodes, ternary, 3 rows", "experts of 3 nodes, ternary, 3 rows"]
    for case, names in zip(cases.values(), (["product"], []), strict=True):
        assert [*case["rounds"]] == ["unfolded", "folded", *names]
        assert all(len(t) == 2 and min(map(min, t)) > 0 for t in case["rounds"].values())
    assert "fold.json" in records.OTHERS


def test_the_tables_of_blocks_and_of_folded_layers() -> None:
    def turns(seconds: float) -> list[list[float]]:
        return [[seconds], [seconds]]

    forms = {"HQKAN": turns(0.004), "bottleneck": turns(0.002)}
    forms |= {"HQKAN, compiled": turns(0.005), "bottleneck, compiled": turns(0.001)}
    record = {
        "width": 768, "tokens": [8, 128], "threads": 2, "layers": 6,
        "cases": {"block 10": {"measures": {"step": forms}}},
    }  # fmt: skip
    line = block_tables.compiled_blocks(record)[-1]
    assert line.startswith("| block 10 | step | 4 | **2** (2–2) | **1.25** (1.25–1.25) | +1.00 |")
    assert line.endswith("| **0.5** (0.5–0.5) | -1.00 |")
    cases = {
        f"10 nodes, linear, {rows} rows": {
            "rounds": {"unfolded": turns(0.002), "folded": turns(0.001 * rows)}
        }
        for rows in (1, 1024)
    }
    lines = block_tables.folded_layers({"threads": 2, "cases": cases})
    assert lines[2] == "| layer | 1 row | 1,024 rows |"
    assert lines[4] == "| 10 nodes, linear | 0.50 | 512.00 |"


def test_the_table_of_wide_layers() -> None:
    one = {"qkan": 0.02, "ratio": 31.44, "products_ratio": 17.5}
    cases = {"256 trainable N, one 1000": {"columns": 20, "forward": one, "step": one}}
    lines = block_tables.wide_layers({"batch": 1024, "rounds": 12, "cases": cases})
    cells = "20 | 31.4 | 17.5"
    assert lines[4] == f"| 256 → 256, trainable | N, one 1000 | 20 | {cells} | {cells} |"


COLUMNS = """
import torch, qkan, wide
x = wide.numbers(8, "N", torch.Generator().manual_seed(0))
for encoding in ("linear", "trainable"):
    layer = qkan.QKANLayer(8, 8, encoding=encoding, generator=torch.Generator().manual_seed(0))
    print(wide.columns(layer, x), *wide.Products(8, 7)(x).shape)
"""


def test_the_columns_of_a_wide_layer_are_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLUMNS], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    fixed, trained = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert fixed == (7, 1024, 8) and 12 < trained[0] < 30


def test_candidates_take_turns_that_fill_their_time() -> None:
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    rounds = samples.measure(calls, 3, 1e-9)
    assert [len(turn) for turn in rounds["a"]] == [1, 1, 1] == [len(turn) for turn in rounds["b"]]
    assert "".join(order[-6:]) == "ababab"


@pytest.mark.full
def test_recurrent_modules_are_timed_beside_those_of_torch(tmp_path: Path) -> None:
    out = tmp_path / "cells.json"
    options = ("--rounds", "2", "--seconds", "0.001", "--hidden", "3", "--batch", "2")
    done = run("cells.py", *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert len(record["measures"]) == 4 and max(record["errors"].values()) < 1e-5
    for rounds in record["measures"].values():
        assert [*rounds] == ["ours", "torch"]
        assert all(len(turns) == 2 and min(map(min, turns)) > 0 for turns in rounds.values())
    assert "times" in done.stdout and "cells.json" in records.OTHERS
