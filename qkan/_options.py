"""Checks of options: sizes, choices, encodings, circuits, devices and dtypes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, SupportsIndex

import torch

from qkan.circuits.ansatz import Builder
from qkan.circuits.scales import FIXED_ENCODINGS

from .circuits import Circuit, did_you_mean, fixed_scale, resolve_scale
from .circuits import ansatz as named_ansatz
from .errors import QKANError

_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
ENCODINGS = ("trainable", *FIXED_ENCODINGS)


def factory_of(
    device: torch.device | str | int | None, dtype: torch.dtype | None
) -> dict[str, Any]:
    """Return the keywords that make tensors on that device in that dtype."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = f"{error}".splitlines()[0]
        raise QKANError(
            f"device={device!r}: this torch cannot use it ({reason}). Leave device out to compute "
            "on the CPU, or install a torch with support for it."
        ) from error
    if dtype is not None and (not isinstance(dtype, torch.dtype) or not dtype.is_floating_point):
        raise QKANError(f"dtype={dtype!r}: a real float of torch, such as torch.float32.")
    return {"device": device, "dtype": dtype}


def check_choice(option: str, value: object, allowed: Iterable[object], more: str = "") -> None:
    """Raise `QKANError`, with the nearest name, unless the value is one of those allowed.

    Args:
        option: The option's name, behind the name of the function where that helps.
        value: What the user passed.
        allowed: Names, and None where it is allowed.
        more: A sentence at the end of the message, such as "Or a function.".
    """
    allowed = [*allowed]
    if value not in allowed:
        names = [name for name in allowed if isinstance(name, str)]
        more = "Or None." if None in allowed else more
        raise QKANError(
            f"Unknown {option} {value!r}. {did_you_mean(value, names)}{more and f' {more}'}"
        )


def check_known(
    options: Mapping[str, object], taken: Iterable[str], of: type | None = None
) -> None:
    """Raise a TypeError for the first option that a class does not have, with the nearest name.

    Args:
        options: What was passed by name, besides what its constructor names.
        taken: The names that are allowed among them.
        of: The class; None where its constructor names no option that could have been meant.
    """
    for name in options:
        if name not in taken:
            known = {*taken}
            if of is not None:
                named = inspect.signature(of).parameters.values()
                known |= {one.name for one in named if one.kind not in _STARRED}
            raise TypeError(f"Unknown option {name!r}. {did_you_mean(name, known)}")


def check_size(name: str, value: SupportsIndex, more: str = "", *, least: int | None = 1) -> int:
    """Return a whole number of any kind as an int, or raise `QKANError` unless it is one.

    Args:
        name: The option's name, behind the name of the function where that helps.
        value: Whatever `operator.index` takes, a number of numpy too; not a bool.
        more: A sentence at the end of the message, such as "Or None.".
        least: The lowest number that is allowed; None allows any.
    """
    whole = None if isinstance(value, bool) or not hasattr(value, "__index__") else index(value)
    if whole is None or (least is not None and whole < least):
        wanted = "a whole number" if least is None else f"a whole number, {least} or more"
        raise QKANError(f"{name}={value!r}: {wanted}.{more and f' {more}'}")
    return whole


def check_optional_size(
    name: str, value: SupportsIndex | None, *, least: int | None = 1
) -> int | None:
    """Return None for None, and otherwise what `check_size` returns."""
    return None if value is None else check_size(name, value, "Or None.", least=least)


def as_number(value: Any) -> float:
    """Return a number of any kind, numpy's and a tensor of one too, as a float; else NaN."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def check_range(name: str, low_high: Sequence[float]) -> tuple[float, float]:
    """Return a range as two floats, or raise `QKANError` unless it is one."""
    try:
        low, high = map(float, low_high)
    except (TypeError, ValueError) as error:
        raise QKANError(f"{name}={low_high!r}: wanted two numbers, (low, high).") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise QKANError(f"{name}={low_high}: wanted (low, high), finite, low below high.")
    return low, high


def check_probability(dropout: float) -> float:
    """Return the dropout, or raise `QKANError` unless it is a probability below 1."""
    if not 0 <= as_number(dropout) < 1:
        raise QKANError(f"dropout={dropout!r}: a probability, 0 or more and below 1.")
    return float(dropout)


def check_encoding(encoding: str | Sequence[float]) -> str | tuple[float, ...]:
    """Return an encoding's name as it is, or its numbers as floats."""
    if isinstance(encoding, str):
        return encoding
    try:
        return tuple(map(float, encoding))
    except (TypeError, ValueError) as error:
        raise QKANError(
            f"encoding={encoding!r}: one of {', '.join(ENCODINGS)}, or one number an encoding."
        ) from error


def check_group(
    group: int | str | None, in_features: int, called: str = "in_features"
) -> int | None:
    """Return the number of shared activations, None where none is shared.

    Args:
        group: The option.
        in_features: How many inputs share them.
        called: The name that the user knows this number by.
    """
    if isinstance(group, str):
        check_choice("group", group, ["inputs", None])
        return in_features
    if group is None:
        return None
    group = check_size("group", group)
    if group > in_features:
        raise QKANError(
            f"group={group}: the number of shared activations is at most {called}={in_features}."
        )
    return group


def circuit_of(ansatz: str | Circuit | Builder, reps: int, *, default: int = 3) -> Circuit:
    """Return the circuit of an ansatz, or the one that was given.

    Args:
        ansatz: The option.
        reps: The option beside it.
        default: The number of repetitions where the user says nothing of them.
    """
    if not isinstance(ansatz, Circuit):
        return named_ansatz(ansatz, reps)
    if reps not in (default, ansatz.num_encodings):
        raise QKANError(
            f"reps={reps} beside a Circuit of {ansatz.num_encodings} encodings: reps belongs to a "
            "named ansatz; leave it out, or pass circuit.extend(reps)."
        )
    return ansatz


Observe = str | Sequence[str | Sequence[float]] | Sequence[float]
"""An observable as users write it: "x", "y", "z", "trainable", a unit vector; or several."""


def observed(circuit: Circuit, observable: Observe | None, single: str = "") -> Circuit:
    """Return the circuit measured in what the option `observable` says; None leaves it as it is.

    `single` is the name of a class that has one value for each input, so that several are refused.
    """
    found = circuit if observable is None else circuit.with_observable(observable)
    if single:
        check_one_observable(
            single, found, "It has one value for each input; use one observable, or a QKANLayer."
        )
    return found


def check_one_observable(what: str, circuit: Circuit, shape: str) -> None:
    """Raise `QKANError` if a circuit reads several observables where one value is wanted.

    Args:
        what: The name of the class or function that wants one.
        circuit: The circuit.
        shape: What it takes instead of an axis of observables, as a sentence.
    """
    if circuit.reads_several:
        raise QKANError(
            f"{what}: the circuit reads several observables, {circuit.observable!r}. {shape}"
        )


def check_layer_options(what: str, options: Mapping[str, Any]) -> None:
    """Raise `QKANError` if options ask a module that is built of layers for several observables."""
    circuit = circuit_of(options.get("ansatz", "pz"), options.get("reps", 3))
    check_one_observable(
        what, observed(circuit, options.get("observable")),
        "Its layers pass one value an output on. Use one observable, such as 'x' or 'trainable'; "
        "or a QKANLayer with several, whose outputs (…, o, a) torch.nn.Flatten(-2) turns into "
        "(…, o·a) for what comes next.",
    )  # fmt: skip


def scale_of(circuit: Circuit, encoding: str | tuple[float, ...]) -> tuple[float, ...] | None:
    """Return the scales of a fixed encoding, None of a trained one."""
    if isinstance(encoding, str):
        check_choice("encoding", encoding, ENCODINGS)
        if encoding == "trainable":
            return None
        return fixed_scale(encoding, circuit.num_encodings)
    return resolve_scale(circuit, encoding)
