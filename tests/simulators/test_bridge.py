"""The bridge from engines to torch: transforms, tracers, tensors without numbers, other engines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_as_exact_as, assert_close
from selection import selection
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import qkan
from qkan import QKANError, QKANLayer, qkan_layer
from qkan.circuits import ansatz, lower
from qkan.simulators import (
    Engine,
    LayerCall,
    LayerTensors,
    Request,
    SimulatorError,
    edge_values,
    expectation,
    explain,
    get_engine,
    layer_call,
    register_engine,
    registry,
    run,
    select,
    testing,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "trainable": {},
    "linear": {"encoding": "linear"},
    "group": {"group": 2},
    "inputs, binary": {"group": "inputs", "encoding": "binary"},
    "amplitude": {"readout": "amplitude"},
    "numba": {"engine": "numba"},
    "chebyshev": {"engine": "chebyshev"},
    "fourier": {"engine": "fourier", "encoding": "linear"},
    "torch": {"engine": "torch", "base": None},
}


def layer_of(name: str, dtype: torch.dtype = torch.float64) -> QKANLayer:
    torch.manual_seed(0)
    return QKANLayer(5, 3, dtype=dtype, **OPTIONS[name])


@pytest.mark.parametrize(
    "name",
    selection(
        ["reference", "torch", "fourier", "chebyshev", "numba"],
        chosen=["reference", "chebyshev", "numba"],
    ),
)
def test_every_engine_passes_the_suite_that_is_shipped(name: str) -> None:
    if name == "reference":
        # one statevector a sample, edge and shift: the smallest circuits are enough here
        testing.assert_agrees(get_engine(name), "pz1", Shape(7, 3, 5))
        testing.assert_layer_agrees(get_engine(name), "silu", Shape(3, 2, 2))
        testing.assert_several_observables_agree(get_engine(name), Shape(2, 2, 1))
        return
    ran = testing.check_engine(get_engine(name))
    assert ran["float64"] >= 5 and ran["several"] >= 4


class Simple(Engine):
    """An engine of a user's own: one formula, and autograd for the rest."""

    name = "simple"
    sign = 1.0

    def refuse(self, request: Request) -> str | None:
        return "it knows no noise" if request.noise or request.batched_theta else None

    def cost(self, request: Request) -> float:
        return 0.0

    def forward(self, call: LayerCall) -> tuple[Tensor, None]:
        x, theta, scale, shift, weight = call.circuits
        out = self.sign * edge_values(call.request.program, x, theta, scale, shift)
        if weight is None:
            return out, None
        from qkan.simulators import with_base

        return with_base((out * weight).sum(-1), call.tensors, call.request.base), None


@pytest.fixture
def registered() -> Iterator[Simple]:
    engine = Simple()
    register_engine(engine)
    yield engine
    del registry._ENGINES["simple"]
    registry._cached.cache_clear()


def test_an_engine_of_ones_own_is_one_of_them(registered: Simple) -> None:
    assert "simple" in qkan.engines()
    assert sum(testing.check_engine(registered).values()) > 50
    x = torch.randn(16, 3)
    layer = QKANLayer(3, 2)
    assert qkan.explain(layer, x)[""].engine == "simple"
    request = Request(lower(ansatz("pz")), 16, 2, 3)
    assert select("auto", request) is registered and explain(request).engine == "simple"
    named = QKANLayer(3, 2, engine="simple")
    named.load_state_dict(layer.state_dict())
    named(x).sum().backward()
    assert named.theta.grad is not None
    assert_close(named(x), QKANLayer.from_config({**layer.config()})(x) * 0 + layer(x), "simple")


def test_the_suite_finds_a_wrong_engine() -> None:
    wrong = Simple()
    wrong.sign = 1 + 1e-6
    with pytest.raises(AssertionError, match="off by"):
        testing.check_engine(wrong)


def test_what_cannot_be_registered() -> None:
    with pytest.raises(SimulatorError, match="pass an instance of a subclass of Engine"):
        register_engine(Simple)  # type: ignore[arg-type]
    for name, message in (("auto", "other than 'auto'"), ("", "a text"), ("numba", "NumbaEngine")):
        engine = Simple()
        engine.name = name
        with pytest.raises(SimulatorError, match=message):
            register_engine(engine)
    with pytest.raises(SimulatorError, match="leaves gradients to torch's autograd"):
        call = layer_call(
            lower(CIRCUITS["pz1"]), LayerTensors(*problem(CIRCUITS["pz1"], Shape(1, 1, 1)).inputs)
        )
        Simple().backward(call, torch.ones(1, 1, 1), None)


@pytest.mark.filterwarnings("ignore:.*jit.trace.*:DeprecationWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_trace_holds_plain_operators_and_takes_any_batch(name: str) -> None:
    layer, x = layer_of(name), torch.randn(64, 5, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(layer, x, check_trace=False)
    for rows in (1, 7):
        y = torch.randn(rows, 5, dtype=torch.float64)
        assert_close(traced(y), layer(y), f"{rows} rows")
    assert "qkan::" not in str(traced.inlined_graph)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["trainable", "linear", "group"])
def test_the_older_onnx_exporter(name: str, tmp_path: Path) -> None:
    layer, path = layer_of(name, torch.float32), tmp_path / "layer.onnx"
    torch.onnx.export(
        layer, (torch.randn(4, 5),), str(path), dynamo=False, input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.randn(7, 5)
    (found,) = session.run(None, {"x": x.numpy()})
    assert isinstance(found, np.ndarray)
    assert_close(torch.from_numpy(found), layer(x), "value", 1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_forward_mode(name: str) -> None:
    layer, x = layer_of(name), torch.randn(64, 5, dtype=torch.float64, requires_grad=True)
    along = torch.randn_like(x)
    out = layer(x)
    ones = torch.ones_like(out, requires_grad=True)
    (back,) = torch.autograd.grad(out, x, ones, create_graph=True)
    (wanted,) = torch.autograd.grad((back * along).sum(), ones)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(layer(forward_ad.make_dual(x.detach(), along)))
        assert found.tangent is not None
        assert_close(found.tangent, wanted, "forward_ad")
    assert_close(jvp(layer, (x.detach(),), (along,))[1], wanted, "torch.func.jvp")


def parameter_sets(layer: nn.Module, count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            name: value.detach() + 0.1 * torch.randn(value.shape, generator=generator).double()
            for name, value in layer.named_parameters()
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("shape", [(4, 5), (4, 6, 5)], ids=["one sample", "six samples"])
@pytest.mark.parametrize("name", OPTIONS)
def test_vmap_over_parameters(name: str, shape: tuple[int, ...]) -> None:
    layer, x = layer_of(name), torch.randn(shape, dtype=torch.float64)
    sets = parameter_sets(layer, 4)
    stacked = {k: torch.stack([one[k] for one in sets]).requires_grad_() for k in sets[0]}
    out = vmap(lambda p, x: functional_call(layer, p, (x,)))(stacked, x)
    wanted = torch.stack(
        [functional_call(layer, p, (one,)) for p, one in zip(sets, x, strict=True)]
    )
    assert_close(out, wanted, "value")
    found = torch.autograd.grad(out.square().sum(), [*stacked.values()])
    for n, one in enumerate(sets):
        leaves = {k: v.requires_grad_() for k, v in one.items()}
        value = functional_call(layer, leaves, (x[n],))
        single = torch.autograd.grad(value.square().sum(), [*leaves.values()])
        for key, mine, theirs in zip(stacked, found, single, strict=True):
            assert_close(mine[n], theirs, f"gradient of {key}")


def test_vmap_over_parameters_reaches_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Request] = []
    numba = get_engine("numba")
    ordinary = type(numba).forward

    def noted(self: Engine, call: LayerCall) -> tuple[Tensor, Any]:
        requests.append(call.request)
        return ordinary(self, call)  # type: ignore[arg-type]

    monkeypatch.setattr(type(numba), "forward", noted)
    layer = QKANLayer(5, 3)
    stacked = {k: v.detach().expand(40, *v.shape) for k, v in layer.named_parameters()}
    vmap(lambda p, x: functional_call(layer, p, (x,)))(stacked, torch.randn(40, 5))
    assert [(r.batched_theta, r.batch) for r in requests] == [(True, 40)]


@pytest.mark.parametrize("name", OPTIONS)
def test_vmap_over_samples_and_gradients_of_each(name: str) -> None:
    layer, x = layer_of(name), torch.randn(4, 6, 5, dtype=torch.float64)
    assert_close(vmap(layer)(x), layer(x), "value")
    assert_close(vmap(vmap(layer))(x), layer(x), "value of each sample")
    each = vmap(grad(lambda one: layer(one).sum()))(x)
    whole = x.clone().requires_grad_()
    layer(whole).sum().backward()
    assert_close(each, whole.grad, "gradient by x")


def own_parameters(
    circuit: str, samples: tuple[int, ...], shared: str
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """X and parameters of each sample but those named, and the same as one call a sample."""
    count = math.prod(samples)
    singles = [problem(CIRCUITS[circuit], Shape(1, 3, 4), seed) for seed in range(count)]
    names = ("x", "theta", "scale", "shift", "weight")
    columns = []
    for name in names:
        values = [getattr(p, name).detach() for p in singles]
        if name in shared.split():
            columns.append(values[0])
        else:
            stacked = torch.stack([v[0] if name == "x" else v for v in values])
            columns.append(stacked.unflatten(0, samples))
    return tuple(c.requires_grad_() for c in columns), tuple()


@pytest.mark.parametrize("shared", ["", "scale", "shift weight", "theta shift weight"])
@pytest.mark.parametrize("samples", [(5,), (2, 3)], ids=str)
def test_a_layer_with_parameters_of_each_sample(samples: tuple[int, ...], shared: str) -> None:
    tensors, _ = own_parameters("pz3", samples, shared)
    program = lower(CIRCUITS["pz3"])
    gradients = []
    for engine in ("auto", "numba", "torch"):
        out = qkan_layer(*tensors, program=program, base=None, engine=engine)
        assert out.shape == (*samples, 3)
        found = torch.autograd.grad(out.square().sum(), tensors)
        gradients.append((out.detach(), *found))
    for mine in gradients[:2]:
        for what, one, other in zip(
            ("value", *LayerTensors._fields), mine, gradients[2], strict=False
        ):
            assert_close(one, other, what)


def test_auto_takes_the_kernel_for_parameters_of_each_sample() -> None:
    request = Request(lower(ansatz("pz")), 32, 8, 8, batched_theta=True)
    assert explain(request).engine == "numba"
    verdicts = dict(explain(request).verdicts)
    assert "its own coefficients" in verdicts["chebyshev"]


@pytest.mark.parametrize("leading", [(6,), (2, 3)], ids=str)
def test_expectation_with_parameters_of_each_sample(leading: tuple[int, ...]) -> None:
    circuit = CIRCUITS["own"]
    k, u = circuit.num_theta, circuit.num_encodings
    generator = torch.Generator().manual_seed(0)
    make = lambda *size: torch.randn(size, generator=generator, dtype=torch.float64)  # noqa: E731
    x, theta = make(*leading, 4), make(*leading, 3, 4, k)
    scale, shift = make(3, 4, u), make(1, 3, 4, u)
    found = expectation(circuit, x, theta, scale, shift, engine="numba")
    wanted = expectation(circuit, x, theta, scale, shift, engine="torch")
    assert found.shape == (*leading, 3, 4)
    assert_close(found, wanted, "value")


def test_parameters_of_each_sample_that_do_not_fit() -> None:
    (x, theta, *rest), _ = own_parameters("pz3", (5,), "scale shift weight")
    with pytest.raises(QKANError, match=r"leading dimensions \(4,\) of x"):
        qkan_layer(x[:4], theta, *rest, program=lower(CIRCUITS["pz3"]), base=None)


@pytest.mark.parametrize("width", [0.0, 1e-6, 1e-3, 1e-1])
@pytest.mark.parametrize("fixed", [False, True], ids=["trainable", "fixed"])
def test_slopes_of_an_input_that_hardly_varies(width: float, fixed: bool) -> None:
    p = problem(CIRCUITS["pz3"], Shape(512, 6, 5), seed=1, dtype=torch.float32)
    x = p.x.detach().clone()
    x[:, 2] = 0.7 + width * x[:, 2]
    x[:, 4] = -3.0 + width * x[:, 4]
    scales = (1.0, 2.0, 3.0) if fixed else None
    if fixed:
        p.scale = torch.tensor(scales).expand_as(p.scale).clone()
    program = lower(CIRCUITS["pz3"])

    def slopes(engine: str, dtype: torch.dtype) -> Tensor:
        tensors = [t.detach().to(dtype).requires_grad_() for t in (x, *p.inputs[1:], p.weight)]
        out = run(get_engine(engine), layer_call(program, LayerTensors(*tensors), scales))
        return torch.autograd.grad(out.sum(), tensors[0])[0]

    exact = slopes("torch", torch.float64)
    plain, found = slopes("torch", torch.float32), slopes("chebyshev", torch.float32)
    slack = 4 * torch.finfo(torch.float32).eps * float(p.weight.detach().abs().sum())
    slack *= max(1.0, float(exact.abs().max()))
    for column in range(5):
        assert_as_exact_as(
            found[:, column], plain[:, column], exact[:, column], slack, f"input {column}"
        )


@pytest.mark.parametrize("engine", ["auto", "numba", "chebyshev", "fourier", "torch"])
@pytest.mark.parametrize("low", ["buffers", "parameters"])
def test_buffers_and_parameters_of_different_precision(low: str, engine: str) -> None:
    torch.manual_seed(0)
    layer = QKANLayer(4, 3, encoding="binary", engine=engine)
    x = torch.randn(16, 4)
    wanted = layer(x)
    tensors = layer.named_buffers() if low == "buffers" else layer.named_parameters()
    for _, tensor in tensors:
        tensor.data = tensor.data.bfloat16()
    x = x.to(layer.weight.dtype).requires_grad_()
    out = layer(x)
    assert out.dtype == layer.weight.dtype
    assert_close(out.float(), wanted, "value", 0.1 if low == "parameters" else 1e-5)
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())


@pytest.mark.parametrize(
    "x", [[[0.1, 0.2]], np.zeros((3, 2)), torch.zeros(3, 2, dtype=torch.int64)]
)
def test_what_is_no_tensor_of_floats_is_refused(x: Any) -> None:
    with pytest.raises(QKANError, match="pass a torch tensor of real floats"):
        QKANLayer(2, 1)(x)


SIZES = [8, 200]  # small to the kernels, and not


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_negative_view_is_read_as_its_numbers(name: str, rows: int) -> None:
    layer, x = layer_of(name), torch.randn(rows, 5, dtype=torch.float64)
    grad_out = torch.randn(rows, 3, dtype=torch.float64)
    found, wanted = torch._neg_view(-x).requires_grad_(), x.clone().requires_grad_()
    assert_close(layer(found), layer(wanted), "value")
    (mine,) = torch.autograd.grad(layer(found), found, torch._neg_view(-grad_out))
    (theirs,) = torch.autograd.grad(layer(wanted), wanted, grad_out)
    assert_close(mine, theirs, "gradient by x")


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_device_is_not_that_of_the_tensors(name: str, rows: int) -> None:
    layer, x = layer_of(name), torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(layer(x).sum(), x)
    with torch.device("meta"):
        found = torch.autograd.grad(layer(x).sum(), x)
    assert_close(found[0], wanted[0], "gradient by x")


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_many_gradients_at_once(name: str, rows: int) -> None:
    layer, x = layer_of(name), torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    wanted_of = [x, *layer.parameters()]
    many = torch.randn(3, rows, 3, dtype=torch.float64)
    found = torch.autograd.grad(layer(x), wanted_of, many, is_grads_batched=True)
    for n, one in enumerate(many):
        for mine, theirs in zip(found, torch.autograd.grad(layer(x), wanted_of, one), strict=True):
            assert_close(mine[n], theirs, "gradient")


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_graph_made_of_ordinary_tensors_depends_on_its_input(name: str, rows: int) -> None:
    layer, x = layer_of(name), torch.randn(rows, 5, dtype=torch.float64)
    graph = make_fx(layer)(x)
    y = torch.randn_like(x)
    assert_close(graph(y), layer(y), "value")
