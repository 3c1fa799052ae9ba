"""Kernels compiled by a second process: the same function, and none where it cannot be started."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import qkan
from qkan.simulators.cpu import ahead, jit
from qkan.simulators.cpu.ahead import NEXT, Ahead
from qkan.simulators.cpu.following import types_of

FIRST, SECOND = "small._forward_edges", "small._backward_edges"
OF_SECOND = types_of(SECOND, "float32")

STEP = """
import torch, qkan
torch.manual_seed(0)
layer = qkan.QKANLayer(4, 4)
x = torch.rand(3, 4, requires_grad=True)
layer(x).square().sum().backward()
for tensor in (x.grad, *(p.grad for p in layer.parameters())):
    print(tensor.double().reshape(-1).tolist())
from qkan.simulators.cpu import small
print(sum(small._backward_edges.stats.cache_hits.values()))
"""


def kernel_of(name: str) -> Any:
    module, function = name.split(".")
    return getattr(import_module(f"qkan.simulators.cpu.{module}"), function)


def called_with(name: str) -> Any:
    return kernel_of(name).signatures[0]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    qkan.warm_up(["float32"])


def begun(second: Ahead) -> dict[tuple[str, str], Any]:
    second.begin(FIRST, called_with(FIRST))
    return second._begun


@pytest.mark.parametrize("name", sorted(set(NEXT.values())))
def test_the_types_are_those_of_calls(name: str) -> None:
    assert types_of(name, "float32") in kernel_of(name).signatures
    assert types_of(name, "float64") != types_of(name, "float32")


@pytest.mark.parametrize("name", NEXT)
def test_the_dtype_is_read_from_the_kernel_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []
    monkeypatch.setattr(ahead, "_start", lambda *order: started.append(order))
    second = Ahead()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(second, "_is_able", lambda: True)
        second.begin(name, called_with(name))
    assert started == [(NEXT[name], "float32")]


def test_a_second_process_compiles_what_comes_next() -> None:
    second = Ahead()
    assert [*begun(second)] == [(SECOND, "float32")]
    process = second.process(SECOND, OF_SECOND)
    assert process is not None and process.wait() == 0
    assert second.process(SECOND, types_of(SECOND, "float64")) is None
    assert second.process(FIRST, OF_SECOND) is None
    # there is one for each kernel, whether it succeeded or not
    assert begun(second)[SECOND, "float32"] is process


def test_it_ends_with_this_process() -> None:
    second = Ahead()
    begun(second)
    second.end()
    assert second._begun[SECOND, "float32"].returncode is not None


class Daemon:
    daemon = True


@pytest.mark.parametrize(
    ("where", "what", "value"),
    [
        (sys, "executable", ""),
        (sys, "executable", os.devnull),
        (sys, "executable", "/no/such/python"),
        (sys, "frozen", True),
        (ahead, "_processors", lambda: 1),
        (multiprocessing, "current_process", Daemon),
    ],
    ids=["no name", "no program", "no file", "frozen", "one processor", "daemon"],
)
def test_nothing_is_begun(
    where: Any, what: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, value, raising=False)
    second = Ahead()
    assert begun(second) == {}
    assert second.process(SECOND, OF_SECOND) is None


def test_a_second_process_that_fails_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_START", "import sys; sys.exit(3)")
    second = Ahead()
    begun(second)
    monkeypatch.setattr(jit, "AHEAD", second)
    kernel = kernel_of(SECOND)
    # what is not in the folder is None, which tells numba to compile it here
    assert kernel._cache.load_overload(OF_SECOND[:-1], kernel.targetctx) is None
    assert second._begun[SECOND, "float32"].wait() == 3


@pytest.mark.parametrize("kept", [True, False])
def test_it_is_asked_only_where_kernels_are_kept(
    kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    class Asked(Ahead):
        def begin(self, kernel: str, types: Any) -> None:
            asked.append(kernel)

    def nothing(value: Any) -> Any:
        return value

    monkeypatch.setattr(jit, "AHEAD", Asked())
    monkeypatch.setattr(jit, "KERNELS", [])
    kernel = jit.kernel(nothing)
    kernel._cache._cache_file._cache_path = str(tmp_path)
    if not kept:
        kernel._cache.disable()
    assert kernel(3) == 3
    assert asked == (["test_ahead.nothing"] if kept else [])


@pytest.mark.full
def test_both_ways_give_the_same_bits(tmp_path: Path) -> None:
    found = []
    for processors in (2, 1):
        code = f"from qkan.simulators.cpu import ahead\nahead._processors = lambda: {processors}\n"
        folder = tmp_path / str(processors)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code + STEP], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(folder), "QKAN_PROGRESS": "0"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found.append(done.stdout.splitlines())
    assert found[0][:-1] == found[1][:-1]
    # the second process compiled it the first time, and nobody else the second time
    assert (found[0][-1], found[1][-1]) == ("1", "0")
