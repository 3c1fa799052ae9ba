"""`TableModel`: the estimators' predictions from one file, without the estimators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from onnxruntime import InferenceSession

from qkan import (
    QKAN,
    QiskitBackend,
    QKANClassifier,
    QKANError,
    QKANRegressor,
    TableModel,
    load,
    resume,
    run,
    save,
    to_onnx,
)

FAST: dict[str, Any] = {"hidden": (), "steps": 2, "random_state": 0, "encoding": "linear"}
RNG = np.random.default_rng(0)
# columns as tables have them: of unlike sizes, one of them constant
X = RNG.normal(size=(40, 3)) * [1.0, 1e-3, 0.0] + [0.0, 2020.0, 7.0]
TARGETS = {
    "one": 100 + 5 * X[:, 0],
    "two": np.column_stack([X[:, 0], 1e6 * X[:, 1]]),
}
CLASSES = {
    "two": X[:, 0] > 0,
    "texts": np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])],
    "numbers": np.digitize(X[:, 0], [-0.5, 0.5]) * 10,
}


def written(estimator: Any, tmp_path: Path, **names: Any) -> TableModel:
    path = tmp_path / "model.safetensors"
    save(estimator.to_module(**names), path)
    return load(path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_regressors_file_predicts_what_it_predicts(name: str, tmp_path: Path) -> None:
    estimator = QKANRegressor(**FAST).fit(X, TARGETS[name])
    model = written(estimator, tmp_path)
    assert np.array_equal(model.predict(torch.from_numpy(X)), estimator.predict(X))
    assert model.columns == ("x_1", "x_2", "x_3") and model.classes is None
    assert model.targets == (("y",) if name == "one" else ("y_1", "y_2"))
    with pytest.raises(QKANError, match="no classes"):
        model.predict_proba(torch.from_numpy(X))


@pytest.mark.parametrize("name", CLASSES)
def test_a_classifiers_file_predicts_what_it_predicts(name: str, tmp_path: Path) -> None:
    estimator = QKANClassifier(**FAST).fit(X, CLASSES[name])
    model = written(estimator, tmp_path, targets=["level"], unused=["id"])
    x = torch.from_numpy(X)
    assert np.array_equal(model.predict(x), estimator.predict(X))
    assert np.array_equal(model.predict_proba(x), estimator.predict_proba(X))
    logits = estimator.decision_function(X)
    assert np.array_equal(model(x).detach().numpy().reshape(logits.shape), logits)
    assert [*model.classes] == estimator.classes_.tolist()
    assert model.targets == ("level",) and model.unused == ("id",)


def test_a_data_frames_names_are_kept(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=["dose", "year", "site"])
    model = written(QKANRegressor(**FAST).fit(frame, TARGETS["one"]), tmp_path)
    assert model.columns == ("dose", "year", "site") and "dose, year, site → y" in repr(model)


def test_it_shares_its_parameters_with_the_estimator() -> None:
    estimator = QKANRegressor(**FAST).fit(X, TARGETS["one"])
    module = estimator.to_module()
    with torch.no_grad():
        module.network.layers[0].bias += 1.0
    assert np.array_equal(module.predict(torch.from_numpy(X)), estimator.predict(X))


def test_a_formula_is_in_the_tables_units() -> None:
    x = torch.from_numpy(X[:, :2])
    model = QKANRegressor(**FAST).fit(X[:, :2], TARGETS["one"]).to_module(columns=["a", "b"])
    formula = model.symbolic(x)
    assert [str(symbol) for symbol in formula.inputs] == ["a", "b"]
    assert np.allclose(formula(X[:, :2])[:, 0], model.predict(x)) and formula.error < 1e-6


def test_onnx_holds_the_scaling(tmp_path: Path) -> None:
    model = QKANRegressor(**FAST).fit(X, TARGETS["one"]).to_module()
    to_onnx(model, torch.from_numpy(X), tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    assert np.allclose(found[:, 0], model.predict(torch.from_numpy(X)), rtol=1e-10)


def test_a_device_answers_in_the_targets_units(tmp_path: Path) -> None:
    model = QKANRegressor(**FAST).fit(X, TARGETS["one"]).to_module()
    backend = QiskitBackend("fake_manila", emulator="closed_form", seed=0)
    x = torch.from_numpy(X[:6])
    result = run(model, x, backend, store=tmp_path / "run", progress=False)
    exact = model(x).detach()
    assert ((result.values - exact).abs() < 5 * result.stderr).all()
    again = resume(tmp_path / "run", progress=False)
    assert torch.equal(again.values, result.values)
    # the network's own error bars, times the target's spread
    scaled = run(model.network, model.standardised(x), backend, progress=False)
    assert torch.allclose(result.stderr / scaled.stderr, model.target_scale, rtol=0.2)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a column too few": ({"columns": ["a"]}, "names of 2 inputs"),
    "a target too many": ({"targets": ["y", "z"]}, "1 targets for"),
    "a name twice": ({"columns": ["a", "a"]}, "occur twice"),
    "the target among the columns": ({"targets": ["a"]}, "occur twice"),
    "no name": ({"columns": ["a", ""]}, "have names"),
    "a number for a name": ({"columns": ["a", 3]}, "have names"),
    "three classes of one logit": ({"classes": [1, 2, 3]}, "do not fit 1 logits"),
    "one class": ({"classes": ["a"]}, "do not fit"),
    "a class twice": ({"classes": ["a", "a"]}, "do not fit"),
    "no class for JSON": ({"classes": [1j, 2j]}, "texts or numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_an_error(name: str) -> None:
    options, found = WRONG[name]
    with pytest.raises(QKANError, match=found):
        TableModel(QKAN([2, 1]), **{"columns": ["a", "b"], "targets": ["y"], **options})


def test_inputs_of_another_width_are_an_error() -> None:
    model = TableModel(QKAN([2, 1]), columns=["a", "b"], targets=["y"])
    with pytest.raises(QKANError, match="in_features=2"):
        model(torch.zeros(4, 3))
    assert json.loads(json.dumps(model.config()))["columns"] == ["a", "b"]
