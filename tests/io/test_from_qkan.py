"""Checkpoints of qkan 0.2.3 give the outputs that qkan itself computed (tests/data)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from paths import TESTS
from safetensors.torch import load_file
from torch import Tensor, nn

from qkan import QKAN, QKANLayer
from qkan.errors import QKANError
from qkan.io import from_qkan as peer
from qkan.io.files import load, save
from qkan.io.from_qkan import from_qkan

DATA = TESTS / "data" / "peer_checkpoints"
LISTED = json.loads(DATA.with_suffix(".json").read_text())
CASES: dict[str, dict[str, Any]] = LISTED["cases"]
LAYER = {"in_dim": 3, "out_dim": 2}


def label(key: str) -> str:
    return "-".join([key, *(f"{k}={v}".replace(" ", "") for k, v in CASES[key].items())])


@functools.cache
def tensors() -> dict[str, Tensor]:
    return load_file(DATA.with_suffix(".safetensors"))


def case(key: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state_dict, and the inputs and outputs."""
    mine = {n.split("/")[1]: t.clone() for n, t in tensors().items() if n.split("/")[0] == key}
    recorded = {n: mine.pop(n) for n in ("x", "y", "y64", "shipped") if n in mine}
    return mine, recorded


def find(**wanted: Any) -> str:
    """The first case with these arguments."""
    return next(
        key for key, config in CASES.items() if all(config.get(k) == v for k, v in wanted.items())
    )


def layer_state() -> dict[str, Tensor]:
    """A checkpoint of LAYER."""
    return case(find(in_dim=3, out_dim=2))[0]


@pytest.mark.parametrize("key", CASES, ids=label)
class TestOutputs:
    def test_float32(self, key: str) -> None:
        state, recorded = case(key)
        model = from_qkan(state, CASES[key])
        y = model(recorded["x"])
        assert y.dtype == torch.float32
        assert_close(y, recorded["y"], "imported", tolerance=1e-5)

    def test_float64_is_the_same_function(self, key: str) -> None:
        state, recorded = case(key)
        model = from_qkan({name: value.double() for name, value in state.items()}, CASES[key])
        assert_close(model(recorded["x"].double()), recorded["y64"], "imported", tolerance=1e-12)

    def test_gradients(self, key: str) -> None:
        state, recorded = case(key)
        model = from_qkan({name: value.double() for name, value in state.items()}, CASES[key])
        x = recorded["x"].double().requires_grad_()
        model(x).square().sum().backward()
        for name, parameter in [*model.named_parameters(), ("x", x)]:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        last = model.layers[-1] if isinstance(model, QKAN) else model
        assert last.theta.grad.abs().sum() > 0


def test_the_grid_is_whole() -> None:
    for ansatz in ("pz", "rpz", "px", "real", "mix"):
        name = f"{ansatz}_encoding" if ansatz in ("pz", "rpz", "px") else ansatz
        for trained in (True,) if ansatz == "px" else (True, False):
            for fast in (True, False):
                for group in (-1, 1, 2):
                    find(ansatz=name, preact_trainable=trained, fast_measure=fast, group=group)


@pytest.mark.parametrize(("made", "known"), [("QKAN", peer._NETWORK), ("QKANLayer", peer._LAYER)])
def test_arguments_and_defaults_are_qkans(made: str, known: dict[str, Any]) -> None:
    for name, default in LISTED["arguments"][made].items():
        assert known[name] == (None if default == "required" else default), name
    assert set(known) == {*LISTED["arguments"][made], "c_dtype", "p_dtype"}


def test_real_is_only_roughly_what_qkan_ships_in_bfloat16() -> None:
    key = find(ansatz="real", preact_trainable=True, fast_measure=False)
    state, recorded = case(key)
    model = from_qkan(state, CASES[key])
    off = (model(recorded["x"]) - recorded["shipped"]).abs().max()
    assert 1e-4 < off < 0.3


def test_what_becomes_what() -> None:
    key = find(p_dim=2, group=2)
    model = from_qkan(case(key)[0], CASES[key])
    assert isinstance(model, QKAN) and model.widths == [3, 2, 1]
    first, second = model.layers
    assert (first.encoding, first.group, second.group) == ("trainable", 3, 2)
    assert torch.equal(first.theta[0], first.theta[2]) and first.bias is not None

    plain = from_qkan(*pair(find(ansatz="pz_encoding", preact_trainable=False, group=-1)))
    first = plain.layers[0]
    assert (first.encoding, first.group, first.base, first.readout) == (
        "linear", None, None, "amplitude",
    )  # fmt: skip
    shifts = from_qkan(*pair(find(ansatz="rpz_encoding", preact_trainable=False, group=1)))
    first = shifts.layers[0]
    assert (first.encoding, first.group) == ("linear", 1)
    assert isinstance(first.shift, nn.Parameter) and first.shift.any()


def pair(key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return case(key)[0], CASES[key]


def test_the_import_draws_no_random_numbers_and_shares_no_memory() -> None:
    state = layer_state()
    before = torch.get_rng_state()
    layer = from_qkan(state, LAYER)
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad():
        layer.theta.zero_()
        layer.mask.zero_()
    assert state["theta"].any() and state["mask"].all()


def test_an_imported_model_saves_and_loads(tmp_path: Path) -> None:
    state, recorded = case("0")
    model = from_qkan(state, CASES["0"])
    save(model, tmp_path / "m.safetensors")
    assert torch.equal(load(tmp_path / "m.safetensors")(recorded["x"]), model(recorded["x"]))


def test_px_is_clamped_where_qkan_gives_nan() -> None:
    key = find(ansatz="px_encoding")
    model = from_qkan(*pair(key))
    assert model(torch.full((2, 3), 50.0)).isfinite().all()


def test_bfloat16_checkpoint() -> None:
    layer = from_qkan({name: value.bfloat16() for name, value in layer_state().items()}, LAYER)
    assert layer.theta.dtype == layer.mask.dtype == torch.bfloat16
    assert layer(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**LAYER, "fast_mesure": False}, "no argument 'fast_mesure'. Did you mean 'fast_measure'"),
        ({**LAYER, "norm_out": 2}, "no argument 'norm_out'"),
        ({"in_dim": 3}, "'width' for a QKAN, or 'in_dim' and 'out_dim'"),
        ({"width": [3]}, "sizes"),
        ({"width": [3, [1, 2]]}, "sizes"),
        ({"width": [3, 2], "reps": 0}, "reps=0"),
        ({"width": [3, 2], "norm_out": 2}, r"normalize\(model\(x\), p=2"),
        ({"width": [3, 2, 1], "is_map": True, "hidden": 4}, "torch.nn.Linear after"),
        ({**LAYER, "is_batchnorm": True}, "torch.nn.BatchNorm1d before it"),
        ({**LAYER, "ansatz": "py"}, "unknown ansatz 'py'. Did you mean"),
        ({**LAYER, "ansatz": len}, r"Circuit\(gates\)"),
        ({**LAYER, "solver": len}, r"Circuit\(gates\)"),
        ({**LAYER, "solver": "qml"}, "swaps outputs and inputs"),
        ({**LAYER, "solver": "qiskit"}, "fast_measure=False"),
        ({**LAYER, "ansatz": "px"}, "Pass preact_trainable=True"),
        ({**LAYER, "base_activation": "sigmoid"}, "no counterpart here"),
        ({**LAYER, "base_activation": nn.GELU("tanh")}, "no counterpart here"),
        ({**LAYER, "base_activation": torch.sin}, "no counterpart here"),
        ({**LAYER, "group": 0}, "group=0"),
        ({**LAYER, "group": (2, 2)}, "group="),
        ({**LAYER, "group": None}, "group=None"),
        ({**LAYER, "reps": 4}, "theta has shape .* reps=4"),
        ({**LAYER, "group": 2}, "theta has shape .* group=2"),
        ({"in_dim": 2, "out_dim": 3}, "theta has shape"),
        ({"width": [3, 2]}, "Missing: layers.0.base_weight, .* Unknown: base_weight"),
    ],
)
def test_configs_that_do_not_fit(config: dict[str, Any], says: str) -> None:
    with pytest.raises(QKANError, match=says):
        from_qkan(layer_state(), config)


def test_base_activations_as_modules() -> None:
    for module, name in ((nn.SiLU(), "silu"), (nn.Identity(), "identity")):
        assert from_qkan(layer_state(), {**LAYER, "base_activation": module}).base == name
    off = {**layer_state(), "base_weight": torch.zeros(2, 3)}
    config = {**LAYER, "base_activation": "sigmoid", "ba_trainable": False}
    assert from_qkan(off, config).base is None


def test_arguments_that_change_nothing_may_stand_there() -> None:
    config = {
        **LAYER,
        "device": "cuda",
        "seed": 3,
        "p_dim": 2,
        "solver": "flash",
        "theta_init": "x",
    }
    assert isinstance(from_qkan(layer_state(), config), QKANLayer)


def test_preacts_that_the_config_does_not_mention() -> None:
    state = layer_state()
    state["preacts_weight"] *= 2
    with pytest.raises(QKANError, match="preact_trainable=True if they were trained"):
        from_qkan(state, LAYER)
    x = torch.randn(4, 3)
    frozen = from_qkan(state, {**LAYER, "preact_trainable": False})
    assert torch.equal(frozen(x), from_qkan(layer_state(), LAYER)(x))
    assert from_qkan(state, {**LAYER, "preact_trainable": True}).encoding == "trainable"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask": None}, "Missing: mask. .* another version of qkan"),
        ({"alpha": torch.ones(2)}, "Unknown: alpha. .* another version of qkan"),
        ({"theta": torch.zeros(2, 3, 8)}, r"theta has shape \(2, 3, 8\), .* gives \(2, 3, 4, 2\)"),
        ({"preacts_bias": torch.zeros(3, 2)}, "preacts_bias has shape"),
        ({"mask": torch.ones(3, 2)}, "mask has shape"),
        ({"mask": torch.ones(2, 3, dtype=torch.int64)}, "mask is torch.int64"),
        ({"mask": [1.0]}, "mask is list"),
        ({"postact_weights": torch.full((2, 3), torch.nan)}, "postact_weights has values"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Any], says: str) -> None:
    state = {k: v for k, v in {**layer_state(), **change}.items() if v is not None}
    with pytest.raises(QKANError, match=says):
        from_qkan(state, LAYER)


def test_keys_of_a_wrapped_model() -> None:
    state = {f"module.{name}": value for name, value in layer_state().items()}
    with pytest.raises(QKANError, match=r"begin with 'module\.': pass {key.removeprefix"):
        from_qkan(state, LAYER)
    with pytest.raises(QKANError, match="got a Linear"):
        from_qkan(nn.Linear(2, 2), LAYER)  # type: ignore[arg-type]
