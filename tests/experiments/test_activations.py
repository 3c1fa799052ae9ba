"""The study of learnt activations at a tiny size: its rows, its record and its section."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.source_only

DARUAN = "GELU + DARUAN, 1 repetition, trained scales, 8 groups"
SINE = "GELU + a·sin(wx + b)"


@pytest.fixture(scope="module")
def study(load: Callable[[str], Any]) -> Any:
    return load("language.activations")


@pytest.fixture(scope="module")
def small(study: Any) -> Any:
    from language.char_gpt import Size

    return Size(layers=1, heads=2, width=8, context=8)


@pytest.fixture(scope="module")
def text(study: Any) -> Any:
    tokens = torch.randint(65, (2000,), generator=torch.Generator().manual_seed(0))
    return study.Text(tokens[:1500], tokens[1500:1700], tokens[1700:])


def test_rows_begin_as_gelu_does_or_say_what_else(study: Any, small: Any) -> None:
    from language.learnt import build

    tokens = torch.randint(65, (2, 8), generator=torch.Generator().manual_seed(1))
    wanted = build(study.ROWS["GELU"], small, seed=3)(tokens)
    for name, row in study.ROWS.items():
        model = build(row, small, seed=3)
        same = torch.equal(model(tokens), wanted)
        assert same == (name == "GELU" or name.startswith("GELU + ")), name
        model(tokens).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters()), name
    assert len(study.ROWS) == 4 + 24 + 4 + 3


def test_learnt_parameters_count_and_have_their_own_rate(study: Any, small: Any) -> None:
    from language.learnt import GATED, HIDDEN, build, groups

    counts = {DARUAN: 8 * 6, SINE: 24, "PReLU": 8, "rational": 80, "GELU": 0}
    counts["GELU + Fourier series of degree 3"] = 48
    plain = sum(p.numel() for p in build(study.ROWS["GELU"], small, 0).parameters())
    for name, more in counts.items():
        row = study.ROWS[name]
        model = build(row, small, 0)
        every = [*model.parameters()]
        assert sum(p.numel() for p in every) == plain + more, name
        made = groups(model, row, 1e-3, 0.1)
        held = [p for group in made for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in every} and len(held) == len(every)
        faster = [g for g in made if g["lr"] == 1e-2]
        assert sum(p.numel() for g in faster for p in g["params"]) == more
        assert all(g["weight_decay"] == 0 for g in faster)
    # SwiGLU's three maps of 128 inputs beside the two of the others
    assert abs(3 * 128 * GATED + 2 * GATED - (2 * 128 * HIDDEN + HIDDEN)) < 100


def test_the_rational_activation_begins_near_gelu(study: Any) -> None:
    from language.learnt import Rational

    x = torch.linspace(-3, 3, 60).reshape(-1, 2)
    assert (Rational(2, 1)(x) - torch.nn.functional.gelu(x)).abs().max() < 0.05


def test_a_study_is_stopped_goes_on_and_is_reported(
    study: Any, text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    trained: list[tuple[int, int]] = []
    whole = study.run

    def counted(text: Any, row: Any, rate: float, seed: int, steps: int, test: bool) -> Any:
        trained.append((seed, steps))
        if len(trained) == 8:
            raise KeyboardInterrupt
        return whole(text, row, rate, seed, steps, test)

    monkeypatch.setattr(study, "run", counted)
    monkeypatch.setattr(study, "RATES", (1e-3, 4e-3))
    monkeypatch.setattr(study, "STEPS", 3)
    monkeypatch.setattr(study, "load_text", lambda: text)
    asked = ["--out", str(tmp_path), "--seeds", "2", "--steps", "3", "--trial-steps", "1"]
    rows = ["--rows", "GELU", SINE, DARUAN]
    with pytest.raises(KeyboardInterrupt):
        study.main([*asked, *rows])
    record = json.loads((tmp_path / "activations.json").read_text())
    assert len(record["runs"]) == 7 and "settings" in record
    study.main([*asked, *rows])
    # three rows with two trials and two runs in full, and the one that was interrupted again
    assert len(trained) == 3 * 4 + 1
    record = json.loads((tmp_path / "activations.json").read_text())
    for made in record["runs"]:
        assert {"torch", "commit", "processor"} <= made["result"]["environment"].keys()
        assert made["result"]["curve"][-1][0] == made["settings"]["steps"]
        assert math.isfinite(made["result"]["wall_seconds"])
    study.main([*asked[:-4], "--steps", "2", "--trial-steps", "1", "--rows", "best"])
    assert len(trained) == 3 * 4 + 1 + 3 * 2
    assert f"| {DARUAN} |" in capsys.readouterr().out
    assert (tmp_path / "learnt_activations.png").read_bytes().startswith(b"\x89PNG")
    from language.activations_report import section

    lines = section(json.loads((tmp_path / "activations.json").read_text()))
    assert "2 steps:" in lines and "3 steps:" in lines and DARUAN in lines[0]


def made_up(losses: dict[str, list[float]]) -> dict[str, Any]:
    kinds = {"GELU": "known", SINE: "control", DARUAN: "daruan"}
    runs = [
        {
            "settings": {
                "row": name, "kind": kinds[name], "seed": seed, "steps": 9, "test": True,
                "rate": 0.1,
            },
            "result": {
                "validation_loss": loss, "test_loss": loss, "parameters": 5, "wall_seconds": 9.0,
                "curve": [[9, 9.0, 9.0, loss]],
            },
        }
        for name, values in losses.items()
        for seed, loss in enumerate(values)
    ]  # fmt: skip
    return {"settings": {"rates": [0.1], "trial_steps": 1}, "runs": runs}


def test_the_first_sentence_says_when_a_classical_control_is_as_good(study: Any) -> None:
    from language.activations_report import section

    behind = section(made_up({"GELU": [3.0, 3.0], SINE: [2.0, 2.1], DARUAN: [2.1, 2.0]}))
    assert behind[0].startswith("**A classical learnt activation is as good**")
    assert (
        "on 1 of 2 seeds" in behind[1] and "on 2 of 2 seeds (test loss -0.950 ± 0.071)" in behind[1]
    )
    ahead = section(made_up({"GELU": [3.0, 3.0], SINE: [2.0, 2.1], DARUAN: [1.9, 2.0]}))
    assert ahead[0].startswith("After 9 steps the best DARUAN")
    assert f"test − {DARUAN}" in "\n".join(ahead)


def test_a_row_with_fewer_seeds_is_compared_but_never_the_best(study: Any) -> None:
    from language.activations_report import best_first
    from shared.finals import by_steps, differences

    found = by_steps(made_up({"GELU": [3.0, 3.2], SINE: [1.0], DARUAN: [2.0, 2.0]})["runs"])[9]
    assert best_first(found) == [DARUAN, "GELU"]
    assert differences(found, SINE, DARUAN) == [-1.0]
    assert study.longer(found) == [DARUAN, "GELU"]
