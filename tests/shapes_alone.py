"""A layer whose tensors have shapes and no numbers: on `meta`, or under FakeTensorMode."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from card_combinations import BASES, ENCODINGS, GROUPS, Combination, product
from torch._subclasses import FakeTensorMode

import qkan
from qkan.simulators import SimulatorError

ENGINES = ("auto", "torch", "fourier", "chebyshev", "numba", "cupy", "reference")
EVERY = product(
    ENGINES, ENCODINGS, GROUPS, BASES, ("float32", "float64", "bfloat16", "autocast"), (2, 3),
    ("training", "inference"),
)  # fmt: skip
ALWAYS = ("auto", "torch", "fourier")
"""Engines whose shapes depend on no number and which run on whatever device there is."""


def assert_shapes(one: Combination, place: str) -> None:
    """Build a layer and run it, and compare shapes, dtypes and devices.

    A named engine that cannot say its result's shape may refuse, with its reason; nothing may reach
    for a number that is not there.

    Args:
        one: What is asked.
        place: "meta", or a device whose tensors are fake.
    """
    with contextlib.nullcontext() if place == "meta" else FakeTensorMode():
        _assert_shapes(one, torch.device(place))


def _assert_shapes(one: Combination, device: torch.device) -> None:
    layer = qkan.QKANLayer(
        5, 3, encoding=one.encoding, group=one.group, base=one.base, reps=2, engine=one.engine,
        device=device, dtype=one.dtype,
    )  # fmt: skip
    shape = (48, 5) if one.dimensions == 2 else (6, 8, 5)
    x = torch.empty(shape, device=device, dtype=one.dtype, requires_grad=True)
    with _context(one, device):
        try:
            out = layer(x)
        except SimulatorError as reason:
            assert one.engine not in ALWAYS, reason
            return
    assert out.shape == (*shape[:-1], 3) and out.device.type == device.type
    assert out.dtype == (one.dtype if one.number != "autocast" else out.dtype)
    if one.use == "training":
        out.float().square().sum().backward()
        for tensor in (x, *layer.parameters()):
            assert tensor.grad is not None
            assert tensor.grad.shape == tensor.shape and tensor.grad.dtype == tensor.dtype


def _context(one: Combination, device: torch.device) -> AbstractContextManager[object]:
    if one.use == "inference":
        return torch.no_grad()
    if one.number == "autocast" and torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
