"""What people expect of the estimators who know scikit-learn's own: it holds, or it is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import AdaBoostClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor

from qkan import QKANClassifier, QKANError, QKANRegressor, load, save
from qkan.tabular.estimator_options import logit_factor

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


def test_a_classifier_has_a_node_for_every_class() -> None:
    for classes, nodes in ((2, 5), (7, 7), (40, 32)):
        labels = np.arange(2 * classes) % classes
        x = RNG.normal(size=(2 * classes, 2))
        model = QKANClassifier(steps=1, random_state=0, warm_start=True).fit(x, labels)
        assert model.model_.widths[1:-1] == [nodes] and model.hidden is None
        model.fit(x, labels)


def test_probabilities_are_calibrated_on_the_rows_held_out(tmp_path: Path) -> None:
    # labels of which a fifth is wrong, learned by heart
    x, y = make_classification(400, 8, n_informative=5, flip_y=0.4, random_state=0)
    model = QKANClassifier(
        alpha=0, reps=3, early_stopping=True, steps=10, validation_fraction=0.5, random_state=0
    ).fit(x[:300], y[:300])
    module = model.to_module()
    factor = float(module.target_scale[0])
    assert 0.1 < factor < 0.95
    raw = model.decision_function(x[300:]) / factor
    assert log_loss(y[300:], model.predict_proba(x[300:])) < log_loss(y[300:], expit(raw))
    assert np.array_equal(model.predict(x[300:]), (raw > 0).astype(int))
    save(module, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert torch.equal(again.target_scale, module.target_scale)
    rows = torch.from_numpy(x[300:])
    assert np.allclose(again.predict_proba(rows), model.predict_proba(x[300:]))
    # a model that goes on has not been held against anything
    assert model.partial_fit(x[:300], y[:300]).to_module().target_scale.item() == 1


def test_a_factor_without_an_error_to_learn_from_is_one() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 5.0]]).repeat(30, 1).double()
    labels, ones = torch.tensor([0, 1]).repeat(30), torch.ones(60).double()
    assert 0.999 < logit_factor(logits, labels, ones) <= 1
    # three quarters right with logits of 4 and 5 is too sure of itself
    labels[:15] = 1 - labels[:15]
    assert 0.1 < logit_factor(logits, labels, ones) < 0.5
