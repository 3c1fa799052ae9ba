"""`Column`: the kind of a column of a table, inferred once, and its encoding as numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qkan.errors import QKANError

MISSING = {"", "na", "n/a", "#n/a", "nan", "nat", "<na>", "null", "none", "?"}
"""The texts of missing cells, in lower case; not applied to the cells of a target."""

RARE_SHARE, MOST = 0.01, 30
"""A value becomes a category if it is in this share of the rows, and in two or more; a column has
at most `MOST` categories."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_GROUPED = re.compile(
    r"[+-]?[0-9]{1,3}(?:([.,' \u00a0\u202f])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]+)?"
)
_WITH_UNIT = re.compile(
    rf"([$€£¥]|[A-Z]{{3}} )?\s*({_NUMBER.pattern})\s*([a-zA-Zµ°%‰$€£¥][^\d<>()+#]*)?"
)
_CODE = re.compile(r"[+-]?0[0-9]+")
_BOOLEANS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))
_FORMATS = ("iso", "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y")
_START = datetime(1970, 1, 1, tzinfo=UTC)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column of a table, and how a model reads it.

    Attributes:
        name: The name in the table.
        kind: "number"; "boolean", which becomes 0 or 1; "date", which becomes days since
            1970-01-01; or "category", which becomes a 0 or 1 for each of its values.
        values: The categories, with "" for missing cells; or the words for false and true.
        other: Whether there is one category for all rare values, which also takes new ones.
        format: The format of dates: "iso", or one of `datetime.strptime`.

    Example:
        >>> column = infer("sex", ["m", "f", "m", "f"])
        >>> column.features, column.encode(["f", "x"]).values.tolist()
        (('sex=f', 'sex=m'), [[1.0, 0.0], [0.0, 0.0]])
    """

    name: str
    kind: str = "number"
    values: tuple[str, ...] = ()
    other: bool = False
    format: str = ""

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the inputs that the column becomes."""
        if self.kind == "date":
            return (f"{self.name} (days)",)
        if self.kind != "category":
            return (self.name,)
        named = [
            f"{self.name}={value}" if value else f"{self.name} missing" for value in self.values
        ]
        return (*named, *[f"{self.name}=other"] * self.other)

    def encode(self, cells: Sequence[str], decimal: str = ".") -> Encoded:
        """Turn cells into numbers.

        Args:
            cells: The cells, as texts.
            decimal: The mark before the decimals of a number.
        """
        there = [not is_missing(cell) for cell in cells]
        if self.kind == "category":
            return self._one_hot(cells, there)
        read = self._reader(decimal)
        found = [
            read(cell) if known else math.nan for cell, known in zip(cells, there, strict=True)
        ]
        bad = [row for row, value in enumerate(found) if value is None]
        values = np.array([math.nan if value is None else value for value in found])
        return Encoded(values[:, None], bad, missing=len(there) - sum(there))

    def describe(self) -> str:
        """Say in a few words what kind the column is; "" for numbers."""
        if self.kind == "boolean":
            return f"{self.name}: {' and '.join(self.values)} as 0 and 1"
        if self.kind == "date":
            return f"{self.name}: dates such as {self.example}, as days since 1970-01-01"
        if self.kind == "number":
            return ""
        shown = [value or "(missing)" for value in self.values] + ["others"] * self.other
        return f"{self.name}: categories {', '.join(shown[:8])}{', …' * (len(shown) > 8)}"

    @property
    def example(self) -> str:
        """The last day of 2024 in the format of the column's dates."""
        last = datetime(2024, 12, 31, tzinfo=UTC)
        return last.date().isoformat() if self.format == "iso" else last.strftime(self.format)

    def tell_unseen(self, encoded: Encoded) -> str:
        """Return the message for cells with categories that the column does not know."""
        names, known = (
            ", ".join(value or "(missing)" for value in values[:5]) + ", …" * (len(values) > 5)
            for values in (encoded.unseen, self.values)
        )
        return (
            f"Column {self.name!r} has categories that were not in the training data: {names}, in "
            f"{encoded.strange} of {len(encoded.values)} rows. They count as none of the known "
            f"ones ({known})."
        )

    def config(self) -> dict[str, Any]:
        """Return the column as JSON values; `Column(**values)` builds it again."""
        return {name: value for name, value in asdict(self).items() if value or name == "name"}

    def _reader(self, decimal: str) -> Callable[[str], float | None]:
        """The function from a cell that is not missing to its number, or to None if it has none."""
        if self.kind == "number":
            return lambda cell: number(cell, decimal)
        if self.kind == "date":
            return lambda cell: days(cell, self.format)
        words = [word.lower() for word in self.values]
        return lambda cell: float(words.index(cell.lower())) if cell.lower() in words else None

    def _one_hot(self, cells: Sequence[str], there: Sequence[bool]) -> Encoded:
        known = [cell if is_there else "" for cell, is_there in zip(cells, there, strict=True)]
        place = {value: at for at, value in enumerate(self.values)}
        last = len(self.values) if self.other else -1
        places = np.array([place.get(cell, last if cell else -1) for cell in known])
        values = (places[:, None] == np.arange(len(self.features))).astype(np.float64)
        unseen = [known[row] or "(missing)" for row in np.flatnonzero(places < 0)]
        return Encoded(values, [], unseen=tuple(dict.fromkeys(unseen)), strange=len(unseen))


@dataclass(frozen=True)
class Encoded:
    """The numbers of a column's cells.

    Attributes:
        values: (n, features), NaN for missing cells.
        bad: The rows whose cells do not fit the column.
        missing: The number of missing cells, if the column has no category for them.
        unseen: Categories that the column does not know; they are encoded as zeros.
        strange: The number of cells with such a category.
    """

    values: Array
    bad: list[int]
    missing: int = 0
    unseen: tuple[str, ...] = ()
    strange: int = 0


def infer(name: str, cells: Sequence[str], decimal: str = ".", *, category: bool = False) -> Column:
    """Infer the kind of a column from its cells.

    Args:
        name: The name of the column.
        cells: The cells, as texts.
        decimal: The mark before the decimals of a number.
        category: Whether the column is known to have categories.

    Raises:
        QKANError: All cells are missing; day and month of dates cannot be told apart; almost every
            row has a different text, unless `category` is true.
    """
    words = [cell for cell in cells if not is_missing(cell)]
    if not words:
        raise QKANError(f"column {name!r} is empty in every row; leave it out (--drop).")
    if not category:
        numbers = sum(number(cell, decimal) is not None for cell in words)
        codes = any(map(_CODE.fullmatch, words))
        if numbers == len(words) and not codes:
            return Column(name)
        lower = {cell.lower() for cell in words}
        for pair in _BOOLEANS:
            if lower <= {*pair}:
                return Column(name, "boolean", pair)
        format_ = _date_format(name, words)
        if format_ is not None:
            return Column(name, "date", format=format_)
        # a few texts among numbers are mistakes rather than categories
        if 2 * numbers > len(words) and not codes:
            return Column(name)
    return _categories(name, cells, words, known=category)


def _categories(name: str, cells: Sequence[str], words: Sequence[str], *, known: bool) -> Column:
    counts = Counter(words)
    least = max(2, math.ceil(RARE_SHARE * len(cells)))
    common = sorted(counts, key=lambda value: (-counts[value], value))
    kept = sorted(value for value in common[:MOST] if counts[value] >= least)
    covered = sum(counts[value] for value in kept)
    # among so many texts, some occur twice by chance
    if not kept or (not known and 2 * max(covered, len(words) - len(counts)) < len(words)):
        shown = next((word for word in words if number(word) is None), words[0])
        other = "Numbers are written as 1234.5 and dates as 2024-12-31. "
        advice = rewritten(words) or other * any(map(str.isdigit, shown))
        raise QKANError(
            f"column {name!r} has {len(counts)} different texts in {len(cells)} rows, such as "
            f"{shown!r}, and {'few' if kept else 'none'} of them are frequent, so a model cannot "
            f"learn from them. {advice}Correct the cells, or leave the column out (--drop)."
        )
    empty = [""] * (len(words) < len(cells))
    return Column(name, "category", (*kept, *empty), other=len(kept) < len(counts))


def is_missing(cell: str) -> bool:
    """Whether a cell is missing."""
    return cell.lower() in MISSING


def number(cell: str, decimal: str = ".") -> float | None:
    """Return the finite number in a cell; None for anything else, such as 1_000 or inf."""
    if decimal != ".":
        cell = cell.replace(".", "_").replace(decimal, ".")
    if not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def grouped(cells: Sequence[str]) -> str:
    """Return a sentence about a cell with a mark after its thousands, or "" if there is none."""
    found = next(filter(_GROUPED.fullmatch, cells), None)
    if found is None:
        return ""
    marks = [character for character in found if character in ".,"]
    if len(marks) == 1 and found.count(marks[0]) == 1 and not re.search(r"['\s]", found):
        before, after = found.split(marks[0])
        return (
            f"The mark in {found!r} may separate thousands or decimals: write {before}{after} or "
            f"{before}.{after}. "
        )
    whole, decimals = found, ""
    if marks and (len({*marks}) == 2 or not re.search(r"[.,]", found[: found.rindex(marks[-1])])):
        whole, _, decimals = found.rpartition(marks[-1])
    plain = re.sub(r"[^0-9+-]", "", whole) + f".{decimals}" * bool(decimals)
    return f"{found!r} has a mark after its thousands: write {plain}. "


def rewritten(cells: Sequence[str]) -> str:
    """Return a sentence that says how to write cells as numbers, or "" if they are none."""
    return grouped(cells) or with_unit(cells)


def with_unit(cells: Sequence[str]) -> str:
    """Return a sentence about numbers that all have the same unit, or "" if they do not."""
    words = [cell for cell in cells if not is_missing(cell)]
    found = [match for word in words if (match := _WITH_UNIT.fullmatch(word))]
    units = {((match[1] or "").strip(), (match[5] or "").strip()) for match in found}
    if len(found) < len(words) or len(units) != 1 or units == {("", "")}:
        return ""
    number_, unit = found[0][2], "".join(*units)
    return f"{words[0]!r} is a number with the unit {unit!r}: write {number_} to use the number. "


def days(cell: str, format_: str) -> float | None:
    """Return days since 1970-01-01, in UTC if no time zone is given; None for no such date."""
    try:
        found = (
            datetime.fromisoformat(cell) if format_ == "iso" else datetime.strptime(cell, format_)
        )
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - _START).total_seconds() / 86400


def _date_format(name: str, words: Sequence[str]) -> str | None:
    """Return a format in which every word is a date, if there is one."""
    able = [f for f in _FORMATS if all(days(word, f) is not None for word in words)]
    if {"%d/%m/%Y", "%m/%d/%Y"} <= {*able} and any(
        days(word, "%d/%m/%Y") != days(word, "%m/%d/%Y") for word in words
    ):
        raise QKANError(
            f"column {name!r} has dates such as {words[0]!r}, in which the day and the month "
            "cannot be told apart; write them as 2024-12-31."
        )
    return able[0] if able else None
