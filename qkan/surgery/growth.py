"""Search for a circuit with one more repetition and the same activation.

The longer circuit is the shorter one with an additional block of gates. The block has no effect if
the state is an eigenstate of its rotations, if the observable commutes with them, or if its angles
cancel. The search finds out at random parameters and inputs for which angles one of these holds:
analytic functions that agree at a few random points agree everywhere.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qkan.circuits import Circuit, Encoding, Fixed, Gate, Theta
from qkan.circuits.angles import gate_angles
from qkan.simulators import expectation_of, simulate

_QUARTERS = (math.pi / 2, -math.pi / 2, math.pi)
_MOST_NEAR, _MOST_INSIDE = 4, 2
"""The most angles that are turned, for a block near an end of the circuit and for one inside."""
_ROWS = 6
"""The number of random parameters and inputs that are tried."""
_EXACT = 1e-12
_NEW = -1


@dataclass(frozen=True)
class Growth:
    """The rule by which the parameters of a circuit become those of a longer equivalent one.

    Attributes:
        circuit: The longer circuit.
        theta: For each of its theta slots, the slot of the shorter circuit whose value it takes; -1
            for a new slot.
        constant: For each of its theta slots, the angle in radians that is added to that value; the
            value of a new slot.
        encoding: For each of its encodings, that of the shorter circuit; -1 for the new one.
        scale: The scale of the new encoding, whose shift is 0.
    """

    circuit: Circuit
    theta: tuple[int, ...]
    constant: tuple[float, ...]
    encoding: tuple[int, ...]
    scale: float

    def grow_theta(self, theta: Tensor) -> Tensor:
        """Map (…, k) → (…, k + number of new slots)."""
        return _taken(theta, self.theta, self.constant)

    def grow_encoding(self, value: Tensor, new: float) -> Tensor:
        """Map a scale or shift (…, u) → (…, u + 1), with `new` for the new encoding."""
        return _taken(value, self.encoding, [new * (u == _NEW) for u in self.encoding])


@functools.lru_cache(maxsize=1024)
def find_growth(short: Circuit, long: Circuit, scales: tuple[float, ...]) -> Growth | None:
    """Find new parameters, and quarter turns of old ones, that do not change the activation.

    Args:
        short: The present circuit.
        long: The circuit with one more repetition.
        scales: The allowed scales of the new encoding, the best one first; several mean that scales
            are trained.

    Returns:
        The growth with the fewest non-zero angles, preferably one in which every new parameter gets
        a gradient within two steps; None if no growth keeps the activation.
    """
    alignments = _alignments(short, long)
    size = len(long.gates) - len(short.gates)
    near = [a for a in alignments if min(a.start, len(short.gates) - a.start) <= size]
    inside = [a for a in alignments if a not in near]
    fallback = None
    for places, most in ((near, _MOST_NEAR), (inside, _MOST_INSIDE)):
        for turns in range(most + 1):
            candidates = [
                Growth(long, place.theta, constant, place.encoding, scale)
                for scale in scales
                for place in places
                for constant in _constants(place, turns)
            ]
            for growth in _unchanged(short, candidates):
                if _learns(short, growth, trained_scale=len(scales) > 1):
                    return growth
                fallback = fallback or growth
    return fallback


@dataclass(frozen=True)
class _Alignment:
    """One way to remove a block from the longer circuit such that the shorter one remains.

    Attributes:
        start: The first gate of the block.
        theta: As in `Growth`.
        encoding: As in `Growth`.
        adjustable: The theta slots of the longer circuit that may be turned, the new ones first.
    """

    start: int
    theta: tuple[int, ...]
    encoding: tuple[int, ...]
    adjustable: tuple[int, ...]


def _alignments(short: Circuit, long: Circuit) -> list[_Alignment]:
    """All alignments, the one with the last block first."""
    size = len(long.gates) - len(short.gates)
    if short.observable != long.observable or size < 1:
        return []
    found = (_aligned(short, long, start, size) for start in range(len(short.gates), -1, -1))
    return [alignment for alignment in found if alignment is not None]


def _aligned(short: Circuit, long: Circuit, start: int, size: int) -> _Alignment | None:
    """The alignment with a block at `start`, or None if the rest is not the short circuit."""
    rest = long.gates[:start] + long.gates[start + size :]
    renamed: dict[Theta | Encoding, Theta | Encoding] = {}
    for old, other in zip(short.gates, rest, strict=True):
        if not _same_kind(old, other):
            return None
        if isinstance(old.angle, Theta | Encoding) and isinstance(other.angle, Theta | Encoding):
            if renamed.setdefault(_plain(old.angle), _plain(other.angle)) != _plain(other.angle):
                return None
    back = {new: old.index for old, new in renamed.items()}
    if len(back) != len(renamed):
        return None
    theta = tuple(back.get(Theta(k), _NEW) for k in range(long.num_theta))
    encoding = tuple(back.get(Encoding(u), _NEW) for u in range(long.num_encodings))
    if encoding.count(_NEW) != 1:
        return None
    new = [k for k, old in enumerate(theta) if old == _NEW]
    before, after = long.gates[:start][::-1], long.gates[start + size :]
    slots = ([g.angle.index for g in p if isinstance(g.angle, Theta)] for p in (before, after))
    beside = [k for nearest_first in slots for k in nearest_first[:1]]
    # new angles come first, since turning an old one rounds it
    return _Alignment(start, theta, encoding, tuple(dict.fromkeys(new + beside)))


def _same_kind(old: Gate, new: Gate) -> bool:
    """Whether two gates are equal except for the numbers of their theta slots and encodings."""
    if old.name != new.name or type(old.angle) is not type(new.angle):
        return False
    if isinstance(old.angle, Encoding) and isinstance(new.angle, Encoding):
        return old.angle.arccos == new.angle.arccos
    return not isinstance(old.angle, Fixed) or old.angle == new.angle


def _plain(angle: Theta | Encoding) -> Theta | Encoding:
    """Return an angle as a key, without the arccos of an encoding."""
    return angle if isinstance(angle, Theta) else Encoding(angle.index)


def _constants(place: _Alignment, turns: int) -> Iterator[tuple[float, ...]]:
    """Yield all ways to turn so many new or neighbouring angles by quarter turns."""
    for slots in itertools.combinations(place.adjustable, turns):
        for values in itertools.product(_QUARTERS, repeat=turns):
            turned = dict(zip(slots, values, strict=True))
            yield tuple(turned.get(k, 0.0) for k in range(len(place.theta)))


def _unchanged(short: Circuit, candidates: list[Growth]) -> list[Growth]:
    """The candidates that have the shorter circuit's activation at random parameters and inputs."""
    if not candidates:
        return []
    x, theta, scale, shift = _draw(short, candidates)
    wanted = _activation(short, x, theta, scale, shift)
    grown = [
        (g.grow_theta(theta), g.grow_encoding(scale, g.scale), g.grow_encoding(shift, 0.0))
        for g in candidates
    ]
    found = _activation(candidates[0].circuit, x, *map(torch.stack, zip(*grown, strict=True)))
    kept = (found - wanted).abs().amax(-1) < _EXACT
    return [growth for growth, keep in zip(candidates, kept.tolist(), strict=True) if keep]


def _learns(short: Circuit, growth: Growth, *, trained_scale: bool) -> bool:
    """Whether each new parameter that can have an effect gets a gradient after one step."""
    x, theta, scale, shift = _draw(short, [growth])
    start = [
        growth.grow_theta(theta[0]),
        growth.grow_encoding(shift[0], 0.0),
        growth.grow_encoding(scale[0], growth.scale),
    ]
    generator = torch.Generator().manual_seed(1)
    other = [torch.rand(v.shape, generator=generator, dtype=v.dtype) + 0.2 for v in start]
    first = _gradients(growth.circuit, x, start)
    if not trained_scale:
        first[2].zero_()
    moved = [v - 0.1 * g for v, g in zip(start, first, strict=True)]
    second, generic = (_gradients(growth.circuit, x, values) for values in (moved, other))
    origins = (growth.theta, growth.encoding, growth.encoding if trained_scale else ())
    return all(
        any(gradient[n].abs() > _EXACT for gradient in (a, b)) or c[n].abs() < _EXACT
        for origin, a, b, c in zip(origins, first, second, generic, strict=True)
        for n, old in enumerate(origin)
        if old == _NEW
    )


def _gradients(circuit: Circuit, x: Tensor, values: list[Tensor]) -> list[Tensor]:
    """Gradients of a sum of activations in theta, shift and scale."""
    theta, shift, scale = leaves = [value.detach().requires_grad_() for value in values]
    phi = _activation(circuit, x, theta, scale, shift)
    loss = (phi * torch.arange(1.0, phi.shape[-1] + 1)).sum()
    return [*torch.autograd.grad(loss, leaves, materialize_grads=True)]


def _draw(circuit: Circuit, growths: list[Growth]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random x (n,), theta (n, k), scale and shift (n, u), within the domain of an arccos."""
    largest = max(1.0, *(abs(growth.scale) for growth in growths))
    generator = torch.Generator().manual_seed(0)
    sizes = (1, circuit.num_theta, circuit.num_encodings, circuit.num_encodings)
    x, theta, scale, shift = (
        torch.rand(_ROWS, n, generator=generator, dtype=torch.float64) for n in sizes
    )
    return (x[:, 0] - 0.5) / largest, math.tau * theta, 0.5 + scale / 2, 0.6 * shift - 0.3


def _activation(circuit: Circuit, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """φ(x) of parameters (…, n, k), (…, n, u), or without n of one set for all x (n,).

    The values of several observables follow one another in the last axis.
    """
    angles = torch.broadcast_tensors(*gate_angles(circuit, x, theta, scale, shift, torch))
    value: Tensor = expectation_of(circuit, simulate(circuit, torch.stack(angles, -1)))
    return value.flatten(-2) if circuit.reads_several else value


def _taken(old: Tensor, origin: Sequence[int], constant: Sequence[float]) -> Tensor:
    """Take entries `old[…, origin]`, 0 for a new one, and add constants."""
    padded = torch.cat([old, old.new_zeros(*old.shape[:-1], 1)], -1)
    # the padding is at the end, where the index -1 points
    return padded[..., list(origin)] + old.new_tensor(constant)
