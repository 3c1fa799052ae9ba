"""`save` and `load`: the same model to the last bit, or an error that says what to do."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CIRCUITS, own_circuit
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import qkan
from qkan import QKAN, QKANLayer, TableModel, register_ansatz
from qkan._kinds import KINDS, class_of
from qkan.circuits import RX, RY, Circuit, Encoding, Theta
from qkan.errors import QKANError
from qkan.io.files import FORMAT, load, save

MODELS: dict[str, Callable[[], nn.Module]] = {
    **{f"ansatz-{name}": lambda c=c: QKAN([3, 2], ansatz=c) for name, c in CIRCUITS.items()},
    **{
        f"encoding-{encoding}": lambda e=encoding: QKAN([3, 2, 1], encoding=e, reps=2)
        for encoding in ("trainable", "linear", "binary", "ternary", (0.1, -1 / 3))
    },
    **{f"base-{b}": lambda b=b: QKANLayer(3, 2, base=b) for b in ("gelu", "identity", None)},
    "layer": lambda: QKANLayer(3, 5, ansatz="rpz", reps=5),
    "group": lambda: QKAN([5, 3, 2], group=2),
    "group-fixed": lambda: QKANLayer(5, 3, group=3, encoding="ternary", ansatz="mix"),
    "amplitude": lambda: QKAN([3, 2], readout="amplitude"),
    "engine": lambda: QKAN([3, 2], engine="torch"),
    "bare": lambda: QKANLayer(3, 2, base=None, bias=False),
    "float64": lambda: QKAN([3, 2], dtype=torch.float64),
    "bfloat16": lambda: QKAN([3, 2], dtype=torch.bfloat16),
    "float16": lambda: QKANLayer(3, 2, dtype=torch.float16),
    "input_range": lambda: QKAN([3, 2], encoding="linear", input_range=(-0.1, 1 / 3)),
    "layers-differ": lambda: QKAN.from_layers(
        [
            QKANLayer(3, 4, ansatz=own_circuit(), group=2),
            QKANLayer(4, 2, ansatz="px", encoding="linear", base=None, readout="amplitude"),
            QKANLayer(2, 1, bias=False, encoding=(1.0, 2.0, 0.5)),
        ]
    ),
}  # fmt: skip


def scrambled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with every parameter moved and some edges pruned."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter.add_(noise.to(parameter.dtype))
        for layer in model.modules():
            if isinstance(layer, QKANLayer):
                layer.mask.view(-1)[1::3] = 0
    return model


def first_parameter(model: nn.Module) -> Tensor:
    return next(model.parameters())


def assert_same(found: nn.Module, wanted: nn.Module) -> None:
    """The class, options, parameters and outputs are identical."""
    assert type(found) is type(wanted) and found.config() == wanted.config()
    theirs = wanted.state_dict()
    assert list(found.state_dict()) == list(theirs)
    for name, value in found.state_dict().items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name]), name
    trainable, wanted_ones = (
        [name for name, _ in model.named_parameters(remove_duplicate=False)]
        for model in (found, wanted)
    )
    assert sorted(trainable) == sorted(wanted_ones)
    assert all(p.requires_grad and p.is_leaf for p in found.parameters())
    width = wanted.layers[0].in_features if isinstance(wanted, QKAN) else wanted.in_features
    x = torch.linspace(-2, 2, 7 * width).reshape(7, width).to(first_parameter(wanted).dtype)
    assert torch.equal(found(x), wanted(x))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, path: Path) -> None:
    model = scrambled(MODELS[name]())
    save(model, path)
    assert_same(load(path), model)


def test_a_loaded_model_trains_saves_again_and_extends(path: Path) -> None:
    model = scrambled(QKAN([3, 2], ansatz="mix"))
    save(model, str(path))
    first = path.read_bytes()
    loaded = load(str(path))
    save(loaded, path)
    assert path.read_bytes() == first
    loaded(torch.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())
    assert loaded.layers[0].circuit.extend(5).num_encodings == 5


def test_strided_shared_and_expanded_parameters(path: Path) -> None:
    model = scrambled(QKAN([3, 3, 3]))
    first, second = model.layers
    first.theta = nn.Parameter(first.theta.detach().transpose(0, 1).clone().transpose(0, 1))
    first.weight = nn.Parameter(torch.randn(1, 3).expand(3, 3))
    second.base_weight = first.base_weight
    second.shift = nn.Parameter(first.scale.detach())
    save(model, path)
    loaded = load(path)
    assert_same(loaded, model)
    assert loaded.layers[0].base_weight is not loaded.layers[1].base_weight


def test_one_layer_used_twice(path: Path) -> None:
    layer = scrambled(QKANLayer(3, 3))
    model = QKAN.from_layers([layer, layer])
    save(model, path)
    x = torch.randn(5, 3)
    assert torch.equal(load(path)(x), model(x))


def test_loading_draws_no_random_numbers_and_leaves_the_file(path: Path) -> None:
    model = scrambled(QKAN([3, 2]))
    save(model, path)
    content, state = path.read_bytes(), torch.get_rng_state()
    loaded = load(path)
    with torch.no_grad():
        first_parameter(loaded).zero_()
    assert torch.equal(state, torch.get_rng_state()) and path.read_bytes() == content
    path.write_bytes(b"")
    assert_same(load_from(content, path), model)


def load_from(content: bytes, path: Path) -> nn.Module:
    path.write_bytes(content)
    return load(path)


def test_dtype_and_device(path: Path) -> None:
    model = scrambled(QKAN([3, 2], dtype=torch.float64))
    save(model, path)
    assert_same(load(path, dtype=torch.float32), model.float())
    assert load(path, device="meta").layers[0].mask.is_meta
    with torch.device("meta"):
        assert load(path).layers[0].mask.is_meta
    with pytest.raises(QKANError, match=r"dtype=torch\.int32"):
        load(path, dtype=torch.int32)


def test_the_header_is_plain_json(path: Path) -> None:
    save(QKANLayer(3, 2, ansatz=own_circuit()), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["qkan"])
    assert (header["format"], header["kind"]) == (FORMAT, "QKANLayer")
    assert header["config"]["circuit"]["gates"][1] == ["RY", "Theta", 0]


def test_the_version_in_a_file_is_that_of_the_installed_package(path: Path) -> None:
    save(QKANLayer(1, 1), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["qkan"])
    assert header["version"] == qkan.__version__ == metadata.version("qkan-hybrid")


def zigzag(reps: int) -> Circuit:
    return Circuit([g for u in range(reps) for g in (RX(Theta(u)), RY(Encoding(u)))])


def test_a_users_ansatz_loads_where_nobody_registered_it(path: Path) -> None:
    register_ansatz("zigzag_io", zigzag)
    model = scrambled(QKAN([2, 1], ansatz="zigzag_io", reps=2))
    save(model, path)
    assert load(path).layers[0].circuit.extend(3).num_encodings == 3
    program = (
        "import sys, torch, qkan.io.files\n"
        "assert 'zigzag_io' not in qkan.ansatze()\n"
        "print(qkan.io.files.load(sys.argv[1])(torch.tensor([[0.3, -0.7]])).item())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) == model(torch.tensor([[0.3, -0.7]])).item()


def test_nothing_is_unpickled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(QKAN([3, 2], ansatz=own_circuit()), path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.Unpickler", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    load(path)


def test_every_kind_is_a_class_of_the_package_with_a_config() -> None:
    for kind in KINDS:
        cls = class_of(kind)
        assert cls is getattr(qkan, kind) and cls.__name__ == kind
        assert callable(cls.config) and callable(cls.from_config)


def test_a_file_of_a_room_that_was_not_imported_loads(path: Path) -> None:
    save(TableModel(QKAN([1, 1]), columns=["a"], targets=["y"]), path)
    program = (
        "import sys; from qkan.io.files import load\n"
        "assert 'qkan.tabular' not in sys.modules and 'qkan.hybrid' not in sys.modules\n"
        "print(type(load(sys.argv[1])).__name__)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "TableModel"


class Subclass(QKAN):
    """May compute something else, so its class is part of what would have to be saved."""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            nn.Linear(2, 2),
            r"Linear is none of QKAN.* torch\.save\(model\.state_dict\(\), path\)\.$",
        ),
        (nn.Sequential(nn.ReLU(), QKAN([2, 1])), r"QKAN inside it .*get_submodule\('1'\)"),
        (Subclass([2, 1]), "Subclass is none of"),
        (torch.ones(2), "Tensor is none of .* Pass the model"),
        (QKAN([2, 1], device="meta"), "theta is on the device 'meta'"),
    ],
)
def test_models_that_cannot_be_saved(model: Any, says: str, path: Path) -> None:
    with pytest.raises(QKANError, match=says):
        save(model, path)
    assert not path.exists()


def test_a_model_that_was_taken_apart_is_not_written(path: Path) -> None:
    replaced = QKAN([2, 2, 1])
    replaced.layers[1] = nn.Linear(2, 1)
    reparametrized = QKAN([2, 1])
    nn.utils.parametrizations.weight_norm(reparametrized.layers[0], "weight")
    extra = QKANLayer(2, 1)
    extra.register_buffer("note", torch.ones(1))
    for model in (replaced, reparametrized, extra):
        with pytest.raises(QKANError, match="could not be loaded again"):
            save(model, path)
    assert not path.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_model_does_not_replace_a_good_file(value: float, path: Path) -> None:
    model = scrambled(QKAN([3, 2]))
    save(model, path)
    good = path.read_bytes()
    with torch.no_grad():
        model.layers[0].weight[0, 1] = value
    with pytest.raises(QKANError, match=r"layers\.0\.weight has 1 values of 6 that are NaN"):
        save(model, path)
    assert path.read_bytes() == good


def test_writing_is_atomic(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scrambled(QKAN([3, 2]))
    save(model, path)
    good = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(scrambled(model), path)
    assert path.read_bytes() == good and os.listdir(path.parent) == [path.name]


def test_saving_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(QKANError, match="folder that does not exist"):
        save(QKAN([2, 1]), tmp_path / "nowhere" / "m.safetensors")
    with pytest.raises(QKANError, match="is a folder"):
        save(QKAN([2, 1]), tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and file modes")
def test_links_are_followed_and_modes_are_ordinary(tmp_path: Path) -> None:
    link, target, other = tmp_path / "latest", tmp_path / "epoch1", tmp_path / "other"
    other.touch()
    link.symlink_to(target)
    save(QKAN([2, 1]), link)
    assert link.is_symlink() and target.stat().st_mode == other.stat().st_mode


class TestFilesThatDoNotLoad:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(QKANError, match=r"nothing\.safetensors does not exist"):
            load(tmp_path / "nothing.safetensors")
        with pytest.raises(QKANError, match="is a folder"):
            load(tmp_path)

    def test_truncated_anywhere(self, path: Path) -> None:
        save(QKANLayer(2, 1, reps=1), path)
        whole = path.read_bytes()
        cuts = {*range(12), *range(len(whole) - 12, len(whole)), *range(0, len(whole), 53)}
        for cut in sorted(cuts):
            path.write_bytes(whole[:cut])
            with pytest.raises(QKANError, match=r"not a complete safetensors file .* truncated"):
                load(path)

    def test_damaged_anywhere(self, path: Path) -> None:
        """A flipped byte is an error, or a number or a name that is another legal one."""
        save(QKANLayer(2, 1, reps=1), path)
        whole = path.read_bytes()
        draw = random.Random(0)
        for position in [*range(10), *(draw.randrange(len(whole)) for _ in range(150))]:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            try:
                load(path)
            except QKANError as error:
                assert str(path) in str(error)

    def test_not_safetensors(self, path: Path) -> None:
        torch.save(QKAN([2, 1]).state_dict(), path)
        with pytest.raises(QKANError, match=r"torch\.save wrote it, build the model"):
            load(path)
        path.write_text("a text of some length, not a model")
        with pytest.raises(QKANError, match="not a complete safetensors file"):
            load(path)

    def test_from_elsewhere(self, path: Path) -> None:
        save_file(QKAN([2, 1]).state_dict(), path, metadata={"format": "pt"})
        with pytest.raises(QKANError, match=r"layers\.0\..* without the description .*from_qkan"):
            load(path)


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Edit the header and the tensors of a saved file in place."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["qkan"])
    tensors = load_file(path)
    found = change(header, tensors)
    text = found if isinstance(found, str) else json.dumps(header)
    save_file(tensors, path, metadata={"qkan": text})


EDITS: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], object], str]] = {
    "newer-format": (
        lambda h, t: h.update(format=FORMAT + 1, version="9.0", config={"all": "new"}),
        r"in format 2, written by version 9\.0.* upgrade with pip install -U",
    ),
    "newer-kind": (lambda h, t: h.update(kind="QKAN3"), "holds a QKAN3 .* upgrade"),
    "no-json": (lambda h, t: "{", r"not JSON with format.* Found: \{"),
    "deep-json": (lambda h, t: "[" * 100_000, "not JSON with format"),
    "a-list": (lambda h, t: "[]", "not JSON with format"),
    "no-kind": (lambda h, t: h.pop("kind"), "not JSON with format, version, kind, config"),
    "config-of-text": (lambda h, t: h.update(config="QKAN()"), "not JSON with format"),
    "config-empty": (lambda h, t: h.update(config={}), "do not make a QKAN"),
    "another-size": (
        lambda h, t: h["config"]["layers"][0].update(out_features=5), "do not make a QKAN.*theta",
    ),
    "huge-size": (
        lambda h, t: h["config"]["layers"][0].update(out_features=10**30), "do not make a QKAN",
    ),
    "unknown-option": (
        lambda h, t: h["config"]["layers"][0].update(bass="silu"), "do not make a QKAN.*bass",
    ),
    "device-option": (
        lambda h, t: h["config"]["layers"][0].update(device="cpu"), "do not make a QKAN.*device",
    ),
    "unknown-base": (
        lambda h, t: h["config"]["layers"][0].update(base="sinc"), "do not make a QKAN.*sinc",
    ),
    "wrong-type": (
        lambda h, t: h["config"]["layers"][0].update(encoding=3), "do not make a QKAN",
    ),
    "gate-of-code": (
        lambda h, t: h["config"]["layers"][0]["circuit"].update(gates=[["__import__", "os"]]),
        "do not make a QKAN",
    ),
    "other-encoding": (
        lambda h, t: h["config"]["layers"][0].update(encoding="binary"), "not make a QKAN.*scale",
    ),
    "empty-range": (lambda h, t: h["config"].update(input_range=[1, 1]), "input_range"),
    "missing-tensor": (lambda h, t: t.pop("layers.0.mask"), r"do not make a QKAN.*layers\.0\.mask"),
    "extra-tensor": (lambda h, t: t.update(more=torch.ones(1)), "do not make a QKAN.*more"),
    "integers": (
        lambda h, t: t.update({"layers.0.mask": t["layers.0.mask"].int()}),
        r"layers\.0\.mask is torch\.int32",
    ),
    "nan": (
        lambda h, t: t["layers.0.theta"][0, 0, :2].fill_(torch.nan),
        r"layers\.0\.theta has 2 values of 48 that are NaN or infinite; use a model",
    ),
    "infinite": (
        lambda h, t: t["layers.0.bias"].fill_(torch.inf), r"layers\.0\.bias has 2 values of 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edited_files(name: str, path: Path) -> None:
    change, says = EDITS[name]
    save(QKAN([3, 2], input_range=(-1, 1)), path)
    rewrite(path, change)
    with pytest.raises(QKANError, match=f"(?s){says}") as caught:
        load(path)
    assert str(path) in str(caught.value)
