"""Work that compiled kernels share among threads: it is all done, once, and a failure is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch

from qkan.simulators.cpu import threads as _threads
from qkan.simulators.cpu.jit import bind, next_index


@numba.njit
def _count(out: Any, step: int, counter: Any) -> None:
    unit = next_index(counter)
    while unit < out.size:
        # a slice counts a reference to the array it is of
        out[unit : unit + 1] += step
        unit = next_index(counter)


@numba.njit
def _count_task(room: Any, *args: Any) -> Any:
    return bind(_count, room, args)


@numba.njit
def _fail(counter: Any) -> None:
    if next_index(counter) == 3:
        raise MemoryError


@numba.njit
def _fail_task(room: Any, *args: Any) -> Any:
    return bind(_fail, room, args)


def _counting(out: np.ndarray, step: int) -> _threads.Task:
    return _threads.Task(_count_task, out, step, np.zeros(1, np.int64))


def _by_pool(task: _threads.Task, threads: int) -> None:
    _threads._run_in_pool(task, threads)
    task.check()


RUNS = {"the usual way": _threads.run, "a pool of plain threads": _by_pool}


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_every_unit_is_done_once(run: Callable[..., None], threads: int) -> None:
    torch.ones(300, 300) @ torch.ones(300, 300)
    for size in (0, 1, 1000):
        first, second = np.zeros(size, np.int64), np.zeros(size, np.int64)
        run(_counting(first, 3).then(_counting(second, 5)), threads)
        assert (first == 3).all() and (second == 5).all()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_kernel_that_fails_is_an_error(run: Callable[..., None]) -> None:
    for after in (False, True):
        counter = np.zeros(1, np.int64)
        counter[0] = 3
        task = _threads.Task(_fail_task, counter)
        if after:
            task = _counting(np.zeros(5, np.int64), 1).then(task)
        with pytest.raises(MemoryError, match="no memory for its scratch"):
            run(task, 2)


def test_bound_arguments_are_kept_alive() -> None:
    out = np.zeros(100, np.int64)
    tasks = [_counting(out, 1) for _ in range(50)]
    # whatever is freed meanwhile is used again
    rubbish = [np.full(size, -1) for size in range(1, 600)]
    for task in tasks:
        _threads.run(task, 2)
    assert (out == 50).all() and len(rubbish) == 599
