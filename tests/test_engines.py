"""Every engine computes what the reference computes: values and all gradients, on every circuit."""

from __future__ import annotations

import pytest
import torch
from cases import CIRCUITS, SHAPES, Shape, problem
from compare import assert_as_exact_as, assert_close
from torch import Tensor

from qkan.circuits import Circuit, lower
from qkan.simulators import Engine, Request, engines, expectation, get_engine

# named here, so that none drops out unnoticed
ENGINES = ("torch",)
NAMES = ("x", "theta", "scale", "shift")


def test_every_engine_is_under_test() -> None:
    assert set(engines()) == {"reference", *ENGINES}


def run_layer(engine: str, circuit: Circuit, tensors: tuple[Tensor, ...]) -> Tensor:
    x, theta, *_ = tensors
    request = Request(lower(circuit), x.shape[0], theta.shape[0], x.shape[1], x.dtype)
    chosen: Engine = get_engine(engine)
    return chosen.layer(request, *tensors)


def gradients(value: Tensor, tensors: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, ...]:
    """Zeros where a circuit does not use a parameter at all."""
    return torch.autograd.grad(value, tensors, grad, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CIRCUITS)
def test_edges_and_gradients_agree_with_the_reference(engine: str, name: str, shape: Shape) -> None:
    circuit = CIRCUITS[name]
    p = problem(circuit, shape)
    grad = torch.randn(shape.b, shape.o, shape.i, dtype=torch.float64)
    wanted = expectation(circuit, *p.inputs, engine="reference")
    found = expectation(circuit, *p.inputs, engine=engine)
    assert_close(found, wanted, "value")
    pairs = zip(
        NAMES,
        gradients(found, p.inputs, grad),
        gradients(wanted, p.inputs, grad),
        strict=True,
    )
    for what, mine, theirs in pairs:
        assert_close(mine, theirs, f"gradient of {what}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CIRCUITS)
def test_layer_and_gradients_agree_with_the_reference(engine: str, name: str) -> None:
    circuit, shape = CIRCUITS[name], Shape(11, 3, 5)
    p = problem(circuit, shape, seed=1)
    tensors = (*p.inputs, p.weight)
    wanted = run_layer("reference", circuit, tensors)
    found = run_layer(engine, circuit, tensors)
    assert_close(found, wanted, "value")
    pairs = zip(
        (*NAMES, "weight"),
        gradients(found, tensors, p.grad),
        gradients(wanted, tensors, p.grad),
        strict=True,
    )
    for what, mine, theirs in pairs:
        assert_close(mine, theirs, f"gradient of {what}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CIRCUITS)
def test_float32_is_as_exact_as_plain_torch(engine: str, name: str) -> None:
    circuit, shape = CIRCUITS[name], Shape(17, 3, 5)
    double = problem(circuit, shape, seed=2)
    single = problem(circuit, shape, seed=2, dtype=torch.float32)
    exact_inputs = tuple(
        t.detach().double().requires_grad_() for t in (*single.inputs, single.weight)
    )
    outputs = {}
    for key, name_, tensors in (
        ("exact", "torch", exact_inputs),
        ("plain", "torch", (*single.inputs, single.weight)),
        ("found", engine, (*single.inputs, single.weight)),
    ):
        value = run_layer(name_, circuit, tensors)
        grads = gradients(value, tensors, double.grad.to(value.dtype))
        outputs[key] = (value, *grads)
    slack = 4 * torch.finfo(torch.float32).eps * float(single.weight.detach().abs().sum())
    for what, found, plain, exact in zip(
        ("value", *NAMES, "weight"), *(outputs[k] for k in ("found", "plain", "exact")), strict=True
    ):
        assert_as_exact_as(found, plain, exact.double(), slack * 8, what)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("name", ["pz1", "px1", "own", "mixed"])
def test_gradcheck_and_gradgradcheck(engine: str, name: str) -> None:
    circuit = CIRCUITS[name]
    p = problem(circuit, Shape(2, 2, 2), seed=3)
    tensors = tuple(t.detach().requires_grad_() for t in (*p.inputs, p.weight))
    torch.autograd.gradcheck(lambda *t: run_layer(engine, circuit, t), tensors)
    torch.autograd.gradgradcheck(lambda *t: run_layer(engine, circuit, t), tensors)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
def test_nothing_selected_gives_empty_outputs_and_zero_gradients(engine: str) -> None:
    circuit = CIRCUITS["pz1"]
    p = problem(circuit, Shape(0, 3, 5))
    out = run_layer(engine, circuit, (*p.inputs, p.weight))
    assert out.shape == (0, 3)
    for grad in gradients(out, (*p.inputs, p.weight), p.grad):
        assert grad.numel() == 0 or float(grad.abs().max()) == 0.0


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("name", ["pz1", "px1"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_spoils_only_its_own_row(engine: str, name: str, bad: float) -> None:
    circuit = CIRCUITS[name]
    p = problem(circuit, Shape(5, 3, 4))
    x = p.x.detach().clone()
    x[2, 1] = bad
    with torch.no_grad():
        found = run_layer(engine, circuit, (x, *p.inputs[1:], p.weight))
        wanted = run_layer("reference", circuit, (x, *p.inputs[1:], p.weight))
    assert_close(found, wanted, "value")
    keep = [0, 1, 3, 4]
    assert found[keep].isfinite().all()
    assert name == "px1" or found[2].isnan().all()


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("e", [1.0, -1.0, 1.5, -3.0, 0.5])
def test_the_arccos_is_flat_from_one_on(engine: str, e: float) -> None:
    circuit = CIRCUITS["px1"]
    p = problem(circuit, Shape(1, 1, 1))
    x = torch.tensor([[e]], dtype=torch.float64, requires_grad=True)
    one, zero = torch.ones_like(p.scale), torch.zeros_like(p.shift)
    out = run_layer(engine, circuit, (x, p.theta, one, zero, p.weight))
    (slope,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert slope.isfinite().all()
    assert (float(slope) == 0.0) == (abs(e) >= 1)
