"""`QKANRegressor` and `QKANClassifier`: a `QKAN` with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from qkan._habits import ESTIMATOR, ESTIMATOR_FIT, guided
from qkan.circuits import Circuit, require
from qkan.errors import QKANError

require("sklearn", "sklearn")

from sklearn.base import ClassifierMixin, RegressorMixin  # noqa: E402
from sklearn.utils import column_or_1d  # noqa: E402
from sklearn.utils.class_weight import compute_sample_weight  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402

from .columns import Array  # noqa: E402
from .estimator import Estimator  # noqa: E402
from .estimator_options import logit_factor, moments  # noqa: E402
from .table_model import class_logits, row_outputs  # noqa: E402

MOST_NODES = 32
"""The most nodes that a classifier's hidden layer has by default."""


class QKANRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A `QKAN` that predicts numbers, with scikit-learn's interface.

    Inputs and targets are standardised internally with the mean and spread of the training data.
    The defaults were chosen on six tables and tested on six others
    (`experiments/tables/defaults.py`): one repetition, straight lines beside the circuits, and a
    penalty on rough activations.

    Args:
        hidden: The sizes of the hidden layers, or a single size. With () there is none, and the
            model is a sum of functions of single features.
        ansatz: The circuit of every layer; see `QKANLayer` for this and all options up to `engine`.
        reps: The number of repetitions. More of them give finer functions, which tables seldom
            need.
        encoding: The encoding of the data.
        group: The number of shared activations in a layer.
        base: The base activation.
        engine: The simulator.
        alpha: The strength of the penalty: alpha/n times the mean squared slopes of all edges'
            functions, where n is the number of different samples with a weight. A harmonic of
            frequency k counts k²-fold, and a straight line as in ridge regression. Raise alpha if
            the model overfits, and lower it if the model misses structure in the data; 0 means no
            penalty.
        optimizer: See `qkan.fit` for this and all options up to `batch_size`.
        lr: The learning rate.
        angle_lr: The learning rate of the circuits' angles; see `qkan.fit`. Not with LBFGS.
        steps: The number of steps; None means 20 for LBFGS, with 20 iterations each, and 300 for
            another optimizer.
        tol: A step of LBFGS ends when an iteration lowers the loss by less than this. Lower it for
            an exact fit to targets without noise.
        batch_size: The number of samples in a step; None takes all, which "lbfgs" needs.
        early_stopping: Whether to hold out `validation_fraction` of the samples, end with the
            parameters that were best on them, and stop after `patience` evaluations without an
            improvement. "auto" does so with 200 different samples or more.
        validation_fraction: The share of the samples, of every class, that is held out.
        patience: The number of evaluations without an improvement before training stops.
        random_state: The seed of the initial values, of the batch order and of the held-out
            samples.
        dtype: The dtype of the network, "float64" or "float32".
        warm_start: Whether `fit` continues with the network and the scales of the last call. The
            options must then be the same: another `hidden`, for instance, is an error.
        verbose: Whether to show a progress bar.

    Attributes:
        model_: The trained `QKAN`, which takes standardised inputs: the features, and then a 0 or 1
            for each feature that had missing values.
        history_: The `History` of the training.
        loss_curve_: The training loss after every step, penalty included.
        mean_: (inputs,), what is subtracted from the inputs.
        scale_: (inputs,), what they are divided by.
        range_: (inputs, 2), their lowest and highest values in training.
        n_iter_: The number of steps taken.
        n_features_in_: The number of features.
        feature_names_in_: The names of the features, if the training data were a data frame.

    Raises:
        ValueError: From `fit`, for wrong data or a wrong option.

    Example:
        >>> import numpy as np
        >>> from qkan import QKANRegressor
        >>> X = np.linspace(-2, 2, 100)[:, None]
        >>> model = QKANRegressor(hidden=(), alpha=0, tol=1e-9, reps=3, random_state=0)
        >>> model = model.fit(X, np.sin(3 * X[:, 0]))
        >>> model.score(X, np.sin(3 * X[:, 0])) > 0.999
        True
    """

    def predict(self, X: Any) -> Array:
        """Return predictions (n,), or (n, targets) if y had two dimensions."""
        x = self._inputs(X)
        return self._scaled.predict(x)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take one step of Adam on a batch; the first batch sets the scales.

        Args:
            X: (n, features).
            y: (n,) or (n, targets).
            sample_weight: (n,), or None.
        """
        return self._continue(X, y, sample_weight)

    def _targets(self, y: Array, *, first: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        table = y.astype(np.float64).reshape(len(y), -1)
        if not first and table.shape[1] != self.model_.widths[-1]:
            raise QKANError(
                f"y has {table.shape[1]} targets, but had {self.model_.widths[-1]} before; pass as "
                "many as before."
            )
        return table

    def _outputs(self, y: Array) -> int:
        return int(y.shape[1])

    def _target_scales(self, y: Array, weight: Array) -> dict[str, Array]:
        mean, scale = moments(y, weight)
        return {"target_mean": mean, "target_scale": scale}

    def _standardised(self, y: Array) -> Array:
        model = self._scaled
        scaled: Array = (y - model.target_mean.numpy()) / model.target_scale.numpy()
        return scaled

    @staticmethod
    def _loss(prediction: Tensor, target: Tensor) -> Tensor:
        wanted, weight = target[:, :-1], target[:, -1:]
        return ((prediction - wanted).square() * weight).mean()

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that several targets are allowed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class QKANClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A `QKAN` that predicts classes, with scikit-learn's interface.

    It minimises the cross entropy; its parameters are those of `QKANRegressor` and `class_weight`.
    If samples are held out (see `early_stopping`), they also calibrate the probabilities: all
    logits are multiplied by 1/temperature, which does not change the predicted classes. `to_module`
    keeps this factor as `target_scale`, so files, formulas and devices have it, too.

    Args:
        hidden: The sizes of the hidden layers. None means one layer with a node for every class,
            but between 5 and 32 nodes. See `QKANRegressor` for all options up to `verbose`.
        ansatz: The circuit of every layer.
        reps: The number of repetitions.
        encoding: The encoding of the data.
        group: The number of shared activations in a layer.
        base: The base activation.
        engine: The simulator.
        alpha: The strength of the penalty.
        optimizer: See `qkan.fit`.
        lr: The learning rate.
        angle_lr: The learning rate of the circuits' angles; see `qkan.fit`. Not with LBFGS.
        steps: The number of steps.
        tol: The change of the loss at which a step of LBFGS ends.
        batch_size: The number of samples in a step.
        early_stopping: Whether to hold out samples and to stop early by them.
        validation_fraction: The share of held-out samples.
        patience: The number of evaluations without an improvement before training stops.
        random_state: The seed.
        dtype: The dtype of the network.
        warm_start: Whether `fit` continues with the last network.
        verbose: Whether to show a progress bar.
        class_weight: The weights of the classes: a dictionary, or "balanced" for the inverse of
            their frequencies; None means 1 each. With weights the probabilities are no longer those
            of the data.

    Attributes:
        classes_: The classes, sorted.
        model_: The trained `QKAN` as in a regressor; its outputs are logits, one for two classes,
            and otherwise one for each class.
        history_: The `History` of the training.
        loss_curve_: The training loss after every step, penalty included.
        mean_: (inputs,), what is subtracted from the inputs.
        scale_: (inputs,), what they are divided by.
        range_: (inputs, 2), their lowest and highest values in training.
        n_iter_: The number of steps taken.
        n_features_in_: The number of features.
        feature_names_in_: The names of the features, if the training data were a data frame.

    Raises:
        ValueError: From `fit`, for wrong data, a wrong option, or only one class.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from qkan import QKANClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> QKANClassifier(hidden=(), steps=5, random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    @guided(ESTIMATOR, positional=2, instead="QKANClassifier(hidden=(5,), reps=1), options by name")
    def __init__(
        self,
        hidden: int | Sequence[int] | None = None,
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
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        super().__init__(
            hidden, ansatz=ansatz, reps=reps, encoding=encoding, group=group, base=base,
            engine=engine, alpha=alpha, optimizer=optimizer, lr=lr, angle_lr=angle_lr,
            steps=steps, tol=tol, batch_size=batch_size, early_stopping=early_stopping,
            validation_fraction=validation_fraction, patience=patience,
            random_state=random_state, dtype=dtype, warm_start=warm_start, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sample, (n,)."""
        x = self._inputs(X)
        found: Array = self.classes_[self._scaled.predict(x)]
        return found

    def decision_function(self, X: Any) -> Array:
        """Return logits: (n,) of the second of two classes, or (n, classes) for more classes."""
        logits = self._logits(X).numpy()
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (n, classes)."""
        x = self._inputs(X)
        return self._scaled.predict_proba(x)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities, (n, classes)."""
        return class_logits(self._logits(X)).log_softmax(1).numpy()

    def _logits(self, X: Any) -> Tensor:
        x = self._inputs(X)
        return row_outputs(self._scaled, x)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take one step of Adam on a batch; the first batch sets the scales.

        Args:
            X: (n, features).
            y: (n,).
            classes: All classes that any batch will have; required in the first call.
            sample_weight: (n,), or None.
        """
        known = getattr(self, "classes_", None)
        if classes is None and known is None:
            raise QKANError(
                "The first partial_fit needs classes=, all classes that any batch will have."
            )
        if classes is not None:
            found = np.unique(classes)
            if known is not None and not np.array_equal(found, known):
                raise QKANError(
                    f"classes={found} differ from those of the first call, {known}; leave classes "
                    "out."
                )
            self.classes_ = found
        return self._continue(X, y, sample_weight)

    @guided(ESTIMATOR_FIT, positional=4, instead="fit(X, y)")
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a network on X (n, features) and the classes y (n,); see `QKANRegressor.fit`."""
        if not self.warm_start:
            self.__dict__.pop("classes_", None)
        return super().fit(X, y, sample_weight)

    def _targets(self, y: Array, *, first: bool) -> Array:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_"):
            self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise QKANError(f"y has only one class, {self.classes_}; two or more are needed.")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise QKANError(
                f"y has the classes {unknown}, but the known ones are {self.classes_}; leave such "
                "samples out, or fit anew."
            )
        return np.searchsorted(self.classes_, y)[:, None].astype(np.float64)

    def _weights(self, y: Array, weight: Array) -> Array:
        if self.class_weight is None:
            return weight
        found: Array = weight * compute_sample_weight(self.class_weight, column_or_1d(y))
        return found

    def _strata(self, y: Array) -> Array:
        return y[:, 0]

    def _hidden(self) -> tuple[int, ...]:
        if self.hidden is None:
            # fewer nodes than classes are a bottleneck of the logits
            return (min(max(5, len(self.classes_)), MOST_NODES),)
        return super()._hidden()

    def _calibrate(self, held: tuple[Tensor, Tensor] | None) -> None:
        factor = 1.0
        if held is not None:
            logits = class_logits(row_outputs(self.model_, held[0]))
            label, weight = held[1].double().T
            factor = logit_factor(logits, label.long(), weight)
        self._scaled.set_scales(target_scale=np.full(self.model_.widths[-1], factor))

    def _outputs(self, y: Array) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    @staticmethod
    def _loss(prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape[1] == 1:
            return F.binary_cross_entropy_with_logits(prediction[:, 0], target[:, 0], target[:, 1])
        losses = F.cross_entropy(prediction, target[:, 0].long(), reduction="none")
        return (losses * target[:, 1]).mean()
