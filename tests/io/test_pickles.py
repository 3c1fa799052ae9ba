"""What version 0.1.0 pickled is read by this version and computes what it did."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from paths import DATA

import qkan


@pytest.fixture(scope="module")
def found() -> Any:
    return pickle.loads((DATA / "pickles-0.1.0.pkl").read_bytes())


@pytest.mark.parametrize("name", ["layer", "network", "kan", "spline", "hqkan", "conv", "folded"])
def test_modules_compute_what_they_did(found: Any, name: str) -> None:
    inputs = found["inputs"][None] if name == "conv" else found["inputs"]
    torch.testing.assert_close(found["modules"][name](inputs), found["outputs"][name])


def test_estimators_predict_what_they_did(found: Any) -> None:
    np.testing.assert_allclose(found["regressor"].predict(found["x"]), found["predicted"])
    probabilities = found["classifier"].predict_proba(found["x"])
    np.testing.assert_allclose(probabilities, found["probabilities"])


def test_estimators_hold_a_table_model_as_those_of_today(found: Any) -> None:
    again = pickle.loads(pickle.dumps(found["regressor"]))
    for estimator in (found["regressor"], again):
        module = estimator.to_module()
        x = torch.from_numpy(np.asarray(found["x"], dtype=np.float64))
        np.testing.assert_allclose(module.predict(x), found["predicted"])
        assert np.array_equal(estimator.mean_, module.mean.numpy())
        assert estimator.range_.shape == (x.shape[1], 2) and module.network is estimator.model_
    assert set(found["classifier"].to_module().classes) == set(found["classifier"].classes_)


def test_results_are_of_the_classes_of_today(found: Any) -> None:
    assert isinstance(found["history"], qkan.History) and len(found["history"].train_loss) == 2
    assert isinstance(found["formula"], qkan.Formula)
    assert all(isinstance(score, qkan.Importance) for score in found["importance"].values())
