"""The `cupy` engine with its kernels compiled for the host: everything but CuPy and the card.

`g++` compiles the shipped CUDA sources with `cuda_host.h`, which runs a block's threads as fibers;
the engine, its launch shapes and its bridge to autograd are the real ones, on CPU tensors.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from qkan.simulators.cuda.calls import Card
from qkan.simulators.cuda.cupy_engine import CupyEngine
from qkan.simulators.cuda.source import KERNELS, PER_SAMPLE_KERNELS, Kernel, source

SHIM = Path(__file__).parent / "cuda_host.h"
OPTIONS = (
    "-std=c++17", "-O1", "-march=native", "-shared", "-fPIC", "-Wall", "-Werror",
    "-Wno-unused-function",
)  # fmt: skip
ERRORS = {
    1: "threads wait for each other for ever", 2: "too much shared memory",
    3: "shared memory written beyond its end", 4: "too many threads",
}  # fmt: skip


@functools.lru_cache(maxsize=1)
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="qkan-cuda-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def compiler() -> str:
    """The path of g++.

    Raises:
        RuntimeError: There is none; the kernels' arithmetic would go untested.
    """
    found = shutil.which("g++")
    if found is None:
        raise RuntimeError("g++ is not on the PATH: install it, the CUDA kernels are tested by it")
    return found


def _unit(code: str) -> str:
    """The kernels in a namespace, and for each a function that runs it."""
    runs = "\n".join(
        f'extern "C" int run_{name}(const unsigned* grid, unsigned threads, unsigned bytes,'
        " int backwards, const void* arguments) { return host::run(grid, threads, bytes,"
        f" backwards, [](const void* a) {{ k::{name}(*(const k::Arguments*)a); }}, arguments); }}"
        for name in (*KERNELS, *PER_SAMPLE_KERNELS)
        if f"QKAN_KERNEL({name})" in code
    )
    return f'#include "{SHIM}"\nnamespace k {{\n{code}\n}}\n{runs}\n'


def library(kernel: Kernel) -> Any:
    """The kernels as a shared library with a function for each kernel."""
    return compiled(source(kernel, words=""))


@functools.lru_cache(maxsize=256)
def compiled(code: str) -> Any:
    """The same of the kernels' source without the words of a CUDA compiler."""
    text = _unit(code)
    file = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.cpp"
    file.write_text(text, encoding="utf-8")
    built = str(file.with_suffix(".so"))
    done = subprocess.run(
        [compiler(), *OPTIONS, str(file), "-o", built], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(built)


def run_blocks(
    library: Any,
    name: str,
    grid: tuple[int, int, int],
    threads: int,
    shared: int,
    words: Any,
    backwards: bool = False,
) -> None:
    """Run a kernel over all its blocks, or against their order; an error of a block is raised."""
    where = ctypes.c_void_p(words.__array_interface__["data"][0])
    run = getattr(library, f"run_{name}")
    code = run((ctypes.c_uint * 3)(*grid), threads, shared, int(backwards), where)
    assert code == 0, f"{name}, grid {grid}, {threads} threads: {ERRORS[code]}"


class HostCard(Card):
    """A CPU that runs the kernels, one thread after the other.

    Args:
        kernel: Which.
        processors: Of the card that launch shapes are made for.
        backwards: Whether threads and blocks run against their order.
    """

    def __init__(self, kernel: Kernel, processors: int = 4, backwards: bool = False) -> None:
        self.library, self.processors, self.backwards = library(kernel), processors, backwards
        self.launches: list[str] = []

    def resident(self, name: str) -> int:
        return 16

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, shared: int, words: Any
    ) -> None:
        self.launches.append(name)
        run_blocks(self.library, name, grid, threads, shared, words, self.backwards)


class HostEngine(CupyEngine):
    """The engine on CPU tensors; `launches` names the kernels it has run."""

    def __init__(self, processors: int = 4, backwards: bool = False) -> None:
        super().__init__(unreachable=lambda device: None)
        self.options = (processors, backwards)
        self.launches: list[str] = []

    def card(self, kernel: Kernel, device: torch.device) -> Card:
        card = HostCard(kernel, *self.options)
        card.launches = self.launches
        return card


def launches_of(engine: HostEngine) -> Sequence[str]:
    """The kernels run since the last time this was asked."""
    found = tuple(engine.launches)
    engine.launches.clear()
    return found
