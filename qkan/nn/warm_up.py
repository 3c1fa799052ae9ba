"""`warm_up`: compile every CPU kernel before the first step needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.simulators.cpu.compiled import DTYPES, INSTALLED
from qkan.simulators.cpu.notice import hushed

from .activation import DARUAN
from .functional import qkan_layer
from .layer import QKANLayer
from .recurrent import QKANLSTM

_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


class WarmUp(NamedTuple):
    """The result of `warm_up`.

    Attributes:
        seconds: Time that it took; well below a second for each dtype if all kernels were compiled
            already.
        folder: The folder that keeps the compiled kernels for other processes. None if no folder
            can be written to; the kernels then serve this process only.
        kernels: The number of compiled kernels, counted for each dtype.
    """

    seconds: float
    folder: Path | None
    kernels: int


def warm_up(dtypes: Sequence[str | torch.dtype] = ("float32", "float64")) -> WarmUp:
    """Compile every kernel that layers, DARUAN, recurrent modules and products use on a CPU.

    Without this call, kernels are compiled when they are first needed; either way they are kept on
    disk for all later processes. A container image in which this has run needs no compilation at
    its first step. The folder is that of the environment variable NUMBA_CACHE_DIR, or `__pycache__`
    beside the package's files, or the user's cache folder. When the image runs, the folder must be
    the same and the processor of the same kind.

    Args:
        dtypes: Names or dtypes of the numbers, among float32 and float64.

    Returns:
        The seconds, the folder and the number of kernels.

    Raises:
        QKANError: A dtype is another one, or numba is missing.
    """
    chosen = [_dtype(given) for given in dtypes]
    if not INSTALLED:
        raise QKANError("warm_up compiles kernels with numba, which is missing: pip install numba.")
    begun = time.perf_counter()
    from qkan.simulators.cpu import jit

    with hushed():
        for dtype in chosen:
            for model, x in _uses(dtype):
                model(x).square().sum().backward()
    kernels = sum(len(kernel.signatures) for kernel in jit.KERNELS)
    return WarmUp(time.perf_counter() - begun, jit.cache_folder(), kernels)


def _dtype(given: str | torch.dtype) -> torch.dtype:
    found = _NAMES.get(given) if isinstance(given, str) else given
    if found not in DTYPES:
        raise QKANError(f"warm_up takes the dtypes {', '.join(_NAMES)}, not {given!r}.")
    return found


class _EachSample(nn.Module):
    """A layer in which every sample has its own parameters."""

    def __init__(self, layer: QKANLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        theta = layer.theta.expand(len(x), *layer.theta.shape)
        return qkan_layer(
            x, theta, layer.scale, layer.shift, layer.weight, program=layer.circuit.program,
            base=None, engine="numba",
        )  # fmt: skip


def _uses(dtype: torch.dtype) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """Yield functions and inputs that together need every kernel, forward and backward."""
    sizes = {
        "a small layer of few samples": (3, 4, 4, "numba", "trainable"),
        "a small layer of many samples": (50, 2, 5, "numba", "trainable"),
        "a large layer of few samples": (2, 128, 128, "numba", "trainable"),
        "a large layer of many samples": (64, 16, 16, "numba", "trainable"),
        "chebyshev": (256, 32, 32, "chebyshev", "trainable"),
        "fourier": (256, 32, 32, "fourier", "linear"),
    }
    generator = torch.Generator().manual_seed(0)
    for batch, inputs, outputs, engine, encoding in sizes.values():
        layer = QKANLayer(
            inputs, outputs, encoding=encoding, engine=engine, dtype=dtype, generator=generator
        )
        x = torch.rand(batch, inputs, dtype=dtype, generator=generator)
        yield layer, x.requires_grad_()
    layer = QKANLayer(3, 4, dtype=dtype, generator=generator)
    x = torch.rand(5, 3, dtype=dtype, generator=generator)
    yield _EachSample(layer), x.requires_grad_()
    activation = DARUAN(None, amplitude=1.0, dtype=dtype, generator=generator)
    yield activation, torch.rand(64, 64, dtype=dtype, generator=generator).requires_grad_()
    recurrent = QKANLSTM(3, 4, dtype=dtype, generator=generator)
    x = torch.rand(2, 3, 3, dtype=dtype, generator=generator)
    yield lambda x: recurrent(x)[0], x.requires_grad_()
