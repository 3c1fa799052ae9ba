"""Launch shapes of the CUDA kernels: how a layer is divided into blocks and warps of a card.

The shape with the fewest estimated steps is taken. A launch takes as many steps as its longest
warp, times the number of times that its warps fill the card. A step is one sample on one edge.
What is done once an edge counts as `PREPARE` steps, and each line of memory that a warp touches as
`LINE` steps: x and the gradient have a line a sample, an edge has a line for each parameter. So a
warp of many outputs loads x seldom, and a warp of many samples the parameters.

The constants are counts of the arithmetic in the kernels, not measurements. `benchmarks/gpu.py`
measures all shapes that are chosen from, and says how far the rule is from the best of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from .source import SHARED, THREADS

PREPARE = 4
"""Steps that an edge's constants take, and its sums at the end."""
LINE = 0.05
"""Steps that a line of memory takes in the forward pass; a backward step is twice as long."""
BUSY = 16
"""Warps that keep the arithmetic of a multiprocessor busy."""
WORKSPACE = 16 << 20
"""The most bytes of sums over parts of the batch, and of ∂/∂x over parts of the outputs. Two parts
of the outputs are allowed whatever their size."""
MOST_BLOCKS = 1024
"""Parts along the second and third dimension of a grid."""
SUMMED = 8
"""The least samples of a chunk that leaves sums, so that the sums are little beside the samples."""
_TURNS = 64
"""The most groups of samples times outputs of a warp in the forward pass."""
FINISH_THREADS = 256


class Sizes(NamedTuple):
    """The numbers that a launch shape depends on.

    Attributes:
        batch: Samples b.
        outs: Outputs o.
        ins: Inputs i.
        words: Parameters of an edge.
        sums: Numbers that an edge sums in the adjoint pass.
        itemsize: Bytes of a number of the arithmetic.
        processors: Multiprocessors of the card.
        resident: Warps that a multiprocessor holds at once, by the kernel's registers.
    """

    batch: int
    outs: int
    ins: int
    words: int
    sums: int
    itemsize: int
    processors: int
    resident: int


class Forward(NamedTuple):
    """A forward launch: 2^log_lanes outputs a warp, `groups` of 32 samples and `warps` a block."""

    log_lanes: int
    groups: int
    warps: int


class Backward(NamedTuple):
    """An adjoint launch: the batch is split in `chunks` of `chunk` samples, the outputs in `parts`.

    A warp has 2^log_lanes outputs of one input at a time, a block `warps` inputs.
    """

    log_lanes: int
    warps: int
    chunk: int
    chunks: int
    parts: int


def resident_warps(registers: int) -> int:
    """Warps that a multiprocessor of 65,536 registers holds at once, 64 at most.

    Example:
        >>> resident_warps(64), resident_warps(117)
        (32, 17)
    """
    return min(64, 65536 // (32 * 8 * math.ceil(max(registers, 1) / 8)))


def fits(sums: int, itemsize: int) -> bool:
    """Whether an adjoint block of one warp finds room in shared memory."""
    return _backward_shared(Backward(0, 1, 1, 1, 1), sums, itemsize) <= SHARED


@functools.lru_cache(maxsize=4096)
def forward_shape(sizes: Sizes) -> Forward:
    """The forward shape with the fewest steps."""
    return min(forward_shapes(sizes), key=lambda shape: forward_steps(sizes, shape))


@functools.lru_cache(maxsize=4096)
def backward_shape(sizes: Sizes) -> Backward:
    """The adjoint shape with the fewest steps."""
    return min(backward_shapes(sizes), key=lambda shape: backward_steps(sizes, shape))


@functools.lru_cache(maxsize=4096)
def per_sample_shape(sizes: Sizes, summed: bool) -> Backward:
    """The adjoint shape where samples have parameters of their own, so that an edge has one sample.

    Args:
        sizes: The sizes of the call.
        summed: Whether gradients are summed over samples, so that each chunk of them leaves sums.
    """
    log_inputs = min(5, (sizes.ins - 1).bit_length())
    log_lanes = min(5 - log_inputs, (sizes.outs - 1).bit_length())
    # lanes that are not needed for outputs are used for inputs
    tiles = math.ceil(sizes.ins / (32 >> log_lanes))
    fill = sizes.processors * min(BUSY, sizes.resident)
    least = SUMMED if summed else 1
    chunk = max(least, min(32, sizes.batch * tiles // fill), math.ceil(sizes.batch / 65535))
    chunks = math.ceil(sizes.batch / chunk)
    most = min(MOST_BLOCKS, math.ceil(sizes.outs / (1 << log_lanes)))
    parts = max(1, min(most, fill // (tiles * chunks)))
    if parts > 2:
        parts = max(2, min(parts, WORKSPACE // (sizes.batch * sizes.ins * sizes.itemsize)))
    return Backward(log_lanes, min(4, tiles), chunk, chunks, parts)


def forward_shapes(sizes: Sizes) -> Iterator[Forward]:
    """All forward shapes that are worth a try."""
    for log_lanes in _lanes(sizes.outs):
        if math.ceil(sizes.outs / (1 << log_lanes)) > 65535:
            continue
        for log_groups in range(6):
            groups = 1 << log_groups
            if (groups << log_lanes) > _TURNS or (groups > 1 and 16 * groups >= sizes.batch):
                break
            for log_warps in range(THREADS.bit_length() - 5):
                shape = Forward(log_lanes, groups, 1 << log_warps)
                fitting = forward_shared(shape, sizes.itemsize) <= SHARED
                if fitting and (shape.warps == 1 or shape.warps < 2 * sizes.ins):
                    yield shape


def backward_shapes(sizes: Sizes) -> Iterator[Backward]:
    """All adjoint shapes that are worth a try, their workspace within bounds."""
    edge_bytes = sizes.sums * sizes.outs * sizes.ins * sizes.itemsize
    for log_lanes in _lanes(sizes.outs):
        tiles = math.ceil(sizes.outs / (1 << log_lanes))
        warps = _most_warps(sizes, log_lanes)
        for parts in _halvings(min(tiles, MOST_BLOCKS)):
            if parts > 2 and parts * sizes.batch * sizes.ins * sizes.itemsize > WORKSPACE:
                continue
            for chunks in _halvings(min(math.ceil(sizes.batch / 32), MOST_BLOCKS)):
                if chunks > 1 and chunks * edge_bytes > WORKSPACE:
                    continue
                chunk = 32 * math.ceil(sizes.batch / (32 * chunks))
                yield Backward(log_lanes, warps, chunk, math.ceil(sizes.batch / chunk), parts)


def forward_steps(sizes: Sizes, shape: Forward) -> float:
    """The estimated steps of a forward launch."""
    outputs = 1 << shape.log_lanes
    blocks = math.ceil(sizes.batch / (32 * shape.groups)) * math.ceil(sizes.outs / outputs)
    samples = min(sizes.batch, 32 * shape.groups)
    turns = _turns(samples, shape.log_lanes)
    lines = sizes.words * outputs + samples
    steps = math.ceil(sizes.ins / shape.warps) * (PREPARE + LINE * lines + turns) + 0.1 * turns
    return steps * _fillings(sizes, blocks * shape.warps)


def backward_steps(sizes: Sizes, shape: Backward) -> float:
    """The estimated steps of an adjoint launch, a little more for each part that leaves sums."""
    tiles = math.ceil(sizes.outs / (1 << shape.log_lanes) / shape.parts)
    blocks = math.ceil(sizes.ins / shape.warps) * shape.parts * shape.chunks
    samples = min(sizes.batch, shape.chunk)
    turns = _turns(samples, shape.log_lanes)
    lines = (sizes.words << shape.log_lanes) + samples + turns * (32 >> shape.log_lanes)
    left = 0.002 * (shape.chunks + shape.parts)
    steps = tiles * (PREPARE + LINE / 2 * lines + turns)
    return steps * _fillings(sizes, blocks * shape.warps) * (1 + left)


def forward_shared(shape: Forward, itemsize: int) -> int:
    """Bytes of shared memory of a forward block."""
    return ((shape.warps * shape.groups * 32) << shape.log_lanes) * itemsize


def backward_shared(sizes: Sizes, shape: Backward) -> int:
    """Bytes of shared memory of an adjoint block."""
    return _backward_shared(shape, sizes.sums, sizes.itemsize)


def _backward_shared(shape: Backward, sums: int, itemsize: int) -> int:
    return shape.warps * 32 * (sums + ((1 << shape.log_lanes) | 1)) * itemsize


def _lanes(outs: int) -> Iterator[int]:
    """Logarithms of the outputs of a warp, up to the first that holds them all."""
    for log_lanes in range(6):
        yield log_lanes
        if 1 << log_lanes >= outs:
            break


def _halvings(count: int) -> Iterator[int]:
    """A count, its half rounded up, and so on down to one."""
    while count > 1:
        yield count
        count = (count + 1) // 2
    yield 1


def _most_warps(sizes: Sizes, log_lanes: int) -> int:
    warps = 4
    while warps > 1 and (
        warps >= 2 * sizes.ins
        or _backward_shared(Backward(log_lanes, warps, 1, 1, 1), sizes.sums, sizes.itemsize)
        > SHARED
    ):
        warps //= 2
    return warps


def _turns(samples: int, log_lanes: int) -> int:
    """Samples that the busiest lane gets, where groups of 32 are dealt out one after the other."""
    whole, rest = divmod(samples, 32)
    return (whole << log_lanes) + math.ceil(rest / (32 >> log_lanes))


def _fillings(sizes: Sizes, warps: int) -> float:
    return max(1.0, warps / (sizes.processors * min(BUSY, sizes.resident)))
