"""`QKANRegressor` and `QKANClassifier`: a `QKAN` behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from qkan.circuits import require

from .errors import QKANError

require("sklearn", "sklearn")

from sklearn.base import ClassifierMixin, RegressorMixin  # noqa: E402
from sklearn.utils import column_or_1d  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402

from ._estimator import Array, Estimator, moments  # noqa: E402
from .table_model import class_logits  # noqa: E402


class QKANRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A `QKAN` that predicts numbers, with scikit-learn's interface.

    Inputs and targets are standardised with the mean and spread of the training data, inside.

    Args:
        hidden: Sizes of the hidden layers; () for none.
        ansatz: Of every layer, as all options up to `engine`: see `QKANLayer`.
        reps: Repetitions.
        encoding: Of the data.
        group: Shared activations a layer.
        base: Base activation.
        engine: Simulator.
        optimizer: As in `qkan.fit`, as all options up to `patience`.
        lr: Learning rate.
        steps: Steps in all.
        batch_size: Samples a step; None takes all of them, which "lbfgs" needs.
        early_stopping: Whether to hold out `validation_fraction` of the samples, end with the
            parameters that were best on them, and stop after `patience` evaluations that were not.
        validation_fraction: For early stopping.
        patience: For early stopping.
        random_state: Seed of the start, of the batch order and of what is held out.
        dtype: "float64" or "float32", that of the network.
        verbose: Whether to show a progress bar.

    Attributes:
        model_: The trained `QKAN`, which reads standardised inputs.
        history_: The `History` of the training.
        mean_: (features,), subtracted from the inputs.
        scale_: (features,), what they are divided by.
        n_iter_: Steps taken.
        n_features_in_: Features.
        feature_names_in_: Their names, of a data frame.

    Raises:
        ValueError: When fitted, for data or an option that cannot be right.

    Example:
        >>> import numpy as np
        >>> from qkan import QKANRegressor
        >>> X = np.linspace(-2, 2, 100)[:, None]
        >>> model = QKANRegressor(hidden=(), random_state=0).fit(X, np.sin(3 * X[:, 0]))
        >>> model.score(X, np.sin(3 * X[:, 0])) > 0.999
        True
    """

    def predict(self, X: Any) -> Array:
        """Predictions (n,), or (n, targets) where y had two dimensions."""
        output = self._output(X)
        found: Array = self._target_mean + self._target_scale * output
        return found if self._table else found[:, 0]

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
        y = y.astype(np.float64)
        table = y.reshape(len(y), -1)
        if first:
            self._table = y.ndim == 2
        elif table.shape[1] != len(self._target_mean):
            raise QKANError(f"y has {table.shape[1]} targets, before {len(self._target_mean)}.")
        return table

    def _outputs(self, y: Array) -> int:
        return int(y.shape[1])

    def _scale_targets(self, y: Array, weight: Array) -> None:
        self._target_mean, self._target_scale = moments(y, weight)

    def _scaled(self, y: Array) -> Array:
        scaled: Array = (y - self._target_mean) / self._target_scale
        return scaled

    def _target_scales(self, outputs: int) -> tuple[Array, Array]:
        return self._target_mean, self._target_scale

    @staticmethod
    def _loss(prediction: Tensor, target: Tensor) -> Tensor:
        wanted, weight = target[:, :-1], target[:, -1:]
        return ((prediction - wanted).square() * weight).mean()

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn's checks may expect: several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class QKANClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A `QKAN` that predicts classes, with scikit-learn's interface.

    It minimises the cross entropy; its parameters are those of `QKANRegressor`.

    Attributes:
        classes_: The classes, sorted.
        model_: The trained `QKAN`, which reads standardised inputs; its outputs are logits, one
            for two classes, else one a class.
        history_: The `History` of the training.
        mean_: (features,), subtracted from the inputs.
        scale_: (features,), what they are divided by.
        n_iter_: Steps taken.
        n_features_in_: Features.
        feature_names_in_: Their names, of a data frame.

    Raises:
        ValueError: When fitted, for data or an option that cannot be right, or one class only.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from qkan import QKANClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> QKANClassifier(hidden=(), steps=5, random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    def predict(self, X: Any) -> Array:
        """The likeliest class of each sample, (n,)."""
        logits = self._output(X)
        index = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(1)
        found: Array = self.classes_[index]
        return found

    def decision_function(self, X: Any) -> Array:
        """Logits: (n,) for two classes, that of the second; else (n, classes)."""
        logits = self._output(X)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes)."""
        return class_logits(torch.from_numpy(self._output(X))).softmax(1).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, (n, classes)."""
        return class_logits(torch.from_numpy(self._output(X))).log_softmax(1).numpy()

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take one step of Adam on a batch; the first batch sets the scales.

        Args:
            X: (n, features).
            y: (n,).
            classes: All classes that will ever come; needed in the first call.
            sample_weight: (n,), or None.
        """
        known = getattr(self, "classes_", None)
        if classes is None and known is None:
            raise QKANError("The first partial_fit needs classes=, all that will ever come.")
        if classes is not None:
            found = np.unique(classes)
            if known is not None and not np.array_equal(found, known):
                raise QKANError(f"classes={found} are not those of before, {known}.")
            self.classes_ = found
        return self._continue(X, y, sample_weight)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """As `QKANRegressor.fit`, with y (n,) of classes."""
        self.__dict__.pop("classes_", None)
        return super().fit(X, y, sample_weight)

    def _targets(self, y: Array, *, first: bool) -> Array:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_"):
            self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise QKANError(f"y has one class only, {self.classes_}: two or more are needed.")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise QKANError(f"y has the classes {unknown} beside the known ones, {self.classes_}.")
        return np.searchsorted(self.classes_, y)[:, None].astype(np.float64)

    def _outputs(self, y: Array) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    @staticmethod
    def _loss(prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape[1] == 1:
            return F.binary_cross_entropy_with_logits(prediction[:, 0], target[:, 0], target[:, 1])
        losses = F.cross_entropy(prediction, target[:, 0].long(), reduction="none")
        return (losses * target[:, 1]).mean()
