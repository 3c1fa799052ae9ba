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
            "on the CPU, or install a torch that supports it."
        ) from error
    if dtype is not None and (not isinstance(dtype, torch.dtype) or not dtype.is_floating_point):
        raise QKANError(
            f"dtype={dtype!r}; wanted a real floating-point dtype of torch, such as torch.float32."
        )
    return {"device": device, "dtype": dtype}


def check_choice(option: str, value: object, allowed: Iterable[object], more: str = "") -> None:
    """Raise `QKANError`, with the nearest name, unless a value is allowed.

    Args:
        option: The option's name, after the name of the function where that helps.
        value: The value that the user passed.
        allowed: The allowed names, and None if it is allowed.
        more: A sentence at the end of the message, such as "Or pass a function.".
    """
    allowed = [*allowed]
    if value not in allowed:
        names = [name for name in allowed if isinstance(name, str)]
        more = "Or pass None." if None in allowed else more
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
    """Return a whole number of any type as an int; raise `QKANError` for anything else.

    Args:
        name: The option's name, after the name of the function where that helps.
        value: Anything that `operator.index` takes, such as an integer of numpy; but not a bool.
        more: A sentence at the end of the message, such as "Or pass None.".
        least: The lowest allowed number; None allows any.
    """
    whole = None if isinstance(value, bool) or not hasattr(value, "__index__") else index(value)
    if whole is None or (least is not None and whole < least):
        wanted = "a whole number" if least is None else f"a whole number, {least} or more"
        raise QKANError(f"{name}={value!r}; wanted {wanted}.{more and f' {more}'}")
    return whole


def check_optional_size(
    name: str, value: SupportsIndex | None, *, least: int | None = 1
) -> int | None:
    """Return None for None, and otherwise what `check_size` returns."""
    return None if value is None else check_size(name, value, "Or pass None.", least=least)


def as_number(value: Any) -> float:
    """Return a number of any kind, numpy's and a tensor of one too, as a float; else NaN."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def check_range(name: str, low_high: Sequence[float]) -> tuple[float, float]:
    """Return a range as two floats; raise `QKANError` for anything else."""
    try:
        low, high = map(float, low_high)
    except (TypeError, ValueError) as error:
        raise QKANError(f"{name}={low_high!r}; wanted two numbers, (low, high).") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise QKANError(
            f"{name}={low_high}; wanted (low, high), two finite numbers with low below high."
        )
    return low, high


def check_probability(dropout: float) -> float:
    """Return the dropout; raise `QKANError` unless it is a probability below 1."""
    if not 0 <= as_number(dropout) < 1:
        raise QKANError(f"dropout={dropout!r}; wanted a probability, 0 or more and below 1.")
    return float(dropout)


def check_encoding(encoding: str | Sequence[float]) -> str | tuple[float, ...]:
    """Return an encoding's name as it is, or its numbers as floats."""
    if isinstance(encoding, str):
        return encoding
    try:
        return tuple(map(float, encoding))
    except (TypeError, ValueError) as error:
        raise QKANError(
            f"encoding={encoding!r}; wanted one of {', '.join(ENCODINGS)}, or one number for each "
            "encoding gate."
        ) from error


def check_group(
    group: int | str | None, in_features: int, called: str = "in_features"
) -> int | None:
    """Return the number of shared activations, or None if none is shared.

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
            f"group={group}; the number of shared activations must be at most "
            f"{called}={in_features}."
        )
    return group


def circuit_of(ansatz: str | Circuit | Builder, reps: int, *, default: int = 3) -> Circuit:
    """Return the circuit of an ansatz, or the given circuit.

    Args:
        ansatz: The option.
        reps: The option `reps`.
        default: The default of `reps`.
    """
    if not isinstance(ansatz, Circuit):
        return named_ansatz(ansatz, reps)
    if reps not in (default, ansatz.num_encodings):
        raise QKANError(
            f"reps={reps} was passed with a Circuit of {ansatz.num_encodings} encodings, but reps "
            "belongs to a named ansatz; leave it out, or pass circuit.extend(reps)."
        )
    return ansatz


Observe = str | Sequence[str | Sequence[float]] | Sequence[float]
"""An observable as users write it: "x", "y", "z", "trainable", a unit vector, or several."""


def observed(circuit: Circuit, observable: Observe | None, single: str = "") -> Circuit:
    """Return the circuit with the observable of the option; None leaves it unchanged.

    `single` is the name of a class with one value for each input, which takes one observable only.
    """
    found = circuit if observable is None else circuit.with_observable(observable)
    if single:
        check_one_observable(
            single, found, "It has one value for each input; use one observable, or a QKANLayer."
        )
    return found


def check_one_observable(what: str, circuit: Circuit, shape: str) -> None:
    """Raise `QKANError` if a circuit reads several observables where one is needed.

    Args:
        what: The name of the class or function that needs one.
        circuit: The circuit.
        shape: A sentence that says what to do instead.
    """
    if circuit.reads_several:
        raise QKANError(
            f"{what}: the circuit reads several observables, {circuit.observable!r}. {shape}"
        )


def check_layer_options(what: str, options: Mapping[str, Any]) -> None:
    """Raise `QKANError` if options of a module built of layers ask for several observables."""
    circuit = circuit_of(options.get("ansatz", "pz"), options.get("reps", 3))
    check_one_observable(
        what, observed(circuit, options.get("observable")),
        "Its layers pass on one value for each output. Use one observable, such as 'x' or "
        "'trainable'; or a QKANLayer with several, followed by torch.nn.Flatten(-2), which turns "
        "its outputs (…, o, a) into (…, o·a).",
    )  # fmt: skip


def scale_of(circuit: Circuit, encoding: str | tuple[float, ...]) -> tuple[float, ...] | None:
    """Return the scales of a fixed encoding, or None for a trained one."""
    if isinstance(encoding, str):
        check_choice("encoding", encoding, ENCODINGS)
        if encoding == "trainable":
            return None
        return fixed_scale(encoding, circuit.num_encodings)
    return resolve_scale(circuit, encoding)
