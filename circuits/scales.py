"""The fixed encodings: the scales of x for the names "linear", "binary" and "ternary"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from .errors import CircuitError, did_you_mean

_GROWTH = {"linear": 1, "binary": 2, "ternary": 3}
"""The factor from the scale of one repetition to that of the next."""

FIXED_ENCODINGS = tuple(_GROWTH)
"""The names of the fixed encodings; a layer also takes "trainable"."""


class Encodes(Protocol):
    """A `Circuit` or a `Program`, of which only the number of encodings is used here."""

    @property
    def num_encodings(self) -> int:
        """The number of encodings of x."""


def fixed_scale(encoding: str, reps: int) -> tuple[float, ...]:
    """Return the scales of a fixed encoding: g^u for u = 0 … reps-1, with g = 1, 2 or 3.

    `linear` gives the harmonics 0…reps, `binary` 0…2^reps-1, `ternary` 0…(3^reps-1)/2: the
    exponential encodings of arXiv 2206.12105.

    Example:
        >>> fixed_scale("ternary", 3)
        (1.0, 3.0, 9.0)
    """
    if encoding not in _GROWTH:
        raise CircuitError(f"Unknown encoding {encoding!r}. {did_you_mean(encoding, _GROWTH)}")
    return tuple(math.pow(_GROWTH[encoding], u) for u in range(reps))


def resolve_scale(circuit: Encodes, scale: str | Sequence[float]) -> tuple[float, ...]:
    """Return one float for each encoding, from the name of a fixed encoding or from numbers.

    Raises:
        CircuitError: The name is unknown, or there is not one finite number for each encoding.
    """
    if isinstance(scale, str):
        return fixed_scale(scale, circuit.num_encodings)
    values = tuple(float(value) for value in scale)
    if len(values) != circuit.num_encodings or not all(map(math.isfinite, values)):
        raise CircuitError(
            f"scale={values}; the circuit has {circuit.num_encodings} encodings, and each needs "
            "one finite number."
        )
    return values
