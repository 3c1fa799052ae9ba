"""Fake tensors on an accelerator: an engine has their shapes and asks for no number."""

from __future__ import annotations

import pytest
from card_combinations import Combination, selection
from shapes_alone import EVERY, assert_shapes


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "combination" in metafunc.fixturenames:
        chosen = selection(EVERY, metafunc.config.getoption("--full"))
        metafunc.parametrize("combination", chosen, ids=str)


def test_a_layer_of_fake_tensors(combination: Combination) -> None:
    assert_shapes(combination, "card")
