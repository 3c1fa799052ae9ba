"""The device module of the card that `host_card` hosts, `torch.card`, and what the card forbids.

It is what torch and its users ask of an accelerator beside its tensors: devices, streams,
properties, whether a graph is captured. Work is done at once, whichever stream it is put on.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "card"
DEVICES = 2


class CardError(RuntimeError):
    """A program did what no accelerator allows."""


counts: list[str] = []
"""What the host has waited for the card by, in order."""


@contextlib.contextmanager
def waits() -> Iterator[list[str]]:
    """A list that fills with the synchronisations of the block, by the names of operations."""
    found: list[str] = []
    before = len(counts)
    yield found
    found.extend(counts[before:])


@dataclass(frozen=True)
class Properties:
    """What kernels are launched by.

    Attributes:
        name: Of the card.
        multi_processor_count: Few, so that launches have several rounds.
        total_memory: In bytes.
    """

    name: str = "a card on the host"
    multi_processor_count: int = 4
    total_memory: int = 1 << 30


class Stream:
    """A queue of work; on this card the work is done at once, by whichever queue.

    Attributes:
        cuda_stream: Its number, 0 for the one that is there from the start.
    """

    _numbers = itertools.count(1)

    def __init__(self, device: Any = None, number: int | None = None) -> None:
        self.device = torch.device(NAME, module.index_of(device))
        self.cuda_stream = next(self._numbers) if number is None else number

    def wait_stream(self, other: Stream) -> None:
        """Nothing is left to wait for."""

    def synchronize(self) -> None:
        """Count that the host waits."""
        counts.append("Stream.synchronize")


class _Module:
    """The device module, `torch.card`: what torch and its users ask of an accelerator."""

    Stream = Stream

    def __init__(self) -> None:
        self._here = threading.local()
        self.capturing = False

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        # torch's autograd takes a device guard that is written in Python for one device; the other
        # one is there for passes forward
        return 1

    def current_device(self) -> int:
        return getattr(self._here, "device", 0)

    def set_device(self, device: Any) -> None:
        self._here.device = self.index_of(device)

    def index_of(self, device: Any) -> int:
        """The number of a device, the current one where none is named."""
        if device is None:
            return self.current_device()
        index = device if isinstance(device, int) else torch.device(device).index
        index = self.current_device() if index is None else index
        if not 0 <= index < DEVICES:
            raise CardError(f"there is no {NAME}:{index}, only {DEVICES} devices")
        return index

    @contextlib.contextmanager
    def device(self, device: Any) -> Iterator[None]:
        """Make a device the current one for a while."""
        before = self.current_device()
        self.set_device(device)
        try:
            yield
        finally:
            self.set_device(before)

    def current_stream(self, device: Any = None) -> Stream:
        index = self.index_of(device)
        streams = self._here.__dict__.setdefault("streams", {})
        return streams.get(index) or Stream(index, 0)  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Make a stream the current one of its device for a while."""
        index = stream.device.index
        before = self.current_stream(index)
        self._here.__dict__.setdefault("streams", {})[index] = stream
        try:
            yield
        finally:
            self._here.streams[index] = before

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Hold everything in the block to what a graph can capture: the host must not wait."""
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False

    def synchronize(self, device: Any = None) -> None:
        counts.append("synchronize")

    def get_device_properties(self, device: Any = None) -> Properties:
        self.index_of(device)
        return Properties()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers of the card are drawn by the CPU's generator, seeded already."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


module = _Module()
