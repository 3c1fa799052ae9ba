"""Pictures: they show what they say, in the user's units, and touch nothing else."""

from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import own_circuit
from compare import assert_close
from torch import Tensor, nn

from qkan import (
    QKAN,
    CircuitError,
    QKANError,
    QKANLayer,
    importance,
    plot,
    plot_bloch,
    plot_circuit,
    plot_spectrum,
    symbolic,
)

pytest.importorskip("matplotlib")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int, width: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, width, generator=generator(seed), dtype=torch.float64) - 1


def texts(figure: Any) -> list[str]:
    """Every word on a figure."""
    found = [t.get_text() for ax in figure.axes for t in (*ax.texts, ax.title, ax._left_title)]
    found += [label.get_text() for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label)]
    return [text for text in found if text]


def boxes(figure: Any) -> list[Any]:
    return figure.axes[1:]


MODELS = {
    "2-5-1": lambda: QKAN([2, 5, 1], input_range=(-1, 1)),
    "64-32-10": lambda: QKAN([64, 32, 10], reps=1),
    "one layer": lambda: QKANLayer(3, 2, ansatz=own_circuit(), dtype=torch.float64),
    "groups, amplitude": lambda: QKAN([3, 2], group=2, readout="amplitude"),
    "arccos, no base": lambda: QKAN([1, 1], ansatz="px", base=None),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_network_is_drawn_as_vectors(name: str) -> None:
    model = MODELS[name]()
    layer = model if isinstance(model, QKANLayer) else model.layers[0]
    figure = plot(model, points(40, layer.in_features))
    for kind, mark in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        file = io.BytesIO()
        figure.savefig(file, format=kind)
        assert file.getvalue().startswith(mark)
        assert kind == "png" or b"<image" not in file.getvalue()


def test_a_box_holds_the_edge_in_the_users_units() -> None:
    model = QKAN([1, 1], input_range=(3, 7), dtype=torch.float64, generator=generator(0))
    x = 5 + 2 * points(100, 1)
    box = boxes(plot(model, x, names=["t"]))[0]
    (line,) = box.lines
    at, values = torch.from_numpy(line.get_xdata()), torch.from_numpy(line.get_ydata())
    assert_close(at[[0, -1]], torch.stack([x.min(), x.max()]), "the data's range")
    assert_close(values, model(at[:, None]).flatten(), "the only edge is the model")
    assert [label.get_text() for label in box.get_xticklabels()] == ["3", "7"]


def test_darkness_is_importance_and_pruned_edges_are_absent() -> None:
    model, x = QKAN([3, 2], dtype=torch.float64, generator=generator(0)), points(200, 3)
    with torch.no_grad():
        model.layers[0].weight[:, 1] *= 1e-3
        model.layers[0].base_weight[:, 1] *= 1e-3
        model.layers[0].mask[0, 2] = 0
    figure = plot(model, x)
    assert len(boxes(figure)) == 5
    scores = importance(model, x)["layers.0"].edges.flatten().sort().values[1:].sqrt()
    shades = torch.tensor(
        sorted(b.lines[0].get_alpha() for b in boxes(figure)), dtype=torch.float64
    )
    assert_close(shades, 0.12 + 0.88 * scores / scores[-1], "opacity")


def test_it_says_how_many_edges_are_shown() -> None:
    model, x = QKAN([7, 5, 2], generator=generator(0)), points(50, 7)
    figure = plot(model, x.float(), most=6)
    share = importance(model, x.float())["layers.0"].edges.flatten().sort(descending=True).values
    share = float(share[:6].sum() / share.sum())
    note = f"layer 0: the 6 most important of 35 edges, {share:.0%} of the importance; layer 1: "
    assert len(boxes(figure)) == 12 and any(text.startswith(note) for text in texts(figure))
    assert not any("most important" in text for text in texts(plot(model, x.float(), most=35)))


def test_names_and_formulas_are_written() -> None:
    model, x = QKAN([2, 1], input_range=(-1, 1), generator=generator(0)), points(100, 2)
    with torch.no_grad():
        model.layers[0].weight.zero_()
        model.layers[0].bias.fill_(0.5)
        model.layers[0].mask[0, 1] = 0
    model.layers[0].base = "identity"
    formula = symbolic(model, x, forms=["constant", "x"], names=["mass", "speed"])
    figure = plot(model, x.float(), names=["mass", "speed"], outputs=["energy"], formula=formula)
    found = texts(figure)
    assert {"mass", "speed", "energy", "x"} <= set(found)
    assert any(text.startswith("$f = ") and "mass" in text for text in found)
    exact = plot(model, x.float(), formula=symbolic(model, x))
    assert "series" not in texts(exact) and "f" in texts(exact)


def test_an_edge_that_does_not_vary_is_drawn_flat() -> None:
    model = QKAN([2, 1], generator=generator(0))
    x = torch.cat([points(20, 1), torch.ones(20, 1, dtype=torch.float64)], 1).float()
    figure = plot(model, x)
    figure.savefig(io.BytesIO(), format="png")
    assert len(boxes(figure)) == 2


# --- one edge ---


def test_the_spectrum_is_over_the_users_units() -> None:
    model = QKAN([1, 1], encoding="linear", reps=2, input_range=(0, 10), dtype=torch.float64)
    ax = plot_spectrum(model).axes[0]
    cosine, sine = (line for line in ax.lines[1:3])
    k = cosine.get_xdata()
    assert np.allclose(k, [0, math.pi / 10, math.pi / 5])
    x = torch.linspace(0, 10, 17, dtype=torch.float64)
    angles = np.outer(x.numpy(), k)
    found = np.cos(angles) @ cosine.get_ydata() + np.sin(angles) @ sine.get_ydata()
    layer = model.layers[0]
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.base_weight.zero_()
    assert_close(torch.from_numpy(found), model(x[:, None]).flatten(), "φ")


def test_the_bloch_path_is_the_qubits() -> None:
    model = QKAN([2, 1], ansatz=own_circuit(), base=None, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[0.0, 1.0]]))
    x = points(30, 2)
    ax = plot_bloch(model, x, (0, 0, 1), name="speed").axes[0]
    steps = np.array(ax.collections[0]._segments3d)
    path = torch.from_numpy(np.concatenate([steps[:, 0], steps[-1:, 1]]))
    assert_close(path.norm(dim=1), torch.ones(len(path), dtype=torch.float64), "pure states")
    at = torch.linspace(float(x[:, 1].min()), float(x[:, 1].max()), len(path), dtype=torch.float64)
    phi = path @ torch.tensor(own_circuit().observable_vector, dtype=torch.float64)
    wanted = model(torch.stack([0 * at, at], 1)).flatten()
    assert_close(phi, wanted, "the component along the observable")
    assert any("speed" in text for text in texts(plot_bloch(model, x, (0, 0, 1), name="speed")))


def test_the_circuit_carries_its_values() -> None:
    model = QKANLayer(2, 2, ansatz=own_circuit())
    with torch.no_grad():
        model.theta[1, 0] = torch.tensor([0.11, -0.22, 0.33])
        model.scale[1, 0, 0], model.shift[1, 0, 0] = 1.5, -0.75
    found = texts(plot_circuit(model, (0, 1, 0)))
    assert found.count("−0.22") == 2 and "0.33" in found and found.count("1.50 x − 0.75") == 2
    assert {"H", "X", "Z", "RX\n0.3", "RY\nθ₀", "|0⟩"} <= set(found)
    assert any(text.startswith("⟨0.48X + -0.6Y") for text in found)


# --- what it leaves alone ---


def test_no_pyplot_no_files_no_random_numbers(tmp_path: Path) -> None:
    code = (
        "import sys, torch, qkan\n"
        "model, x = qkan.QKAN([2, 3, 1]), torch.rand(20, 2)\n"
        "state, before = torch.get_rng_state(), model.state_dict()\n"
        "qkan.plot(model, x); qkan.plot_spectrum(model); qkan.plot_circuit(model)\n"
        "qkan.plot_bloch(model, x)\n"
        "assert torch.equal(state, torch.get_rng_state())\n"
        "assert model.layers[0].theta.requires_grad and model.training\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr
    assert not list(tmp_path.iterdir())


def broken(layer: int, name: str) -> QKAN:
    model = QKAN([2, 2, 1])
    with torch.no_grad():
        getattr(model.layers[layer], name).flatten()[0] = math.nan
    return model


X = points(5, 2).float()
WRONG = {
    "a linear layer": (lambda: plot(nn.Linear(2, 1), X), "model is Linear"),
    "nan model": (lambda: plot(broken(1, "theta"), X), r"layers\.1\.theta"),
    "nan edge": (lambda: plot_circuit(broken(0, "bias")), r"layers\.0\.bias"),
    "nan data": (lambda: plot(QKAN([2, 1]), X / 0), r"sample 0, input 0.*layers\.0"),
    "one sample": (lambda: plot(QKAN([2, 1]), X[:1]), "at least two samples"),
    "width": (lambda: plot(QKAN([3, 1]), X), r"\(5, 2\)"),
    "names": (lambda: plot(QKAN([2, 1]), X, names=["x"]), r"names=\['x'\]; wanted 2"),
    "outputs": (lambda: plot(QKAN([2, 1]), X, outputs=[]), "outputs=.*wanted 1"),
    "most": (lambda: plot(QKAN([2, 1]), X, most=0), "most=0"),
    "formula": (
        lambda: plot(QKAN([2, 1]), X, formula=symbolic(QKAN([2, 3, 1]), X)), "another model",
    ),
    "edge": (lambda: plot_spectrum(QKAN([2, 1]), (0, 0, 2)), r"\(0, 0, 2\).*\[\(1, 2\)\]"),
    "layer": (lambda: plot_bloch(QKAN([2, 1]), X, (1, 0, 0)), r"edge=\(1, 0, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    ask, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        ask()


def test_an_arccos_has_no_spectrum() -> None:
    with pytest.raises(CircuitError, match="no finite frequency spectrum"):
        plot_spectrum(QKAN([1, 1], ansatz="px"))


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    from IPython.core.formatters import DisplayFormatter

    figure = plot_spectrum(QKANLayer(1, 1))
    shown, _ = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_() == shown["image/png"]
