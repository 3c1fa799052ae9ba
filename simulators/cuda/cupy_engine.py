"""The `cupy` engine: fused CUDA kernels, compiled at run time for each circuit.

CuPy compiles the text that `source` makes from the package's CUDA files and the Program, and
launches the kernels on torch's current stream and the tensors' device. Tensors are passed as
addresses: nothing is copied, and torch's allocator owns all memory, so that a CUDA graph can
capture a call.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qkan.circuits import require
from qkan.simulators.base import add_base_, backward_beside
from qkan.simulators.call import NOISE_REFUSED, Gradients, LayerCall, Request
from qkan.simulators.engine import Engine

from .calls import Call, Card, own_names
from .plan import fits, resident_warps
from .source import NUMBERS, Kernel, most_sums, source

_INSTALLED = importlib.util.find_spec("cupy") is not None


class CupyEngine(Engine):
    """The forward and the adjoint pass on a CUDA card; nothing of size b·o·i is stored.

    A layer with base activation and bias takes one launch forward and two backward. Gradients of
    parameters are sums of blocks in a fixed order, so that two runs agree to the bit. bfloat16 and
    float16 are converted when they are read and written, and computed in float32.

    Args:
        unreachable: A function that returns why kernels cannot run on tensors of a device, or None
            if they can. Nothing else in the engine depends on the kind of device, so that tests can
            replace it.
    """

    name = "cupy"
    computes_half = True

    def __init__(self, unreachable: Callable[[torch.device], str | None] | None = None) -> None:
        self.unreachable = no_nvidia_gpu if unreachable is None else unreachable

    def refuse(self, request: Request) -> str | None:
        """Refuse noise, other devices and dtypes, a missing CuPy, and very long circuits."""
        if request.noise:
            return NOISE_REFUSED
        return self.unreachable(request.device) or refuse_kernel(request)

    def cost(self, request: Request) -> float:
        """Return the time of the launches, and of each data rotation on each edge and sample.

        It is counted, not measured: about 80 instructions for each data rotation, forward and
        backward, on a card with 15·10¹² instructions a second.
        """
        data = sum(r.encoding is not None for r in request.program.rotations)
        wide = 2.0 if request.dtype == torch.float64 else 1.0
        return 60e-6 + 6e-12 * wide * request.batch * request.edges * max(data, 1)

    def forward(self, call: LayerCall) -> tuple[Tensor, None]:
        """Compute the output of a layer in one launch, or the values of all edges."""
        if not call.request.batched_theta:
            return self._launches(call, call.tensors).forward(), None
        out, bias = self._launches(call, call.circuits).forward(), call.tensors.bias
        return add_base_(out if bias is None else out.add_(bias), call), None

    def backward(self, call: LayerCall, grad: Tensor, state: Any) -> Gradients:
        """Compute the gradients of a layer in two launches, which compute the states again."""
        if not call.request.batched_theta:
            return (*self._launches(call, call.tensors).backward(grad, call.needs[:7]), None)
        needs = (*call.needs[:5], False, False)
        circuits = self._launches(call, call.circuits).backward(grad, needs)[:5]
        return backward_beside(call, grad, circuits)

    def _launches(self, call: LayerCall, tensors: Sequence[Tensor | None]) -> Call:
        """The kernels of a call: of the layer with all its tensors, or of its circuits only."""
        request, x = call.request, call.tensors.x
        with_base = len(tensors) > 5 and call.tensors.base_weight is not None
        own = own_names(tensors[1:]) if request.batched_theta else frozenset()
        base = request.base if with_base else None
        kernel = Kernel(request.program, x.dtype, request.fixed_scale, base, own)
        return Call(self.card(kernel, x.device), kernel, x, tensors[1:])

    def card(self, kernel: Kernel, device: torch.device) -> Card:
        """Return the compiled kernels on a device."""
        return _CupyCard(kernel, device)


def no_nvidia_gpu(device: torch.device) -> str | None:
    """Return why CuPy's kernels cannot run on tensors of a device, or None if they can."""
    if device.type != "cuda":
        return (
            f"it runs on NVIDIA GPUs, and the tensors are on {device}{_missing()}; "
            'move the model and its inputs with .to("cuda")'
        )
    if torch.version.cuda is None:
        return "it runs on NVIDIA GPUs, but this torch is built for another kind"
    return None if _INSTALLED else f"CuPy is not installed: {_install()}"


def refuse_kernel(request: Request) -> str | None:
    """Return why no kernel can be made for a request, or None."""
    if request.dtype not in NUMBERS:
        return f"it computes in float32, float64, bfloat16 and float16, not {request.dtype}"
    if not fits(most_sums(request.program), 8 if request.dtype == torch.float64 else 4):
        rotations = len(request.program.rotations)
        return (
            f"the sums of the {rotations} rotations of this circuit do not fit into shared memory"
        )
    return None


def _install() -> str:
    """The command that installs CuPy for this torch."""
    old = (torch.version.cuda or "").startswith("12.")
    return f'pip install "qkan-hybrid[{"cuda12" if old else "cuda"}]"'


def _missing() -> str:
    """What else this machine lacks, without a call of the CUDA driver."""
    lacks = ["a torch built with CUDA"] if torch.version.cuda is None else []
    lacks += [] if _INSTALLED else [f"CuPy, {_install()}"]
    return f" (it also needs {' and '.join(lacks)})" if lacks else ""


class _CupyCard(Card):
    """A device with kernels that CuPy compiled for it."""

    def __init__(self, kernel: Kernel, device: torch.device) -> None:
        self.kernel, self.device = kernel, device
        self.processors = _processors(device)

    def resident(self, name: str) -> int:
        """Warps of a kernel that a multiprocessor holds at once, by the kernel's registers."""
        return _resident(self.kernel, name, self.device)

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, shared: int, words: Any
    ) -> None:
        """Run a kernel on torch's current stream."""
        import cupy

        place: Any = torch.get_device_module(self.device)
        with place.device(self.device):
            run = _functions(self.kernel)[name]
            stream = place.current_stream(self.device).cuda_stream
            with cupy.cuda.ExternalStream(stream):
                run(grid, (threads,), (words,), shared_mem=shared)


@functools.lru_cache(maxsize=256)
def _functions(kernel: Kernel) -> dict[str, Any]:
    """The kernels by name; CuPy keeps compiled ones on disk for each kind of card."""
    cupy = require("cupy", "cuda")
    module = cupy.RawModule(code=source(kernel), options=("-std=c++17",))
    return {name: module.get_function(name) for name in kernel.names}


@functools.lru_cache(maxsize=64)
def _processors(device: torch.device) -> int:
    place: Any = torch.get_device_module(device)
    return int(place.get_device_properties(device).multi_processor_count)


@functools.lru_cache(maxsize=1024)
def _resident(kernel: Kernel, name: str, device: torch.device) -> int:
    place: Any = torch.get_device_module(device)
    with place.device(device):
        return resident_warps(_functions(kernel)[name].num_regs)
