"""`Calibration`: what a device says of its qubits, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

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
        sx_seconds: (q,) duration of SX.
        t1: (q,) energy relaxation time in seconds.
        t2: (q,) dephasing time in seconds.
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
