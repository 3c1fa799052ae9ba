"""The page of `view`: what it holds is what the model computes, and no name of data runs in it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from cases import own_circuit
from compare import assert_close
from torch import Tensor, nn

import qkan
from qkan import QKAN, QKANError, QKANLayer, view
from qkan.interpret.edges import chosen_outputs, edge_outputs

HOSTILE = ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{data}}"]


def points(count: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(count, width, generator=generator, dtype=torch.float64) - 1


def data_of(page: qkan.View) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html, re.S)
    assert found
    return json.loads(found[1])


MODELS = {
    "own circuit": lambda: QKANLayer(3, 2, ansatz=own_circuit(), dtype=torch.float64),
    "groups, amplitude": lambda: QKAN([3, 2], group=2, readout="amplitude"),
    "arccos, no base": lambda: QKAN([3, 2, 1], ansatz="px", base=None),
    "range": lambda: QKAN([3, 4, 2], input_range=(-2, 2), base="gelu"),
    "one input": lambda: QKAN([1, 1]),
}
each = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@each
def test_chosen_edges_are_those_of_all(make: Any) -> None:
    model = make().double()
    layer = model if isinstance(model, QKANLayer) else model.layers[0]
    layer.mask[0, 0] = 0
    x = points(7, layer.in_features)
    places = torch.cartesian_prod(torch.arange(layer.out_features), torch.arange(layer.in_features))
    with torch.no_grad():
        wanted = edge_outputs(layer, x).flatten(1)
        assert_close(chosen_outputs(layer, x, places), wanted, "all edges")
        assert_close(chosen_outputs(layer, x, places[-1:]), wanted[:, -1:], "the last edge")
        assert chosen_outputs(layer, x, places[:0]).shape == (7, 0)


def read_back(text: str) -> Any:
    """A formula of the page as sympy reads it."""
    x = sympy.Symbol("x")
    known = {
        "silu": lambda t: t / (1 + sympy.exp(-t)),
        "gelu": lambda t: t * (1 + sympy.erf(t / sympy.sqrt(2))) / 2,
        "x": x,
    }
    plain = text.replace("·", "*").replace("−", "-").replace("^", "**")
    return sympy.lambdify(x, sympy.sympify(plain, locals=known), modules=["scipy", "numpy"])


@each
def test_the_page_holds_what_the_model_computes(make: Any) -> None:
    torch.manual_seed(0)
    model, x = make().double(), points(40, 3 if "1, 1" not in str(make()) else 1)
    x = x[:, : (model if isinstance(model, QKANLayer) else model.layers[0]).in_features]
    page = data_of(view(model, x, rows=5))
    assert page["rows"] == [0, 10, 20, 29, 39] and page["samples"] == 40
    layers = [model] if isinstance(model, QKANLayer) else [*model.layers]
    with torch.no_grad():
        wanted = model(x[page["rows"]])
    for o, values in enumerate(page["columns"][-1]["values"]):
        assert values == pytest.approx(wanted[:, o].tolist(), rel=1e-4, abs=1e-5)
        added = sum(np.array(e["at"]) for e in page["layers"][-1]["edges"] if e["o"] == o)
        bias = layers[-1].bias
        added = added + (0 if bias is None else float(bias.detach()[o]))
        assert added == pytest.approx(wanted[:, o].numpy(), rel=1e-4, abs=1e-4)
    for edge in (edge for layer in page["layers"] for edge in layer["edges"]):
        inputs = np.linspace(*edge["x"], len(edge["y"]))
        found = np.broadcast_to(read_back(edge["formula"])(inputs), inputs.shape)
        assert np.abs(found - edge["y"]).max() <= edge["error"] + 1e-4 * np.abs(edge["y"]).max()
        assert edge["error"] <= 0.02 * np.ptp(edge["y"]) + 1e-9


def table_model() -> qkan.TableModel:
    torch.manual_seed(1)
    model = qkan.TableModel(QKAN([3, 2]), columns=["age", "dose", "year"], targets=["a", "b"])
    model.set_scales(
        mean=np.array([50.0, 3.0, 1.9e9]), scale=np.array([10.0, 0.5, 2e5]),
        target_mean=np.array([7.0, -1.0]), target_scale=np.array([200.0, 1e-3]),
    )  # fmt: skip
    return model


def test_a_table_is_shown_in_its_names_and_units() -> None:
    model = table_model()
    x = model.mean + model.scale * points(30, 3)
    page = data_of(view(model, x))
    inputs, outputs = page["columns"]
    assert inputs["names"] == ["age", "dose", "year"] and outputs["names"] == ["a", "b"]
    with torch.no_grad():
        assert np.array(outputs["values"]).T == pytest.approx(model(x).numpy(), rel=1e-4)
    assert np.array(inputs["values"]).T == pytest.approx(x.numpy(), rel=1e-4)
    for edge in page["layers"][0]["edges"]:
        span = np.ptp(edge["x"])
        assert span == pytest.approx(np.ptp(x[:, edge["i"]].numpy()), rel=1e-2)
        grid = np.linspace(*edge["x"], len(edge["y"]))
        if edge["i"] != 2:
            # what the page says of the year holds at the points of the curve, not at these
            assert np.abs(read_back(edge["formula"])(grid) - edge["y"]).max() < 1.1 * max(
                edge["error"], 1e-3 * np.ptp(edge["y"])
            )


def test_names_of_data_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page = view(QKAN([3, 1]), points(9, 3), path, names=HOSTILE, outputs=["</script>"])
    text = path.read_text()
    assert text == page.html
    assert page._repr_html_().count("<script") == 0
    assert data_of(page)["columns"][0]["names"] == HOSTILE
    assert text.count("<script") == 2 and text.count("</script>") == 2
    for name in HOSTILE[:2]:
        assert name not in text and html.escape(name) not in text


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path: Path) -> None:
    page = view(QKAN([1, 1]), points(9, 1), tmp_path / "page.html", names=["\ud800"])
    assert data_of(page)["columns"][0]["names"] == ["?"]


def test_a_page_asks_for_nothing_and_stands_in_a_notebook() -> None:
    page = view(QKAN([2, 2, 1]), points(9, 2))
    assert not re.search(r"""(?:src|href)=|url\(|@import|fetch\(""", page.html)
    assert "default-src 'none'" in page.html
    frame = page._repr_html_()
    assert frame.startswith("<iframe") and 'sandbox="allow-scripts"' in frame
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == page.html  # type: ignore[index]
    assert repr(page) == 'View(QKAN [2, 2, 1]; .save("network.html") writes it for a browser)'


def test_a_large_network_shows_its_most_important_edges() -> None:
    x = points(20, 40)
    model = QKAN([40, 50, 3], reps=1)
    page = data_of(view(model, x, most=10, rows=4))
    first = page["layers"][0]
    assert len(first["edges"]) == 10 and first["total"] == 2000 and 0 < first["share"] < 0.5
    scores = qkan.importance(model.double(), x)["layers.0"].edges
    highest = scores.flatten().sort(descending=True).values[:10].tolist()
    assert [edge["score"] for edge in first["edges"]] == pytest.approx(highest)
    assert page["columns"][0]["total"] == 40 and len(page["columns"][0]["nodes"]) <= 10
    touched = {edge["o"] for edge in first["edges"]} | {e["i"] for e in page["layers"][1]["edges"]}
    assert {*page["columns"][1]["nodes"]} == touched


def test_forms_stand_in_the_place_of_waves() -> None:
    torch.manual_seed(0)
    model, x = QKAN([1, 1], encoding="linear", reps=1, base=None).double(), points(50, 1)
    formula = qkan.symbolic(model, x, forms=["sin"])
    (edge,) = data_of(view(model, x, formula=formula))["layers"][0]["edges"]
    assert edge["form"] == "sin" and "sin(" in edge["formula"] and edge["error"] < 1e-2
    with pytest.raises(QKANError, match="view: the formula belongs to another model"):
        view(QKAN([1, 1, 1]), x, formula=qkan.symbolic(QKAN([1, 1, 1, 2]), x, forms=["sin"]))


def test_blocks_activations_and_estimators() -> None:
    block = qkan.HQKAN(6, latent=2, gate=True)
    page = view(block, torch.randn(2, 5, 6))
    found = data_of(page)
    assert (
        page.title == "HQKAN 6 → 6, with a QKAN [2, 2]" and "inside the HQKAN" in found["notes"][0]
    )
    assert found["columns"][0]["names"] == ["latent₁", "latent₂"] and found["samples"] == 10
    activation = qkan.DARUAN(6, group=3)
    with torch.no_grad():
        activation.amplitude.fill_(0.5)
    found = data_of(view(activation, torch.randn(9, 6), most=2))
    assert len(found["layers"][0]["edges"]) == 2 and found["layers"][0]["total"] == 3
    assert "cos" in found["layers"][0]["edges"][0]["formula"] and found["rows"] == []
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": np.arange(30.0), "<b>": np.arange(30.0) % 7})
    model = qkan.QKANRegressor(hidden=(2,), steps=2).fit(frame, np.arange(30.0))
    for page in (view(model, frame), model.view(frame)):
        assert data_of(page)["columns"][0]["names"] == ["age", "<b>"]


def between() -> QKAN:
    model = QKAN([2, 3, 1])
    model.layers.insert(1, nn.Tanh())
    return model


def huge() -> QKAN:
    model = QKAN([2, 1]).double()
    with torch.no_grad():
        model.layers[0].weight.fill_(1e308)
    return model


REFUSED = {
    "a module between": (between, points(9, 2), "there is a Tanh"),
    "another module": (lambda: nn.Linear(2, 1), points(9, 2), "the model is Linear; pass a QKAN"),
    "no module": (lambda: [1, 2], points(9, 2), "the model is list; pass a QKAN"),
    "no data": (lambda: QKAN([2, 1]), None, r"pass them as view\(model, x\)"),
    "one sample": (lambda: QKAN([2, 1]), points(1, 2), "at least two"),
    "another width": (lambda: QKAN([2, 1]), points(9, 3), r"x has shape \(9, 3\)"),
    "no tensor": (lambda: QKAN([2, 1]), [[1.0, 2.0]], "x is list"),
    "nan": (lambda: QKAN([2, 1]), points(9, 2) * torch.nan, "not finite at sample 0"),
    "too large": (huge, points(9, 2), "too large"),
    "integers": (lambda: QKAN([2, 1]), torch.ones(9, 2).long(), "torch.int64"),
    "latent": (lambda: qkan.HQKAN(6), points(9, 5), r"pass a torch tensor \(…, 6\)"),
    "spline": (lambda: qkan.SplineKAN.start([2, 1]), points(9, 2), "the model is SplineKAN"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_others_are_refused_in_a_sentence(case: str) -> None:
    make, x, message = REFUSED[case]
    with pytest.raises(QKANError, match=message):
        view(make(), x)


def test_options_are_checked(tmp_path: Path) -> None:
    model, x = QKAN([2, 1]), points(9, 2)
    for options, message in (
        ({"names": ["a"]}, "wanted 2 names"),
        ({"outputs": ["a", "b"]}, "wanted 1 names"),
        ({"most": 0}, "most=0"),
        ({"formula": "sin"}, "formula is str; pass the result of symbolic"),
        ({"rows": 0}, "rows=0"),
        ({"path": tmp_path}, "is a folder"),
        ({"path": tmp_path / "x" / "y.html"}, "does not exist"),
    ):
        with pytest.raises(QKANError, match=message):
            view(model, x, **options)  # type: ignore[arg-type]


def test_pruned_edges_are_not_shown() -> None:
    model, x = QKAN([2, 2, 1]), points(9, 2)
    model.layers[0].mask.zero_()
    page = data_of(view(model, x))
    assert page["layers"][0]["edges"] == [] and page["layers"][0]["total"] == 0
    assert len(page["layers"][1]["edges"]) == 2


def test_without_sympy_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sympy", None)
    for name in ("qkan.interpret.edge_text", "qkan.interpret.edge_formula"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for model in (QKAN([2, 1]), qkan.DARUAN(2)):
        (*_, edge) = data_of(view(model, points(9, 2)))["layers"][0]["edges"]
        assert edge["formula"] is None and "pip install" in edge["note"]
