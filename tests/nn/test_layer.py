"""`QKANLayer` and `QKAN`: the formula, the start, shapes, torch's ways, and what they refuse."""

from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from cases import CIRCUITS, own_circuit
from compare import assert_close
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

import qkan
from qkan import QKAN, CircuitError, QKANError, QKANLayer, ansatz, effective_parameters, expectation
from qkan.circuits import RY, RZ, Circuit, Encoding, Theta

DOUBLE = torch.float64
OPTIONS: dict[str, dict[str, object]] = {
    "default": {},
    "linear": {"encoding": "linear"},
    "ternary rpz": {"encoding": "ternary", "ansatz": "rpz"},
    "numbers": {"encoding": (1.0, 2.5), "reps": 2},
    "group": {"group": 2},
    "group of one": {"group": 1, "encoding": "linear"},
    "every input its group": {"group": 5, "base": "gelu"},
    "amplitude": {"readout": "amplitude"},
    "amplitude group": {"readout": "amplitude", "group": 2},
    "bare": {"base": None, "bias": False},
    "no base": {"base": None},
    "no bias": {"bias": False, "base": "tanh"},
    "px": {"ansatz": "px"},
    "own": {"ansatz": own_circuit(), "base": "identity"},
    "numba": {"engine": "numba"},
    "numba group": {"engine": "numba", "group": 2},
    "numba px": {"engine": "numba", "ansatz": "px"},
    "fourier": {"engine": "fourier", "encoding": "binary", "ansatz": "rpz"},
    "fourier group": {"engine": "fourier", "encoding": "binary", "group": 5},
    "chebyshev": {"engine": "chebyshev"},
    "torch": {"engine": "torch"},
    "observable": {"observable": "x"},
    "learnt observable": {"observable": "trainable", "group": 2},
}  # fmt: skip


def build(options: dict[str, object], dtype: torch.dtype = DOUBLE) -> QKANLayer:
    layer = QKANLayer(5, 3, **options, generator=torch.Generator().manual_seed(0), dtype=dtype)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter += 0.3 * noise
        layer.mask[1, 2] = 0
    return layer


def by_formula(layer: QKANLayer, x: Tensor) -> Tensor:
    """MATH's formula, one edge after the other, from `expectation` by the reference engine."""
    out = torch.zeros(x.shape[0], layer.out_features, dtype=x.dtype)
    bases = {"silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh, "identity": lambda v: v}
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            row = (o, i) if layer.group is None else (i * layer.group // layer.in_features,)
            theta, scale, shift = (
                t[row][None, None] for t in (layer.theta, layer.scale, layer.shift)
            )
            z = expectation(
                layer.circuit, x[:, i : i + 1], theta, scale, shift, engine="reference"
            )[:, 0, 0]
            if layer.readout == "amplitude":
                z = ((1 + z) / 2).sqrt() - ((1 - z) / 2).sqrt()
            term = layer.weight[o, i] * z
            if layer.base_weight is not None and layer.base is not None:
                term = term + layer.base_weight[o, i] * bases[layer.base](x[:, i])
            out[:, o] += layer.mask[o, i] * term
    return out if layer.bias is None else out + layer.bias


@pytest.mark.parametrize("name", OPTIONS)
def test_the_layer_is_its_formula(name: str) -> None:
    layer = build(OPTIONS[name])
    x = torch.randn(6, 5, dtype=DOUBLE) * 0.8
    with torch.no_grad():
        assert_close(layer(x), by_formula(layer, x), "value")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_parameter_has_its_gradient(name: str) -> None:
    layer = build(OPTIONS[name])
    x = (torch.randn(4, 5, dtype=DOUBLE) * 0.5).requires_grad_()
    names = [n for n, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, dict(zip(names, values, strict=True)), (x,))
        return out

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    torch.autograd.gradcheck(run, (x, *values), atol=1e-6)


def test_state_dict_names_and_shapes() -> None:
    layer = QKANLayer(5, 3)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {
        "theta": (3, 5, 8), "scale": (3, 5, 3), "shift": (3, 5, 3), "weight": (3, 5),
        "base_weight": (3, 5), "bias": (3,), "mask": (3, 5),
    }  # fmt: skip
    grouped = QKANLayer(5, 3, group=2, encoding="linear", ansatz="rpz")
    shapes = {name: tuple(value.shape) for name, value in grouped.state_dict().items()}
    assert shapes["theta"] == (2, 4) and shapes["scale"] == shapes["shift"] == (2, 3)
    assert shapes["weight"] == shapes["base_weight"] == (3, 5)


def test_which_shifts_are_parameters() -> None:
    def trainable(**options: object) -> set[str]:
        return {n for n, _ in QKANLayer(2, 2, **options).named_parameters()}

    assert {"scale", "shift"} <= trainable()
    assert not {"scale", "shift"} & trainable(encoding="linear")
    assert "shift" in trainable(encoding="linear", ansatz="rpz")
    assert "scale" not in trainable(encoding="linear", ansatz="rpz")
    assert effective_parameters(QKANLayer(1, 1)) == 17 - 3
    assert effective_parameters(QKANLayer(1, 1, encoding="linear")) == 8 + 3
    assert effective_parameters(QKANLayer(2, 2, ansatz="rpz")) == 4 * (4 + 6 + 2) + 2


@pytest.mark.parametrize("name", ["default", "group", "amplitude"])
def test_any_leading_dimensions_and_memory_layout(name: str) -> None:
    layer = build(OPTIONS[name])
    x = torch.randn(2, 3, 4, 5, dtype=DOUBLE)
    flat = layer(x.reshape(-1, 5))
    assert_close(layer(x), flat.reshape(2, 3, 4, 3), "leading dimensions")
    assert_close(layer(x[0, 0, 0]), flat[0], "one sample")
    strided = torch.randn(5, 9, dtype=DOUBLE).T[::2]
    assert not strided.is_contiguous()
    assert_close(layer(strided), layer(strided.contiguous()), "strided")
    assert layer(torch.zeros(2, 0, 5, dtype=DOUBLE)).shape == (2, 0, 3)
    layer(torch.zeros(0, 5, dtype=DOUBLE)).sum().backward()
    assert float(layer.theta.grad.abs().max()) == 0.0


def test_pruned_edges_pass_nothing() -> None:
    layer = build({})
    x = torch.randn(4, 5, dtype=DOUBLE)
    before = layer(x)
    x[:, 2] += 1.0
    assert torch.equal(layer(x)[:, 1], before[:, 1])
    assert not torch.equal(layer(x)[:, 0], before[:, 0])


@pytest.mark.parametrize("name", ["pz", "rpz", "mix", "real", "px"])
@pytest.mark.parametrize("encoding", ["trainable", "ternary"])
def test_ten_layers_keep_the_size_of_their_signal(name: str, encoding: str) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        model = QKAN([32] * 11, ansatz=name, encoding=encoding, generator=generator)
        h = torch.randn(256, 32, generator=generator)
        with torch.no_grad():
            for layer in model.layers:
                h = layer(h)
                assert 0.5 <= float(h.square().mean()) <= 2.0


def test_the_start_is_as_stated() -> None:
    layer = QKANLayer(7, 4, generator=torch.Generator().manual_seed(3))
    assert layer.theta.detach().abs().max() <= math.pi / 2
    assert (layer.scale == 1).all() and (layer.shift == 0).all() and (layer.bias == 0).all()
    assert torch.allclose(layer.base_weight.detach(), torch.tensor(1 / 7))
    z = []
    for _ in range(40):
        layer.reset_parameters()
        with torch.no_grad():
            z.append(expectation(layer.circuit, torch.randn(200, 7), layer.theta))
    moment = float(torch.stack(z).square().mean())
    assert abs(moment * 7 * layer.weight[0, 0].item() ** 2 - 1) < 0.1
    assert QKANLayer(2, 2, encoding="binary").scale[1, 1].tolist() == [1, 2, 4]


def test_the_start_follows_torchs_generator() -> None:
    torch.manual_seed(5)
    first = QKAN([2, 3, 1])
    state = torch.get_rng_state()
    torch.manual_seed(5)
    second = QKAN([2, 3, 1])
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    before = torch.get_rng_state()
    third = QKAN([2, 3, 1], generator=torch.Generator().manual_seed(5))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(third.layers[0].theta, first.layers[0].theta)


def test_a_network_is_its_layers_in_a_row() -> None:
    model = QKAN([3, 4, 2], reps=2, encoding="linear", dtype=DOUBLE)
    x = torch.randn(5, 3, dtype=DOUBLE)
    assert torch.equal(model(x), model.layers[1](model.layers[0](x)))
    assert model.widths == [3, 4, 2]
    ranged = QKAN.from_layers(list(model.layers), input_range=(-4.0, 6.0))
    assert_close(ranged(x), model((x - 1) * math.pi / 10), "input range")
    twin = QKAN.from_config(ranged.config(), dtype=DOUBLE)
    twin.load_state_dict(ranged.state_dict())
    assert torch.equal(twin(x), ranged(x)) and repr(twin) == repr(ranged)


@pytest.mark.parametrize("name", OPTIONS)
def test_copies_compute_the_same(name: str) -> None:
    layer = build(OPTIONS[name])
    x = torch.randn(4, 5, dtype=DOUBLE)
    wanted = layer(x)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = QKANLayer(5, 3, **OPTIONS[name], dtype=DOUBLE)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(twin(x), wanted)
    again = QKANLayer.from_config(layer.config(), dtype=DOUBLE)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), wanted)


def test_dtypes_and_devices_follow_the_rules_of_linear() -> None:
    layer = build({}, torch.float32)
    x = torch.randn(64, 5)
    double = copy.deepcopy(layer).to(torch.float64)
    assert double(x.double()).dtype == DOUBLE
    assert_close(layer(x), double(x.double()), "float32", 1e-5)
    for half in (torch.bfloat16, torch.float16):
        low = copy.deepcopy(layer).to(half)
        wanted = copy.deepcopy(low).double()(x.to(half).double())
        assert low(x.to(half)).dtype == half
        assert_close(low(x.to(half)), wanted, str(half), 8 * torch.finfo(half).eps)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
        half_input = layer(x.bfloat16())
    assert_close(mixed, layer(x), "autocast", 0.02)
    assert_close(half_input, layer(x.bfloat16().float()), "autocast of bfloat16", 0.02)
    meta = QKANLayer(5, 3, device="meta")
    assert meta(torch.empty(2, 5, device="meta")).shape == (2, 3)
    real = meta.to_empty(device="cpu")
    real.reset_parameters()
    real.load_state_dict(layer.state_dict())
    assert torch.equal(real(x), layer(x))
    with torch.device("meta"):
        assert QKANLayer(2, 2, ansatz="px", reps=2).theta.is_meta


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_parameters_alone_may_be_of_lower_precision(name: str, half: torch.dtype) -> None:
    """As when they are rounded for a step and the buffers are not: mask and fixed scales."""
    layer = build(OPTIONS[name], torch.float32)
    whole = copy.deepcopy(layer).to(half)
    for parameter in layer.parameters():
        parameter.data = parameter.data.to(half)
    x = torch.randn(64, 5).to(half)
    found, wanted = (model(x) for model in (layer, whole))
    assert found.dtype == half
    assert_close(found, wanted, "value", 8 * torch.finfo(half).eps)
    pairs = zip(*(torch.autograd.grad(v.sum(), [*m.parameters()])
                  for v, m in ((found, layer), (wanted, whole))), strict=True)  # fmt: skip
    for one, other in pairs:
        assert one.dtype == half
        assert_close(one, other, "gradient", 0.03)


def test_per_sample_parameters_under_vmap() -> None:
    layer = build({"reps": 2})
    x = torch.randn(6, 5, dtype=DOUBLE)
    thetas = torch.randn(6, *layer.theta.shape, dtype=DOUBLE)

    def one(theta: Tensor, x: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, {"theta": theta}, (x,))
        return out

    wanted = torch.stack([one(thetas[b], x[b]) for b in range(6)])
    assert_close(vmap(one)(thetas, x), wanted, "vmap")
    slopes = vmap(torch.func.grad(lambda t, x: one(t, x).sum()))(thetas, x)
    single = torch.func.grad(lambda t: one(t, x[2]).sum())(thetas[2])
    assert_close(slopes[2], single, "gradient under vmap")
    jacobian = torch.func.jacrev(lambda x: layer(x))(x[0])
    assert jacobian.shape == (3, 5)


COMPILED: dict[str, dict[str, object]] = {
    "auto": {},
    "auto linear": {"encoding": "linear"},
    "auto group": {"group": 2},
    "torch": {"engine": "torch"},
    "numba": {"engine": "numba"},
    "chebyshev": {"engine": "chebyshev"},
    "fourier": {"engine": "fourier", "encoding": "ternary", "ansatz": "rpz"},
}


@pytest.mark.parametrize("options", COMPILED.values(), ids=COMPILED)
def test_compiled_gives_the_same_numbers(options: dict[str, object]) -> None:
    # all networks share one forward, and a compiler keeps eight versions of a function
    torch._dynamo.reset()
    model = QKAN([4, 3, 2], **options, dtype=DOUBLE)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    x = torch.randn(8, 4, dtype=DOUBLE)
    assert_close(compiled(x), model(x), "value")
    compiled(x).square().sum().backward()
    model(x).square().sum().backward()
    mine = dict(compiled.named_parameters())
    for name, parameter in model.named_parameters():
        assert_close(mine[f"_orig_mod.{name}"].grad, parameter.grad, name)


def test_a_layer_learns_inside_a_larger_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), QKANLayer(4, 2), nn.Linear(2, 1))
    x = torch.randn(64, 3)
    y = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_explain_tells_of_every_layer() -> None:
    model = QKAN([3, 4, 2], encoding="linear")
    said = qkan.explain(model, torch.randn(512, 3))
    assert list(said) == ["layers.0", "layers.1"]
    assert "→" in str(said["layers.0"]) and said["layers.1"].engine in qkan.engines()
    grouped = qkan.explain(QKANLayer(3, 2, group=1), torch.randn(2, 7, 3))
    assert list(grouped) == [""]
    with pytest.raises(QKANError, match="no QKANLayer"):
        qkan.explain(nn.Linear(2, 2), torch.randn(3, 2))


def test_a_fixed_scale_cannot_be_overwritten_unnoticed() -> None:
    linear, ternary = (QKANLayer(2, 2, encoding=e) for e in ("linear", "ternary"))
    with pytest.raises(QKANError, match="differs from this layer's fixed"):
        linear.load_state_dict(ternary.state_dict())


def test_the_amplitude_readout_has_no_nan_at_its_poles() -> None:
    z = torch.tensor([-1.0, 1.0, 0.0, 1.0 + 1e-7], requires_grad=True)
    value = qkan.nn.functional.amplitude(z)
    assert_close(value, torch.tensor([-1.0, 1.0, 0.0, 1.0]), "value", 1e-6)
    value.sum().backward()
    assert z.grad.isfinite().all()


def test_repr_shows_what_was_asked() -> None:
    text = repr(QKAN([2, 3, 1], ansatz="rpz", reps=2, encoding="ternary", readout="amplitude"))
    assert "rpz" in text and "reps=2" in text and "ternary" in text and "amplitude" in text
    assert "own circuit" in repr(QKANLayer(2, 2, ansatz=own_circuit()))


def second_observable() -> QKANLayer:
    return QKANLayer(2, 2, ansatz=Circuit([RY(Theta(0)), RZ(Encoding(0))], ("X", "W")))


LAYER = QKANLayer(2, 2)
WRONG = {
    "last dimension": (lambda: LAYER(torch.zeros(3, 4)), QKANError, "in_features=2"),
    "no dimension": (lambda: LAYER(torch.tensor(1.0)), QKANError, "in_features=2"),
    "integers": (lambda: LAYER(torch.ones(3, 2, dtype=torch.long)), QKANError, "torch.int64"),
    "complex": (lambda: LAYER(torch.ones(3, 2, dtype=torch.cfloat)), QKANError, "complex64"),
    "numpy": (lambda: LAYER(np.ones((3, 2))), QKANError, "ndarray"),
    "dtype": (lambda: LAYER(torch.ones(3, 2, dtype=DOUBLE)), QKANError, "torch.float64"),
    "ansatz": (lambda: QKANLayer(2, 2, ansatz="rzp"), CircuitError, "Did you mean 'rpz'"),
    "engine": (lambda: QKANLayer(2, 2, engine="torsh"), QKANError, "Did you mean 'torch'"),
    "encoding": (lambda: QKANLayer(2, 2, encoding="trainble"), QKANError, "'trainable'"),
    "encoding length": (lambda: QKANLayer(2, 2, encoding=(1, 2)), CircuitError, "3 encodings"),
    "base": (lambda: QKANLayer(2, 2, base="sliu"), QKANError, "Did you mean 'silu'"),
    "readout": (lambda: QKANLayer(2, 2, readout="amplitud"), QKANError, "'amplitude'"),
    "option": (lambda: QKANLayer(2, 2, rep=2), TypeError, "Did you mean 'reps'"),
    "option of a network": (lambda: QKAN([2, 2], encodng="linear"), TypeError, "'encoding'"),
    "reps 0": (lambda: QKANLayer(2, 2, reps=0), CircuitError, "reps=0"),
    "reps negative": (lambda: QKAN([2, 1], reps=-1), CircuitError, "reps=-1"),
    "reps beside a circuit": (
        lambda: QKANLayer(2, 2, ansatz=ansatz("pz", 2), reps=4), QKANError, "with a Circuit",
    ),
    "one width": (lambda: QKAN([3]), QKANError, "at least an input and an output"),
    "no width": (lambda: QKAN([]), QKANError, "at least an input and an output"),
    "width 0": (lambda: QKAN([2, 0, 1]), QKANError, "out_features=0"),
    "fractional width": (lambda: QKANLayer(2.0, 1), QKANError, "in_features=2.0"),
    "group 0": (lambda: QKANLayer(4, 2, group=0), QKANError, "group=0"),
    "group too many": (lambda: QKANLayer(4, 2, group=5), QKANError, "at most in_features=4"),
    "range": (lambda: QKAN([2, 1], input_range=(1.0, 1.0)), QKANError, "low below high"),
    "second observable": (second_observable, CircuitError, "Observable 'W'"),
    "observable": (
        lambda: QKANLayer(2, 2, observable=(0, 0, 2)), CircuitError, "divide it by that number",
    ),
    "layers": (
        lambda: QKAN.from_layers([QKANLayer(2, 3), QKANLayer(2, 1)]), QKANError, "do not match: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["own", "mixed"])
def test_a_circuit_of_ones_own_trains(name: str) -> None:
    layer = QKANLayer(2, 2, ansatz=CIRCUITS[name])
    layer(torch.randn(8, 2)).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize("encoding", ["trainable", "linear", "ternary"])
@pytest.mark.parametrize("group", [1, 5, "inputs"])
def test_many_inputs_of_shared_activations_are_sums_of_waves(
    encoding: str, group: int | str
) -> None:
    layer = QKANLayer(37, 3, encoding=encoding, group=group, dtype=torch.float64)
    x = torch.randn(500, 37, dtype=torch.float64, requires_grad=True)
    held = [x, *layer.parameters()]
    results = []
    for engine in ("auto", "torch"):
        layer.engine = engine
        out = layer(x)
        found = torch.autograd.grad(out.square().sum(), held, allow_unused=True)
        results.append((out.detach(), *found))
    for found, wanted in zip(*results, strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            bound = 1e-9 * float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=0, atol=bound)
