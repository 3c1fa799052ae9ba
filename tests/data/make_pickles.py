"""Write `pickles-0.1.0.pkl`: public objects and what they computed, pickled by version 0.1.0.

It was run once, on the last commit before the modules moved into their rooms, and is kept to show
how the file came to be: `python tests/data/make_pickles.py` on the commit 2f49eda.
"""

import pickle
from pathlib import Path

import numpy as np
import torch

import qkan

HERE = Path(__file__).parent


def main() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    regressor = qkan.QKANRegressor(hidden=2, steps=5, random_state=0).fit(x, x.sum(1))
    classifier = qkan.QKANClassifier(hidden=2, steps=5, random_state=0)
    classifier.fit(x, np.where(x[:, 0] > 0, "right", "left"))
    inputs = torch.linspace(-1, 1, 12).reshape(6, 2)
    modules = {
        "layer": qkan.QKANLayer(2, 3),
        "network": qkan.QKAN([2, 3, 1]),
        "kan": qkan.KAN([2, 3, 1]),
        "spline": qkan.to_kan(qkan.QKAN([2, 3, 1]), inputs),
        "hqkan": qkan.HQKAN(2, 3),
        "conv": qkan.QKANConv2d(1, 2, kernel_size=2),
        "folded": qkan.fold(qkan.QKAN([2, 3, 1], encoding="linear")),
    }
    images = {"conv": inputs[None]}
    outputs = {name: module(images.get(name, inputs)).detach() for name, module in modules.items()}
    network = modules["network"]
    history = qkan.fit(network, (inputs, inputs[:, :1]), steps=2, progress=False)
    outputs["network"] = network(inputs).detach()
    found = {
        "x": x,
        "regressor": regressor,
        "predicted": regressor.predict(x),
        "classifier": classifier,
        "probabilities": classifier.predict_proba(x),
        "inputs": inputs,
        "modules": modules,
        "outputs": outputs,
        "history": history,
        "importance": qkan.importance(network, inputs),
        "formula": qkan.symbolic(network, inputs),
    }
    (HERE / "pickles-0.1.0.pkl").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
