"""`Estimator`: the common base of the scikit-learn estimators, a `TableModel` and its training."""

from __future__ import annotations

import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from qkan._habits import ESTIMATOR, ESTIMATOR_FIT, guided
from qkan.circuits import Circuit
from qkan.errors import QKANError
from qkan.interpret.formula import Formula
from qkan.interpret.plot import plot
from qkan.interpret.view import View, view
from qkan.nn.network import QKAN
from qkan.training.fit import fit
from qkan.training.lbfgs import LBFGS

from .columns import Array, Column
from .estimator_options import (
    check_same_network,
    moments,
    network_options,
    number,
    own_advice,
    sizes,
    target_names,
)
from .roughness import roughness
from .table_model import TableModel, with_marks

DTYPES = {"float32": torch.float32, "float64": torch.float64}

_OLD_STATE = ("mean_", "scale_", "range_", "_target_mean", "_target_scale")

FEW_ROWS = 200
"""With fewer rows, early_stopping="auto" holds none out, since too few would judge the model."""


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]
    """A `QKAN` with scikit-learn's interface; `QKANRegressor` describes the parameters."""

    @guided(ESTIMATOR, positional=2, instead="QKANRegressor(hidden=(5,), reps=1), options by name")
    def __init__(
        self,
        hidden: int | Sequence[int] | None = (5,),
        *,
        ansatz: str | Circuit = "pz",
        reps: int = 1,
        encoding: str | Sequence[float] = "trainable",
        group: int | None = None,
        base: str | None = "identity",
        engine: str = "auto",
        alpha: float = 3.0,
        optimizer: str = "lbfgs",
        lr: float | None = None,
        angle_lr: float | None = None,
        steps: int | None = None,
        tol: float = 1e-4,
        batch_size: int | None = None,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: int | np.random.RandomState | None = None,
        dtype: str = "float64",
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.ansatz = ansatz
        self.reps = reps
        self.encoding = encoding
        self.group = group
        self.base = base
        self.engine = engine
        self.alpha = alpha
        self.optimizer = optimizer
        self.lr = lr
        self.angle_lr = angle_lr
        self.steps = steps
        self.tol = tol
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.dtype = dtype
        self.warm_start = warm_start
        self.verbose = verbose

    def set_params(self, **params: Any) -> Self:
        """Set options by their names, as `sklearn.base.BaseEstimator.set_params` does."""
        for name in params:
            if name in ESTIMATOR and name not in self.get_params():
                raise QKANError(f"{type(self).__name__} has no option {name!r}: {ESTIMATOR[name]}.")
        changed: Self = super().set_params(**params)
        return changed

    @guided(ESTIMATOR_FIT, positional=4, instead="fit(X, y)")
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a network on X (n, features) and y.

        Equal samples are merged into one with the sum of their weights, and samples of weight 0 are
        left out. So a weight of 2 gives the same model as a repeated sample, to the last bit and in
        any order, and a common factor of all weights changes nothing.

        Args:
            X: (n, features) array or data frame. A missing value, NaN, is replaced by the feature's
                mean, and an additional input of the network marks it.
            y: (n,), or (n, targets) for a regressor.
            sample_weight: (n,) numbers of 0 or more; None means 1 each.

        Raises:
            ValueError: The data or an option is wrong.
        """
        goes_on = bool(self.warm_start) and hasattr(self, "model_")
        if goes_on:
            check_same_network(self._built, network_options(self, self._hidden()))
        data = _merged(*self._training_data(X, y, sample_weight, first=not goes_on))
        if not goes_on:
            self._start(*data)
        train, held = self._held_out(*data)
        with own_advice(self.encoding):
            self.history_ = fit(
                self.model_, train, validation=held, loss=self._penalised(data[2]),
                seed=self._seed, **self._optimization(),
                batch_size=self.batch_size,
                patience=None if held is None else self.patience,
                progress=bool(self.verbose),
            )  # fmt: skip
        self._calibrate(held)
        self.n_iter_ = len(self.history_)
        self.loss_curve_ = self.history_.train_loss
        return self

    def _continue(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Take a step of Adam on a batch; the first one sets the scales and builds the network."""
        first = not hasattr(self, "model_")
        if not first:
            check_same_network(self._built, network_options(self, self._hidden()))
        data = self._training_data(X, y, sample_weight, first=first)
        if first:
            self._start(*data)
            self.n_iter_, self.loss_curve_ = 0, []
        if self._adam is None:
            rate = 1e-2 if self.lr is None else number("lr", self.lr)
            self._adam = torch.optim.Adam(self.model_.parameters(), lr=rate)
        with own_advice(self.encoding):
            history = fit(
                self.model_, self._tensors(*data), loss=self._penalised(data[2]),
                optimizer=self._adam, steps=1, seed=self._seed, progress=False,
            )  # fmt: skip
        self._calibrate(None)
        self.n_iter_ += len(history)
        self.loss_curve_ = [*self.loss_curve_, *history.train_loss]
        return self

    def _hidden(self) -> tuple[int, ...]:
        """The sizes of the hidden layers."""
        return sizes(self.hidden)

    def _optimization(self) -> dict[str, Any]:
        """Options of `qkan.fit`: the optimizer, its steps and its learning rate."""
        lr, steps = number("lr", self.lr), self.steps
        if str(self.optimizer).lower() != "lbfgs":
            steps = 300 if steps is None else steps
            rates = {"lr": lr, "angle_lr": number("angle_lr", self.angle_lr)}
            return {"optimizer": self.optimizer, **rates, "steps": steps}
        if self.angle_lr is not None:
            raise QKANError(
                f"angle_lr={self.angle_lr!r} was passed with LBFGS, which has one step length for "
                "all parameters; leave it out, or pass optimizer='adam' or 'adamw'."
            )
        lbfgs = functools.partial(
            LBFGS, lr=1.0 if lr is None else lr, max_iter=20, history_size=10,
            tolerance_change=number("tol", self.tol),
        )  # fmt: skip
        return {"optimizer": lbfgs, "steps": 20 if steps is None else steps}

    def _penalised(self, weight: Array) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss with the penalty, which is left out when the model is validated."""
        alpha = number("alpha", self.alpha)
        if alpha is None or not (math.isfinite(alpha) and alpha >= 0):
            raise QKANError(
                f"alpha={self.alpha!r}; wanted a finite number, 0 (no penalty) or more."
            )
        # the number of rows, not the sum of their weights, which may be 1
        strength = alpha / np.count_nonzero(weight)

        def loss(prediction: Tensor, target: Tensor) -> Tensor:
            value: Tensor = self._loss(prediction, target)
            if strength > 0 and self.model_.training:
                value = value + strength * roughness(self.model_)
            return value

        return loss

    def _training_data(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool
    ) -> tuple[Array, Array, Array]:
        """Inputs (n, i), targets (n, t) and weights (n,), checked, in float64."""
        X, y = validate_data(
            self, X, y, reset=first, dtype=np.float64, multi_output=True, y_numeric=False,
            ensure_all_finite="allow-nan",
        )  # fmt: skip
        weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=True
        )
        targets = self._targets(y, first=first)
        if first:
            self._gaps = np.flatnonzero(np.isnan(X).any(0))
        # the means are not known yet; `_start` puts them in place of the zeros
        mean = np.zeros(X.shape[1]) if first else self.mean_
        return with_marks(X, self._gaps, mean), targets, self._weights(y, weight)

    def _start(self, X: Array, y: Array, weight: Array) -> None:
        """Set the scales and build the network; missing values in X are replaced by means."""
        if self.dtype not in DTYPES:
            raise QKANError(f"dtype={self.dtype!r}; wanted one of {[*DTYPES]}.")
        mean, scale = self._input_scales(X, weight)
        self._adam = None
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        network = QKAN(
            [X.shape[1], *self._hidden(), self._outputs(y)],
            ansatz=self.ansatz, reps=self.reps, encoding=self.encoding,
            group=self.group, base=self.base, engine=self.engine,
            dtype=DTYPES[self.dtype], generator=torch.Generator().manual_seed(self._seed),
        )  # fmt: skip
        self._scaled = self._wrapped(network, np.stack([X.min(0), X.max(0)], 1))
        self._scaled.set_scales(mean=mean, scale=scale, **self._target_scales(y, weight))
        self._built = network_options(self, self._hidden())

    def _input_scales(self, X: Array, weight: Array) -> tuple[Array, Array]:
        """Mean and spread of the present values; missing values in X are replaced by means."""
        mean, scale = moments(X, weight)
        for gap, feature in enumerate(self._gaps, start=X.shape[1] - len(self._gaps)):
            there = X[:, gap] == 0
            if not there.any():
                raise QKANError(f"Feature {feature} has no value in any row; leave it out.")
            mean[feature], scale[feature] = moments(X[there, feature], weight[there])
            X[~there, feature] = mean[feature]
        return mean, scale

    def _wrapped(self, network: QKAN, ranges: Array) -> TableModel:
        """The network as a `TableModel` with plain names, and with numbers for classes."""
        known = getattr(self, "classes_", None)
        count = network.widths[-1] if known is None else 1
        return TableModel(
            network, columns=self._inputs_named(self._plain_names()), ranges=ranges.tolist(),
            targets=target_names(count, ()), classes=None if known is None else range(len(known)),
        )  # fmt: skip

    def _held_out(
        self, X: Array, y: Array, weight: Array
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
        """The rows to train on, with some of every class, and those for early stopping."""
        x, target = self._tensors(X, y, weight)
        early = self.early_stopping
        if not (isinstance(early, bool | np.bool_) or early == "auto"):
            raise QKANError(f"early_stopping={early!r}; wanted True, False or 'auto'.")
        if not (len(X) >= FEW_ROWS if early == "auto" else early):
            return (x, target), None
        share = number("validation_fraction", self.validation_fraction)
        held = np.zeros(len(X), dtype=bool)
        order = np.random.default_rng(self._seed).permutation(len(X))
        strata = self._strata(y)
        for stratum in np.unique(strata) if share is not None and 0 < share < 1 else ():
            rows = order[strata[order] == stratum]
            held[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
        if not held.any():
            raise QKANError(
                f"validation_fraction={self.validation_fraction!r} of {len(X)} different samples "
                "holds none out; wanted a share between 0 and 1 that leaves some on both sides, or "
                "early_stopping=False."
            )
        kept = torch.from_numpy(~held)
        return (x[kept], target[kept]), (x[~kept], target[~kept])

    def _tensors(self, X: Array, y: Array, weight: Array) -> tuple[Tensor, Tensor]:
        """Scaled inputs, and scaled targets with the weights, mean 1, in the last column."""
        targets = np.column_stack([self._standardised(y), weight / weight.mean()])
        inputs = self._scaled.standardised(torch.from_numpy(X))
        return inputs, torch.from_numpy(targets).to(DTYPES[self.dtype])

    def _inputs(self, X: Any) -> Tensor:
        """Return the inputs (n, i) of the fitted model, in float64 and in the data's units."""
        check_is_fitted(self, "model_")
        checked = validate_data(
            self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        return torch.from_numpy(with_marks(checked, self._gaps, self.mean_))

    @property
    def model_(self) -> QKAN:
        """The trained network, which takes standardised inputs."""
        return self._scaled.network

    @property
    def mean_(self) -> Array:
        """The means (inputs,) that are subtracted from the inputs."""
        return self._scaled.mean.numpy()

    @property
    def scale_(self) -> Array:
        """The scales (inputs,) by which the inputs are divided."""
        return self._scaled.scale.numpy()

    @property
    def range_(self) -> Array:
        """The lowest and the highest values (inputs, 2) of the inputs in training."""
        return np.array(self._scaled.ranges)

    def to_module(
        self,
        *,
        columns: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        unused: Sequence[str] = (),
        table: Sequence[Column] = (),
    ) -> TableModel:
        """Return the fitted network as a torch module that works in the units of the data.

        `qkan.save` writes it with names, units and classes, and `qkan.run` measures it. It shares
        its parameters with the estimator.

        Args:
            columns: The names of the features; None takes those of the data frame, or x_1, x_2, ….
                An input that marks missing values is named after its feature.
            targets: The names of the targets, one for a classifier; None takes y, or y_1, y_2, ….
            unused: Other columns that a table may have.
            table: The columns of the table from which the features were made.

        Raises:
            QKANError: The names do not fit.
        """
        check_is_fitted(self, "model_")
        names = self._inputs_named(self._names() if columns is None else [*columns])
        classes = self.classes_.tolist() if hasattr(self, "classes_") else None
        count = self.model_.widths[-1] if classes is None else 1
        return self._scaled.renamed(
            columns=names, targets=targets or target_names(count, names), classes=classes,
            unused=unused, table=table,
        )  # fmt: skip

    def plot(self, X: Any, **options: Any) -> Any:
        """Draw the fitted network by `qkan.plot`, in the units of the data.

        Args:
            X: (n, features) data, two samples or more.
            **options: Of `qkan.plot`. `names` are the data frame's columns unless given.

        Returns:
            A matplotlib `Figure`.
        """
        return plot(self.to_module(), self._inputs(X), **options)

    def view(self, X: Any, **options: Any) -> View:
        """Show the fitted network as a page for a browser by `qkan.view`, in the data's units.

        Args:
            X: (n, features) data, two samples or more.
            **options: Of `qkan.view`. `names` are the data frame's columns unless given.

        Returns:
            The page; its `save` writes it to a file.
        """
        return view(self.to_module(), self._inputs(X), **options)

    def symbolic(self, X: Any, **options: Any) -> Formula:
        """Return the fitted network as a formula by `qkan.symbolic`, in the data's units.

        Args:
            X: (n, features) data, which give the range over which the formula is measured.
            **options: Options of `qkan.symbolic`. `names` are the data frame's columns unless
                given.

        Returns:
            The formula of a regressor's prediction or of a classifier's decision function. Its
            edges (`Formula.edges`) are in standardised units.
        """
        x = self._inputs(X)
        return self._scaled.symbolic(x, **{"names": self._inputs_named(self._names()), **options})

    def _plain_names(self) -> list[str]:
        return [f"x_{i + 1}" for i in range(self.n_features_in_)]

    def _names(self) -> list[str]:
        """The names of the features."""
        return [*getattr(self, "feature_names_in_", self._plain_names())]

    def _inputs_named(self, features: list[str]) -> list[str]:
        """The names of the network's inputs: the features, and the marks of missing values."""
        marked = [feature for feature in self._gaps if feature < len(features)]
        return [*features, *(f"{features[feature]} missing" for feature in marked)]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read a pickle; version 0.1.0 kept a network and its scales in separate attributes."""
        # an option that did not exist when the pickle was written has its default
        options = inspect.signature(type(self)).parameters.values()
        state = {option.name: option.default for option in options} | state
        network = state.pop("model_", None)
        old = {name: state.pop(name, None) for name in _OLD_STATE}
        super().__setstate__(state)
        if network is not None:
            self._scaled = self._wrapped(network, old.pop("range_"))
            scales = {name.strip("_"): value for name, value in old.items() if value is not None}
            self._scaled.set_scales(**scales)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # attributes that training sets, and methods that differ for regressors and classifiers

    classes_: Array
    n_features_in_: int
    _seed: int
    _gaps: Array
    _scaled: TableModel
    _built: dict[str, Any] = {}  # noqa: RUF012 - an older pickle has none, and nothing writes it
    _adam: torch.optim.Adam | None = None
    _loss: Callable[[Tensor, Tensor], Tensor]

    @abstractmethod
    def _targets(self, y: Array, *, first: bool) -> Array:
        """Turn the targets into numbers (n, t), and check them."""

    @abstractmethod
    def _outputs(self, y: Array) -> int:
        """The number of outputs of the network for targets (n, t)."""

    def _weights(self, y: Array, weight: Array) -> Array:
        """The weights of the samples, times those of their classes."""
        return weight

    def _calibrate(self, held: tuple[Tensor, Tensor] | None) -> None:
        """Calibrate probabilities on the held-out samples, if any; a regressor has none."""

    def _strata(self, y: Array) -> Array:
        """The stratum of each row; equal shares of all strata are held out."""
        return np.zeros(len(y))

    def _target_scales(self, y: Array, weight: Array) -> dict[str, Array]:
        """The scales of the targets, by name; classes have none."""
        return {}

    def _standardised(self, y: Array) -> Array:
        """The targets in the units of the network's outputs."""
        return y


def _merged(X: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Keep each different sample once, sorted, with the sum of its weights, unless that is 0."""
    rows = np.hstack([X, y])[weight > 0]
    found, index = np.unique(rows, axis=0, return_inverse=True)
    merged = np.bincount(index.reshape(-1), weight[weight > 0])
    return found[:, : X.shape[1]], found[:, X.shape[1] :], merged
