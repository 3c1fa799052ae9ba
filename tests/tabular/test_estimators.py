"""`QKANRegressor` and `QKANClassifier` keep scikit-learn's promises, and some of their own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import qkan
from qkan import QKAN, AliasingWarning, QKANClassifier, QKANLayer, QKANRegressor
from qkan.tabular.roughness import roughness

IRIS = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 5, (80, 2))
Y = 100 + 7 * np.sin(X[:, 0]) + X[:, 1] ** 2
# targets without noise, to be met exactly
EXACT: dict[str, Any] = {"reps": 3, "base": "silu", "alpha": 0, "tol": 1e-9}
REGRESSOR = QKANRegressor(hidden=(3,), steps=8, random_state=0, **EXACT)
CLASSIFIER = QKANClassifier(hidden=(), steps=5, random_state=0, **EXACT)
# the checks ask what a fit does and not how well: a few steps are enough
CHECKED = (QKANRegressor(steps=3), QKANClassifier(steps=3))


@pytest.mark.filterwarnings("ignore:.*SCIPY_ARRAY_API")
@parametrize_with_checks([*CHECKED])
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
    with pytest.raises(ValueError, match="differ from those of the first call"):
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
    "one class": (lambda: QKANClassifier().fit(X, np.ones(80)), ValueError, "only one class"),
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
        "2 targets, but had 1 before",
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


# ---- the data and the options of other people

NUMPY: dict[str, dict[str, Any]] = {
    "reps": {"reps": np.int64(2)},
    "steps": {"steps": np.int32(2)},
    "a width": {"hidden": np.array([2, 3])},
    "one width": {"hidden": np.int64(2)},
    "one width of Python": {"hidden": 2},
    "group": {"group": np.uint8(1)},
    "batches": {"batch_size": np.int64(16), "optimizer": "adam"},
    "lr": {"lr": np.float32(0.01), "optimizer": "adam"},
    "alpha": {"alpha": np.float32(1)},
    "patience": {"patience": np.int64(3), "early_stopping": np.bool_(True)},
    "a share": {"validation_fraction": np.float32(0.2), "early_stopping": True},
    "a seed": {"random_state": np.uint32(7)},
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpys_numbers_are_numbers(name: str) -> None:
    options = {"steps": 2, "random_state": 0, **NUMPY[name]}
    found = QKANRegressor(**options).fit(X, Y)
    plain = {k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v
             for k, v in options.items()}  # fmt: skip
    assert np.array_equal(found.predict(X), QKANRegressor(**plain).fit(X, Y).predict(X))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a bool for a size": ({"reps": True}, "reps=True"),
    "a bool of numpy": ({"steps": np.bool_(True)}, "steps="),
    "half a step": ({"steps": 2.5}, "steps=2.5"),
    "no width": ({"hidden": "5"}, "hidden='5'; wanted a whole number"),
    "a layer of none": (
        {"hidden": 0},
        r"hidden=0; wanted a whole.*Or pass \(\) for no hidden layer",
    ),
    "no layers": ({"hidden": None}, "hidden=None; wanted a whole number"),
    "a text for a rate": ({"lr": "fast", "optimizer": "adam"}, "lr='fast'"),
    "less than no penalty": ({"alpha": -1}, "alpha=-1"),
    "no penalty at all": ({"alpha": None}, "alpha=None"),
    "a word for stopping": ({"early_stopping": "yes"}, "early_stopping='yes'"),
    "all held out": ({"early_stopping": True, "validation_fraction": 1.0}, "holds none out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_options_that_cannot_be_right_are_told(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        QKANRegressor(**{"steps": 1, **options}).fit(X, Y)


def test_missing_values_are_marked() -> None:
    gaps = RNG.random(80) < 0.3
    holes = X.copy()
    holes[gaps, 0] = np.nan
    # what is missing tells of the target
    target = Y + 20 * gaps
    fitted = QKANRegressor(random_state=0).fit(holes, target)
    assert fitted.model_.widths[0] == 3 and fitted.score(holes, target) > 0.8
    assert np.isclose(fitted.mean_[0], X[~gaps, 0].mean())
    module = fitted.to_module(columns=["mass", "speed"], targets=["range"])
    assert module.columns == ("mass", "speed", "mass missing")
    rows = module.inputs({"speed": holes[:, 1], "mass": holes[:, 0]})
    assert np.array_equal(module.predict(rows), fitted.predict(holes))
    again = QKANRegressor(random_state=0).fit(np.repeat(holes, 2, 0), np.repeat(target, 2))
    weights = np.full(80, 2)
    assert np.array_equal(
        again.predict(holes),
        QKANRegressor(random_state=0).fit(holes, target, sample_weight=weights).predict(holes),
    )
    with pytest.raises(ValueError, match="Feature 0 has no value"):
        QKANRegressor().fit(np.full((10, 1), np.nan), Y[:10])


@pytest.mark.parametrize("x_unit, y_unit", [(1e-200, 1e-200), (1e200, 1e200)])
@pytest.mark.filterwarnings("error")
def test_units_whose_squares_are_no_numbers(x_unit: float, y_unit: float) -> None:
    plain = QKANRegressor(hidden=2, steps=3, random_state=0).fit(X, Y)
    found = QKANRegressor(hidden=2, steps=3, random_state=0).fit(X * x_unit, Y * y_unit)
    assert np.allclose(found.predict(X * x_unit) / y_unit, plain.predict(X), rtol=1e-3)


def test_sparse_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(TypeError, match="dense"):
        QKANRegressor().fit(csr_matrix(X), Y)


def test_a_penalty_makes_activations_smoother() -> None:
    noise = RNG.normal(size=80)
    rough, smooth = (
        QKANRegressor(alpha=alpha, reps=3, random_state=0).fit(X, noise) for alpha in (0, 30)
    )
    assert roughness(smooth.model_) < 0.1 * roughness(rough.model_)
    assert smooth.score(X, noise) < 0.5 < rough.score(X, noise)


def test_roughness_is_the_mean_squared_slope() -> None:
    layer = QKANLayer(2, 1, base="identity", dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_()
        layer.base_weight.copy_(torch.tensor([[3.0, -4.0]]))
        assert roughness(QKAN.from_layers([layer])).item() == pytest.approx(25.0)
        # cos(k x) on one edge: k²/2, less what the differences miss
        circuit = qkan.ansatz("px", 1)
        sizes = []
        for scale in (1.0, 2.0):
            one = QKANLayer(1, 1, ansatz=circuit, encoding=[scale], base=None, dtype=torch.float64)
            one.weight.fill_(1.0)
            one.theta.zero_()
            sizes.append(roughness(QKAN.from_layers([one])).item())
    assert sizes[0] == 0 or 2 < sizes[1] / sizes[0] < 6


def test_early_stopping_leaves_rare_classes_to_train_on() -> None:
    labels = np.array(["common"] * 76 + ["rare"] * 2 + ["single", "also single"])
    for seed in range(10):
        model = QKANClassifier(steps=1, early_stopping=True, random_state=seed,
                               validation_fraction=0.4).fit(X, labels)  # fmt: skip
        y = np.searchsorted(model.classes_, labels)[:, None].astype(float)
        (_, kept), held = model._held_out(X, y, np.ones(80))
        assert held is not None and {*kept[:, 0].tolist()} == {0.0, 1.0, 2.0, 3.0}
        assert 28 <= len(held[1]) <= 34


def test_class_weights_count() -> None:
    x, y = IRIS
    rare = np.r_[0:50, 50:55]
    options = {"hidden": (), "steps": 5, "random_state": 0}
    plain = QKANClassifier(**options).fit(x[rare, 1:2], y[rare])
    weighted = QKANClassifier(class_weight="balanced", **options).fit(x[rare, 1:2], y[rare])
    by_hand = QKANClassifier(**options).fit(
        x[rare, 1:2], y[rare], sample_weight=np.where(y[rare] == 0, 55 / 100, 55 / 10)
    )
    assert (weighted.predict(x[50:55, 1:2]) == 1).sum() > (plain.predict(x[50:55, 1:2]) == 1).sum()
    assert np.allclose(weighted.predict_proba(x[:, 1:2]), by_hand.predict_proba(x[:, 1:2]))


def test_a_warm_start_goes_on() -> None:
    model = QKANRegressor(steps=2, random_state=0, warm_start=True).fit(X, Y)
    first, scales = model.loss_curve_, model.mean_.copy()
    assert len(first) == model.n_iter_ == 2
    model.fit(X[:60], Y[:60])
    assert model.loss_curve_[0] < first[-1] * 1.5 and np.array_equal(model.mean_, scales)
    cold = QKANRegressor(steps=2, random_state=0).fit(X, Y)
    assert cold.fit(X, Y).loss_curve_ == first
    batches = QKANRegressor(random_state=0).partial_fit(X, Y).partial_fit(X, Y)
    assert len(batches.loss_curve_) == batches.n_iter_ == 2


def test_adam_takes_enough_steps_by_itself() -> None:
    assert QKANRegressor(optimizer="adam", random_state=0).fit(X, Y).n_iter_ == 300


def test_time_stamps_keep_their_digits_in_single_precision() -> None:
    stamps = 1.7e12 + np.linspace(0, 1e6, 80)[:, None]
    target = 1e9 + np.sin(np.linspace(0, 6, 80))
    model = QKANRegressor(dtype="float32", alpha=0.1, random_state=0).fit(stamps, target)
    module = model.to_module()
    assert r2_score(target, model.predict(stamps)) > 0.95
    for moved in (module, module.float(), copy.deepcopy(module).to(torch.float32)):
        found = moved.predict(torch.from_numpy(stamps))
        assert np.allclose(found, model.predict(stamps), rtol=0, atol=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        qkan.save(module, f"{folder}/m.safetensors")
        again = qkan.load(f"{folder}/m.safetensors")
        assert np.allclose(again.predict(torch.from_numpy(stamps)), found, rtol=0, atol=1e-4)


def test_a_feature_may_be_named_y() -> None:
    frame = pd.DataFrame(X, columns=["y", "x"])
    model = QKANRegressor(steps=1, random_state=0).fit(frame, Y)
    assert model.to_module().targets == ("target_y",)
    both = QKANRegressor(steps=1).fit(frame.rename(columns={"x": "y_2"}), np.c_[Y, Y])
    assert both.to_module().targets == ("target_y_1", "target_y_2")
    assert [str(symbol) for symbol in model.symbolic(frame).inputs] == ["y", "x"]


def test_aliasing_is_answered_by_what_an_estimator_takes() -> None:
    far = X.copy()
    far[0] = 500.0
    with pytest.warns(AliasingWarning, match="encoding='trainable'") as caught:
        QKANRegressor(encoding="linear", steps=1).fit(far, Y)
    assert "input_range=" not in str(caught[0].message)


def test_pictures_are_in_the_units_of_the_data() -> None:
    frame = pd.DataFrame(
        X * 100, columns=["a name of so many letters that no picture has room", "b"]
    )
    figure = QKANRegressor(steps=2, random_state=0).fit(frame, Y).plot(frame)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "a name of so many lette…" in texts and "b" in texts and "y" in texts
    limits = [axes.get_xlim() for axes in figure.axes[1:]]
    wanted = [(frame[name].min(), frame[name].max()) for name in frame]
    assert sum(np.allclose(found, at) for found in limits for at in wanted) == 10
    figure.canvas.draw()
    box = figure.get_window_extent()
    for text in (text for axes in figure.axes for text in axes.texts):
        at = text.get_window_extent()
        assert box.x0 <= at.x0 and at.x1 <= box.x1 and box.y0 <= at.y0 and at.y1 <= box.y1
