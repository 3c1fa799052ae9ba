"""`DARUAN`s in models that are folded, exported to ONNX, and kept in files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import DARUAN, QKANError, QKANLayer, fold, load, save, to_onnx
from qkan.surgery.fold_activation import FoldedActivation

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "groups": {"group": 4, "reps": 2},
    "fixed scales": {"encoding": "ternary", "reps": 3, "group": 3},
    "one a feature": {"group": "inputs", "base": "relu2"},
    "a module": {"base": nn.Softplus(), "group": 2},
    "a function": {"base": F.mish},
    "no base": {"base": None},
}


def drawn(features: int | None = 7, **options: Any) -> DARUAN:
    generator = torch.Generator().manual_seed(0)
    activation = DARUAN(features, generator=generator, **options)
    with torch.no_grad():
        activation.amplitude.uniform_(0.3, 0.9, generator=generator)
        if activation.fixed_scale is None:
            activation.scale.uniform_(0.5, 2.5, generator=generator)
    return activation


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_folded_activation_computes_the_same(name: str) -> None:
    activation, x = drawn(**OPTIONS[name]), inputs(5, 3, 7)
    folded = fold(activation)
    assert isinstance(folded, FoldedActivation)
    assert not [*folded.parameters()] and not folded.training
    assert_close(folded(x), activation(x).detach(), name, 2e-6)
    double = fold(copy.deepcopy(activation).double())
    assert_close(double(x.double()), activation.double()(x.double()).detach(), name, 1e-12)
    kept = [value for key, value in folded.state_dict().items() if key == "waves"]
    assert kept[0].shape == (1 + 3 * (len(kept[0]) // 3), activation.group)


def test_it_keeps_its_waves_and_forgets_the_circuit() -> None:
    activation, x = drawn(group=2), inputs(4, 7)
    folded = fold(activation)
    before = folded(x)
    nn.init.zeros_(activation.amplitude)
    assert torch.equal(folded(x), before)
    with pytest.raises(QKANError, match="keeps no circuit"):
        folded.config()  # type: ignore[operator]
    with pytest.raises(QKANError, match=r"pass \(…, 7\)"):
        folded(inputs(4, 6))


def test_beside_layers_of_either_kind() -> None:
    model = nn.Sequential(
        nn.Linear(3, 7), drawn(group=2), QKANLayer(7, 4, encoding="linear"), drawn(None), nn.ReLU()
    )
    x = inputs(6, 3)
    folded = fold(model)
    assert [type(part).__name__ for part in folded] == [
        "Linear", "FoldedActivation", "FoldedLayer", "FoldedActivation", "ReLU",
    ]  # fmt: skip
    assert_close(folded(x), model(x).detach(), "value", 1e-5)
    compiled = torch.compile(folded, fullgraph=True)
    assert_close(compiled(x), model(x).detach(), "compiled", 1e-5)
    half = fold(copy.deepcopy(model[1]).bfloat16())
    assert half(inputs(4, 7).bfloat16()).dtype == torch.bfloat16


def test_what_has_no_waves_stays_and_is_named() -> None:
    model = nn.Sequential(drawn(group=2), drawn(ansatz="px"), drawn(reps=5))
    with pytest.raises(QKANError, match="2 of 3 layers") as caught:
        fold(model)
    assert "1: with an arccos" in str(caught.value) and "2: its circuit has too many" in str(
        caught.value
    )
    folded, x = fold(model, strict=False), inputs(4, 7).clamp(-1, 1)
    assert [type(part) for part in folded] == [FoldedActivation, DARUAN, DARUAN]
    assert_close(folded(x), model(x).detach(), "value", 2e-6)
    model[0].register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(QKANError, match="0: it has hooks"):
        fold(model)


@pytest.mark.parametrize("name", ["groups", "a module", "arccos"])
def test_onnx_runs_what_the_model_computes(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    options = {"ansatz": "px"} if name == "arccos" else OPTIONS[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), drawn(**options), nn.Linear(7, 2))
    to_onnx(model, inputs(4, 3), tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for rows in (1, 9):
        x = inputs(rows, 3)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert_close(torch.from_numpy(found), model(x).detach(), name, 1e-5)


def test_files_hold_activations(tmp_path: Path) -> None:
    for name in ("groups", "fixed scales", "one a feature", "no base"):
        activation, x = drawn(**OPTIONS[name]), inputs(5, 7)
        save(activation, tmp_path / name)
        again = load(tmp_path / name)
        assert torch.equal(again(x), activation(x)) and again.config() == activation.config()  # type: ignore[operator]
    model = nn.Sequential(nn.Linear(3, 7), drawn())
    with pytest.raises(QKANError, match="the DARUAN inside it with save"):
        save(model, tmp_path / "model")
    with pytest.raises(QKANError, match="FoldedActivation is none of"):
        save(fold(drawn()), tmp_path / "folded")
    for base, said in ((nn.Softplus(), "Softplus"), (F.mish, "mish")):
        with pytest.raises(
            QKANError, match=f"its base is {said}.* build the model again and load that"
        ):
            save(drawn(base=base), tmp_path / "own")
