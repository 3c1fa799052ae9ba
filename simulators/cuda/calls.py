"""One call of a layer on CUDA kernels: the memory that it needs, and the kernels that it runs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from qkan.simulators.errors import SimulatorError

from .plan import (
    FINISH_THREADS,
    Sizes,
    backward_shape,
    backward_shared,
    forward_shape,
    forward_shared,
    per_sample_shape,
)
from .source import OWN, POINTERS, SIZES, Kernel

EDGE_THREADS = 128
_NAMES = ("theta", "scale", "shift", "weight", "base_weight", "bias", "mask")
_GRADIENTS = ("dx", "dtheta", "dscale", "dshift", "dweight", "dbase_weight", "dbias")


class Card(ABC):
    """A device with compiled kernels.

    Attributes:
        processors: The number of its multiprocessors.
    """

    processors: int

    @abstractmethod
    def resident(self, name: str) -> int:
        """Return how many warps of a kernel a multiprocessor can hold at once."""

    @abstractmethod
    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, shared: int, words: Any
    ) -> None:
        """Run a kernel.

        Args:
            name: The kernel's name.
            grid: Blocks in three dimensions.
            threads: Threads of a block.
            shared: Bytes of shared memory of a block.
            words: The kernel's one argument, a structured array of one element.
        """


def own_names(tensors: Sequence[Tensor | None]) -> frozenset[str]:
    """Return which of theta, scale, shift and weight have an axis of samples, for `Kernel.own`."""
    return frozenset(
        name
        for name, tensor, axes in zip(OWN, tensors, (4, 4, 4, 3), strict=False)
        if tensor is not None and tensor.ndim == axes
    )


class Call:
    """A layer on one batch, or all its edges if there is no weight.

    Args:
        card: The device.
        kernel: The specialisation of its kernels.
        x: (b, i).
        tensors: theta, scale, shift, weight and, for a whole layer, base_weight, bias and mask, in
            the shapes of `LayerTensors`; those that are left out are None. Where `kernel.own` names
            any, these have a leading axis of samples, and only the first four may be given.
    """

    def __init__(
        self, card: Card, kernel: Kernel, x: Tensor, tensors: Sequence[Tensor | None]
    ) -> None:
        self.card, self.kernel, self.x = card, kernel, x.detach().contiguous()
        outs, ins = (tensors[0].shape[-3] if tensors[0] is not None else 0), x.shape[1]
        self.shape = (x.shape[0], outs, ins)
        u = kernel.program.num_encodings
        self.shapes = {
            "x": tuple(x.shape), "theta": (outs, ins, kernel.program.num_theta),
            "scale": (outs, ins, u), "shift": (outs, ins, u), "weight": (outs, ins),
            "base_weight": (outs, ins), "bias": (outs,), "mask": (outs, ins),
        }  # fmt: skip
        for name in kernel.own:
            self.shapes[name] = (x.shape[0], *self.shapes[name])
        if kernel.own and any(tensor is not None for tensor in tensors[4:]):
            raise SimulatorError(
                "cupy: with parameters per sample the kernels compute the circuits only; add base "
                "activation and bias, and multiply by the mask, outside."
            )
        unread = {"scale"} if kernel.fixed_scale is not None else set()
        unread |= {"base_weight"} if kernel.base is None else set()
        self.given = {
            name: _ready(name, tensor, self.shapes[name], x)
            for name, tensor in zip(_NAMES, tensors, strict=False)
            if tensor is not None and name not in unread
        }
        self.given["x"] = self.x

    def forward(self) -> Tensor:
        """Return the output (b, o), or the values (b, o, i)."""
        batch, outs, ins = self.shape
        per_edge = "weight" not in self.given
        out = self.x.new_empty(self.shape if per_edge else self.shape[:2])
        if 0 in self.shape:
            return out.zero_()
        if self.kernel.own:
            self._per_sample_forward(out)
            return out
        if per_edge:
            chunk = max(1, math.ceil(batch / _edge_parts(self.card.processors, outs * ins)))
            grid = (math.ceil(outs * ins / EDGE_THREADS), math.ceil(batch / chunk), 1)
            self._launch("edges_forward", grid, EDGE_THREADS, 0, {"out": out}, chunk=chunk)
            return out
        sizes = self.sizes("layer_forward")
        shape = forward_shape(sizes)
        grid = (math.ceil(batch / (32 * shape.groups)), math.ceil(outs / (1 << shape.log_lanes)), 1)
        self._launch(
            "layer_forward", grid, 32 * shape.warps, forward_shared(shape, sizes.itemsize),
            {"out": out}, log_lanes=shape.log_lanes, groups=shape.groups,
        )  # fmt: skip
        return out

    def backward(self, grad: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """Return the gradients by x, theta, scale, shift, weight, base_weight, bias, or None each.

        Args:
            grad: The gradient of the output, (b, o), or of the values of edges, (b, o, i).
            needs: Which of the seven are needed.
        """
        sources = ("x", *_NAMES[:6])
        found = {
            name: self.x.new_empty(self.shapes[source])
            for name, source, need in zip(_GRADIENTS, sources, needs, strict=True)
            if need and (source in self.given or source == "scale")
        }
        if 0 in self.shape:
            for tensor in found.values():
                tensor.zero_()
        elif found:
            wanted = self.shape if "weight" not in self.given else self.shape[:2]
            self._backward(_ready("grad", grad, wanted, self.x), found)
        return tuple(found.get(name) for name in _GRADIENTS)

    def _per_sample_forward(self, out: Tensor) -> None:
        batch, outs, ins = self.shape
        log_lanes = min(5, (ins - 1).bit_length())
        blocks = math.ceil(batch * outs / (EDGE_THREADS >> log_lanes))
        self._launch(
            "per_sample_forward", (blocks, 1, 1), EDGE_THREADS, 0, {"out": out}, log_lanes=log_lanes
        )

    def _backward(self, grad: Tensor, found: dict[str, Tensor]) -> None:
        """Launch the adjoint pass, and the kernel that adds up what its blocks leave."""
        batch, outs, ins = self.shape
        kernels = "per_sample" if self.kernel.own else "layer"
        sizes = self.sizes(f"{kernels}_backward")
        if self.kernel.own:
            summed = any(f"d{name}" in found for name in OWN if name not in self.kernel.own)
            shape = per_sample_shape(sizes, summed)
            inputs, shared = (32 >> shape.log_lanes) * shape.warps, 0
            sums = (shape.chunks, self.kernel.shared_words, outs, ins)
        else:
            summed = len(found) > ("dx" in found)
            shape = backward_shape(sizes)
            inputs, shared = shape.warps, backward_shared(sizes, shape)
            sums = (shape.chunks, sizes.sums, ins, outs)
        tensors, real = {**found, "grad": grad}, self.kernel.arithmetic
        if summed and shape.chunks > 1:
            tensors["edge_sums"] = self.x.new_empty(sums, dtype=real)
        if "dx" in found:
            tensors["input_sums"] = self.x.new_empty((shape.parts, ins, batch), dtype=real)
        numbers = {"log_lanes": shape.log_lanes, "chunk": shape.chunk, "chunks": shape.chunks,
                   "parts": shape.parts}  # fmt: skip
        grid = (math.ceil(ins / inputs), shape.parts, shape.chunks)
        self._launch(f"{kernels}_backward", grid, 32 * shape.warps, shared, tensors, **numbers)
        self._finish(f"{kernels}_finish", tensors, numbers)

    def _finish(self, name: str, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """Add up what the blocks of an adjoint pass left, if anything."""
        batch, outs, ins = self.shape
        edge_blocks = math.ceil(outs * ins / FINISH_THREADS) if "edge_sums" in tensors else 0
        tiles = math.ceil(batch / 32) * math.ceil(ins / 32) if "dx" in tensors else 0
        if edge_blocks + tiles:
            shared = 32 * 33 * self.kernel.arithmetic.itemsize
            self._launch(
                name, (edge_blocks + tiles, 1, 1), FINISH_THREADS, shared, tensors,
                **numbers, edge_blocks=edge_blocks,
            )  # fmt: skip

    def sizes(self, name: str) -> Sizes:
        """The numbers that the launch shape of a kernel depends on."""
        card = self.card
        itemsize = self.kernel.arithmetic.itemsize
        resident = card.resident(name)
        return Sizes(
            *self.shape, self.kernel.words, self.kernel.sums, itemsize, card.processors, resident
        )

    def _launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        tensors: dict[str, Tensor],
        **numbers: int,
    ) -> None:
        import numpy as np

        held = {**self.given, **tensors}
        sizes = dict(zip(("batch", "outs", "ins"), self.shape, strict=True)) | numbers
        words = [held[pointer].data_ptr() if pointer in held else 0 for pointer in POINTERS]
        words += [sizes.get(size, 0) for size in SIZES]
        record = np.array(words, np.int64).view([("words", np.int64, (len(words),))])
        self.card.launch(name, grid, threads, shared, record)


def _edge_parts(processors: int, edges: int) -> int:
    """Parts of the batch that fill a card with threads of one edge each."""
    return min(1024, math.ceil(processors * 1024 / max(edges, 1)))


def _ready(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A contiguous tensor with the same numbers, in the dtype of x.

    Raises:
        SimulatorError: Another shape or device than wanted: a kernel would read beyond the end.
    """
    if tensor.shape != shape or tensor.device != like.device:
        raise SimulatorError(
            f"cupy: {name} has shape {tuple(tensor.shape)} on {tensor.device}; wanted {shape} on "
            f"{like.device}, where x is."
        )
    return tensor.detach().to(like.dtype).contiguous()
