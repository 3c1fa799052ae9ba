"""What a column of a table is taken for, and what its cells become."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from qkan import QKAN, QKANError, TableModel
from qkan.tabular.columns import Column, days, grouped, infer, number, with_unit

KINDS = {
    "numbers": (["1", "-2.5", ".5", "1e3", "+7"], "number", ()),
    "a gap among numbers": (["1", "", "NA", "n/a", "4"], "number", ()),
    "codes": (["01234", "01235", "01234", "01235"], "category", ("01234", "01235")),
    "texts": (["m", "f", "m", "f"], "category", ("f", "m")),
    "true and false": (["True", "false", "TRUE"], "boolean", ("false", "true")),
    "yes and no": (["yes", "no", "no"], "boolean", ("no", "yes")),
    "dates": (["2024-01-31", "2023-12-01"], "date", ()),
    "dates with dots": (["31.01.2024", "01.12.2023"], "date", ()),
    "dates that can be one thing only": (["31/01/2024", "01/12/2023"], "date", ()),
    "underscores": (["10_25", "10_26"] * 2, "category", ("10_25", "10_26")),
    "no finite numbers": (["inf", "inf", "1e999", "1e999"], "category", ("1e999", "inf")),
    "a slip among numbers": (["1", "2", "3", "4 kg"], "number", ()),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_column_is_what_a_person_would_say(name: str) -> None:
    cells, kind, values = KINDS[name]
    found = infer("c", cells)
    assert (found.kind, found.values) == (kind, values)
    assert Column(**{**found.config(), "values": tuple(found.values)}) == found


def test_only_what_a_person_calls_a_number_is_one() -> None:
    assert [number(text) for text in ("1", "-.5", "2.", "1e-3")] == [1.0, -0.5, 2.0, 1e-3]
    for text in ("1_000", "inf", "nan", "0x10", "1,5", "1 000", "１", "", "1e999", "--1"):
        assert number(text) is None, text
    assert number("1,5", ",") == 1.5 and number("1.5", ",") is None


def test_categories_become_a_one_each() -> None:
    cells = ["a"] * 100 + ["b"] * 100 + ["rare"] * 1 + [""] * 9
    column = infer("c", cells)
    assert column.features == ("c=a", "c=b", "c missing", "c=other")
    found = column.encode(["b", "", "rare", "never seen", "a"]).values
    assert np.array_equal(found, np.eye(4)[[1, 2, 3, 3, 0]])
    plain = infer("c", ["a", "b"] * 5)
    again = plain.encode(["a", "z", ""])
    assert again.values.tolist() == [[1, 0], [0, 0], [0, 0]]
    assert again.unseen == ("z", "(missing)") and not again.bad
    assert again.strange == 2
    # the rule is the same where nothing is known, as in a table of one row
    for cells in (["z"], ["1.5", "2.5"], [""]):
        alone = plain.encode(cells)
        assert not alone.bad and alone.strange == len(cells) and not alone.values.any()
    assert infer("c", ["1", "2", "1", "2"], category=True).kind == "category"


def test_dates_become_days() -> None:
    assert days("1970-01-02", "iso") == 1.0 and days("1970-01-01T12:00", "iso") == 0.5
    assert days("1970-01-01T12:00+12:00", "iso") == 0.0
    # which of the numbers is the month is said, for a file may mean it otherwise
    for cells, example in ((["01/31/2024"], "12/31/2024"), (["31/01/2024"], "31/12/2024")):
        assert f"dates such as {example}, as days" in infer("d", cells).describe()
    column = infer("d", ["31.01.2024", "01.12.2023"])
    assert column.features == ("d (days)",)
    found = column.encode(["01.02.1970", "", "1970-02-01"])
    assert found.values[0, 0] == 31.0 and math.isnan(found.values[1, 0])
    assert found.bad == [2] and found.missing == 1


SHARES = [f"{value:.1f}%" for value in np.random.default_rng(0).normal(0, 10, 240)]
"""Numbers that are no numbers as they are written, of which a few occur again."""


def test_what_cannot_be_decided_is_said() -> None:
    for cells, words in (
        (["01/02/2024", "03/04/2024"], "day and the month cannot"),
        ([f"name {n}" for n in range(50)], "50 different texts in 50 rows"),
        (["", "NA"], "empty in every row"),
        # a few of them twice by chance: no categories either
        (SHARES, "such as '1.3%', and few .*the unit '%': write 1.3 "),
        ([f"{n % 28 + 1:02}.01.2024 {n % 24}:{n % 7}0" for n in range(200)], "as 2024-12-31"),
        (["1.5", "2.5", "\u22120.5", "\u22123.5"], "such as '\u22120.5'"),
    ):
        with pytest.raises(QKANError, match=words):
            infer("c", cells)
    # whoever says that they are categories has them
    said = infer("c", SHARES, category=True)
    assert said.kind == "category" and said.other
    # the same day either way
    assert infer("c", ["01/01/2024", "02/02/2024"]).kind == "date"


def test_marks_after_thousands_are_named() -> None:
    for cell, plain in (
        ("68,030.85", "68030.85"), ("68.030,85", "68030.85"), ("1,234,567", "1234567"),
        ("1.234.567", "1234567"), ("1 234,5", "1234.5"), ("-1'234", "-1234"),
        ("1.234.567,8", "1234567.8"),
    ):  # fmt: skip
        assert grouped(["x", cell]) == f"{cell!r} has a mark after its thousands: write {plain}. "
    assert "write 1234 or 1.234. " in grouped(["1,234"])
    for cell in ("1234.5", "12", "1,23", "a,bcd", "12-345", "2024-12-31", "01.02.2024", "10.0.0.1"):
        assert grouped([cell]) == "", cell
    with pytest.raises(QKANError, match=r"'10,068.50' has a mark .* write 10068\.50\. C"):
        infer("c", [f"{10000 + 68.5 * n:,.2f}" for n in range(1, 80)])


def test_units_are_named() -> None:
    for cells, plain, unit in (
        (["10 EUR", "12.5 EUR", "NA"], "10", "EUR"), (["$7.25", "$5"], "7.25", "$"),
        (["-3.5 °C", "2 °C"], "-3.5", "°C"), (["5%", "7%"], "5", "%"), (["EUR 1e3"], "1e3", "EUR"),
    ):  # fmt: skip
        words = f"{cells[0]!r} is a number with the unit {unit!r}: write {plain} to use the number."
        assert with_unit(cells) == words + " "
    for cells in (
        ["10", "12"], ["1st", "2nd"], ["3 kg", "4 g"], ["3 kg", "x"], ["A1", "A2"], [""],
        ["\u221210.0", "\u221211.5"], ["(10.0)", "(11.5)"], ["Class 1", "Class 2"], ["#3", "#4"],
        ["18+", "30+"], ["<18", "<30"],
    ):  # fmt: skip
        assert with_unit(cells) == "", cells
    with pytest.raises(QKANError, match=r"the unit 'EUR': write 100\.5 "):
        infer("c", [f"{100.5 + n} EUR" for n in range(80)])


def model() -> TableModel:
    """Of an age that was missing at times, a sex and a day."""
    table = [
        Column("age"),
        Column("sex", "category", ("f", "m")),
        Column("day", "date", format="iso"),
    ]
    columns = ["age", "sex=f", "sex=m", "day (days)", "age missing"]
    found = TableModel(
        QKAN([5, 1], generator=torch.Generator().manual_seed(0)), columns=columns, targets=["y"],
        table=table, ranges=[[20, 60], [0, 1], [0, 1], [0, 10], [0, 1]],
    )  # fmt: skip
    found.mean[0] = 40.0
    return found


def test_a_frame_becomes_inputs() -> None:
    frame = pd.DataFrame({
        "day": ["1970-01-03", "1970-01-02"], "sex": ["m", "f"], "age": [np.nan, 30.0],
        "more": [1, 2],
    })  # fmt: skip
    wanted = [[40.0, 0, 1, 2, 1], [30.0, 1, 0, 1, 0]]
    assert model().inputs(frame).tolist() == wanted
    assert model().inputs(frame.assign(day=pd.to_datetime(frame.day))).tolist() == wanted
    with pytest.warns(UserWarning, match="categories that were not in the training data: d"):
        model().inputs(frame.assign(sex=["d", "f"]))
    for sex, rows in ((["d", "f"], "1 of 2"), (["d", "e"], "2 of 2")):
        with pytest.warns(UserWarning, match=rf"in {rows} rows.* none of the known ones \(f, m\)"):
            model().inputs(frame.assign(sex=sex))
    with pytest.warns(UserWarning, match="1 of 1 rows"):
        model().inputs(frame[1:].assign(sex=["d"]))
    with pytest.warns(UserWarning, match="'day' lacks 1 values"):
        model().inputs(frame.assign(day=["", "1970-01-02"]))
    for changed, words in (
        (frame.drop(columns="sex"), "lacks the columns .'sex'."),
        (frame.assign(age=["old", "30"]), "row 0: found 'old', but in training it was a number"),
    ):
        with pytest.raises(QKANError, match=words):
            model().inputs(changed)


def test_the_table_survives_its_file(tmp_path: object) -> None:
    again = TableModel.from_config(model().config())
    assert again.table == model().table and again.ranges == model().ranges
    with pytest.raises(QKANError, match="its columns become the numbers"):
        TableModel(QKAN([1, 1]), columns=["a"], targets=["y"], table=[Column("b")])
    with pytest.raises(QKANError, match="ranges"):
        TableModel(QKAN([1, 1]), columns=["a"], targets=["y"], ranges=[[0, 1]] * 2)


def test_what_is_far_outside_is_said() -> None:
    x = torch.tensor([[30.0, 0, 1, 5, 0], [63.0, 0, 1, 5, 0], [100.0, 0, 1, 11.5, 0]])
    assert model().outside(x.double()) == {
        "age": {"rows": 1, "farthest": 100.0, "training": [20.0, 60.0]},
        "day (days)": {"rows": 1, "farthest": 11.5, "training": [0.0, 10.0]},
    }
