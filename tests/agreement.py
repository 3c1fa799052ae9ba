"""What a fused engine must do on any device, as assertions that the CPU and the GPU suite share.

The truth is the `torch` engine in float64 on the CPU, which `test_engines.py` proves against
statevectors.
"""

from __future__ import annotations

import torch
from cases import CIRCUITS, Problem, Shape, problem
from compare import assert_as_exact_as, assert_close
from torch import Tensor

from qkan.circuits import lower
from qkan.simulators import Engine, LayerTensors, Request, get_engine

NAMES = ("x", "theta", "scale", "shift", "weight", "base_weight", "bias")
CPU = torch.device("cpu")
Found = dict[str, Tensor]


def request_for(
    circuit: str, shape: Shape, like: Tensor, per_edge: bool = False, fixed: bool = False
) -> Request:
    """A request for tensors such as `like`."""
    program = lower(CIRCUITS[circuit])
    scales = tuple(float(u + 1) for u in range(program.num_encodings)) if fixed else None
    return Request(
        program, shape.b, shape.o, shape.i, like.dtype, like.device, scales, per_edge=per_edge
    )


def leaves(p: Problem, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """x, theta, scale, shift, weight as leaves of a dtype on a device."""
    tensors = (p.x, p.theta, p.scale, p.shift, p.weight)
    return tuple(t.detach().to(device, dtype).requires_grad_() for t in tensors)


def run(
    engine: Engine, circuit: str, tensors: tuple[Tensor, ...], grad: Tensor, fixed: bool = False
) -> Found:
    """Value and gradients of a layer; without a weight, of all edges. Everything on the CPU."""
    x, theta = tensors[:2]
    shape, per_edge = Shape(len(x), *theta.shape[:2]), len(tensors) == 4
    request = request_for(circuit, shape, x, per_edge, fixed)
    value = (engine.edges if per_edge else engine.layer)(request, *tensors)
    found = torch.autograd.grad(
        value, tensors, grad.to(value), allow_unused=True, materialize_grads=True
    )
    result = {"value": value, **dict(zip(NAMES, found, strict=False))}
    if fixed:
        del result["scale"]
    return {name: tensor.detach().cpu() for name, tensor in result.items()}


def case(circuit: str, shape: Shape, fixed: bool = False) -> Problem:
    """A random problem in float64, with the fixed scales where they are wanted."""
    p = problem(CIRCUITS[circuit], shape, seed=5)
    if fixed:
        count = CIRCUITS[circuit].num_encodings
        p.scale = torch.arange(1.0, count + 1, dtype=torch.float64).expand_as(p.scale).clone()
    return p


def assert_agrees(
    engine: Engine, circuit: str, shape: Shape, device: torch.device = CPU, fixed: bool = False
) -> None:
    """Layer and edges, values and all gradients, in float64."""
    p = case(circuit, shape, fixed)
    truth = get_engine("torch")
    per_edge = torch.cos(torch.arange(shape.b * shape.o * shape.i).double())
    for count, grad in ((5, p.grad), (4, per_edge.view(shape.b, shape.o, shape.i))):
        wanted = run(truth, circuit, leaves(p, torch.float64, CPU)[:count], grad, fixed)
        mine = leaves(p, torch.float64, device)[:count]
        for what, found in run(engine, circuit, mine, grad, fixed).items():
            assert_close(found, wanted[what], f"{what}, {'layer' if count == 5 else 'edges'}")


def assert_as_exact_as_torch(
    engine: Engine, circuit: str, shape: Shape, device: torch.device = CPU
) -> None:
    """In float32 the error is at most twice that of plain torch operators."""
    p = case(circuit, shape)
    single = leaves(p, torch.float32, CPU)
    double = leaves(Problem(*(t.detach() for t in single), p.grad), torch.float64, CPU)
    grad = p.grad.float()
    truth = get_engine("torch")
    exact, plain = run(truth, circuit, double, grad), run(truth, circuit, single, grad)
    mine = tuple(t.detach().to(device).requires_grad_() for t in single)
    slack = 4 * torch.finfo(torch.float32).eps * float(single[-1].detach().abs().sum())
    for what, found in run(engine, circuit, mine, grad).items():
        size = max([1.0, *exact[what].abs().flatten().tolist()])
        assert_as_exact_as(found, plain[what], exact[what], slack * size, what)


def assert_half_is_rounded_float32(
    engine: Engine, dtype: torch.dtype, device: torch.device = CPU
) -> None:
    """Inputs and outputs in half precision, all between in float32."""
    p = case("pz3", Shape(37, 3, 5))
    half = leaves(p, dtype, device)
    single = tuple(t.detach().float().requires_grad_() for t in half)
    grad = p.grad.to(dtype).float()
    wanted = run(engine, "pz3", single, grad)
    for what, found in run(engine, "pz3", half, grad).items():
        assert found.dtype == dtype
        assert torch.equal(found, wanted[what].to(dtype)), what


def assert_whole_agrees(
    engine: Engine, base: str | None, shape: Shape, device: torch.device = CPU, bare: bool = False
) -> None:
    """A whole layer: mask, base activation, bias; `bare` leaves out mask and bias."""
    p = case("pz3", shape)
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    first = leaves(p, torch.float64, CPU)
    extra = (normal(shape.o, shape.i), normal(shape.o))[: 1 if bare else 2]
    mask = None if bare else (normal(shape.o, shape.i) > -0.5).double()
    grad = normal(shape.b, shape.o)

    def whole(engine: Engine, device: torch.device) -> Found:
        mine = [t.detach().to(device).requires_grad_() for t in (*first, *extra)]
        request = request_for("pz3", shape, mine[0])._replace(base=base)
        tensors = LayerTensors(*mine[1:])._replace(mask=None if mask is None else mask.to(device))
        value = engine.whole(request, mine[0], tensors)
        with torch.no_grad():
            assert torch.equal(engine.whole(request, mine[0], tensors), value)
        found = torch.autograd.grad(
            value, mine, grad.to(device), allow_unused=True, materialize_grads=True
        )
        result = {"value": value, **dict(zip(NAMES, found, strict=False))}
        return {name: tensor.detach().cpu() for name, tensor in result.items()}

    wanted = whole(get_engine("torch"), CPU)
    for what, found in whole(engine, device).items():
        assert_close(found, wanted[what], what)


def assert_a_bad_sample_stays_alone(engine: Engine, bad: float, device: torch.device = CPU) -> None:
    """NaN or an infinite input spoils its own row of the output and its own ∂/∂x."""
    p = case("pz3", Shape(67, 3, 4))
    p.x = p.x.detach().clone()
    p.x[41, 1] = bad
    mine = leaves(p, torch.float64, device)
    found = run(engine, "pz3", mine, p.grad)
    wanted = run(get_engine("torch"), "pz3", leaves(p, torch.float64, CPU), p.grad)
    for what in ("value", "x"):
        assert_close(found[what], wanted[what], what)
    assert found["value"][41].isnan().all()
    assert int(found["value"].isnan().sum()) == 3 and int(found["x"].isnan().sum()) == 1


def assert_large_inputs_stay_exact(
    engine: Engine, dtype: torch.dtype, device: torch.device = CPU
) -> None:
    """An angle of any size: the error is that of rounding scale·x + shift, at most twice."""
    for size in (1e2, 1e4, 1e6, 1e14):
        p = case("pz3", Shape(33, 2, 3))
        p.x = p.x.detach() * size
        single = tuple(t.detach() for t in leaves(p, dtype, CPU))
        double = tuple(t.double() for t in single)
        shape = Shape(33, 2, 3)

        def layer(engine: Engine, tensors: tuple[Tensor, ...], shape: Shape = shape) -> Tensor:
            return engine.layer(request_for("pz3", shape, tensors[0]), *tensors).cpu()

        truth = get_engine("torch")
        exact, plain = layer(truth, double), layer(truth, single)
        found = layer(engine, tuple(t.to(device) for t in single))
        assert found.isfinite().all()
        assert float(found.abs().max()) <= float(single[-1].abs().sum(1).max()) * (1 + 1e-5)
        slack = 64 * torch.finfo(dtype).eps * (size if dtype == torch.float64 else 1)
        assert_as_exact_as(found, plain, exact, slack, f"x of size {size:g}")


def assert_the_arccos_is_flat_from_one_on(engine: Engine, device: torch.device = CPU) -> None:
    """The derivative of arccos e is 0 for |e| ≥ 1, and nothing is NaN."""
    values = (1.0, -1.0, 1.5, -3.0, 0.5)
    p = case("px1", Shape(len(values), 1, 1))
    mine = list(leaves(p, torch.float64, device))
    mine[0] = torch.tensor(values, dtype=torch.float64, device=device)[:, None].requires_grad_()
    mine[2] = torch.ones_like(mine[2]).requires_grad_()
    mine[3] = torch.zeros_like(mine[3]).requires_grad_()
    found = run(engine, "px1", tuple(mine), torch.ones(len(values), 1))
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert [float(slope) == 0.0 for slope in found["x"][:, 0]] == [abs(e) >= 1 for e in values]


def assert_differentiable_twice(
    engine: Engine, device: torch.device = CPU, shape: Shape | None = None
) -> None:
    """First derivatives against differences, second ones against those of the first."""
    shape = Shape(2, 2, 2) if shape is None else shape
    p = case("own", shape)
    mine = leaves(p, torch.float64, device)
    request = request_for("own", shape, mine[0])
    torch.autograd.gradcheck(lambda *t: engine.layer(request, *t), mine)
    torch.autograd.gradgradcheck(lambda *t: engine.layer(request, *t), mine)
    edges = request._replace(per_edge=True)
    torch.autograd.gradgradcheck(lambda *t: engine.edges(edges, *t), mine[:4])


def assert_no_sample_is_no_output(engine: Engine, device: torch.device = CPU) -> None:
    """An empty batch gives an empty output and zero gradients."""
    p = case("pz1", Shape(0, 3, 5))
    found = run(engine, "pz1", leaves(p, torch.float64, device), p.grad)
    assert found["value"].shape == (0, 3) and found["x"].shape == (0, 5)
    for name in NAMES[1:5]:
        assert float(found[name].abs().max()) == 0.0, name
