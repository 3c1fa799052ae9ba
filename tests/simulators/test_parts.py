"""Kernels made of parts: each part is compiled once, and arrays are counted where they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaError

from qkan.simulators.cpu import jit, parts


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of tests are not kept on disk, nor counted among the package's."""

    def refuse(*args: Any) -> None:
        raise OSError

    monkeypatch.setattr(jit, "_Cache", refuse)
    monkeypatch.setattr(jit, "KERNELS", [])


def test_a_part_is_compiled_once_for_all_literals() -> None:
    @jit.inline
    def times(x: Any, sign: int, negated: bool) -> Any:
        return -x * sign if negated else x * sign

    @jit.kernel
    def combined(x: Any, sign: int) -> Any:
        return times(x, 2, True) + 10 * times(x, 3, False) + 100 * times(x, sign, x > 0)

    assert combined(1.5, 4) == -3.0 + 45.0 - 600.0
    assert len(times.overloads) == 1


@pytest.mark.parametrize(
    ("large", "known"), [(-1, True), (10_000, True), (0, False)],
    ids=["never put into callers", "visible to them", "a numba whose inside is not known"],
)  # fmt: skip
def test_parts_that_several_parts_call(
    large: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LARGE", large)
    monkeypatch.setattr(jit, "KNOWN", known)

    @jit.inline
    def square(x: Any) -> Any:
        return x * x

    @jit.exact
    def fourth(x: Any) -> Any:
        return square(square(x))

    @jit.inline
    def shifted(x: Any) -> Any:
        return square(x) + 1

    @jit.kernel
    def total(values: Any) -> Any:
        found = 0.0
        for n in range(values.size):
            found += fourth(values[n]) + shifted(values[n])
        return found

    assert total(np.array([1.0, 2.0])) == 1 + 16 + 2 + 5


def test_arrays_are_made_by_what_is_declared_for_it() -> None:
    @jit.allocating
    def doubled(values: Any) -> Any:
        found = np.empty(values.size)
        for n in range(values.size):
            found[n] = 2 * values[n]
        return found

    @jit.kernel
    def last(values: Any) -> Any:
        for _ in range(1000):
            found = doubled(values)
        return found[-1]

    assert last(np.array([1.0, 2.0])) == 4.0

    @jit.inline
    def first(values: Any) -> Any:
        return doubled(values)[0]

    @jit.inline
    def rest(values: Any) -> Any:
        return values[1:]

    for part in (first, rest):
        with pytest.raises((TypeError, NumbaError), match="declare it as `allocating`"):
            jit.kernel(lambda values, part=part: part(values))(np.array([1.0, 2.0]))


def test_python_cannot_call_a_part() -> None:
    @jit.inline
    def same(x: Any) -> Any:
        return x

    with pytest.raises(TypeError, match="part of compiled kernels"):
        same(1.0)
