"""After `warm_up` nothing is compiled any more."""

from __future__ import annotations

import pytest
import torch

import qkan
from qkan.errors import QKANError


def test_nothing_is_compiled_after_it() -> None:
    done = qkan.warm_up(["float32"])
    from qkan.simulators.cpu import jit, waves

    # a kernel of integers has one form, and every other one has a form for float32
    assert all(kernel.signatures for kernel in jit.KERNELS)
    assert waves.waves_task in jit.KERNELS
    before = [len(kernel.signatures) for kernel in jit.KERNELS]
    assert done.kernels == sum(before)
    models = {
        "layer": (qkan.QKANLayer(7, 5), (30, 7)),
        "network": (qkan.QKAN([2, 5, 1]), (100, 2)),
        "linear": (qkan.QKANLayer(40, 30, encoding="linear"), (300, 40)),
        "wide": (qkan.QKANLayer(64, 64), (512, 64)),
        "group": (qkan.QKANLayer(8, 8, group=2), (40, 8)),
        "arccos": (qkan.QKANLayer(6, 6, ansatz="px"), (200, 6)),
        "hybrid": (qkan.HQKAN(16, 16), (32, 16)),
        "activation": (qkan.DARUAN(None), (9, 11)),
        "a sequence": (qkan.QKANGRU(3, 70, bias=False), (4, 5, 3)),
        "a step": (qkan.QKANLSTMCell(3, 5), (5, 3)),
    }
    for name, (model, shape) in models.items():
        found = model(torch.rand(shape, requires_grad=True))
        (found if isinstance(found, torch.Tensor) else found[0]).square().sum().backward()
        assert [len(kernel.signatures) for kernel in jit.KERNELS] == before, name


def test_another_dtype_is_refused_by_name() -> None:
    with pytest.raises(QKANError, match="float32, float64, not 'float16'"):
        qkan.warm_up(["float16"])
