"""What people expect of the estimators who know scikit-learn's own: it holds, or it is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import AdaBoostClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor

from qkan import QKANClassifier, QKANError, QKANRegressor

IRIS = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 5, (60, 2))
Y = np.sin(X[:, 0]) + X[:, 1] ** 2


@pytest.mark.parametrize(
    "option",
    [{"hidden": (8,)}, {"hidden": ()}, {"reps": 2}, {"ansatz": "px"}, {"encoding": "linear"},
     {"base": "silu"}, {"group": 1}, {"dtype": "float32"}, {"engine": "torch"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_a_warm_start_with_another_network_is_refused(option: dict[str, Any], again: str) -> None:
    model = QKANRegressor(hidden=(3,), steps=1, random_state=0, warm_start=True).fit(X, Y)
    name = next(iter(option))
    model.set_params(**option)
    with pytest.raises(QKANError, match=rf"{name}=.*, but the network .*warm_start=False"):
        getattr(model, again)(X, Y)
    assert model.set_params(warm_start=False).fit(X, Y).n_iter_ == 1


def test_a_warm_start_takes_the_same_network_in_other_words() -> None:
    model = QKANRegressor(hidden=(3,), steps=1, random_state=0, warm_start=True).fit(X, Y)
    first = model.loss_curve_[0]
    for hidden in ([3], 3, np.array([3])):
        model.set_params(hidden=hidden, steps=2, alpha=1.0).fit(X, Y)
    assert model.loss_curve_[0] < first


@pytest.mark.parametrize("factor", [2.0**-10, 1 / len(X), 2.0**10])
def test_a_factor_of_all_weights_changes_nothing(factor: float) -> None:
    weight = RNG.integers(1, 4, len(X))
    plain, scaled = (
        QKANRegressor(steps=3, random_state=0).fit(X, Y, sample_weight=weight * unit).predict(X)
        for unit in (1.0, factor)
    )
    assert np.allclose(plain, scaled, rtol=1e-4)


def test_ada_boost_learns_with_weights_that_sum_to_one() -> None:
    x, y = make_classification(300, 6, n_informative=4, random_state=0)
    alone = QKANClassifier(steps=5, random_state=0)
    boosted = AdaBoostClassifier(clone(alone), n_estimators=3, random_state=0).fit(x[:200], y[:200])
    assert len(boosted.estimators_) == 3
    assert boosted.score(x[200:], y[200:]) > 0.85
    assert boosted.estimators_[0].score(x[200:], y[200:]) > 0.85


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "sizes": (
        lambda: QKANClassifier(hidden_layer_sizes=(5,)),  # type: ignore[call-arg]
        r"QKANClassifier has no option 'hidden_layer_sizes': pass hidden=",
    ),
    "regressor": (
        lambda: QKANRegressor(max_iter=500),  # type: ignore[call-arg]
        r"QKANRegressor has no option 'max_iter': pass steps=…",
    ),
    "epochs": (lambda: QKANRegressor(epochs=5), r"pass steps=…"),  # type: ignore[call-arg]
    "rate": (lambda: QKANRegressor(learning_rate=1), r"pass lr=…"),  # type: ignore[call-arg]
    "relu": (lambda: QKANRegressor(activation="relu"), r"base='silu'"),  # type: ignore[call-arg]
    "trees": (
        lambda: QKANRegressor(n_estimators=9),  # type: ignore[call-arg]
        r"BaggingRegressor\(QKANRegressor\(\), n_estimators=10\)",
    ),
    "penalty": (lambda: QKANClassifier(C=1.0), r"pass alpha=…"),  # type: ignore[call-arg]
    "misspelt": (lambda: QKANRegressor(hiden=5), r"Did you mean 'hidden'"),  # type: ignore[call-arg]
    "by place": (lambda: QKANRegressor(5, "pz"), r"write QKANRegressor\(hidden="),  # type: ignore[misc]
    "in fit": (
        lambda: QKANRegressor().fit(X, Y, epochs=5),  # type: ignore[call-arg]
        r"QKANRegressor.fit has no option 'epochs': .*QKANRegressor\(steps=…\)",
    ),
    "in the classifier's": (
        lambda: QKANClassifier().fit(*IRIS, validation_split=0.1),  # type: ignore[call-arg]
        r"QKANClassifier.fit has no option 'validation_split': .*validation_fraction=",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_options_of_other_packages_are_answered(case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_options_of_other_packages_are_answered_later_too() -> None:
    with pytest.raises(ValueError, match=r"'max_iter': pass steps=…"):
        QKANRegressor().set_params(max_iter=5)
    with pytest.raises(ValueError, match=r"'hidden_layer_sizes': pass hidden="):
        GridSearchCV(QKANClassifier(), {"hidden_layer_sizes": [3]}).fit(*IRIS)
    with pytest.raises(ValueError, match=r"Valid parameters are"):
        QKANRegressor().set_params(nonsense=5)


@pytest.mark.parametrize("kind", [QKANRegressor, QKANClassifier])
def test_signatures_stay_explicit(kind: Any) -> None:
    names = [*inspect.signature(kind).parameters]
    assert names[0] == "hidden" and {*kind().get_params()} == {*names} and "kwargs" not in names
    made = clone(kind(hidden=[2], alpha=1))
    assert made.get_params()["hidden"] == [2] and made.alpha == 1


def test_every_option_of_scikit_learns_networks_is_ours_or_answered() -> None:
    for theirs, ours in ((MLPClassifier, QKANClassifier), (MLPRegressor, QKANRegressor)):
        for name in inspect.signature(theirs).parameters:
            if name not in inspect.signature(ours).parameters:
                with pytest.raises(TypeError, match=f"no option '{name}': (?!Did you mean)"):
                    ours(**{name: None})
