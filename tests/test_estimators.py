"""`QKANRegressor` and `QKANClassifier` keep scikit-learn's promises, and some of their own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from qkan import QKANClassifier, QKANRegressor

IRIS = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 5, (80, 2))
Y = 100 + 7 * np.sin(X[:, 0]) + X[:, 1] ** 2
REGRESSOR = QKANRegressor(hidden=(3,), steps=8, random_state=0)
CLASSIFIER = QKANClassifier(hidden=(), steps=5, random_state=0)


@pytest.mark.filterwarnings("ignore:.*SCIPY_ARRAY_API")
@parametrize_with_checks([QKANRegressor(), QKANClassifier()])
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_it_learns_in_the_units_of_the_data() -> None:
    fitted = clone(REGRESSOR).fit(X, Y)
    assert fitted.score(X, Y) > 0.999
    assert np.allclose(fitted.mean_, X.mean(0)) and np.allclose(fitted.scale_, X.std(0))
    assert fitted.n_iter_ == len(fitted.history_) == 8
    assert cross_val_score(CLASSIFIER, *IRIS, cv=3).mean() > 0.9


def test_pipelines_and_searches() -> None:
    pipeline = make_pipeline(StandardScaler(), clone(CLASSIFIER))
    search = GridSearchCV(pipeline, {"qkanclassifier__reps": [1, 2]}, cv=2).fit(*IRIS)
    assert search.best_score_ > 0.9
    assert set(search.cv_results_["param_qkanclassifier__reps"]) == {1, 2}


def test_data_frames_keep_their_names() -> None:
    frame = pd.DataFrame(X, columns=["mass", "speed"])
    fitted = clone(REGRESSOR).fit(frame, pd.Series(Y))
    assert [*fitted.feature_names_in_] == ["mass", "speed"]
    assert np.array_equal(fitted.predict(frame), clone(REGRESSOR).fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"mass": "weight"}))
    figure = fitted.plot(frame)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]
    assert {"mass", "speed"} <= set(texts)


def test_a_formula_is_what_the_estimator_predicts() -> None:
    frame = pd.DataFrame(X, columns=["mass", "speed"])
    for estimator, target in ((REGRESSOR, Y), (CLASSIFIER, (Y > 105).astype(int))):
        fitted = clone(estimator).fit(frame, target)
        formula = fitted.symbolic(frame)
        wanted = fitted.predict if estimator is REGRESSOR else fitted.decision_function
        assert [str(symbol) for symbol in formula.inputs] == ["mass", "speed"]
        assert np.allclose(formula(X)[:, 0], wanted(frame), atol=1e-8)
        assert formula.error < 1e-8
    cut = clone(REGRESSOR).fit(X, Y).symbolic(X, tolerance=0.01)
    assert cut.bound is not None and 0 < cut.error <= cut.bound


def test_weights_are_repetitions_to_the_last_bit() -> None:
    times = RNG.integers(0, 4, len(X))
    weighted = clone(REGRESSOR).fit(X, Y, sample_weight=times)
    order = RNG.permutation(np.repeat(np.arange(len(X)), times))
    repeated = clone(REGRESSOR).fit(X[order], Y[order])
    assert np.array_equal(weighted.predict(X), repeated.predict(X))
    assert not np.array_equal(weighted.predict(X), clone(REGRESSOR).fit(X, Y).predict(X))


def test_seeds_rule_everything() -> None:
    first, again, other = (
        clone(REGRESSOR).set_params(random_state=seed).fit(X, Y).predict(X) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    before = torch.get_rng_state()
    clone(REGRESSOR).fit(X, Y)
    assert torch.equal(before, torch.get_rng_state())


def test_early_stopping_keeps_the_best_parameters() -> None:
    x, y = load_diabetes(return_X_y=True)
    model = QKANRegressor(
        steps=300, optimizer="adam", lr=0.1, early_stopping=True, patience=5, random_state=0
    ).fit(x, y)
    held = model.history_.validation_loss
    assert model.history_.stopped_early and model.n_iter_ < 300
    assert model.history_.best_step == int(np.argmin(held)) + 1 == model.n_iter_ - 5


def test_partial_fit_goes_on() -> None:
    model = QKANRegressor(hidden=(3,), random_state=0)
    for _ in range(150):
        model.partial_fit(X, Y)
    assert model.n_iter_ == 150 and model.score(X, Y) > 0.9
    x, y = IRIS
    classifier = QKANClassifier(hidden=(), lr=0.05, random_state=0)
    with pytest.raises(ValueError, match="classes="):
        classifier.partial_fit(x[:50], y[:50])
    for part in range(60):
        rows = slice(part % 3, None, 3)
        classifier.partial_fit(x[rows], y[rows], classes=[0, 1, 2])
    assert classifier.score(x, y) > 0.9
    with pytest.raises(ValueError, match="not those of before"):
        classifier.partial_fit(x, y, classes=[0, 1])


def test_a_pickle_predicts_and_goes_on_the_same() -> None:
    model = QKANRegressor(hidden=(3,), random_state=0).partial_fit(X, Y)
    twin = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.predict(X), twin.predict(X))
    assert np.array_equal(model.partial_fit(X, Y).predict(X), twin.partial_fit(X, Y).predict(X))


def test_probabilities() -> None:
    x, y = IRIS
    for classes in (2, 3):
        rows = y < classes
        model = clone(CLASSIFIER).fit(x[rows], y[rows])
        chances = model.predict_proba(x[rows])
        assert chances.shape == (rows.sum(), classes) and np.allclose(chances.sum(1), 1)
        assert np.allclose(np.log(chances), model.predict_log_proba(x[rows]), atol=1e-12)
        assert np.array_equal(model.classes_[chances.argmax(1)], model.predict(x[rows]))


def test_several_targets() -> None:
    both = np.column_stack([Y, -Y + X[:, 0]])
    model = clone(REGRESSOR).fit(X, both)
    assert model.predict(X).shape == (80, 2) and model.score(X, both) > 0.99


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "not fitted": (lambda: QKANRegressor().predict(X), NotFittedError, "not fitted"),
    "no plot yet": (lambda: QKANRegressor().plot(X), NotFittedError, "not fitted"),
    "dtype": (lambda: QKANRegressor(dtype="int8").fit(X, Y), ValueError, "dtype='int8'"),
    "one class": (lambda: QKANClassifier().fit(X, np.ones(80)), ValueError, "one class only"),
    "numbers as classes": (lambda: QKANClassifier().fit(X, Y), ValueError, "continuous"),
    "all weights 0": (
        lambda: QKANRegressor().fit(X, Y, sample_weight=np.zeros(80)), ValueError,
        "at least one non-zero",
    ),
    "negative weight": (
        lambda: QKANRegressor().fit(X, Y, sample_weight=-np.ones(80)), ValueError, "[Nn]egative",
    ),
    "ansatz": (lambda: QKANRegressor(ansatz="pq").fit(X, Y), ValueError, "pq"),
    "minibatches with LBFGS": (
        lambda: QKANRegressor(batch_size=8).fit(X, Y), ValueError, "LBFGS with batch_size=8",
    ),
    "another width": (
        lambda: clone(REGRESSOR).partial_fit(X, Y).predict(X[:, :1]), ValueError, "1 features",
    ),
    "other targets": (
        lambda: clone(REGRESSOR).partial_fit(X, Y).partial_fit(X, np.ones((80, 2))), ValueError,
        "2 targets, before 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, error, message", BAD.values(), ids=BAD)
def test_bad_input_is_told(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_without_scikit_learn_the_message_names_the_extra() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import qkan; qkan.QKANRegressor"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "qkan-hybrid[sklearn]" in done.stderr
