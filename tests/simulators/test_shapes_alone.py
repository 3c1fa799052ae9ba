"""Layers on `meta` and under `FakeTensorMode`: they are built and run, and no number is asked for.

What is fake on an accelerator runs in `tests/card/test_fake.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from card_combinations import Combination, selection
from shapes_alone import EVERY, assert_shapes
from torch import nn
from torch._subclasses import FakeTensorMode

import qkan

PLACES = ("meta", "cpu")
MODELS: dict[str, Callable[..., nn.Module]] = {
    "HQKAN": lambda **at: qkan.HQKAN(5, latent=4, **at),
    "HQKAN, trainable": lambda **at: qkan.HQKAN(5, latent=4, encoding="trainable", **at),
    "QKAN": lambda **at: qkan.QKAN([5, 4, 5], **at),
    "QKANLayer, gelu": lambda **at: qkan.QKANLayer(5, 5, start="gelu", **at),
    "QKANLayer, amplitude": lambda **at: qkan.QKANLayer(5, 5, readout="amplitude", **at),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "combination" in metafunc.fixturenames:
        chosen = selection(EVERY, metafunc.config.getoption("--full"))
        metafunc.parametrize("combination", chosen, ids=str)


@pytest.mark.parametrize("place", PLACES, ids=["meta", "fake cpu"])
def test_a_layer_without_numbers(combination: Combination, place: str) -> None:
    assert_shapes(combination, place)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_on_meta(name: str) -> None:
    model = MODELS[name](device="meta")
    out = model(torch.empty(7, 5, device="meta"))
    assert out.shape == (7, 5) and out.is_meta
    out.sum().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_fake_tensors(name: str) -> None:
    with FakeTensorMode():
        model = MODELS[name]()
        out = model(torch.empty(7, 5))
        assert out.shape == (7, 5)
        out.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_becomes_fake(name: str) -> None:
    """What exporters and planners of memory do with a model that is there."""
    model = MODELS[name]()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        out = model(mode.from_tensor(torch.ones(7, 5)))
    assert out.shape == (7, 5)
