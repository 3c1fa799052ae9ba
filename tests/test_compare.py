"""The comparison helper must itself reject wrong answers."""

import pytest
import torch
from compare import assert_as_exact_as, assert_close


def test_accepts_equal_answers() -> None:
    assert_close(torch.ones(3) + 1e-12, torch.ones(3).double(), "x")


@pytest.mark.parametrize(
    "wrong",
    [torch.tensor([1.0, 2.1]), torch.tensor([1.0, float("nan")]), torch.tensor([[1.0, 2.0]])],
    ids=["value", "nan", "shape"],
)
def test_rejects_wrong_answers(wrong: torch.Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_close(wrong, torch.tensor([1.0, 2.0]), "x")


def test_rejects_missing_nan() -> None:
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([0.0]), torch.tensor([float("nan")]), "x")


def test_two_times_rule_rejects_three_times() -> None:
    exact = torch.zeros(1, dtype=torch.float64)
    assert_as_exact_as(torch.tensor([2e-7]), torch.tensor([1e-7]), exact, 1e-9, "x")
    with pytest.raises(AssertionError):
        assert_as_exact_as(torch.tensor([3e-7]), torch.tensor([1e-7]), exact, 1e-9, "x")
