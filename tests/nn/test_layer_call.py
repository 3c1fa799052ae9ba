"""A layer call in one node (mask, base activation, bias, circuits) equals its parts in a row."""

from __future__ import annotations

import pytest
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_close
from torch import Tensor

from qkan import QKANError, QKANLayer, qkan_layer
from qkan.circuits import lower
from qkan.simulators import (
    BASES,
    LayerCall,
    LayerTensors,
    Request,
    SimulatorError,
    get_engine,
    run,
)

ENGINES = ("fourier", "chebyshev", "numba")
SHAPES = (Shape(5, 3, 4), Shape(131, 3, 4), Shape(67, 1, 1), Shape(1, 2, 7))
"""Few samples; enough for a product; one edge; one sample: each goes another way."""
NAMES = ("x", "theta", "scale", "shift", "weight", "base_weight", "bias")


def request_of(
    engine: str, circuit: str, shape: Shape, base: str | None, dtype: torch.dtype
) -> tuple[Request, tuple[Tensor, ...], Tensor]:
    p = problem(CIRCUITS[circuit], shape, 3, dtype)
    outs, ins = p.theta.shape[:2]
    fixed = None
    if engine == "fourier":
        fixed = tuple(float(u + 1) for u in range(CIRCUITS[circuit].num_encodings))
        p.scale = torch.tensor(fixed, dtype=dtype).expand_as(p.scale).clone()
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=dtype)

    mask = (normal(outs, ins) > -0.5).to(dtype)
    request = Request(
        lower(CIRCUITS[circuit]), len(p.x), outs, ins, dtype, fixed_scale=fixed, base=base
    )
    leaves = (p.x, p.theta, p.scale, p.shift, p.weight, normal(outs, ins), normal(outs))
    return request, tuple(leaf.detach().requires_grad_() for leaf in leaves), mask


def layer_output(
    engine: str, request: Request, leaves: tuple[Tensor, ...], mask: Tensor | None
) -> Tensor:
    return run(get_engine(engine), LayerCall(request, LayerTensors(*leaves, mask)))


def assert_same(
    engine: str, request: Request, leaves: tuple[Tensor, ...], mask: Tensor | None
) -> None:
    found, wanted = (layer_output(name, request, leaves, mask) for name in (engine, "torch"))
    assert_close(found, wanted, "output")
    with torch.no_grad():
        assert_close(
            layer_output(engine, request, leaves, mask), wanted, "output without gradients"
        )
    grad = torch.cos(torch.arange(found.numel(), dtype=found.dtype)).reshape(found.shape)
    ours, theirs = (
        torch.autograd.grad(out, leaves, grad, allow_unused=True, materialize_grads=True)
        for out in (found, wanted)
    )
    skip = ("scale",) if request.fixed_scale is not None else ()
    for name, mine, other in zip(NAMES, ours, theirs, strict=True):
        if name not in skip:
            assert_close(mine, other, f"gradient of {name}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("base", [*BASES, None])
@pytest.mark.parametrize("engine", ENGINES)
def test_output_and_gradients_are_those_of_the_parts(
    engine: str, base: str | None, shape: Shape
) -> None:
    request, leaves, mask = request_of(engine, "pz3", shape, base, torch.float64)
    assert_same(engine, request, leaves, mask)


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_any_circuit_takes_the_small_call(circuit: str) -> None:
    request, leaves, mask = request_of("numba", circuit, Shape(7, 3, 2), "silu", torch.float64)
    assert_same("numba", request, leaves, mask)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_mask_and_bias(engine: str) -> None:
    request, (*leaves, _), _ = request_of(engine, "pz3", Shape(7, 3, 2), "tanh", torch.float64)
    call = LayerCall(request, LayerTensors(*leaves))
    found, wanted = (run(get_engine(name), call) for name in (engine, "torch"))
    assert_close(found, wanted, "output")


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_any_memory_layout(shape: Shape) -> None:
    request, leaves, mask = request_of("numba", "pz3", shape, "gelu", torch.float64)
    turned = tuple(
        leaf.detach().mT.contiguous().mT.requires_grad_() if leaf.ndim > 1 else leaf
        for leaf in leaves
    )
    assert not turned[0].is_contiguous()
    assert_same("numba", request, turned, mask)
    grad = torch.ones(1, dtype=torch.float64).expand(len(leaves[0]), leaves[-1].shape[0])
    value = layer_output("numba", request, leaves, mask)
    (expanded,) = torch.autograd.grad(value, leaves[1], grad)
    value = layer_output("torch", request, leaves, mask)
    (wanted,) = torch.autograd.grad(value, leaves[1], grad)
    assert_close(expanded, wanted, "gradient of theta from an expanded gradient")


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_wanted_gets_a_gradient(name: str) -> None:
    request, leaves, mask = request_of("numba", "pz3", Shape(5, 3, 4), "silu", torch.float64)
    kept = tuple(
        leaf.detach().requires_grad_(n == name) for n, leaf in zip(NAMES, leaves, strict=True)
    )
    layer_output("numba", request, kept, mask).square().sum().backward()
    layer_output("torch", request, leaves, mask).square().sum().backward()
    for n, one, other in zip(NAMES, kept, leaves, strict=True):
        assert (one.grad is not None) == (n == name)
        if n == name:
            assert_close(one.grad, other.grad, f"gradient of {n}")


def test_saved_tensors_that_moved_are_found_again() -> None:
    request, leaves, mask = request_of("numba", "pz3", Shape(5, 3, 4), "silu", torch.float64)

    def copy(tensor: Tensor) -> Tensor:
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(copy, copy):
        x = leaves[0] * 1
        out = layer_output("numba", request, (x, *leaves[1:]), mask)
        del x
    found = torch.autograd.grad(out.sum(), leaves[0])
    wanted = torch.autograd.grad(layer_output("torch", request, leaves, mask).sum(), leaves[0])
    assert_close(found[0], wanted[0], "gradient of x")


def test_a_mask_may_be_learned() -> None:
    request, leaves, mask = request_of("numba", "pz3", Shape(5, 3, 4), "silu", torch.float64)
    gates = [mask.clone().requires_grad_() for _ in range(2)]
    for gate, engine in zip(gates, ("numba", "torch"), strict=True):
        layer_output(engine, request, leaves, gate).square().sum().backward()
    assert_close(gates[0].grad, gates[1].grad, "gradient of the mask")


def test_second_derivatives() -> None:
    request, leaves, mask = request_of("numba", "pz3", Shape(2, 2, 2), "silu", torch.float64)
    torch.autograd.gradgradcheck(lambda *t: layer_output("numba", request, t, mask), leaves)


def test_nan_in_a_sample_stays_there() -> None:
    for base in (*BASES, None):
        request, leaves, _ = request_of("numba", "pz3", Shape(5, 3, 4), base, torch.float32)
        x = leaves[0].detach().clone()
        x[2, 1] = torch.nan
        out = layer_output("numba", request, (x, *leaves[1:]), None)
        assert out[2].isnan().all()
        assert not out[[0, 1, 3, 4]].isnan().any()


def test_tensors_that_do_not_fit_are_never_read_beyond_their_end() -> None:
    request, leaves, mask = request_of("numba", "pz3", Shape(5, 3, 4), "silu", torch.float64)
    short = (*leaves[:-1], leaves[-1][:-1])
    with pytest.raises((RuntimeError, ValueError)):
        layer_output("numba", request, short, mask)


@pytest.mark.parametrize(
    ("engine", "encoding"), [("fourier", "linear"), ("chebyshev", "trainable")]
)
def test_autocast_rounds_only_the_product_of_fourier(engine: str, encoding: str) -> None:
    torch.manual_seed(0)
    layer = QKANLayer(8, 6, encoding=encoding, engine=engine, base=None, bias=False)
    x = torch.randn(256, 8)
    exact, wanted = _value_and_gradients(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, found = _value_and_gradients(layer, x)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact) == (engine == "chebyshev")
    assert_close(mixed, exact, "autocast", 0.02)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert_close(gradient, wanted[name], f"gradient of {name}", 0.1)


def _value_and_gradients(layer: QKANLayer, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    names = dict(layer.named_parameters())
    out = layer(x)
    grads = torch.autograd.grad(out.square().sum(), list(names.values()))
    return out.detach(), dict(zip(names, grads, strict=True))


def test_parameters_of_another_shape_are_refused() -> None:
    layer = QKANLayer(4, 3)
    wrong = torch.zeros(3, 4, 7)
    with pytest.raises(QKANError, match=r"theta \(3, 4, 7\).*wanted \(o, i, 8\)"):
        qkan_layer(
            torch.rand(2, 4), wrong, layer.scale, layer.shift, layer.weight, program=layer.program
        )


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("bias", (1,)), ("bias", (3, 1)), ("mask", (1, 4)), ("mask", (4,)), ("base_weight", (3, 1)),
     ("base_weight", (2, 3, 4))],
)  # fmt: skip
def test_what_would_be_broadcast_is_refused(name: str, shape: tuple[int, ...], engine: str) -> None:
    layer = QKANLayer(4, 3)
    held = {key: getattr(layer, key) for key in ("theta", "scale", "shift", "weight")}
    with pytest.raises(QKANError, match=rf"{name} is .* and weight \(3, 4\): wanted \(3"):
        qkan_layer(
            torch.rand(2, 4), **held, **{name: torch.ones(shape)}, program=layer.program,
            engine=engine,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["theta", "weight", "base_weight", "bias"])
def test_a_parameter_on_another_device_is_an_error(name: str) -> None:
    layer = QKANLayer(4, 3, engine="numba")
    setattr(layer, name, torch.nn.Parameter(getattr(layer, name).to("meta")))
    with pytest.raises(SimulatorError, match=f"{name} is on meta"):
        layer(torch.randn(8, 4))
