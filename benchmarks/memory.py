"""Peak resident memory of a train step, measured by the kernel in the process that runs it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workers.subject import Subject

METHOD = (
    "VmHWM of /proc/self/status, reset through /proc/self/clear_refs, over three train steps; "
    "above VmRSS after warm-up steps on a quarter of the batch with its results freed and the "
    "heap trimmed; parameters and x are below that line, and y and all gradients are subtracted"
)
WARM_STEPS, STEPS = 2, 3


def train_step_memory(
    step: Callable[[Tensor], Tensor],
    subject: Subject,
    x: Tensor,
    batches: list[int],
    limit: float,
) -> dict[str, Any]:
    """Bytes that a train step needs above parameters, input, output and their gradients.

    Rising batches are measured until the next one is expected to need more than `limit` bytes:
    then the last two are extended to it in a straight line, and nothing is run.

    Args:
        step: Runs forward and backward on x (b, i).
        subject: The layer.
        x: The largest batch (b, i).
        batches: Rising sizes; the last is the one asked for.
        limit: Bytes.
    """
    measured: list[dict[str, float]] = []
    for batch in batches:
        expected = extended(measured, batch)
        if expected > limit:
            return {"points": measured, "expected": expected, "limit": limit, "method": METHOD}
        measured.append({"batch": batch, **_one(step, subject, x[:batch])})
    return {"points": measured, "above": measured[-1]["above"], "method": METHOD}


def extended(measured: list[dict[str, float]], batch: int) -> float:
    """Bytes expected at a batch from the last two points; 0 when there are fewer."""
    if len(measured) < 2:
        return 0.0
    first, second = measured[-2:]
    slope = (second["above"] - first["above"]) / (second["batch"] - first["batch"])
    return second["above"] + max(slope, 0.0) * (batch - second["batch"])


def _one(step: Callable[[Tensor], Tensor], subject: Subject, x: Tensor) -> dict[str, float]:
    subject.train(True)
    for _ in range(WARM_STEPS):
        step(x[: max(1, len(x) // 4)].detach().requires_grad_())
    x = x.detach().requires_grad_()
    _release(subject)
    baseline = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(STEPS):
        x.grad = None
        for parameter in subject.parameters:
            parameter.grad = None
        step(x)
    peak = _status("VmHWM")
    gradients = [p.grad for p in (*subject.parameters, x) if p.grad is not None]
    with torch.no_grad():
        results = _bytes(gradients) + len(x) * subject.call(x[:1]).nbytes
    del gradients
    _release(subject)
    return {
        "baseline": baseline,
        "peak": peak,
        "results": results,
        "above": peak - baseline - results,
        "kept": _status("VmRSS") - baseline,
    }


def _release(subject: Subject) -> None:
    for parameter in subject.parameters:
        parameter.grad = None
    gc.collect()
    # without it glibc keeps freed blocks and the next step would seem to need none
    ctypes.CDLL(None).malloc_trim(0)


def _bytes(values: list[Tensor]) -> int:
    return sum(value.nbytes for value in values)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}: peak memory is measured on Linux only")
