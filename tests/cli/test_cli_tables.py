"""Tables on the command line: fit, predict, plot, and a device that measures the same file."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qkan.cli.plot
from qkan import QKAN, QKANConv2d, QKANLayer, TableModel, load, save
from qkan.cli.app import app
from qkan.cli.fit import parse_hidden
from qkan.cli.plot import parse_edge
from qkan.errors import QKANError
from qkan.tabular.reading import read_table

RNG = np.random.default_rng(0)
DOSE, AGE = RNG.normal(size=60), RNG.normal(size=60) * 20 + 50
EFFECT = 10 * np.sin(2 * DOSE) + 100
QUICK = [
    "--hidden", "0", "--steps", "3", "--encoding", "linear", "--reps", "3", "--alpha", "0",
    "--quiet",
]  # fmt: skip


def call(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def table(path: Path, columns: dict[str, Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    numbers = {"id": range(60), "dose": DOSE, "age": AGE, "effect": EFFECT}
    table(tmp_path / "numbers.csv", numbers)
    level = np.array(["low", "high"])[(DOSE > 0).astype(int)]
    table(tmp_path / "classes.csv", {"dose": DOSE, "age": AGE, "level": level})
    return tmp_path


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a table, with an index left out."""
    folder = tmp_path_factory.mktemp("regressor")
    numbers = {"id": range(60), "dose": DOSE, "age": AGE, "effect": EFFECT}
    source = table(folder / "numbers.csv", numbers)
    call(
        "fit",
        source,
        "--target",
        "effect",
        "--drop",
        "id",
        *QUICK,
        "--out",
        folder / "m.safetensors",
    )
    return folder / "m.safetensors"


# ---- fit


def test_a_table_is_fitted_and_compared(folder: Path) -> None:
    out = folder / "m.safetensors"
    arguments = ["fit", folder / "numbers.csv", "--target", "effect", "--drop", "id"]
    found = json.loads(call(*arguments, *QUICK, "--out", out, "--json").stdout)
    assert found["task"] == "regression" and found["columns"] == ["dose", "age"]
    assert found["rows"] == {"train": 48, "test": 12} and found["unused"] == ["id"]
    scores = {name: parts["test"]["r2"] for name, parts in found["scores"].items()}
    assert scores["QKAN"] > 0.9 > scores["linear"] > scores["mean"]
    model = load(out)
    assert isinstance(model, TableModel) and model.columns == ("dose", "age")
    # as its own test says: R² over the rows held out
    x = torch.tensor(np.column_stack([DOSE, AGE]))
    assert np.corrcoef(model.predict(x), EFFECT)[0, 1] > 0.95


def test_classes_are_seen_and_said(folder: Path) -> None:
    out = folder / "m.safetensors"
    done = call("fit", folder / "classes.csv", "--target", "level", *QUICK, "--out", out)
    assert "classification into 2 classes: high, low (--task" in done.stderr
    assert str(out) in done.stdout
    assert "most frequent class" in done.stdout and "logistic" in done.stdout
    assert "test accuracy" in done.stdout
    model = load(out)
    assert isinstance(model, TableModel) and model.classes == ("high", "low")


def test_a_seed_repeats_a_fit(folder: Path) -> None:
    arguments = ["fit", folder / "classes.csv", "--target", "level", *QUICK, "--test-size", "0"]
    for name in ("a", "b"):
        found = json.loads(call(*arguments, "--json", "--out", folder / name).stdout)
        assert found["scores"]["QKAN"]["test"] is None and found["rows"]["test"] == 0
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_what_a_target_is(folder: Path) -> None:
    grades = RNG.integers(1, 4, size=60)
    source = table(folder / "grades.csv", {"dose": DOSE, "grade": grades})
    arguments = ["fit", source, "--target", "grade", *QUICK, "--json", "--out", folder / "m"]
    guessed = json.loads(call(*arguments).stdout)
    assert guessed["task"] == "classification" and guessed["classes"] == [1, 2, 3]
    assert json.loads(call(*arguments, "--task", "regression").stdout)["classes"] is None


def test_aliasing_is_told_in_a_line(folder: Path) -> None:
    dose = [*DOSE[:-1], 80.0]
    source = table(folder / "far.csv", {"dose": dose, "effect": EFFECT})
    done = call(
        "fit", source, "--target", "effect", *QUICK, "--test-size", 0, "--out", folder / "m"
    )
    assert "Warning: " in done.stderr and "AliasingWarning" not in done.stderr


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import qkan
step, calls = qkan.LBFGS.step, []
def interrupted(self, closure):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, closure)
qkan.LBFGS.step = interrupted
from qkan.cli import main
main()
"""


def test_an_interrupted_fit_keeps_its_model(folder: Path) -> None:
    out = folder / "m.safetensors"
    arguments = [
        "fit",
        folder / "numbers.csv",
        "--target",
        "effect",
        *QUICK,
        "--out",
        out,
        "--json",
    ]
    command = [sys.executable, "-c", INTERRUPTED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    found = json.loads(done.stdout)
    assert found["interrupted"] and found["steps"] == 2 and "Traceback" not in done.stderr
    assert "Interrupted after 2 steps" in done.stderr and isinstance(load(out), TableModel)


def wrong_tables(folder: Path) -> dict[str, tuple[list[Any], str]]:
    numbers = folder / "numbers.csv"
    slip = table(folder / "slip.csv", {"dose": [1, "2 mg", 3], "effect": [1, 2.5, 3]})
    holes = table(folder / "holes.csv", {"dose": [1, "", 3], "effect": [1, 2.5, 3]})
    alone = table(folder / "alone.csv", {"dose": [1, 2, 3], "level": ["a", "b", "b"]})
    empty = table(folder / "empty.csv", {"dose": [1, 2, 3], "level": ["a", "", "b"]})
    same = table(folder / "same.csv", {"dose": [1, 2, 3], "level": ["a", "a", "a"]})
    (folder / "bare.csv").write_text("1,2\n3,4\n")
    (folder / "twice.csv").write_text("a,a,y\n1,2,3\n")
    (folder / "index.csv").write_text(",a,y\n0,1,2\n")
    effect = ["--target", "effect"]
    spoilt = {
        word or "nothing": table(
            folder / f"spoilt {word}.csv", {"dose": DOSE, "effect": [word, *map(str, DOSE[1:])]}
        )
        for word in ("inf", "", "?")
    }
    price = table(folder / "price.csv", {"dose": DOSE, "price": [f"{d} EUR" for d in DOSE]})
    return {
        "no file": ([folder / "no.csv", *effect], "no.csv does not exist"),
        "no such target": ([numbers, "--target", "efect"], "Did you mean 'effect'"),
        "no such column": ([numbers, *effect, "--drop", "di"], "no column 'di'"),
        "the target dropped": ([numbers, *effect, "--drop", "effect"], "would drop the target"),
        "nothing left": (
            [holes, *effect, "--drop", "dose"],
            "no other column from which to predict 'effect'",
        ),
        "a slip": ([slip, *effect], "line 3: found '2 mg'.*column 'dose' .in 1 of 3 rows.*--drop"),
        "an empty cell": (
            [holes, *effect, "--missing", "refuse"],
            "line 3: column 'dose' has '', which is not a value",
        ),
        "an empty class": (
            [empty, "--target", "level"],
            r"line 3: found an empty cell of column 'level' \(in 1 of 3 rows\).*delete",
        ),
        "a target of infinity": (
            [spoilt["inf"], *effect],
            "line 2: found 'inf', no finite number of column 'effect' .in 1 of .*classification",
        ),
        "a target with a mark": ([spoilt["?"], *effect], "line 2: found '[?]', no finite number"),
        "a target with a gap": (
            [spoilt["nothing"], *effect],
            r"line 2: found an empty cell of column 'effect' (?!.*--)",
        ),
        "a target with a unit": (
            [price, "--target", "price", "--task", "regression"],
            "is a number with the unit 'EUR': write",
        ),
        "columns with a comma": (
            [numbers, "--target", "dose", "--drop", "dose,effect"],
            "Repeat the option .*--drop 'dose' --drop 'effect'",
        ),
        "one class": ([same, "--target", "level"], "the one class a"),
        "a class alone": ([alone, "--target", "level"], r"one row only: \['a'\]"),
        "no names": ([folder / "bare.csv", *effect], "begins with numbers"),
        "a name twice": ([folder / "twice.csv", "--target", "y"], r"\['a'\] occur twice"),
        "an index": ([folder / "index.csv", "--target", "y"], "column 1 has no name"),
        "no such policy": ([numbers, *effect, "--missing", "guess"], "--missing guess"),
        "a long delimiter": ([numbers, *effect, "--delimiter", "::"], "--delimiter '::'"),
        "an odd decimal": ([numbers, *effect, "--decimal", "'"], "--decimal"),
        "no such category": ([numbers, *effect, "--category", "sex"], "no column 'sex'"),
        "an unknown task": ([numbers, *effect, "--task", "rank"], "--task rank"),
        "an unknown ansatz": ([numbers, *effect, "--ansatz", "pzz"], "Did you mean 'pz'"),
        "an unknown encoding": ([numbers, *effect, "--encoding", "lin"], "linear"),
        "layers of no size": ([numbers, *effect, "--hidden", "5;3"], "--hidden 5;3"),
        "all held out": ([numbers, *effect, "--test-size", "1"], "--test-size 1 of 60 rows"),
        "too few held out": ([numbers, *effect, "--test-size", "0.01"], "2 rows or more"),
        "no such folder": ([numbers, *effect, "--out", folder / "x" / "m"], "does not exist"),
        "no steps": ([numbers, *effect, "--steps", "0"], "steps=0"),
    }


def test_wrong_tables_are_one_line(folder: Path) -> None:
    for name, (arguments, found) in wrong_tables(folder).items():
        out = [] if "--out" in arguments else ["--out", folder / "never"]
        done = call("fit", *arguments, *out, "--quiet", code=2)
        assert re.search(found, done.stderr), (name, done.stderr)
        assert done.stderr.splitlines()[-1].startswith("Error: ") and not done.stdout, name
    assert not (folder / "never").exists()
    call("fit", folder / "numbers.csv", code=2)


# ---- predict


def test_predictions_follow_the_rows(regressor: Path, tmp_path: Path) -> None:
    # other order, the target left out, the dropped column there, semicolons
    text = "age;id;dose\n50;1;0\n30;2;1\n"
    (tmp_path / "new.csv").write_text("\ufeff" + text, encoding="utf-8")
    printed = call("predict", regressor, tmp_path / "new.csv").stdout.splitlines()
    model = load(regressor)
    assert isinstance(model, TableModel)
    wanted = model.predict(torch.tensor([[0.0, 50.0], [1.0, 30.0]], dtype=torch.float64))
    assert printed[0] == "effect" and [*map(float, printed[1:])] == wanted.tolist()
    done = call("predict", regressor, tmp_path / "new.csv", "--out", tmp_path / "y.csv", "--json")
    assert json.loads(done.stdout)["predictions"] == {"effect": wanted.tolist()}
    assert (tmp_path / "y.csv").read_text().splitlines() == printed
    assert not call("predict", regressor, tmp_path / "new.csv", "--out", tmp_path / "y.csv").stdout


def test_probabilities_add_to_one(folder: Path) -> None:
    out, source = folder / "m.safetensors", folder / "classes.csv"
    call("fit", source, "--target", "level", *QUICK, "--out", out)
    found = json.loads(call("predict", out, source, "--proba", "--json").stdout)["predictions"]
    assert [*found] == ["level", "p(high)", "p(low)"] and len(found["level"]) == 60
    high, low = np.array(found["p(high)"]), np.array(found["p(low)"])
    assert np.allclose(high + low, 1)
    assert found["level"] == np.where(high > low, "high", "low").tolist()
    assert np.mean((high > low) == (DOSE > 0)) > 0.9


def test_a_model_without_a_table_predicts_by_number(tmp_path: Path) -> None:
    model = QKAN([2, 3], generator=torch.Generator().manual_seed(0))
    save(model, tmp_path / "m.safetensors")
    x = np.arange(8.0).reshape(4, 2)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.csv").write_text("a\tb\n" + "\n".join(f"{a}\t{b}" for a, b in x))
    found = [call("predict", tmp_path / "m.safetensors", tmp_path / f"x.{kind}").stdout
             for kind in ("npy", "csv")]  # fmt: skip
    assert found[0] == found[1]
    lines = [[*map(float, line.split(","))] for line in found[0].splitlines()[1:]]
    assert found[0].startswith("y0,y1,y2\n")
    assert np.allclose(lines, model(torch.from_numpy(x).float()).detach().numpy())


def test_wrong_inputs_of_predict_are_one_line(regressor: Path, tmp_path: Path) -> None:
    save(QKANLayer(2, 1), tmp_path / "layer.safetensors")
    save(QKANConv2d(1, 1, 2), tmp_path / "conv.safetensors")
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    np.save(tmp_path / "wide.npy", np.ones((3, 5)))
    np.save(tmp_path / "flat.npy", np.ones(2))
    good = {"dose": [1.0], "age": [2.0]}
    files = {
        "missing": {"dose": [1.0]}, "extra": {**good, "weight": [1.0], "name": ["x"]},
        "text": {**good, "age": ["old"]}, "good": good,
    }  # fmt: skip
    at = {name: table(tmp_path / f"{name}.csv", content) for name, content in files.items()}
    (tmp_path / "bare.csv").write_text("1,2\n")
    layer, conv = tmp_path / "layer.safetensors", tmp_path / "conv.safetensors"
    for arguments, found in (
        ([regressor, at["missing"]], "lacks the columns ['age']"),
        ([regressor, at["extra"]], "--drop 'weight' --drop 'name'"),
        ([regressor, at["text"]], "line 2: found 'old', no finite number of column 'age'"),
        ([regressor, tmp_path / "bare.csv"], "begins with numbers"),
        ([regressor, at["good"], "--proba"], "no classes"),
        ([regressor, tmp_path / "wide.npy"], "(3, 5)"),
        ([regressor, tmp_path / "x.npy", "--drop", "a"], "no names"),
        ([regressor, tmp_path], "is a folder"),
        ([layer, tmp_path / "x.npy", "--proba"], "no classes"),
        ([layer, tmp_path / "wide.npy"], "(3, 5)"),
        ([layer, tmp_path / "flat.npy"], "wanted rows"),
        ([regressor, tmp_path / "flat.npy"], "wanted rows"),
        ([conv, tmp_path / "x.npy"], "(n, 1, h, w)"),
    ):
        done = call("predict", *arguments, code=2)
        assert found in done.stderr and done.stderr.startswith("Error: "), done.stderr
    call("predict", regressor, at["extra"], "--drop", "weight", "--drop", "name")


# ---- devices read the same file


def test_a_fitted_table_is_measured(regressor: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "new.csv", {"age": AGE[:3], "dose": DOSE[:3], "effect": EFFECT[:3]})
    fast = ["--backend", "fake_manila", "-o", "emulator=closed_form", "-o", "seed=0"]
    plan = json.loads(call("estimate", regressor, source, *fast, "--json").stdout)
    assert [stage["values"] for stage in plan["stages"]] == [6]
    store = ["--store", tmp_path / "run"]
    found = json.loads(call("submit", regressor, source, *fast, *store, "--json").stdout)
    predicted = json.loads(call("predict", regressor, source, "--json").stdout)
    values, stderr = np.array(found["values"])[:, 0], np.array(found["stderr"])[:, 0]
    assert (abs(values - predicted["predictions"]["effect"]) < 5 * stderr).all()
    again = json.loads(call("collect", tmp_path / "run", "--json").stdout)
    assert again["values"] == found["values"]


# ---- plot


def test_every_kind_of_picture(regressor: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "new.csv", {"dose": DOSE, "age": AGE})
    for kind, data in (
        ("network", [source]), ("network", []), ("bloch", [source]), ("spectrum", []),
        ("circuit", []),
    ):  # fmt: skip
        out = tmp_path / f"{kind}{len(data)}.svg"
        edge = [] if kind == "network" else ["--edge", "0,0,1"]
        done = call("plot", regressor, *data, "--kind", kind, *edge, "--out", out, "--json")
        assert json.loads(done.stdout) == {"figure": str(out), "kind": kind}
        assert "<svg" in out.read_text()
    beside = call("plot", regressor, source)
    assert str(regressor.with_suffix(".svg")) in beside.stdout
    assert regressor.with_suffix(".svg").exists()


def test_wrong_pictures_are_one_line(regressor: Path, tmp_path: Path) -> None:
    for arguments, found in (
        (["--kind", "blosh"], "Did you mean 'bloch'"),
        (["--kind", "circuit", "--edge", "0,0"], "--edge 0,0"),
        (["--edge", "0,0,0"], "all"),
        ([regressor, "--kind", "circuit"], "not needed"),
        (["--drop", "id"], "pass the table"),
        (["--kind", "circuit", "--edge", "0,3,0"], "edge=(0, 3, 0)"),
        (["--out", tmp_path / "m.docx"], "wanted one of the endings"),
        (["--out", tmp_path / "x" / "m.svg"], "does not exist"),
    ):
        done = call("plot", regressor, *arguments, code=2)
        assert found in done.stderr and done.stderr.startswith("Error: "), done.stderr


def test_a_page_for_a_browser(regressor: Path, tmp_path: Path) -> None:
    source, out = table(tmp_path / "new.csv", {"dose": DOSE, "age": AGE}), tmp_path / "m.html"
    done = call("view", regressor, source, "--out", out, "--most", "2", "--json")
    assert json.loads(done.stdout) == {"page": str(out)}
    assert '"dose"' in out.read_text()
    call("view", regressor)
    assert '"age"' in regressor.with_suffix(".html").read_text()
    activation = tmp_path / "daruan.safetensors"
    qkan.save(qkan.DARUAN(4, group=2), activation)
    call("view", activation)
    assert "DARUAN of 2 groups" in activation.with_suffix(".html").read_text()
    block = tmp_path / "block.safetensors"
    qkan.save(qkan.HQKAN(3), block)
    for arguments, found in (
        ([regressor, "--out", tmp_path / "m.pdf"], "the ending .html"),
        ([regressor, "--drop", "id"], "pass the table"),
        ([regressor, "--out", tmp_path / "x" / "m.html"], "does not exist"),
        ([block], "pass a table of its inputs"),
    ):
        done = call("view", *arguments, code=2)
        assert found in done.stderr and done.stderr.startswith("Error: "), done.stderr


# ---- the rest


def test_small_readers() -> None:
    assert parse_hidden("5, 3") == (5, 3) and parse_hidden("0") == ()
    assert parse_hidden("auto") is None
    assert parse_edge("1, 2,3") == (1, 2, 3)
    for text in ("", "5,", "0,3", "-1", "x"):
        with pytest.raises(QKANError, match="--hidden"):
            parse_hidden(text)


def test_quoted_cells_and_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('name,"a, b"\n"two\nlines", 1\n\nx,y\n')
    found = read_table(tmp_path / "x.csv")
    assert found.names == ("name", "a, b") and found.lines == [3, 5]
    with pytest.raises(QKANError, match="line 5: found 'y'"):
        found.numbers(["a, b"])


def test_interrupts_are_quiet(monkeypatch: pytest.MonkeyPatch, regressor: Path) -> None:
    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(qkan.cli.plot, "draw", interrupted)
        done = call("plot", regressor, code=130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.stderr.strip() == "Interrupted."
