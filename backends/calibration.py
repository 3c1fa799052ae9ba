"""`Calibration`: the data that a device provides about its qubits."""

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
    """A snapshot of a device's q qubits, with NaN for missing entries.

    Attributes:
        name: The name of the device.
        taken: The time of the calibration, with a time zone; None if it is not known.
        qubits: (q,) physical numbers.
        p: (q,) P(measured 1 | prepared 0).
        q: (q,) P(measured 0 | prepared 1).
        sx_error: (q,) average gate infidelity of SX.
        sx_seconds: (q,) duration of SX in seconds.
        t1: (q,) energy relaxation time in seconds.
        t2: (q,) dephasing time in seconds.
        x_error: (q,) average gate infidelity of X; None if it equals that of SX.
        x_seconds: (q,) duration of X in seconds; None if it equals that of SX.
        faulty: Qubits that are out of order, according to the device.
        fetched: The time at which this snapshot was fetched from the device.
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
        """Hours between the device's calibration and this snapshot; NaN if that is not known."""
        if self.taken is None or self.fetched is None:
            return float("nan")
        return (self.fetched - self.taken).total_seconds() / 3600

    @property
    def is_missing(self) -> bool:
        """Whether the device says nothing at all about its qubits' errors."""
        return bool(np.isnan(self.p).all() and np.isnan(self.sx_error).all())

    def index(self, qubits: Sequence[int]) -> NDArray[np.int64]:
        """Return the positions of the entries of some physical qubits."""
        place = {int(number): k for k, number in enumerate(self.qubits)}
        return np.array([place[int(number)] for number in qubits], dtype=np.int64)

    def device_noise(self, qubits: Sequence[int] | None = None) -> DeviceNoise:
        """Return the closed-form noise of some qubits in their order, or of all qubits for None.

        Missing entries are NaN here, too.
        """
        at = slice(None) if qubits is None else self.index(qubits)
        t1, t2 = self.t1[at], self.t2[at]
        sx = pulse_noise(self.sx_error[at], self.sx_seconds[at], t1, t2, np)
        x_error = self.sx_error if self.x_error is None else self.x_error
        x_seconds = self.sx_seconds if self.x_seconds is None else self.x_seconds
        x = pulse_noise(x_error[at], x_seconds[at], t1, t2, np)
        return DeviceNoise(sx, x, self.p[at], self.q[at])

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as JSON values, with null for missing entries."""
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
