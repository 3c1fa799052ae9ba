"""Where `tables.py` and `defaults.py` take scikit-learn's tables from, and how they split them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import KFold, StratifiedKFold

Arrays = tuple[np.ndarray, np.ndarray]
"""Samples (n, features) and their targets."""

NOISE = 1.0
"""The standard deviation of the noise on the targets of friedman1."""


def packaged(name: str) -> Callable[[], Arrays]:
    """What loads a table that comes with scikit-learn."""
    return partial(getattr(datasets, f"load_{name}"), return_X_y=True)


def friedman1(samples: int) -> Callable[[], Arrays]:
    """What draws the same samples of friedman1 at each call."""
    return partial(datasets.make_friedman1, samples, noise=NOISE, random_state=0)


def splitter(classes: bool, folds: int, seed: int) -> Any:
    """What splits a table into shuffled folds, stratified by class where there are classes."""
    return (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=seed)
