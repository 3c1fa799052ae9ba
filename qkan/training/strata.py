"""Find the classes of samples, for a split by class, without loading more than needed."""

from __future__ import annotations

import warnings
from collections.abc import Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

READ = 10_000
"""The largest dataset that is read once for its classes, if it does not list them."""


def classes_of(data: tuple[Tensor, Tensor] | Dataset[Any]) -> Tensor | None:
    """Return the class (n,) of every sample, or None if the targets are not classes.

    The targets of a dataset are taken from its attribute `targets` or `labels`, as in torchvision,
    also through `Subset` and `ConcatDataset`. Any other dataset of at most `READ` samples is read
    once. A larger one is not read, and a warning is given if its first target may be a class.
    """
    y = data[1] if isinstance(data, tuple) else _listed(data)
    if y is None:
        y = _read(cast("Dataset[Any]", data))
    if y is None:
        return None
    y = y.detach().cpu()
    if y.dtype.is_floating_point and not ((y == 0) | (y == 1)).all():
        return None
    rows = y.reshape(len(y), -1)
    found, index = torch.unique(rows, dim=0, return_inverse=True)
    # targets with many different values are counts rather than classes
    return index if 1 < len(found) <= len(y) // 2 else None


def _listed(data: Dataset[Any]) -> Tensor | None:
    """The targets that a dataset lists in an attribute."""
    if isinstance(data, TensorDataset):
        return data.tensors[1]
    if isinstance(data, Subset):
        whole = _listed(data.dataset)
        return None if whole is None else whole[torch.as_tensor(data.indices)]
    if isinstance(data, ConcatDataset):
        parts = [_listed(part) for part in data.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    for name in ("targets", "labels"):
        found = _tensor(getattr(data, name, None))
        if found is not None and found.ndim and len(found) == len(cast("Sized", data)):
            return found
    return None


def _read(data: Dataset[Any]) -> Tensor | None:
    """The targets of a dataset, read sample by sample, if they are few and may be classes."""
    samples = len(cast("Sized", data))
    # a transform may draw random numbers, and the caller's random state must not change
    with torch.random.fork_rng(devices=[]):
        sample = data[0]
        if not (isinstance(sample, tuple | list) and len(sample) == 2):
            return None  # the code that reads the data later reports what is wrong with it
        first = _tensor(sample[1])
        if first is None or (
            first.dtype.is_floating_point and not bool(((first * first) == first).all())
        ):
            return None
        if samples > READ:
            warnings.warn(
                f"The {samples} samples to hold some out from are cut at random: they may be of "
                "classes, which the dataset does not list. Give it an attribute targets, or pass "
                "validation=(x, y) or another dataset.",
                UserWarning,
                stacklevel=6,
            )
            return None
        found = [_tensor(data[index][1]) for index in range(samples)]
    whole = [target for target in found if target is not None and target.shape == first.shape]
    return torch.stack(whole) if len(whole) == samples else None


def _tensor(values: Any) -> Tensor | None:
    """Return values as a tensor, if they are numbers."""
    try:
        return None if values is None else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
