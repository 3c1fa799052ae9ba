"""Noise in closed form: a channel on one qubit is an affine map of its Bloch vector.

Every number may be a numpy array or a torch tensor, even one that requires a gradient, so that a
model can be trained for a noisy device, or a device's noise can be fitted to data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Channel:
    """An affine map of each component of the Bloch vector: v_a ← factor_a·v_a + offset_a.

    Attributes:
        factor: The factors for X, Y and Z.
        offset: The offsets for X, Y and Z.
    """

    factor: tuple[Any, Any, Any]
    offset: tuple[Any, Any, Any] = (0.0, 0.0, 0.0)

    def apply(self, vector: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """Return the Bloch vector after the channel."""
        x, y, z = (
            f * v if isinstance(t, float) and t == 0.0 else f * v + t
            for f, v, t in zip(self.factor, vector, self.offset, strict=True)
        )
        return (x, y, z)

    def then(self, later: Channel) -> Channel:
        """Return this channel followed by another one."""
        x, y, z = (f * g for f, g in zip(self.factor, later.factor, strict=True))
        return Channel((x, y, z), later.apply(self.offset))


def read_out(value: Any, p: Any, q: Any) -> Any:
    """Return ⟨M⟩ as a faulty readout reports it.

    An outcome of 0 is read as 1 with probability p, and an outcome of 1 as 0 with probability q.
    """
    return (1 - p - q) * value + (q - p)


@dataclass(frozen=True)
class PulseNoise:
    """The channel of a pulse, with equal factors for X and Y; arrays have an entry for each qubit.

    Attributes:
        xy: The factor of X and Y.
        z: The factor of Z.
        offset: The offset of Z.
    """

    xy: Any
    z: Any
    offset: Any

    @property
    def channel(self) -> Channel:
        """Return the noise as an affine map."""
        return Channel((self.xy, self.xy, self.z), (0.0, 0.0, self.offset))


@dataclass(frozen=True)
class DeviceNoise:
    """The noise of some qubits; every entry broadcasts to the values' shape.

    Attributes:
        sx: The noise after each SX (and each native RX).
        x: The noise after each X.
        p: P(measured 1 | prepared 0).
        q: P(measured 0 | prepared 1).
    """

    sx: PulseNoise
    x: PulseNoise
    p: Any = 0.0
    q: Any = 0.0

    def read(self, z: Any) -> Any:
        """Return ⟨Z⟩ as the faulty readout reports it."""
        return read_out(z, self.p, self.q)


def pulse_noise(error: Any, seconds: Any, t1: Any, t2: Any, xp: Any) -> PulseNoise:
    """Return the noise of one pulse from its calibration: depolarising, then thermal relaxation.

    Relaxation during the pulse explains a part of the gate's error, and depolarising explains the
    rest: with e1 = exp(-t/T1), e2 = exp(-t/min(T2, 2·T1)) and F = 1/2 + (2·e2 + e1)/6, the
    probability of depolarising is max(0, 2(error - (1 - F))/(2F - 1)). This is the device noise
    model of qiskit-aer.

    Args:
        error: The average gate infidelity, of any shape.
        seconds: The duration in seconds.
        t1: The energy relaxation time in seconds; infinite for a perfect qubit.
        t2: The dephasing time in seconds.
        xp: `numpy` or `torch`, whose arrays the arguments are.
    """
    e1 = xp.exp(-seconds / t1)
    e2 = xp.exp(-seconds / xp.minimum(t2, 2 * t1))
    fidelity = 0.5 + (2 * e2 + e1) / 6
    excess = 2 * (error - (1 - fidelity)) / (2 * fidelity - 1)
    keep = 1 - (excess + abs(excess)) / 2
    return PulseNoise(keep * e2, keep * e1, 1 - e1)
