"""`Calibration`: what a device says of its qubits, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkan.circuits import DeviceNoise, pulse_noise

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """A snapshot of a device's qubits; q qubits, NaN where an entry is missing.

    Attributes:
        name: The device.
        taken: When the device was calibrated, with a time zone; None where it does not say.
        qubits: (q,) physical numbers.
        p: (q,) P(measured 1 | prepared 0).
        q: (q,) P(measured 0 | prepared 1).
        sx_error: (q,) average gate infidelity of SX.
        sx_seconds: (q,) duration of SX in seconds.
        t1: (q,) energy relaxation time in seconds.
        t2: (q,) dephasing time in seconds.
        x_error: (q,) average gate infidelity of X; None where it is that of SX.
        x_seconds: (q,) duration of X in seconds; None where it is that of SX.
        faulty: Qubits that the device says are out of order.
        fetched: When this snapshot was taken from the device.
    """

    name: str
    taken: datetime | None
    qubits: NDArray[np.int64]
    p: Floats
    q: Floats
    sx_error: Floats
    sx_seconds: Floats
    t1: Floats
    t2: Floats
    x_error: Floats | None = None
    x_seconds: Floats | None = None
    faulty: frozenset[int] = frozenset()
    fetched: datetime | None = None

    def __repr__(self) -> str:
        taken = "no date" if self.taken is None else f"taken {self.taken:%Y-%m-%d %H:%M}"
        parts = [self.name, f"{len(self.qubits)} qubits", taken]
        for values, what in (
            (0.5 * (self.p + self.q), "readout error"),
            (self.sx_error, "SX error"),
        ):
            known = values[~np.isnan(values)]
            parts.append(f"median {what} {np.median(known):.2g}" if len(known) else f"no {what}")
        parts += [f"{len(self.faulty)} faulty"] * bool(self.faulty)
        return f"Calibration({', '.join(parts)})"

    @property
    def age_hours(self) -> float:
        """Hours between the device's calibration and this snapshot; NaN where it does not say."""
        if self.taken is None or self.fetched is None:
            return float("nan")
        return (self.fetched - self.taken).total_seconds() / 3600

    @property
    def is_missing(self) -> bool:
        """Whether the device says nothing at all of its qubits' errors."""
        return bool(np.isnan(self.p).all() and np.isnan(self.sx_error).all())

    def index(self, qubits: Sequence[int]) -> NDArray[np.int64]:
        """The positions at which the entries of some physical qubits stand."""
        place = {int(number): k for k, number in enumerate(self.qubits)}
        return np.array([place[int(number)] for number in qubits], dtype=np.int64)

    def device_noise(self, qubits: Sequence[int] | None = None) -> DeviceNoise:
        """The closed-form noise of some qubits in their order, or of all qubits for None.

        An entry that is missing is NaN here too.
        """
        at = slice(None) if qubits is None else self.index(qubits)
        t1, t2 = self.t1[at], self.t2[at]
        sx = pulse_noise(self.sx_error[at], self.sx_seconds[at], t1, t2, np)
        x_error = self.sx_error if self.x_error is None else self.x_error
        x_seconds = self.sx_seconds if self.x_seconds is None else self.x_seconds
        x = pulse_noise(x_error[at], x_seconds[at], t1, t2, np)
        return DeviceNoise(sx, x, self.p[at], self.q[at])

    def to_json(self) -> dict[str, Any]:
        """The snapshot as JSON values; what is missing is null."""
        names = ("p", "q", "sx_error", "sx_seconds", "t1", "t2")
        columns = {
            name: [None if math.isnan(v) else v for v in getattr(self, name).tolist()]
            for name in names
        }
        times = {
            name: None if time is None else time.isoformat()
            for name, time in (("taken", self.taken), ("fetched", self.fetched))
        }
        known = {"qubits": self.qubits.tolist(), "faulty": sorted(self.faulty)}
        return {"name": self.name, **times, **known, **columns}
