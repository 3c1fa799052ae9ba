"""A block in the rest of torch: compilers, autocast, checkpointing, export, determinism, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from compare import assert_close
from small_transformers import FAMILIES, small
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from qkan import HQKAN, QKAN, QKANError, fold, replace_ffn, to_onnx

DOUBLE = torch.float64
Options = dict[str, object]

BLOCKS: dict[str, Options] = {
    "default": {},
    "trainable": {"encoding": "trainable"},
    "gate, deep": {"gate": True, "depth": 2},
    "group": {"group": 2},
    "group, trainable": {"group": 2, "encoding": "trainable", "engine": "numba"},
    "amplitude": {"readout": "amplitude"},
    "px": {"encoding": "trainable", "ansatz": "px"},
    "fourier": {"engine": "fourier"},
    "chebyshev": {"engine": "chebyshev", "encoding": "trainable"},
    "numba": {"engine": "numba"},
    "torch": {"engine": "torch"},
}
TRACED = ("default", "trainable", "group", "amplitude", "px", "chebyshev", "torch")
"""What each goes another way through a compiler or an exporter."""


def block(options: Options, dtype: torch.dtype = DOUBLE) -> HQKAN:
    """A small block whose output is not small."""
    generator = torch.Generator().manual_seed(0)
    made = HQKAN(12, latent=4, reps=2, **options, dtype=dtype, generator=generator)
    with torch.no_grad():
        made.up.weight *= 10
    return made


def inputs(batch: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 3, 12, generator=generator, dtype=dtype)


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    names = dict(model.named_parameters())
    out = model(x)
    found = torch.autograd.grad(out.square().sum(), list(names.values()))
    return {"value": out.detach(), **dict(zip(names, found, strict=True))}


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.usefixtures("fresh_compiler")
def test_one_graph_serves_any_batch(name: str) -> None:
    """No graph break, the same numbers, and one compilation for a dimension marked dynamic."""
    model = block(BLOCKS[name])
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend=counter)
    # below 48 `auto` may choose another engine
    for batch in (48, 64, 51):
        x = inputs(batch)
        torch._dynamo.mark_dynamic(x, 0)
        wanted, found = gradients(model, x), gradients(compiled, x)
        for key, value in wanted.items():
            mine = found["value" if key == "value" else f"_orig_mod.{key}"]
            assert_close(mine, value, key, 1e-9)
    assert counter.frame_count == 1


# the slope of an arccos has no bound, and neither has what rounding does to it
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "px"])
def test_autocast_keeps_gradients_in_the_parameters_precision(name: str) -> None:
    model, x = block(BLOCKS[name], torch.float32), inputs(16, torch.float32)
    wanted = gradients(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        assert out.dtype == torch.bfloat16
        found = gradients(model, x)
    for key, value in wanted.items():
        assert key == "value" or found[key].dtype == torch.float32
        # of three products in a row, with slopes between them
        assert float((found[key] - value).norm()) < 0.1 * float(value.norm()), key


class Checkpointed(nn.Module):
    """Two blocks whose activations are computed again in the backward pass."""

    def __init__(self, options: Options, reentrant: bool | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block({**options, "dropout": 0.3}) for _ in range(2))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for part in self.blocks:
            if self.reentrant is None:
                x = x + part(x)
            else:
                x = x + checkpoint(part, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["default", "trainable", "chebyshev", "torch", "group"])
def test_checkpointed_gradients_are_bit_equal(name: str, reentrant: bool) -> None:
    plain = Checkpointed(BLOCKS[name], None)
    again = copy.deepcopy(plain)
    again.reentrant = reentrant
    results = []
    for model in (plain, again):
        torch.manual_seed(0)
        x = inputs(16).requires_grad_()
        model(x).square().sum().backward()
        results.append([x.grad, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is not None and torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "strict"), [*((name, False) for name in (*TRACED, "numba")), ("default", True)]
)
def test_exported_programs_take_any_batch(name: str, strict: bool) -> None:
    model = block(BLOCKS[name]).eval()
    program = torch.export.export(
        model, (inputs(5),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=strict
    )
    for batch in (5, 1, 64):
        assert_close(program.module()(inputs(batch)), model(inputs(batch)), f"{batch}", 1e-9)
    targets = {str(node.target) for node in program.graph.nodes}
    named = name in ("numba", "chebyshev")
    assert any(target.startswith("qkan") for target in targets) == named


ONNX: dict[str, Options] = {
    "folded": {"engine": "numba"},
    "trainable": {"encoding": "trainable", "engine": "chebyshev"},
}


def run_onnx(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert isinstance(value, np.ndarray)
    return torch.from_numpy(value)


@pytest.mark.parametrize("name", ONNX)
def test_onnxruntime_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    model, path = block(ONNX[name], torch.float32), tmp_path / "block.onnx"
    to_onnx(model, inputs(1, torch.float32), path)
    assert model.training
    for batch in (1, 7):
        x = inputs(batch, torch.float32)
        assert_close(run_onnx(path, x), model.eval()(x), f"batch {batch}", 1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["block.onnx"]


def test_onnx_files_of_other_models_and_other_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = tmp_path / "model.onnx", torch.randn(1, 1, 4)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    # numbers beyond protobuf's limit stand in a file beside the graph
    monkeypatch.setattr("qkan.surgery.export._LARGEST_FILE", 0)
    to_onnx(model, x, path, dynamic=(0, 1))
    wide = torch.randn(3, 5, 4)
    assert_close(run_onnx(path, wide), model(wide), "value", 1e-6)
    assert len([*tmp_path.iterdir()]) == 2


# torch's exporter says which of torchvision's operators it lacks
@pytest.mark.filterwarnings("ignore")
def test_a_transformer_becomes_onnx_without_its_cache(tmp_path: Path) -> None:
    model, path = FAMILIES["gpt2"].build(), tmp_path / "model.onnx"
    replace_ffn(model, small)
    tokens = FAMILIES["gpt2"].inputs()["input_ids"]
    wanted = r"returns more than tensors: past_key_values is a DynamicCache.*use_cache = False"
    with pytest.raises(QKANError, match=wanted):
        to_onnx(model, tokens, path)
    with pytest.raises(QKANError, match=r"more than tensors: \[1\]\.state is a str"):
        to_onnx(Pair(), torch.rand(2, 3), path)
    assert not path.exists()
    model.config.use_cache = False
    to_onnx(model, tokens, path, dynamic=(0, 1))
    longer = torch.randint(3, 50, (3, 11), generator=torch.Generator().manual_seed(1))
    assert_close(run_onnx(path, longer), model(longer).logits, "logits", 1e-5)


class Pair(nn.Module):
    """Returns more than an exporter can write."""

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, str]]:
        return x, {"state": "none"}


def test_what_cannot_become_onnx_is_refused(tmp_path: Path) -> None:
    model, path = QKAN([2, 1], encoding="linear"), tmp_path / "model.onnx"
    with pytest.raises(QKANError, match=r"dynamic=\(0, 2\).*shape \(3, 2\)"):
        to_onnx(model, torch.rand(3, 2), path, dynamic=(0, 2))
    with pytest.raises(QKANError, match="the example is list"):
        to_onnx(model, [[1.0, 2.0]], path)  # type: ignore[arg-type]
    for wrong in (tmp_path, tmp_path / "nowhere" / "model.onnx"):
        with pytest.raises(QKANError, match="is not a file in an existing folder"):
            to_onnx(model, torch.rand(3, 2), wrong)
    assert not path.exists()


@pytest.mark.parametrize("name", BLOCKS)
def test_deterministic_algorithms_do_and_repeat(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        runs = [gradients(block(BLOCKS[name]), inputs(40)) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    for key, value in runs[0].items():
        assert torch.equal(value, runs[1][key]), key


@pytest.mark.parametrize("name", BLOCKS)
def test_copies_and_deferred_starts(name: str) -> None:
    model, x = block(BLOCKS[name]), inputs(3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
    with torch.device("meta"):
        deferred = block(BLOCKS[name])
    assert all(tensor.is_meta for tensor in deferred.state_dict().values())
    real = deferred.to_empty(device="cpu")
    real.reset_parameters(torch.Generator().manual_seed(0))
    fresh = block(BLOCKS[name])
    fresh.reset_parameters(torch.Generator().manual_seed(0))
    assert torch.equal(real(x), fresh(x))


@pytest.mark.usefixtures("fresh_compiler")
def test_inductor_compiles_a_folded_block() -> None:
    folded = fold(block({"depth": 2}))
    compiled = torch.compile(folded, fullgraph=True)
    with torch.inference_mode():
        assert_close(compiled(inputs(1)), folded(inputs(1)), "value", 1e-11)
