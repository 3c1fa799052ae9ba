"""What people write who come from pykan, Keras, scikit-learn or numpy: a sentence, or it works."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from fitting import quiet

from qkan import HQKAN, KAN, QKAN, CircuitError, QKANError, QKANLayer, fit, load, prune, replace_ffn

X, Y = torch.rand(9, 2), torch.rand(9, 1)
Call = Callable[[], object]


def model() -> QKAN:
    return QKAN([2, 1], engine="torch")


CALLS: dict[str, tuple[Call, str]] = {
    "fit x y": (lambda: fit(model(), X, Y, steps=2), r"write fit\(model, \(x, y\), steps=20\)"),
    "fit y": (lambda: fit(model(), X, y=Y, steps=2), r"pass a pair: fit\(model, \(x, y\)"),
    "epochs": (lambda: fit(model(), (X, Y), epochs=3), r"no option 'epochs': pass steps=…"),
    "no steps": (lambda: fit(model(), (X, Y)), r"fit lacks steps: write fit"),
    "learning_rate": (lambda: fit(model(), (X, Y), steps=1, learning_rate=1), r"pass lr=…"),
    "misspelt": (lambda: fit(model(), (X, Y), steps=1, optimiser="adam"), "you mean 'optimizer"),
    "sizes": (lambda: QKAN(2, 5, 1), r"write QKAN\(\[2, 5, 1\], reps=3\), with all sizes in one"),
    "one size": (lambda: QKAN(5), r"widths=5: a network needs .* \[2, 5, 1\]"),
    "pykan": (lambda: QKAN(width=[2, 5, 1], grid=5, k=3), r"takes its sizes as a list: QKAN\(\["),
    "grid": (lambda: QKAN([2, 1], grid=5), r"no grid; reps=…"),
    "seed": (lambda: QKANLayer(2, 1, seed=0), r"generator=torch\.Generator\(\)\.manual_seed"),
    "layer": (lambda: QKANLayer([2, 5]), r"QKANLayer lacks out_features: write QKANLayer\(3, 2"),
    "threshold": (lambda: prune(model(), X, threshold=0.1), r"edge_threshold=… for edges"),
    "encoding": (lambda: QKAN([2, 1], encoding=2), r"encoding=2; wanted one of trainable, linear"),
    "range": (lambda: QKAN([2, 1], input_range=1), r"input_range=1; wanted two numbers"),
    "numpy": (lambda: model()(X.numpy()), r"ndarray; pass a torch tensor, torch\.as_tensor\(x, d"),
    "list": (lambda: KAN([2, 1])([[0.1, 0.2]]), r"list; pass a torch tensor"),
    "frame": (
        lambda: model()(pd.DataFrame(X.numpy())),
        r"DataFrame; pass a torch tensor, torch\.as_tensor\(x\.to_numpy\(\), dtype=t",
    ),
    "frame y": (
        lambda: fit(model(), (X, pd.Series(Y[:, 0].numpy())), steps=1),
        r"train y is of type Series; pass a torch tensor, torch\.as_tensor\(y\.to_numpy\(\)\)",
    ),
    "sparse": (lambda: model()(X.to_sparse()), r"sparse.*x\.to_dense\(\)"),
    "sparse y": (lambda: fit(model(), (X, Y.to_sparse()), steps=1), r"y is sparse.*y\.to_dense"),
    "loss class": (
        lambda: fit(model(), (X, Y), steps=1, loss=torch.nn.MSELoss), r"write loss=MSELoss\(\)"
    ),
    "rate text": (lambda: fit(model(), (X, Y), steps=1, lr="0.1"), r"lr='0\.1'; wanted a finite"),
    "dtype": (lambda: QKAN([2, 1], dtype=np.float32), r"such as torch\.float32"),
    "complex": (lambda: KAN([2, 1], dtype=torch.complex64), r"such as torch\.float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_a_sentence_says_what_to_write(case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises((TypeError, QKANError), match=message):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that is to be missing")
@pytest.mark.parametrize(
    "call",
    [
        lambda: QKAN([2, 1], device="cuda"),
        lambda: HQKAN(4, device="cuda"),
        lambda: KAN([2, 1], device="cuda:0"),
        lambda: load("no-file", device="cuda"),
    ],
)
def test_a_device_that_is_not_there(call: Call) -> None:
    with pytest.raises(QKANError, match=r"device='cuda.*Leave device out to compute on the CPU"):
        call()


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    made = QKAN(np.array([2, 3, 1]), reps=np.int64(2), group=np.int8(2), engine="torch")
    assert made.widths == [2, 3, 1] and made.layers[0].circuit.num_encodings == 2
    assert all(type(value) is int for value in [*made.widths, made.layers[0].group])
    history = quiet(
        made, (X, Y), optimizer="adam", steps=np.int64(2), batch_size=np.int32(4), seed=np.uint8(3),
        validation=np.float32(0.25), patience=np.int64(5),
    )  # fmt: skip
    assert len(history) == 2 and history.best_step is not None
    for value in (True, 2.0, "2", np.float64(2)):
        with pytest.raises(CircuitError, match="a whole number"):
            QKAN([2, 1], reps=value)


def test_a_module_in_place_of_what_makes_one() -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True)
    with pytest.raises(QKANError, match=r"make is a HQKAN.* lambda n: HQKAN\(n"):
        replace_ffn(layer, HQKAN(16))
    assert isinstance(layer.linear1, torch.nn.Linear)
