"""The choice of qubits: those with the smallest error of an expectation value come first.

Letters: q qubits of the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .calibration import Calibration, Floats
from .errors import BackendError
from .options import Options

PULSES = 9
"""The number of pulses in a prediction: those of three repetitions with an RY and an RZ each.

Readout is by far the larger part of the error, so the order of the qubits hardly depends on this.
"""


def predicted_error(calibration: Calibration, pulses: int = PULSES) -> Floats:
    """Return the rms error of an unmitigated ⟨Z⟩ on each qubit, for z uniform on [-1, 1].

    A qubit reads C·z + d, with the contraction C = (1 - p - q)·g from readout and gates, and d = q
    - p + C·o from asymmetric readout and relaxation: rms = √((1 - C)²/3 + d²).

    Args:
        calibration: The device's calibration.
        pulses: The number of SX pulses in a circuit.

    Returns:
        (q,) errors; NaN where an entry is missing.
    """
    noise = calibration.device_noise()
    gates = (noise.sx.xy * noise.sx.z) ** (pulses / 2)
    contraction = (1 - noise.p - noise.q) * gates
    offset = (noise.q - noise.p) + (1 - noise.p - noise.q) * noise.sx.offset
    error: Floats = np.sqrt((1 - contraction) ** 2 / 3 + offset**2)
    return error


def ranked_qubits(calibration: Calibration, options: Options) -> tuple[int, ...]:
    """Return the usable qubits, the best first.

    Qubits that are faulty, lack a calibration or exceed `max_error` are left out. Without any
    calibration the device's own order is kept. A given layout is only checked.

    Raises:
        BackendError: No qubit is usable, or the given layout cannot be used.
    """
    error = predicted_error(calibration)
    if options.layout is not None:
        return _checked_layout(options.layout, calibration, error, options)
    if calibration.is_missing:
        return tuple(q for q in calibration.qubits.tolist() if q not in calibration.faulty)
    passing = [
        (float(e), int(q))
        for e, q in zip(error, calibration.qubits, strict=True)
        if e <= options.max_error and int(q) not in calibration.faulty
    ]
    if not passing:
        raise BackendError(
            f"No qubit of {calibration.name} has a predicted error of at most "
            f"{options.max_error:g}: the best has {np.nanmin(error, initial=np.inf):.3g}. "
            "Raise max_error, or choose another device."
        )
    return tuple(qubit for _, qubit in sorted(passing))


def chosen_layout(
    calibration: Calibration,
    options: Options,
    width: int | None,
    neighbours: Sequence[tuple[int, int]] = (),
    without: Iterable[int] = (),
) -> tuple[int, ...]:
    """Return the best `width` qubits, or all usable ones for None, with the spacing of the options.

    Args:
        calibration: The device's calibration.
        options: The options of the backend.
        width: The number of qubits; None takes all.
        neighbours: Pairs of coupled qubits.
        without: Qubits that must not be used.

    Raises:
        BackendError: Fewer qubits are usable than asked for.
    """
    dropped = set(without)
    usable = [qubit for qubit in ranked_qubits(calibration, options) if qubit not in dropped]
    if options.spacing and options.layout is None:
        usable = _spaced(usable, neighbours, options.spacing)
    if width is not None and options.layout is None and width > len(usable) and not dropped:
        error = predicted_error(calibration)[calibration.index(usable)]
        worst = error.max() if usable else np.nan
        raise BackendError(
            f"width={width}: only {len(usable)} qubits of {calibration.name} are within max_error="
            f"{options.max_error:g}, the worst of them with {worst:.3g}. "
            f"Use width={len(usable)} or less, or raise max_error."
        )
    if not usable:
        raise BackendError(
            f"No usable qubit is left on {calibration.name} without {sorted(dropped)}. "
            "Raise max_error, or choose another device."
        )
    return tuple(usable[:width])


def _checked_layout(
    qubits: Sequence[int], calibration: Calibration, error: Floats, options: Options
) -> tuple[int, ...]:
    asked = f"layout={list(qubits)}: "
    known = dict(zip(calibration.qubits.tolist(), error.tolist(), strict=True))
    outside = [q for q in qubits if q not in known]
    if outside:
        raise BackendError(
            asked + f"{calibration.name} has no qubit {outside[0]}; it has {len(known)}, from "
            f"{min(known)} to {max(known)}."
        )
    twice = [q for k, q in enumerate(qubits) if q in qubits[:k]]
    if twice:
        raise BackendError(asked + f"qubit {twice[0]} occurs twice.")
    needed = options.width or 1
    if len(qubits) < needed:
        raise BackendError(asked + f"{len(qubits)} qubits, but {needed} are needed.")
    for q in () if options.force or calibration.is_missing else qubits:
        if q in calibration.faulty or not known[q] <= options.max_error:
            why = (
                "is out of order"
                if q in calibration.faulty
                else f"has a predicted error of {known[q]:.3g}, above "
                f"max_error={options.max_error:g}"
            )
            raise BackendError(asked + f"qubit {q} {why}. Leave it out, or pass force=True.")
    return tuple(qubits)


def _spaced(
    ranked: Sequence[int], neighbours: Sequence[tuple[int, int]], spacing: int
) -> list[int]:
    """The best qubits, chosen greedily with at least `spacing` steps between them."""
    taken: list[int] = []
    blocked: set[int] = set()
    for qubit in ranked:
        if qubit not in blocked:
            taken.append(qubit)
            near = {qubit}
            for _ in range(spacing - 1):
                near |= {q for pair in neighbours if not near.isdisjoint(pair) for q in pair}
            blocked |= near
    return taken
