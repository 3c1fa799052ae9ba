"""Layers of several observables or a learnt one, which every public function takes or refuses."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_close
from torch import nn

import qkan
from qkan import DARUAN, HQKAN, QKAN, QKANError, QKANLayer, fit
from qkan.circuits import Circuit, CircuitError, ansatz
from qkan.interpret.explain import explain_layer

OBSERVABLES = ("x", "y", (0.48, -0.6, 0.64))
TWO = ("X", "Z")
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {}, "groups": {"group": 2}, "amplitude": {"readout": "amplitude"},
    "linear": {"encoding": "linear", "group": "inputs", "base": None}, "px": {"ansatz": "px"},
    "bare": {"base": None, "bias": False}, "half": {"dtype": torch.bfloat16},
    "amplitude of groups": {"readout": "amplitude", "group": 1},
}  # fmt: skip


def several(**options: Any) -> QKANLayer:
    generator = torch.Generator().manual_seed(1)
    return QKANLayer(3, 2, observable=OBSERVABLES, generator=generator, **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_part_is_a_layer_of_one_observable_with_the_same_state(name: str) -> None:
    layer = several(**OPTIONS[name])
    layer.mask[0, 1] = 0
    x = X.to(layer.weight.dtype)
    out = layer(x)
    assert out.shape == (6, 2, 3) and out.dtype == layer.weight.dtype
    for n, observable in enumerate(OBSERVABLES):
        one = QKANLayer(3, 2, observable=observable, **OPTIONS[name])
        one.load_state_dict(layer.state_dict())
        assert_close(out[..., n].double(), one(x).double(), str(observable), 2e-6)


def test_shapes_and_dtypes_are_those_of_other_layers() -> None:
    layer = several()
    assert layer(X[0]).shape == (2, 3) and layer(X[:0]).shape == (0, 2, 3)
    assert layer(X.expand(2, 4, 6, 3)).shape == (2, 4, 6, 2, 3)
    assert layer(X.T.contiguous().T).equal(layer(X))
    assert copy.deepcopy(layer).to("meta")(X.to("meta")).shape == (6, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(X).shape == (6, 2, 3)
    assert {*layer.state_dict()} == {*QKANLayer(3, 2).state_dict()}


def test_the_starts_have_the_stated_size() -> None:
    # weight = 1/√(v·in), v the mean of E φ² over the observables
    def size(observable: Any) -> float:
        layer = QKANLayer(3, 2, ansatz="real", observable=observable)
        return 1 / layer.weight[0, 0].item() ** 2

    # no gate of this ansatz turns the state towards Y
    assert size(("z", "y")) == pytest.approx(size("z") / 2, rel=1e-5)
    with pytest.raises(QKANError, match="start='gelu'"):
        several(start="gelu")
    assert QKANLayer(3, 2, start="gelu", observable="trainable")(X).shape == (6, 2)


@pytest.mark.parametrize("options", [{}, {"group": 2}, {"encoding": "linear"}], ids=str)
def test_a_learnt_direction_is_the_normal_sum_of_the_three_axes(options: dict[str, Any]) -> None:
    learnt = QKANLayer(3, 1, observable="trainable", bias=False, base=None, **options).double()
    axes = QKANLayer(3, 1, observable=("x", "y", "z"), bias=False, base=None, **options).double()
    with torch.no_grad():
        alpha, beta = 0.7, -1.1
        learnt.theta[..., -2:] = torch.tensor([alpha, beta], dtype=torch.float64)
        state = learnt.state_dict() | {"theta": learnt.theta[..., :-2]}
    axes.load_state_dict(state)
    a, b = torch.tensor([alpha, beta], dtype=torch.float64)
    direction = torch.stack([-b.sin() * a.cos(), b.sin() * a.sin(), b.cos()])
    assert_close(learnt(X.double()), axes(X.double()) @ direction, "output", 1e-12)


def test_a_learnt_direction_learns() -> None:
    torch.manual_seed(0)
    teacher = QKANLayer(2, 1, reps=1, observable=(0.6, 0.64, 0.48)).double()
    x = torch.rand(200, 2).double() * 3
    learner = QKANLayer(2, 1, reps=1, observable="trainable").double()
    history = fit(learner, (x, teacher(x).detach()), steps=60, progress=False)
    start = QKANLayer(2, 1, reps=1, observable="trainable").theta[..., -2:]
    assert not torch.allclose(learner.theta[..., -2:].float(), start)
    assert history.train_loss[-1] < 1e-3


def test_layers_of_several_observables_train_as_part_of_a_model() -> None:
    torch.manual_seed(0)
    first = QKANLayer(2, 3, observable=("x", "y", "z"))
    model = nn.Sequential(first, nn.Flatten(-2), QKANLayer(9, 1))
    x = torch.rand(100, 2)
    history = fit(model, (x, (3 * x[:, :1]).sin() * x[:, 1:]), steps=15, progress=False)
    assert history.train_loss[-1] < 1e-3
    history = fit(several(), (X, 50 + torch.rand(6, 2, 3)), steps=2, progress=False)
    assert len(history.train_loss) == 2


MODULES: dict[str, Callable[..., nn.Module]] = {
    "QKAN": lambda **options: QKAN([3, 2], **options),
    "HQKAN": lambda **options: HQKAN(8, **options),
    "QKANConv2d": lambda **options: qkan.QKANConv2d(1, 2, 3, **options),
    "QKANAttention": lambda **options: qkan.QKANAttention(4, 2, 5, **options),
    "DARUAN": lambda **options: DARUAN(4, **options),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_layers_take_one_observable(name: str) -> None:
    for options in ({"observable": TWO}, {"observable": [[1, 0, 0], "y"]}, {"observable": ("x",)},
                    {"ansatz": ansatz("pz", 3).with_observable(TWO)}):  # fmt: skip
        with pytest.raises(QKANError, match=f"{name}: .*several observables"):
            MODULES[name](**options)
    for observable in ("x", "trainable", (0.6, 0.0, 0.8)):
        module = MODULES[name](observable=observable)
        circuits = [part.circuit for part in module.modules() if hasattr(part, "circuit")]
        assert circuits and not any(circuit == ansatz("pz", 3) for circuit in circuits)
    with pytest.raises(CircuitError, match="Observable 'w'"):
        MODULES[name](observable="w")


def test_rows_of_layers_take_one_observable() -> None:
    with pytest.raises(QKANError, match=r"QKAN: .*several observables"):
        QKAN.from_layers([several()])


# ---- every public function


def _measured() -> Any:
    return qkan.QiskitBackend("aer", emulator="closed_form", shots=1000, seed=0)


def _on_device(layer: QKANLayer, path: Path) -> None:
    with qkan.on_device(layer, _measured()):
        assert layer(X).shape == (6, 2, 3)


def _noisy(layer: QKANLayer, path: Path) -> None:
    with qkan.noisy(layer, qkan.device_noise("FakeTorino")):
        assert layer(X).shape == (6, 2, 3)


def _file(layer: QKANLayer, path: Path) -> None:
    qkan.save(layer, path / "layer.safetensors")
    again = qkan.load(path / "layer.safetensors")
    assert again.circuit == layer.circuit and torch.equal(again(X), layer(X))


def _onnx(layer: QKANLayer, path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    qkan.to_onnx(layer, X, path / "layer.onnx")
    session = runtime.InferenceSession(path / "layer.onnx")
    found = session.run(None, {session.get_inputs()[0].name: X.numpy()})[0]
    assert np.abs(found - layer(X).detach().numpy()).max() < 1e-5


def _longer(layer: QKANLayer, path: Path) -> None:
    longer = qkan.extend(layer, 4)
    assert longer.circuit.num_encodings == 4 and (longer(X) - layer(X)).abs().max() < 1e-5


def _same_shape(found: torch.Tensor) -> None:
    assert found.shape == (6, 2, 3), found.shape


def _functional(layer: QKANLayer, path: Path) -> None:
    tensors = (layer.theta, layer.scale, layer.shift, layer.weight, layer.base_weight, layer.bias)
    found = qkan.qkan_layer(X, *tensors, program=layer.program)
    assert torch.equal(found, layer(X))


def _plan(layer: QKANLayer, path: Path) -> None:
    assert qkan.estimate(layer, X, _measured()).values == 6 * 6 * 3


def _fisher(layer: QKANLayer, path: Path) -> None:
    trained = sum(p.numel() for p in layer.parameters())
    assert qkan.fisher_information(layer, X).shape == (trained, trained)
    assert qkan.fisher_information(layer.circuit).isfinite().all()


def _fast(layer: QKANLayer) -> None:
    module, x = qkan.FastWeightQKAN(3, 2, ansatz=layer.circuit), torch.randn(5, 2, 3)
    out, _ = module(x)
    for number, vector in enumerate(layer.circuit.observable_vectors):
        single = qkan.FastWeightQKAN(3, 2, ansatz=layer.circuit.with_observable(vector))
        single.load_state_dict(module.state_dict())
        torch.testing.assert_close(out[..., number], single(x)[0])


HANDLED: dict[str, Callable[[QKANLayer, Path], Any]] = {
    "QKANLayer": lambda layer, path: _same_shape(layer(X)),
    "qkan_layer": _functional,
    "expectation": lambda layer, path: _same_shape(
        qkan.expectation(layer.circuit, X[:, :1], layer.theta[:, :1])[:, :, 0]
    ),
    "simulate": lambda layer, path: qkan.simulate(layer.circuit, torch.zeros(11)),
    "FastWeightQKAN": lambda layer, path: _fast(layer),
    "explain": lambda layer, path: str(qkan.explain(layer, X)[""]),
    "effective_parameters": lambda layer, path: qkan.effective_parameters(layer),
    "param_groups": lambda layer, path: qkan.param_groups(layer, 1e-3, 0.1),
    "fit": lambda layer, path: fit(layer, (X, torch.rand(6, 2, 3)), steps=1, progress=False),
    "save": _file, "load": _file, "to_onnx": _onnx, "extend": _longer,
    "fit_extending": lambda layer, path: qkan.fit_extending(
        layer, (X, torch.rand(6, 2, 3)), reps=[3, 4], steps=1, progress=False
    ),
    "fisher_information": _fisher,
    "redundancy": lambda layer, path: str(qkan.redundancy(layer, X)),
    "estimate": _plan,
    "run": lambda layer, path: _same_shape(
        qkan.run(layer, X, _measured(), progress=False).stderr
    ),
    "tabulate": lambda layer, path: _same_shape(
        qkan.tabulate(layer, X, _measured())(X).values
    ),
    "on_device": _on_device, "noisy": _noisy,
    "PennyLaneLayer": lambda layer, path: _same_shape(
        qkan.PennyLaneLayer(3, 2, observable=OBSERVABLES)(X)
    ),
}  # fmt: skip
REFUSED: dict[str, Callable[[QKANLayer], Any]] = {
    "view": lambda layer: qkan.view(layer, X),
    "QKANLSTM": lambda layer: qkan.QKANLSTM(3, 2, gate="qkan", ansatz=layer.circuit),
    "QKANGRU": lambda layer: qkan.QKANGRU(3, 2, gate="qkan", ansatz=layer.circuit),
    "QKANLSTMCell": lambda layer: qkan.QKANLSTMCell(3, 2, gate="qkan", ansatz=layer.circuit),
    "QKANGRUCell": lambda layer: qkan.QKANGRUCell(3, 2, gate="qkan", ansatz=layer.circuit),
    "importance": lambda layer: qkan.importance(layer, X),
    "sparse_loss": lambda layer: qkan.sparse_loss(layer, 1e-3).__enter__(),
    "prune": lambda layer: qkan.prune(layer, X),
    "compact": lambda layer: qkan.compact(layer),
    "plot": lambda layer: qkan.plot(layer, X),
    "plot_bloch": lambda layer: qkan.plot_bloch(layer, X),
    "plot_circuit": lambda layer: qkan.plot_circuit(layer),
    "plot_spectrum": lambda layer: qkan.plot_spectrum(layer),
    "symbolic": lambda layer: qkan.symbolic(layer, X),
    "to_kan": lambda layer: qkan.to_kan(layer, X),
    "fold": lambda layer: qkan.fold(layer),
    "qnode": lambda layer: qkan.qnode(layer.circuit),
    "fit_activation": lambda layer: qkan.fit_activation(layer.circuit, "gelu"),
    "QKAN": lambda layer: QKAN([3, 2], ansatz=layer.circuit),
    "HQKAN": lambda layer: HQKAN(8, ansatz=layer.circuit),
    "KAN": lambda layer: _kan(layer),
    "DaruanBasis": lambda layer: _kan(layer),
    "DARUAN": lambda layer: DARUAN(4, ansatz=layer.circuit),
    "QKANConv2d": lambda layer: qkan.QKANConv2d(1, 2, 3, ansatz=layer.circuit),
    "QKANAttention": lambda layer: qkan.QKANAttention(4, 2, 5, ansatz=layer.circuit),
    "QKANRegressor": lambda layer: qkan.QKANRegressor(ansatz=layer.circuit, reps=3, steps=1).fit(
        X.numpy(), X[:, 0].numpy()
    ),
    "QKANClassifier": lambda layer: qkan.QKANClassifier(ansatz=layer.circuit, reps=3, steps=1).fit(
        X.numpy(), [0, 1] * 3
    ),
    "from_kan": lambda layer: qkan.from_kan(
        qkan.to_kan(QKAN([3, 1]), X), ansatz=layer.circuit, steps=1
    ),
}
"""What takes a layer, or a circuit, of one observable only."""
UNCONCERNED = {
    # circuits and engines, which have tests of their own for several observables
    "Circuit", "ansatz", "ansatze", "register_ansatz", "engines", "warm_up", "WarmUp",
    # what comes of other functions, and errors
    "CircuitError", "Noise", "SimulatorError", "BackendError", "DivergenceWarning", "QKANError",
    "ScaleWarning", "AliasingWarning", "Redundancy", "Formula", "Importance", "FeynmanEquation",
    "LBFGS", "View",
    "ActivationFit", "FoldedLayer", "FoldedQKAN", "FoldedActivation", "History", "Plan",
    "DeviceResult", "EdgeTables", "Distillation", "Replaced",
    # what has no circuits, or makes them itself
    "Fourier", "Rational", "Spline", "SplineKAN", "KANLayer", "TableModel", "feynman",
    "feynman_names", "from_qkan", "device_noise", "PennyLaneBackend", "QiskitBackend",
    "QKANExperts",
    # blocks of other networks, into which only an HQKAN or a DARUAN goes
    "replace_activation", "replace_ffn", "ffn_names", "from_pretrained", "distill_ffn",
    # they go on with what `run` began
    "cancel", "resume", "__version__",
}  # fmt: skip


def _kan(layer: QKANLayer) -> nn.Module:
    qkan.register_ansatz("of several", lambda reps: ansatz("pz", reps).with_observable(TWO))
    return qkan.KAN([3, 2], basis=qkan.DaruanBasis(ansatz="of several"))


def test_every_public_name_is_sorted() -> None:
    known = {*HANDLED, *REFUSED, *UNCONCERNED}
    public = {name for name in qkan.__all__ if not inspect.ismodule(getattr(qkan, name, None))}
    assert public - known == set(), "say here what these do with several observables"


@pytest.mark.parametrize("name", HANDLED)
def test_what_takes_several_observables(name: str, tmp_path: Path) -> None:
    HANDLED[name](several(), tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_refuses_several_observables_names_itself(name: str) -> None:
    layer = several(encoding="linear") if name == "fold" else several()
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    with pytest.raises(QKANError, match=r"several observables, \('X', ") as found:
        REFUSED[name](layer)
    caller = {"DaruanBasis": "KAN", "QKANRegressor": "QKAN", "QKANClassifier": "QKAN"}
    caller |= dict.fromkeys(("QKANLSTM", "QKANGRU", "QKANLSTMCell", "QKANGRUCell"), "A gate")
    assert str(found.value).startswith(caller.get(name, name)), found.value
    assert all(torch.equal(state[key], value) for key, value in layer.state_dict().items())


def test_explain_counts_the_outputs_of_all_observables() -> None:
    single, many = QKANLayer(8, 8), QKANLayer(8, 8, observable=("x", "y", "z"))
    costs = [str(explain_layer(layer, torch.randn(4096, 8))) for layer in (single, many)]
    assert costs[0] != costs[1]


def test_representations_show_the_observable() -> None:
    assert "observable=('X', 'Z')" in repr(QKANLayer(3, 2, observable=TWO))
    assert "observable='trainable'" in repr(QKANLayer(3, 2, observable="trainable"))
    assert "observable" not in repr(QKANLayer(3, 2)) + repr(QKANLayer(3, 2, observable="z"))
    assert isinstance(QKANLayer(3, 2).circuit, Circuit)
