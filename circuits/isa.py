"""The instructions of a superconducting device: pulses SX, X or a native RX, and virtual RZ.

A circuit becomes a sequence for one qubit, gate by gate; gates do not cancel each other. The
expectation value after that sequence, including noise, is known in closed form. All functions work
on numpy arrays and torch tensors and take the namespace as `xp`. Letters: p parametric gates of the
circuit, s slots (the angles that a device needs).
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

from .circuit import Circuit
from .gates import Fixed
from .noise import DeviceNoise
from .noise import PulseNoise as PulseNoise  # pickles of version 0.1.0 expect it here
from .program import turns_to_z

_QUARTER = math.pi / 2


@dataclass(frozen=True, slots=True)
class Turn:
    """An angle in radians: `constant` plus the angles of some parametric gates."""

    constant: float = 0.0
    sources: tuple[int, ...] = ()

    def __add__(self, other: Turn) -> Turn:
        total = math.remainder(self.constant + other.constant, 2 * math.pi)
        return Turn(total, self.sources + other.sources)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One instruction: "sx" or "x", or "rz" or "rx" with a fixed angle or the angle of a slot."""

    name: str
    angle: float = 0.0
    slot: int | None = None


@dataclass(frozen=True)
class Isa:
    """The sequence of one qubit, from |0⟩ to a measurement of Z.

    Attributes:
        pulses: The instructions in time order.
        slots: The angle of each slot; with `fused`, `fused_turns` computes it instead.
        flip: The slot whose shift by π turns ⟨Z⟩ into -⟨Z⟩, except for the offsets of readout and
            of the relaxation in the last pulse.
        fused: Whether the sequence is one rotation, computed classically, for any circuit.
    """

    pulses: tuple[Pulse, ...]
    slots: tuple[Turn, ...]
    flip: int
    fused: bool = False

    def count(self, name: str) -> int:
        """Return how often an instruction occurs."""
        return sum(pulse.name == name for pulse in self.pulses)

    def turns(self, angles: Any, xp: Any) -> Any:
        """Return the slots' angles (…, s) from those of the parametric gates (…, p)."""
        zero = 0 * angles.sum(-1)
        columns = [
            sum((angles[..., k] for k in slot.sources), zero + slot.constant) for slot in self.slots
        ]
        return xp.stack(columns, -1)

    def expectation(self, turns: Any, xp: Any, noise: DeviceNoise | None = None) -> Any:
        """Return ⟨Z⟩ (…) after the sequence, from slot angles (…, s); with noise, as it is read."""
        pairs = [(xp.cos(turns[..., s]), xp.sin(turns[..., s])) for s in range(len(self.slots))]
        return self._run(pairs, noise)

    def _run(self, pairs: list[tuple[Any, Any]], noise: DeviceNoise | None) -> Any:
        channels = {} if noise is None else {"x": noise.x.channel, "sx": noise.sx.channel}
        x, y, z = 0.0, 0.0, 1.0
        for pulse in self.pulses:
            c, s = (
                (math.cos(pulse.angle), math.sin(pulse.angle))
                if pulse.slot is None
                else pairs[pulse.slot]
            )
            if pulse.name == "rz":
                x, y = c * x - s * y, s * x + c * y
                continue
            if pulse.name == "sx":
                y, z = -z, y
            elif pulse.name == "x":
                y, z = -y, -z
            else:
                y, z = c * y - s * z, s * y + c * z
            if noise is not None:
                x, y, z = channels["x" if pulse.name == "x" else "sx"].apply((x, y, z))
        return z if noise is None else noise.read(z)


@functools.lru_cache(maxsize=256)
def isa(circuit: Circuit, native_rx: bool = False) -> Isa:
    """Return the faithful sequence of a circuit, which runs every gate without merging pulses.

    RX(a) is RZ(π/2) SX RZ(a + π) SX RZ(π/2), and RY(a) is RX(a) between RZ(-π/2) and RZ(π/2); fixed
    angles of ±π/2 and π take one pulse. Consecutive virtual RZ are added, and those at the start
    and at the end, which change nothing, are left out. The last gates turn the observable to Z.

    Args:
        circuit: Any circuit.
        native_rx: Whether the device has RX(angle) as one pulse (IBM's fractional gates).

    Returns:
        A sequence with at least one slot; if the circuit needs no SX, an RY(0) is added.

    Example:
        >>> from qkan.circuits import ansatz, isa
        >>> isa(ansatz("pz", reps=3)).count("sx")
        9
    """
    sequence: list[tuple[str, Turn]] = []
    for axis, turn in (*_rotations(circuit), *to_z(circuit.observable_vector)):
        for name, angle in _pulses(axis, turn, native_rx):
            if name == "rz" and sequence and sequence[-1][0] == "rz":
                angle = sequence.pop()[1] + angle
            if name != "rz" or angle.sources or angle.constant:
                sequence.append((name, angle))
    while sequence and sequence[-1][0] == "rz":
        sequence.pop()
    while sequence and sequence[0][0] == "rz":
        sequence.pop(0)
    return _with_slots(*_with_flip(sequence))


FUSED = Isa((Pulse("sx"), Pulse("rz", slot=0), Pulse("sx")), (Turn(),), 0, fused=True)
"""The fused sequence, one rotation for any circuit: SX RZ(b) SX has ⟨Z⟩ = -cos b."""


def fused_turns(circuit: Circuit, angles: Any, xp: Any) -> Any:
    """Return the slot angle b (…, 1) of `FUSED` with -cos b = ⟨M⟩ of a circuit at angles (…, p).

    b is computed from the exact expectation value, so a device that runs the fused sequence
    reproduces a known value: this tests the device and its shots, not the circuit.
    """
    value = isa_expectation(circuit, angles, xp)
    return xp.arccos(xp.clip(-value, -1.0, 1.0))[..., None]


def isa_expectation(
    circuit: Circuit,
    angles: Any,
    xp: Any,
    noise: DeviceNoise | None = None,
    *,
    fused: bool = False,
    native_rx: bool = False,
) -> Any:
    """Return ⟨M⟩ of a circuit after the sequence that a device runs, in closed form.

    Args:
        circuit: Any circuit.
        angles: (…, p) radians, one for each of `circuit.parametric_gates`, in time order.
        xp: `numpy` or `torch`, whose arrays the angles are.
        noise: The noise of the qubits, which broadcasts to (…). None means no noise.
        fused: Whether to run the fused sequence instead of the faithful one.
        native_rx: Whether RX is one pulse.

    Returns:
        (…), differentiable in the angles and the noise if they are torch tensors.

    Example:
        >>> import numpy as np
        >>> from qkan.circuits import Circuit, Encoding, RX, isa_expectation
        >>> isa_expectation(Circuit([RX(Encoding(0))]), np.array([np.pi / 3]), np).round(3)
        np.float64(0.5)
    """
    if fused:
        value = isa_expectation(circuit, angles, xp)
        # the sine of b only changes X, which the last SX does not turn towards Z
        return FUSED._run([(-value, 0.0)], noise)
    sequence = isa(circuit, native_rx)
    return sequence.expectation(sequence.turns(angles, xp), xp, noise)


def _rotations(circuit: Circuit) -> list[tuple[int, Turn]]:
    """The axis and the angle of each rotation, in time order."""
    source = itertools.count()
    return [
        (axis, Turn(math.remainder(angle.value, 2 * math.pi)))
        if isinstance(angle, Fixed)
        else (axis, Turn(0.0, (next(source),)))
        for gate in circuit.gates
        for axis, angle in gate.rotations()
    ]


def to_z(observable: tuple[float, float, float]) -> list[tuple[int, Turn]]:
    """Return rotations that take the observable's axis to Z."""
    about_z, about_y = turns_to_z(observable)
    return [(2, Turn(about_z)), (1, Turn(about_y))]


def _pulses(axis: int, turn: Turn, native_rx: bool) -> list[tuple[str, Turn]]:
    """One rotation about a coordinate axis as instructions in time order."""
    if axis == 2:
        return [("rz", turn)]
    if axis == 1:
        about_x = _pulses(0, turn, native_rx)
        return [("rz", Turn(-_QUARTER)), *about_x, ("rz", Turn(_QUARTER))] if about_x else []
    if not turn.sources:
        quarters = turn.constant / _QUARTER
        if abs(quarters - round(quarters)) < 1e-12:
            z = ("rz", Turn(math.pi))
            sx = ("sx", Turn())
            return [[], [sx], [("x", Turn())], [z, sx, z]][round(quarters) % 4]
    if native_rx:
        return [("rx", turn)]
    quarter, sx = ("rz", Turn(_QUARTER)), ("sx", Turn())
    return [quarter, sx, ("rz", turn + Turn(math.pi)), sx, quarter]


def _with_flip(sequence: list[tuple[str, Turn]]) -> tuple[list[tuple[str, Turn]], int]:
    """The sequence and the position of the instruction whose shift by π flips ⟨Z⟩."""
    turning = [k for k, (name, _) in enumerate(sequence) if name in ("sx", "rx")]
    if not turning:
        at_rest = [("sx", Turn()), ("rz", Turn(math.pi)), ("sx", Turn())]
        return sequence + at_rest, len(sequence) + 1
    last = turning[-1]
    if sequence[last][0] == "rx":
        return sequence, last
    if last and sequence[last - 1][0] == "rz":
        return sequence, last - 1
    return [*sequence[:last], ("rz", Turn()), *sequence[last:]], last


def _with_slots(sequence: list[tuple[str, Turn]], flip: int) -> Isa:
    pulses: list[Pulse] = []
    slots: list[Turn] = []
    flip_slot = 0
    for position, (name, turn) in enumerate(sequence):
        if position == flip or turn.sources:
            flip_slot = len(slots) if position == flip else flip_slot
            pulses.append(Pulse(name, slot=len(slots)))
            slots.append(turn)
        else:
            pulses.append(Pulse(name, turn.constant))
    return Isa(tuple(pulses), tuple(slots), flip_slot)
