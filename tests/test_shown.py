"""Results as the last line of a notebook cell: short, and pictures that can be read."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_backend import ExactBackend

import qkan
from qkan import QKAN
from qkan.backends.calibration import Calibration

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402

X = torch.rand(40, 8, generator=torch.Generator().manual_seed(1))


def network(*widths: int, **options: object) -> QKAN:
    generator = torch.Generator().manual_seed(0)
    return QKAN(widths or (8, 12, 3), engine="torch", generator=generator, **options)


def measured(**options: object) -> qkan.DeviceResult:
    made = network(8, 2, encoding="linear")
    return qkan.run(made, X[:9], ExactBackend(shots=100), progress=False, **options)


def calibration() -> Calibration:
    one = np.linspace(0.01, 0.02, 133)
    one[5] = np.nan
    return Calibration("fake", None, np.arange(133), one, one, one, one, one, one)


RESULTS: dict[str, Callable[[], object]] = {
    "history": lambda: qkan.fit(network(), (X, X[:, :3]), steps=1, progress=False),
    "importance": lambda: qkan.importance(network(), X),
    "one layer": lambda: qkan.importance(network(), X)["layers.1"],
    "explain": lambda: qkan.explain(network(), X),
    "formula": lambda: qkan.symbolic(network(encoding="linear"), X),
    "an edge": lambda: qkan.symbolic(network(8, 1, reps=9), X).edges[0],
    "redundancy": lambda: qkan.redundancy(network(4, 6, 2), X[:, :4]),
    "tables": lambda: qkan.tabulate(
        network(2, 1, encoding="linear"), X[:9, :2], ExactBackend(shots=100)
    ),
    "plan": lambda: qkan.estimate(network(), X, ExactBackend(shots=100)),
    "device": measured,
    "checks": lambda: measured(mode="teacher_forced").edges,
    "program": lambda: qkan.ansatz("pz", 9).program,
    "calibration": lambda: calibration(),
    "activation": lambda: qkan.fit_activation(qkan.ansatz("pz", 3), "gelu"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_shows_itself_in_a_few_lines(name: str) -> None:
    found = RESULTS[name]()
    assert 10 < len(repr(found)) < 2500 and "tensor(" not in repr(found)
    for kind in ("html", "latex"):
        shown = getattr(found, f"_repr_{kind}_", lambda: None)()
        assert shown is None or len(shown) < 20_000


def test_what_a_dataclass_would_show_in_full_is_short() -> None:
    short = repr(qkan.ansatz("pz", 1).program)
    assert re.fullmatch(
        r"Program\(\d gates as \d rotations: R.(.*) · R.*; theta slots: 4, encodings: 1\)", short
    )
    assert "… " in repr(qkan.ansatz("pz", 9).program)
    assert repr(calibration()) == (
        "Calibration(fake, 133 qubits, no date, median readout error 0.015, median SX error 0.015)"
    )
    for verdict in qkan.explain(network(), X).values():
        assert re.match(
            r"Explanation\(\w+, estimated .* ms a training step; \d of \d", repr(verdict)
        )
    for shown in (short, repr(calibration()), repr(qkan.explain(network(), X)["layers.0"])):
        assert len(shown) < 250 and "Rotation(" not in shown and "array(" not in shown


def contrast(figure: object) -> float:
    """How many pixels differ clearly from the most frequent one."""
    with io.BytesIO() as file:
        figure.savefig(file, format="rgba", dpi=60)  # type: ignore[attr-defined]
        pixels = np.frombuffer(file.getvalue(), np.uint8).reshape(-1, 4)[:, :3].astype(int)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    ground = colours[counts.argmax()]
    return float((np.abs(pixels - ground).max(1) > 90).mean())


PICTURES: dict[str, Callable[[], object]] = {
    "network": lambda: qkan.plot(network(3, 2, 1), X[:, :3]),
    "circuit": lambda: qkan.plot_circuit(network()),
    "spectrum": lambda: qkan.plot_spectrum(network()),
    "bloch": lambda: qkan.plot_bloch(network(), X),
    "history": lambda: qkan.History([1, 2], [2.0, 1.0], [None, 1.0], [1.0] * 2, [1.0] * 2).plot(),
    "importance": lambda: qkan.importance(network(), X).plot(),
    "one layer": lambda: qkan.importance(network(), X)["layers.0"].plot(),
    "device": lambda: measured().plot(X[:9, 0], expected=torch.zeros(9, 2)),
    "samples": lambda: measured().plot(),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_legible_under_a_dark_style(name: str) -> None:
    found = []
    for style in ("default", "dark_background"):
        with pyplot.style.context(style):
            drawn = PICTURES[name]()
            figure = getattr(drawn, "figure", None) or drawn
            found.append(contrast(figure))
        pyplot.close("all")
    assert found[1] == pytest.approx(found[0], rel=0.35) and found[0] > 0.003


def test_importance_is_drawn_layer_by_layer() -> None:
    figure = qkan.importance(network(), X).plot()
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["layers.0", "layers.1"]
    assert figure.axes[0].images[0].get_array().shape == (12, 8)
    pyplot.close("all")


def test_a_result_of_a_device_is_drawn_with_its_errors() -> None:
    found = measured()
    ax = found.plot()
    assert len(ax.containers) == 2 and ax.get_xlabel() == "sample"
    heights = ax.containers[1].lines[0].get_ydata()
    assert np.allclose(np.asarray(heights), found.values[:, 1])
    pyplot.close("all")
    with pytest.raises(qkan.QKANError, match="9 samples with 2 outputs"):
        found.plot(X)


@pytest.mark.parametrize("how", ["run", "on_device"])
def test_a_store_that_is_a_file_is_refused(how: str, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    made, backend = network(8, 2), ExactBackend(shots=100)
    with pytest.raises(qkan.QKANError, match=r"runs' is a file: a run keeps several"):
        if how == "run":
            qkan.run(made, X, backend, store=tmp_path / "runs", progress=False)
        else:
            qkan.on_device(made, backend, store=tmp_path / "runs")
