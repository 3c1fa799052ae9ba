"""What a layer may be asked at once, and a few of all combinations that hold every pair."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import torch

ENCODINGS = ("trainable", "linear", "binary")
GROUPS = (None, 2, "inputs")
BASES = ("silu", "gelu", "relu", "tanh", "identity", None)
Row = TypeVar("Row", bound=tuple[object, ...])
Pair = tuple[int, object, int, object]


class Combination(NamedTuple):
    """One way to build and use a layer.

    Attributes:
        engine: What computes it.
        encoding: As in `QKANLayer`.
        group: As in `QKANLayer`.
        base: As in `QKANLayer`.
        number: "autocast", or the name of a dtype.
        dimensions: Of the input.
        use: What is done with it.
    """

    engine: str
    encoding: str
    group: int | str | None
    base: str | None
    number: str
    dimensions: int
    use: str

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and parameters."""
        return torch.float32 if self.number == "autocast" else getattr(torch, self.number)

    @property
    def possible(self) -> bool:
        """Whether the engine claims it."""
        return self.engine != "fourier" or self.encoding != "trainable"

    def __str__(self) -> str:
        return "-".join(str(value) for value in self)


def product(*factors: Iterable[object]) -> list[Combination]:
    """All combinations of values that an engine claims."""
    every = (Combination(*values) for values in itertools.product(*factors))  # type: ignore[arg-type]
    return [one for one in every if one.possible]


EVERY = product(
    ("auto", "torch", "fourier", "chebyshev", "cupy"), ENCODINGS, GROUPS, BASES,
    ("float32", "float64", "bfloat16", "autocast"), (2, 3),
    ("training", "inference", "functional_call", "vmap", "compile"),
)  # fmt: skip


def pairs(one: tuple[object, ...]) -> set[Pair]:
    """All pairs of its values, with the numbers of their factors."""
    return {(m, a, n, b) for (m, a), (n, b) in itertools.combinations(enumerate(one), 2)}


def covering(every: list[Row]) -> list[Row]:
    """Few of them that hold each pair that any of them holds, found greedily."""
    left: set[Pair] = set().union(*map(pairs, every))
    known = {one: pairs(one) for one in every}
    chosen = []
    while left:
        best = max(every, key=lambda one: len(known[one] & left))
        chosen.append(best)
        left -= known[best]
    return chosen


def selection(every: list[Combination], full: bool) -> list[Combination]:
    """All combinations, of those that are compiled only a covering; or a covering of all."""
    if not full:
        return covering(every)
    compiled = [one for one in every if one.use == "compile"]
    return [one for one in every if one.use != "compile"] + covering(compiled)
