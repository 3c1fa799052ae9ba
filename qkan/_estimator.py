"""What scikit-learn's two estimators share: scaling, training, and the way back to data units."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from qkan.circuits import Circuit

from .errors import QKANError
from .fit import fit
from .formula import Formula
from .network import QKAN
from .plot import plot
from .symbolic import symbolic
from .table_model import TableModel

Array = np.ndarray
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]
    """A `QKAN` behind scikit-learn's interface; see `QKANRegressor` for the parameters."""

    def __init__(
        self,
        hidden: Sequence[int] = (5,),
        *,
        ansatz: str | Circuit = "pz",
        reps: int = 3,
        encoding: str | Sequence[float] = "trainable",
        group: int | None = None,
        base: str | None = "silu",
        engine: str = "auto",
        optimizer: str = "lbfgs",
        lr: float | None = None,
        steps: int = 20,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: int | np.random.RandomState | None = None,
        dtype: str = "float64",
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.ansatz = ansatz
        self.reps = reps
        self.encoding = encoding
        self.group = group
        self.base = base
        self.engine = engine
        self.optimizer = optimizer
        self.lr = lr
        self.steps = steps
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.dtype = dtype
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network on X (n, features) and y.

        Samples that occur several times are one with their weights added, and those of weight 0
        are left out: weights and repetitions are the same to the last bit, in any order.

        Args:
            X: (n, features) array or data frame.
            y: (n,), or (n, targets) for a regressor.
            sample_weight: (n,) of numbers from 0; None for 1 each.

        Raises:
            ValueError: Data or an option that cannot be right.
        """
        data = self._merged(*self._training_data(X, y, sample_weight, first=True))
        self._start(*data)
        self.history_ = fit(
            self.model_, self._tensors(*data), loss=self._loss, optimizer=self.optimizer,
            lr=self.lr, steps=self.steps, batch_size=self.batch_size, seed=self._seed,
            validation=float(self.validation_fraction) if self.early_stopping else None,
            patience=self.patience if self.early_stopping else None, progress=bool(self.verbose),
        )  # fmt: skip
        self.n_iter_ = len(self.history_)
        return self

    def _continue(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """One step of Adam on a batch; the first batch sets the scales and starts the network."""
        first = not hasattr(self, "model_")
        data = self._training_data(X, y, sample_weight, first=first)
        if first:
            self._start(*data)
        if self._adam is None:
            rate = 1e-2 if self.lr is None else self.lr
            self._adam = torch.optim.Adam(self.model_.parameters(), lr=rate)
        history = fit(
            self.model_, self._tensors(*data), loss=self._loss, optimizer=self._adam, steps=1,
            seed=self._seed, progress=False,
        )  # fmt: skip
        self.n_iter_ = getattr(self, "n_iter_", 0) + len(history)
        return self

    def _training_data(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool
    ) -> tuple[Array, Array, Array]:
        """X (n, features), targets (n, t) and weights (n,), checked, in float64."""
        X, y = validate_data(
            self, X, y, reset=first, dtype=np.float64, multi_output=True, y_numeric=False
        )
        weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=True
        )
        return X, self._targets(y, first=first), weight

    def _merged(self, X: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
        """Each sample once, sorted, with its weight; none of weight 0."""
        rows = np.hstack([X, y])[weight > 0]
        found, index = np.unique(rows, axis=0, return_inverse=True)
        merged = np.bincount(index.reshape(-1), weight[weight > 0])
        return found[:, : X.shape[1]], found[:, X.shape[1] :], merged

    def _start(self, X: Array, y: Array, weight: Array) -> None:
        """The scales of inputs and targets, and a network at its start."""
        if self.dtype not in DTYPES:
            raise QKANError(f"dtype={self.dtype!r}: wanted one of {[*DTYPES]}.")
        self.mean_, self.scale_ = moments(X, weight)
        self._scale_targets(y, weight)
        self._adam = None
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_ = QKAN(
            [X.shape[1], *self.hidden, self._outputs(y)], ansatz=self.ansatz, reps=self.reps,
            encoding=self.encoding, group=self.group, base=self.base, engine=self.engine,
            dtype=DTYPES[self.dtype], generator=torch.Generator().manual_seed(self._seed),
        )  # fmt: skip

    def _tensors(self, X: Array, y: Array, weight: Array) -> tuple[Tensor, Tensor]:
        """Scaled inputs, and scaled targets with the weights, mean 1, in the last column."""
        targets = np.column_stack([self._scaled(y), weight / weight.mean()])
        return self._inputs(X), torch.from_numpy(targets).to(DTYPES[self.dtype])

    def _inputs(self, X: Array) -> Tensor:
        return torch.from_numpy((X - self.mean_) / self.scale_).to(DTYPES[self.dtype])

    def _checked(self, X: Any) -> Array:
        """X (n, features) in float64, of a fitted estimator."""
        check_is_fitted(self, "model_")
        checked: Array = validate_data(self, X, reset=False, dtype=np.float64)
        return checked

    def _output(self, X: Any) -> Array:
        """What the network says of X, (n, outputs), in its own units."""
        return self._evaluated(self._inputs(self._checked(X)))

    def _evaluated(self, x: Tensor) -> Array:
        with torch.no_grad():
            found: Array = self.model_(x).double().numpy()
        return found

    def to_module(
        self,
        *,
        columns: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        unused: Sequence[str] = (),
    ) -> TableModel:
        """Return the fitted network as a torch module that works in the data's own units.

        `qkan.save` writes it with names, units and classes, `qkan.run` measures it. It shares its
        parameters with the estimator.

        Args:
            columns: Names of the features; the data frame's, or x_1, x_2, … when None.
            targets: Names of the targets, one for a classifier; y, or y_1, y_2, … when None.
            unused: Columns that a table may have beside these.

        Raises:
            QKANError: Names that do not fit.
        """
        check_is_fitted(self, "model_")
        mean, scale = self._target_scales(self.model_.widths[-1])
        classes = getattr(self, "classes_", None)
        count = 1 if classes is not None else len(mean)
        if columns is None:
            numbered = [f"x_{i + 1}" for i in range(len(self.mean_))]
            columns = getattr(self, "feature_names_in_", numbered)
        if targets is None:
            targets = ["y"] if count == 1 else [f"y_{o + 1}" for o in range(count)]
        model = TableModel(
            self.model_, columns=columns, targets=targets,
            classes=None if classes is None else classes.tolist(), unused=unused,
        )  # fmt: skip
        for name, value in (
            ("mean", self.mean_), ("scale", self.scale_), ("target_mean", mean),
            ("target_scale", scale),
        ):  # fmt: skip
            getattr(model, name).copy_(torch.from_numpy(value))
        return model

    def plot(self, X: Any, **options: Any) -> Any:
        """Draw the fitted network as `qkan.plot` does, its inputs in standard units.

        Args:
            X: (n, features) data, two samples or more.
            **options: Of `qkan.plot`. `names` are the data frame's columns unless given.

        Returns:
            A matplotlib `Figure`.
        """
        x = self._inputs(self._checked(X))
        return plot(self.model_, x, **self._named(options))

    def symbolic(self, X: Any, **options: Any) -> Formula:
        """Return the fitted network as a formula in the data's own units, see `qkan.symbolic`.

        Args:
            X: (n, features) data, which sets the range the formula is measured in.
            **options: Of `qkan.symbolic`. `names` are the data frame's columns unless given.

        Returns:
            The formula: of a regressor's prediction, of a classifier's decision function. What it
            says of single edges (`Formula.edges`) is in standard units.
        """
        X = self._checked(X)
        x = self._inputs(X)
        found = symbolic(self.model_, x, **self._named(options))
        mean, scale = self._target_scales(self.model_.widths[-1])
        inputs = {
            symbol: (symbol - float(m)) / float(s)
            for symbol, m, s in zip(found.inputs, self.mean_, self.scale_, strict=True)
        }
        layers = [list(nodes) for nodes in found.layers]
        layers[0] = [(symbol, expr.xreplace(inputs)) for symbol, expr in layers[0]]
        layers[-1] = [
            (symbol, float(m) + float(s) * expr)
            for (symbol, expr), m, s in zip(layers[-1], mean, scale, strict=True)
        ]
        fitted = tuple(
            float(m) + float(s) * expr.xreplace(inputs)
            for expr, m, s in zip(found.fitted, mean, scale, strict=False)
        )
        bound = None if found.bound is None else found.bound * float(scale.max())
        formula = dataclasses.replace(found, layers=layers, fitted=fitted, bound=bound)
        formula.measure(X, mean + scale * self._evaluated(x))
        return formula

    def _named(self, options: dict[str, Any]) -> dict[str, Any]:
        columns = getattr(self, "feature_names_in_", None)
        return options if columns is None else {"names": [*columns], **options}

    # what a regressor and a classifier do differently, and what training keeps

    _seed: int
    _adam: torch.optim.Adam | None = None
    _loss: Callable[[Tensor, Tensor], Tensor]

    @abstractmethod
    def _targets(self, y: Array, *, first: bool) -> Array:
        """The targets as numbers, (n, t)."""

    @abstractmethod
    def _outputs(self, y: Array) -> int:
        """Outputs of the network for targets (n, t)."""

    def _scale_targets(self, y: Array, weight: Array) -> None:
        """Classes have no scale."""

    def _scaled(self, y: Array) -> Array:
        return y

    def _target_scales(self, outputs: int) -> tuple[Array, Array]:
        return np.zeros(outputs), np.ones(outputs)


def moments(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each column; 1 for a constant one."""
    mean = np.average(values, axis=0, weights=weight)
    spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    # rounding leaves a constant column a spread of its own
    noise = 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(spread > noise, spread, 1.0)
