"""Standard channels, and `Noise`, which assigns them to the gates of a circuit.

Every parameter may be a tensor that requires a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from qkan.circuits.noise import Channel as Channel
from qkan.circuits.noise import read_out

from .errors import SimulatorError

Number = float | Tensor


def depolarizing(p: Number) -> Channel:
    """Make the state maximally mixed with probability p (Qiskit's p; PennyLane's is ¾ of it)."""
    _require_probability("depolarizing", p)
    return Channel((1 - p, 1 - p, 1 - p))


def amplitude_damping(gamma: Number) -> Channel:
    """Let |1⟩ decay to |0⟩ with probability gamma."""
    _require_probability("amplitude_damping", gamma)
    root = (1 - gamma) ** 0.5
    return Channel((root, root, 1 - gamma), (0.0, 0.0, gamma))


def phase_damping(lam: Number) -> Channel:
    """Shrink the coherences by √(1-lam)."""
    _require_probability("phase_damping", lam)
    root = (1 - lam) ** 0.5
    return Channel((root, root, 1.0))


def thermal_relaxation(t1: Number, t2: Number, duration: Number) -> Channel:
    """Relax to |0⟩: factors e^(-duration/t2) for X and Y, and e^(-duration/t1) for Z towards 1.

    Args:
        t1: The energy relaxation time, in the unit of `duration`.
        t2: The dephasing time, at most 2·t1.
        duration: The duration, 0 or more.
    """
    if not (t1 > 0 and 0 < t2 <= 2 * t1 and duration >= 0):
        raise SimulatorError(
            f"thermal_relaxation(t1={t1}, t2={t2}, duration={duration}): the times must be "
            "positive, and t2 at most 2·t1."
        )
    xy, z = _exp(-duration / t2), _exp(-duration / t1)
    return Channel((xy, xy, z), (0.0, 0.0, 1 - z))


@dataclass(frozen=True)
class Noise:
    """The noise of a circuit: a channel after each gate, and errors of the readout.

    Args:
        after: One channel for all gates, or channels by gate name ("H", "X", "Z", "RX", "RY",
            "RZ"); other gates are perfect.
        readout: (P(1|0), P(0|1)): ⟨M⟩ is measured as (1-p-q)⟨M⟩ + q - p.

    Example:
        >>> import torch
        >>> from qkan.circuits import ansatz
        >>> from qkan.simulators import Noise, depolarizing, expectation
        >>> circuit = ansatz("rpz", reps=1)
        >>> x, theta = torch.zeros(1, 1), torch.tensor([[[0.0, -torch.pi / 2]]])
        >>> noise = Noise(depolarizing(0.01), readout=(0.02, 0.02))
        >>> expectation(circuit, x, theta, noise=noise)
        tensor([[[0.9222]]])
    """

    after: Channel | Mapping[str, Channel] | None = None
    readout: tuple[Number, Number] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for p in self.readout:
            _require_probability("readout", p)
        if isinstance(self.after, Mapping):
            unknown = set(self.after) - {"H", "X", "Z", "RX", "RY", "RZ"}
            if unknown:
                raise SimulatorError(f"Noise after {sorted(unknown)}: circuits have no such gates.")

    def channel(self, gate: str) -> Channel | None:
        """Return the channel after a gate, or None."""
        return self.after.get(gate) if isinstance(self.after, Mapping) else self.after

    def read(self, value: Tensor) -> Tensor:
        """Return the expectation value as the faulty readout reports it."""
        return read_out(value, *self.readout)  # type: ignore[no-any-return]


def _exp(value: Number) -> Number:
    # a plain number keeps its double precision whatever torch's default dtype
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def _require_probability(what: str, p: Number) -> None:
    if not 0 <= p <= 1:
        raise SimulatorError(f"{what}: the probability is {p}; wanted a number from 0 to 1.")
