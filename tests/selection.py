"""Which cases of a test `make test` runs; only `make test-full` runs the others as well."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def selection(cases: Iterable[Any], chosen: Collection[Any]) -> list[Any]:
    """All cases as arguments of `parametrize`, those that are not chosen marked full.

    Args:
        cases: Each the value of one case, or a tuple of several values.
        chosen: The cases that stand for their kind.
    """
    full = pytest.mark.full
    return [
        case
        if case in chosen
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=full)
        for case in cases
    ]
