"""Tables as other people write them, on the command line: delimiters, labels, categories, gaps."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from qkan import QKANError, TableModel, load
from qkan.cli.app import app
from qkan.cli.fitting import advice
from qkan.cli.inputs import check_out
from qkan.tabular.reading import Dialect, read_table

QUICK = ["--hidden", "0", "--steps", "2", "--test-size", "0", "--quiet"]
RNG = np.random.default_rng(0)


def call(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


FILES = {
    "semicolons and decimal commas": "a;b;c\n1,5;x;2\n2,25;y;3\n",
    "a delimiter inside a name": 'a,"b; in kg; or so; on",c\n1.5,x,2\n2.25,y,3\n',
    "Excel's first line": "sep=;\na;b;c\n1.5;x;2\n2.25;y;3\n",
    "comments": "# from the lab\n#, of March\na,b,c\n1.5,x,2\n2.25,y,3\n",
    "bars and blanks": "a | b | c\n1.5 | x | 2\n2.25 | y | 3\n",
    "blanks after commas": 'a, b, c\n1.5, "x", 2\n2.25, "y", 3\n',
    "tabs and a mark": "\ufeffa\tb\tc\n1.5\tx\t2\n\n2.25\ty\t3\n",
    "a separator of Unicode in a cell": "a,b,c\r\n1.5,x\u2028z,2\r\n2.25,y,3\r\n",
    "a comma in a quoted cell": 'a,b,c\n1.5,"x, or so",2\n2.25,y,3\n',
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_as_they_are_meant(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(FILES[name], encoding="utf-8")
    table = read_table(path)
    assert table.names is not None and table.names[0] == "a" and table.names[2] == "c"
    assert table.numbers(["a", "c"]).tolist() == [[1.5, 2.0], [2.25, 3.0]]
    assert table.column(table.names[1])[1] == "y"
    last = table.source[table.lines[1] - 1]
    assert "y" in last and last.count("3") == 1


def test_excels_unicode_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("größe\tb\n1\t2\n", encoding="utf-16")
    assert read_table(tmp_path / "x.csv").names == ("größe", "b")


def test_what_is_said_goes_before_what_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a;b\n1,5;2\n")
    assert read_table(tmp_path / "x.csv").decimal == ","
    table = read_table(tmp_path / "x.csv", dialect=Dialect(decimal="."))
    with pytest.raises(QKANError, match=r"'1,5', no finite.*'1,5;2', read with semicolons.*point"):
        table.numbers(["a"])
    with pytest.raises(QKANError, match="line 2: found 2 cells; wanted 1"):
        read_table(tmp_path / "x.csv", dialect=Dialect(delimiter=","))


def test_a_first_cell_of_hashes_is_no_comment(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("colour,b\n#ff0000,2\n#00ff00,3\n")
    assert read_table(tmp_path / "x.csv").column("colour") == ["#ff0000", "#00ff00"]


def test_a_row_of_gaps_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",,\na,b,c\n1,2,3\n,,\n\n4,5,6\n,,\n,,\n")
    table = read_table(tmp_path / "x.csv")
    assert table.rows == [["1", "2", "3"], ["", "", ""], ["4", "5", "6"]]
    assert table.lines == [3, 4, 6]


def test_a_comma_of_thousands_is_no_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1,234;2\n999;3\n-12,000;4\n")
    with pytest.raises(QKANError, match=r"such as '1,234', whose comma.*use --decimal ,"):
        read_table(path)
    said = read_table(path, dialect=Dialect(decimal=","))
    assert said.numbers(["a"])[:, 0].tolist() == [1.234, 999.0, -12.0]
    # one of them that can be no thousands decides it for all
    path.write_text("a;b\n1,234;2\n0,125;3\n")
    assert read_table(path).numbers(["a"])[:, 0].tolist() == [1.234, 0.125]


def test_an_old_encoding_is_answered_with_what_to_save(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("größe,b\n1,2\n", encoding="cp1252")
    with pytest.raises(QKANError, match=r"not a CSV file in UTF-8.*Save it as UTF-8"):
        read_table(tmp_path / "x.csv")


def test_a_row_of_another_length_is_shown(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(QKANError, match=r"line 3: found 3 cells; wanted 2.*'1,2,3', read with com"):
        read_table(tmp_path / "x.csv")


def labelled(folder: Path, *labels: str) -> list[Any]:
    """A table with these labels in turn, twelve times, fitted; its classes and its predictions."""
    rows = [f"{n % len(labels)}.5,{label}" for n, label in enumerate([*labels] * 12)]
    (folder / "x.csv").write_text("\n".join(["a,label", *rows]))
    out = folder / "m.safetensors"
    call("fit", folder / "x.csv", "--target", "label", *QUICK, "--out", out, "--task", "auto")
    found = json.loads(call("predict", out, folder / "x.csv", "--json").stdout)
    assert {*found["predictions"]["label"]} <= {*load(out).classes}
    return [*load(out).classes]


@pytest.mark.parametrize(
    "labels, wanted",
    [
        (("9007199254740992", "9007199254740993"), [9007199254740992, 9007199254740993]),
        (("01234", "12345"), ["01234", "12345"]),
        (("99999999999999999999", "1"), ["1", "99999999999999999999"]),
        (("1.0", "2.0"), ["1.0", "2.0"]),
        (("NaN", "None"), ["NaN", "None"]),
        (("10_25", "10_26"), ["10_25", "10_26"]),
        (("-1", "1"), [-1, 1]),
        (("True", "False"), ["False", "True"]),
    ],
)
def test_labels_come_back_as_they_are_written(
    tmp_path: Path, labels: tuple[str, ...], wanted: list[Any]
) -> None:
    assert labelled(tmp_path, *labels) == wanted


def people(path: Path, count: int = 60) -> Path:
    """A table with a category, a boolean, a date and gaps; the effect depends on all of them."""
    sex = RNG.choice(["m", "f"], count)
    smokes = RNG.choice(["yes", "no"], count)
    day = RNG.integers(0, 300, count)
    age = RNG.normal(50, 10, count)
    effect = age / 10 + 3 * (sex == "m") + 2 * (smokes == "yes") + day / 100
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sex", "smokes", "day", "age", "y", "effect"])
        for n in range(count):
            date = np.datetime64("2023-01-01") + int(day[n])
            writer.writerow([
                sex[n], smokes[n], date, "" if n % 10 == 3 else round(age[n], 2), n % 3,
                round(effect[n], 3),
            ])  # fmt: skip
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    folder = tmp_path_factory.mktemp("people")
    source, out = people(folder / "people.csv"), folder / "m.safetensors"
    arguments = ["fit", source, "--target", "effect", *QUICK, "--alpha", "0.1", "--out", out]
    return source, out, call(*arguments)


def test_categories_dates_and_gaps_are_learned(fitted: tuple[Path, Path, Any]) -> None:
    source, out, done = fitted
    for said in (
        "sex: categories f, m", "smokes: no and yes as 0 and 1", "day: dates such as 2024-12-31",
        "age: 6 of 60 cells are missing",
    ):  # fmt: skip
        assert said in done.stderr
    model = load(out)
    assert isinstance(model, TableModel)
    assert model.columns == ("sex=f", "sex=m", "smokes", "day (days)", "age", "y", "age missing")
    with source.open() as file:
        effect = [float(row["effect"]) for row in csv.DictReader(file)]
    found = json.loads(call("predict", out, source, "--json").stdout)
    assert np.corrcoef(found["predictions"]["effect"], effect)[0, 1] > 0.95
    assert not found["notes"] and not found["outside"]


def test_what_is_new_to_a_model_is_noted(fitted: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, out, _ = fitted
    head = "sex,smokes,day,age,y\n"
    (tmp_path / "new.csv").write_text(head + "m,no,2023-02-01,50,1\nd,,2043-02-01,5000,1\n")
    done = call("predict", out, tmp_path / "new.csv")
    for said in (
        "categories that were not in the training data: d", "'smokes' lacks 1 values",
        "'day .days.' outside",
        "1 of 2 rows have 'age' outside its range .* up to 5000",
    ):  # fmt: skip
        assert re.search(said, done.stderr), said
    found = json.loads(call("predict", out, tmp_path / "new.csv", "--json").stdout)
    assert found["outside"]["age"]["farthest"] == 5000 and len(found["notes"]) == 4
    for row, said in (
        (
            "m,no,soon,50,1",
            "found 'soon', no date as those of training, 2024-12-31, of column 'day'",
        ),
        ('m,no,2023-02-01,"5,000.5",1', "write 5000.5. The model needs this column; correct"),
        ("m,perhaps,2023-02-01,50,1", "found 'perhaps', no boolean of training"),
    ):
        (tmp_path / "bad.csv").write_text(head + row + "\n")
        assert said in call("predict", out, tmp_path / "bad.csv", code=2).stderr
    # one row, or every row, of an unknown category is noted as one among many is
    (tmp_path / "one.csv").write_text(head + "d,no,2023-02-01,50,1\n")
    assert (
        "not in the training data: d, in 1 of 1 rows"
        in call("predict", out, tmp_path / "one.csv").stderr
    )


@pytest.mark.parametrize(
    "names, row, clash",
    [
        (("a missing", "a", "y"), "1,{gap},{n}", "a missing"),
        (("c=x", "c", "y"), "1,{word},{n}", "c=x"),
        (("a", "d", "a missing"), "{gap},1,{n}", "a missing"),
    ],
)
def test_names_that_clash_are_found_before_training(
    names: tuple[str, ...], row: str, clash: str, tmp_path: Path
) -> None:
    rows = [row.format(gap=n if n % 3 else "", word="xy"[n % 2], n=n + 0.5) for n in range(30)]
    (tmp_path / "x.csv").write_text("\n".join([",".join(names), *rows]))
    arguments = ["fit", tmp_path / "x.csv", "--target", names[-1], "--out", tmp_path / "m"]
    done = call(*arguments, code=2)
    assert f"{[clash]}" in done.stderr and "Rename" in done.stderr
    assert "rows to train on" not in done.stderr


def test_whatever_reads_a_table_notes_what_is_new(
    fitted: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    row = "sex,smokes,day,age,y\nm,yes,2023-02-01,50,1\nx,no,2023-03-01,500,2\n"
    (tmp_path / "new.csv").write_text(row)
    fast = ["--backend", "fake_manila", "-o", "emulator=closed_form", "-o", "seed=0"]
    for command, options in (
        ("predict", []),
        ("estimate", fast),
        ("submit", [*fast, "--store", tmp_path / "run"]),
        ("plot", ["--out", tmp_path / "x.svg"]),
    ):
        done = call(command, fitted[1], tmp_path / "new.csv", *options)
        assert (
            "Note: Column 'sex' has categories that were not in the training data: x" in done.stderr
        )
        assert "Note: 1 of 2 rows have 'age' outside its range" in done.stderr, command


def test_gaps_may_be_refused(fitted: tuple[Path, Path, Any], tmp_path: Path) -> None:
    arguments = ["fit", fitted[0], "--target", "effect", "--missing", "refuse", "--out"]
    done = call(*arguments, tmp_path / "m", code=2)
    assert "line 5: column 'age' has '', which is not a value (in 6 of 60 rows)" in done.stderr


def test_a_device_answers_in_the_tables_words(
    fitted: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    fast = ["--backend", "fake_manila", "-o", "emulator=closed_form", "-o", "seed=0"]
    lines = fitted[0].read_text().splitlines()[:3]
    (tmp_path / "few.csv").write_text("\n".join(lines))
    store = tmp_path / "run"
    call("submit", fitted[1], tmp_path / "few.csv", *fast, "--store", store)
    with (store / "values.csv").open() as file:
        rows = [*csv.DictReader(file)]
    predicted = json.loads(call("predict", fitted[1], tmp_path / "few.csv", "--json").stdout)
    for row, exact in zip(rows, predicted["predictions"]["effect"], strict=True):
        assert float(row["effect_simulated"]) == pytest.approx(exact, abs=1e-9)
        assert abs(float(row["effect"]) - exact) < 5 * float(row["effect_stderr"])
    assert "values.csv" in call("status", store).stderr


@pytest.mark.parametrize("count", [2, 3])
def test_a_device_answers_with_classes(tmp_path: Path, count: int) -> None:
    rows = [f"{n % count}.{n},kind {n % count}" for n in range(30)]
    (tmp_path / "x.csv").write_text("\n".join(["a,kind", *rows]))
    out, store = tmp_path / "m.safetensors", tmp_path / "run"
    call("fit", tmp_path / "x.csv", "--target", "kind", *QUICK, "--out", out)
    (tmp_path / "few.csv").write_text("a\n0.1\n1.1\n")
    fast = ["--backend", "fake_manila", "-o", "emulator=closed_form", "-o", "seed=0"]
    found = json.loads(
        call("submit", out, tmp_path / "few.csv", *fast, "--store", store, "--json").stdout
    )
    exact = json.loads(call("predict", out, tmp_path / "few.csv", "--proba", "--json").stdout)
    columns, wanted = found["predictions"], exact["predictions"]
    assert columns["kind_simulated"] == wanted["kind"]
    names = [f"p(kind {k})" for k in range(count)]
    measured = np.array([columns[name] for name in names])
    assert np.allclose(measured.sum(0), 1)
    assert columns["kind"] == [f"kind {k}" for k in measured.argmax(0)]
    for name in names:
        assert np.allclose(columns[f"{name}_simulated"], wanted[name])
        spread = np.array(columns[f"{name}_stderr"])
        assert (abs(np.array(columns[name]) - wanted[name]) < 5 * spread).all() and (
            spread > 0
        ).all()


def test_a_better_simple_model_is_named() -> None:
    def scores(**held: float) -> dict[str, Any]:
        return {name: {"test": {"log_loss": value}} for name, value in held.items()}

    (line,) = advice(scores(QKAN=3.56, frequent=0.826, logistic=0.9))
    assert "frequent is better" in line and "--alpha" in line and "0.826 against 3.56" in line
    assert not advice(scores(QKAN=0.5, frequent=0.826))
    assert not advice({"QKAN": {"test": None}, "mean": {"test": None}})


def test_a_simple_model_that_is_as_good_is_not_called_better() -> None:
    scores = {
        name: {"train": None, "test": {"r2": 0.1, "rmse": rmse}}
        for name, rmse in (("QKAN", 2.4413), ("mean", 3.0), ("linear", 2.4412))
    }
    (said,) = advice(scores)
    assert "linear is as good, rmse 2.44 against 2.44" in said


def test_noise_is_said_to_be_noise(tmp_path: Path) -> None:
    rows = [",".join(f"{v:.3f}" for v in row) for row in RNG.normal(size=(40, 4))]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c,d", *rows]))
    arguments = ["fit", tmp_path / "x.csv", "--target", "d", "--alpha", "0", "--steps", "3"]
    done = call(*arguments, "--quiet", "--out", tmp_path / "m")
    assert "On the rows held out mean is better, rmse" in done.stderr


def test_a_file_that_cannot_be_written_is_found_before(tmp_path: Path) -> None:
    check_out(tmp_path / "new.csv")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(QKANError, match="cannot be written"):
        check_out(tmp_path / ("x" * 300))
    with pytest.raises(QKANError, match="is a folder"):
        check_out(tmp_path)
