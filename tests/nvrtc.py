"""CUDA source to machine code without a card, by NVIDIA's run-time compiler from PyPI."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import re
from dataclasses import dataclass
from typing import Any

PACKAGE = "nvidia-cuda-nvrtc"


@dataclass(frozen=True)
class Resources:
    """What the assembler says a kernel needs.

    Attributes:
        registers: Of a thread.
        spills: Bytes that a thread stores because registers ran out.
    """

    registers: int
    spills: int


@functools.lru_cache(maxsize=1)
def library() -> Any:
    """The compiler.

    Raises:
        RuntimeError: Its package is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("libnvrtc.so"):
            return ctypes.CDLL(str(file.locate()))
    raise RuntimeError(f"{PACKAGE} is not installed; the CUDA kernels are compiled with it")


def compile_for(source: str, arch: str) -> dict[str, Resources]:
    """Compile to machine code of an architecture such as "sm_90"; what each kernel needs.

    Raises:
        RuntimeError: The source is wrong; the message is the compiler's.
    """
    nvrtc = library()
    program = ctypes.c_void_p()
    text = source.encode()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None) == 0
    try:
        given = [f"-arch={arch}", "-std=c++17", "--ptxas-options=-v"]
        options = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        failed = nvrtc.nvrtcCompileProgram(program, len(given), options)
        log = _text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode()
        if failed:
            raise RuntimeError(log)
        assert len(_text(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")) > 1000
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return _resources(log)


def _text(program: ctypes.c_void_p, size_of: str, get: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(library(), size_of)(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(library(), get)(program, buffer) == 0
    return buffer.raw


def _resources(log: str) -> dict[str, Resources]:
    """Read the assembler's report."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        registers = re.search(r"Used (\d+) registers", part)
        spills = re.search(r"(\d+) bytes spill stores", part)
        assert registers and spills, part
        found[part.partition("'")[0]] = Resources(int(registers[1]), int(spills[1]))
    return found
