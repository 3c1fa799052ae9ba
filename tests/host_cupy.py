"""A stand-in for the module `cupy` on the card of `host_card`: what `cupy_engine` uses of it.

`RawModule` compiles the CUDA sources that it is given with the host's compiler, and a launch runs
them over grid and blocks on what is inside the card's tensors. It refuses what CuPy would get wrong
without a word: an address that is not the card's, memory that was freed, a launch on another device
or another stream than torch's current one.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import host_card
import torch
from card_module import NAME, CardError, module
from cuda_host import compiled, run_blocks
from host_card import address_of
from numpy.typing import NDArray

from qkan.simulators import get_engine
from qkan.simulators.cuda.source import DEVICE, KERNELS, PER_SAMPLE_KERNELS, POINTERS

REGISTERS = 128
"""Registers of a thread that every kernel is said to take: 16 warps a multiprocessor."""


@dataclass(frozen=True)
class Launch:
    """A launch that was made.

    Attributes:
        kernel: Its name.
        device: The number of the device it ran on.
        stream: The number of the stream it was put on.
        grid: Blocks.
        threads: Of a block.
    """

    kernel: str
    device: int
    stream: int
    grid: tuple[int, int, int]
    threads: int


launches: list[Launch] = []
_streams: list[int] = []


@contextlib.contextmanager
def _external_stream(stream: int) -> Iterator[None]:
    _streams.append(stream)
    try:
        yield
    finally:
        _streams.pop()


class _Function:
    """A kernel of a module."""

    num_regs = REGISTERS

    def __init__(self, library: Any, name: str) -> None:
        self.library, self.name = library, name

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int],
        arguments: tuple[NDArray[Any]],
        *,
        shared_mem: int = 0,
    ) -> None:
        (words,) = arguments
        device = module.current_device()
        stream = module.current_stream().cuda_stream
        if not _streams or _streams[-1] != stream:
            raise CardError(f"{self.name} was launched beside torch's current stream {stream}")
        inside = words.copy()
        numbers = inside["words"].reshape(-1)
        for n in range(len(POINTERS)):
            numbers[n] = numbers[n] and address_of(int(numbers[n]), device)
        launches.append(Launch(self.name, device, stream, grid, block[0]))
        run_blocks(self.library, self.name, grid, block[0], shared_mem, inside)


class RawModule:
    """CUDA source, compiled for the host.

    Args:
        code: The source.
        options: For a CUDA compiler.
    """

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert DEVICE in code and options == ("-std=c++17",)
        self.library = compiled(code.replace(DEVICE, ""))

    def get_function(self, name: str) -> _Function:
        """A kernel by name."""
        assert name in (*KERNELS, *PER_SAMPLE_KERNELS)
        return _Function(self.library, name)


def reachable(device: torch.device) -> str | None:
    """What the engine asks of a device here: whether it is the hosted card."""
    return None if device.type == NAME else f"the tensors are on {device}, not on a card"


@contextlib.contextmanager
def launched() -> Iterator[list[Launch]]:
    """A list that holds, after the block, what was launched in it."""
    found: list[Launch] = []
    before = len(launches)
    yield found
    found.extend(launches[before:])


def install() -> Callable[[torch.device], str | None]:
    """Host the card, put the stand-in where `import cupy` finds it, and let the engine reach it."""
    host_card.install()
    cupy: Any = types.ModuleType("cupy")
    cupy.RawModule = RawModule
    cupy.cuda = types.SimpleNamespace(ExternalStream=_external_stream)
    sys.modules["cupy"] = cupy
    engine: Any = get_engine("cupy")
    engine.unreachable = reachable
    return reachable
