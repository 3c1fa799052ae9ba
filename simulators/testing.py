"""The agreement suite: assertions for every engine, including those of other packages.

`check_engine(engine)` runs all of them. An engine is compared with the `torch` engine in float64 on
the CPU, which the tests of this package compare with statevectors. Letters: b samples, o outputs, i
inputs, k theta slots, u encodings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base_activations import BASES
from .bridge import run
from .call import LayerTensors, Request, layer_call
from .engine import Engine
from .problems import (
    CIRCUITS,
    SHAPES,
    TILTED,
    Problem,
    Shape,
    assert_as_exact_as,
    assert_close,
    problem,
)
from .registry import get_engine

NAMES = LayerTensors._fields[:7]
CPU = torch.device("cpu")
SMALL = Shape(2, 2, 2)
"""Sizes small enough for difference quotients by every value."""
Found = dict[str, Tensor]


def request_for(
    circuit: str,
    shape: Shape,
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
    fixed: bool = False,
) -> Request:
    """Return the request of a layer whose scales are trainable, or fixed at 1, 2, 3 …"""
    program = CIRCUITS[circuit].program
    return Request(
        program, shape.b, shape.o, shape.i, dtype, device, _scales(circuit) if fixed else None
    )


def _scales(circuit: str) -> tuple[float, ...]:
    return tuple(float(u + 1) for u in range(CIRCUITS[circuit].num_encodings))


def leaves(p: Problem, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return the tensors x, theta, scale, shift, weight as leaves of a dtype on a device."""
    tensors = (p.x, p.theta, p.scale, p.shift, p.weight)
    return tuple(t.detach().to(device, dtype).requires_grad_() for t in tensors)


def evaluate(
    engine: Engine,
    circuit: str,
    tensors: Sequence[Tensor | None],
    fixed: bool = False,
    base: str | None = None,
) -> Tensor:
    """Return the output of a layer for the first of `LayerTensors`; for four, the edges' values."""
    scales = _scales(circuit) if fixed else None
    held = LayerTensors(*tensors)  # type: ignore[arg-type]
    return run(engine, layer_call(CIRCUITS[circuit].program, held, scales, base))


def value_and_gradients(
    engine: Engine,
    circuit: str,
    tensors: Sequence[Tensor | None],
    grad: Tensor,
    fixed: bool = False,
    base: str | None = None,
) -> Found:
    """Return the output of `evaluate`, and gradients by all tensors except the mask, on the CPU."""
    value = evaluate(engine, circuit, tensors, fixed, base)
    named = {n: t for n, t in zip(NAMES, tensors, strict=False) if t is not None}
    found = torch.autograd.grad(
        value, [*named.values()], grad.to(value), allow_unused=True, materialize_grads=True
    )
    result = {"value": value, **dict(zip(named, found, strict=True))}
    if fixed:
        del result["scale"]
    return {name: tensor.detach().cpu() for name, tensor in result.items()}


def case(circuit: str, shape: Shape, fixed: bool = False) -> Problem:
    """Return a random problem in float64; `fixed` sets its scales to 1, 2, 3 …"""
    p = problem(CIRCUITS[circuit], shape, seed=5)
    if fixed:
        p.scale = torch.tensor(_scales(circuit), dtype=torch.float64).expand_as(p.scale).clone()
    return p


def assert_agrees(
    engine: Engine, circuit: str, shape: Shape, device: torch.device = CPU, fixed: bool = False
) -> None:
    """Compare values and all gradients, of the layer and of its edges, in float64."""
    p = case(circuit, shape, fixed)
    truth = get_engine("torch")
    per_edge = torch.cos(torch.arange(shape.b * shape.o * shape.i).double())
    for count, grad in ((5, p.grad), (4, per_edge.view(shape.b, shape.o, shape.i))):
        wanted = value_and_gradients(
            truth, circuit, leaves(p, torch.float64, CPU)[:count], grad, fixed
        )
        mine = leaves(p, torch.float64, device)[:count]
        for what, found in value_and_gradients(engine, circuit, mine, grad, fixed).items():
            assert_close(found, wanted[what], f"{what}, {'layer' if count == 5 else 'edges'}")


def assert_several_observables_agree(
    engine: Engine, shape: Shape, device: torch.device = CPU, fixed: bool = False
) -> None:
    """Compare a layer that reads several observables of one state, and its gradients."""
    p, found = case("pz3", shape, fixed), []
    program = CIRCUITS["pz3"].with_observable(("X", TILTED, "Z")).program
    for each, place in ((engine, device), (get_engine("torch"), CPU)):
        held = leaves(p, torch.float64, place)
        call = layer_call(program, LayerTensors(*held), _scales("pz3") if fixed else None)
        value = run(each, call)
        grad = torch.cos(torch.arange(value.numel()).double()).view_as(value).to(value)
        slopes = torch.autograd.grad(value, held, grad, materialize_grads=True)
        found.append([tensor.detach().cpu() for tensor in (value, *slopes)])
    for name, mine, wanted in zip(("value", *NAMES), *found, strict=False):
        if not (fixed and name == "scale"):
            assert_close(mine, wanted, f"{name} of several observables")


def assert_as_exact_as_torch(
    engine: Engine, circuit: str, shape: Shape, device: torch.device = CPU
) -> None:
    """Assert that in float32 the error is at most twice that of plain torch operators."""
    p = case(circuit, shape)
    single = leaves(p, torch.float32, CPU)
    double = tuple(t.detach().double().requires_grad_() for t in single)
    grad = p.grad.float()
    truth = get_engine("torch")
    exact, plain = (
        value_and_gradients(truth, circuit, double, grad),
        value_and_gradients(truth, circuit, single, grad),
    )
    mine = tuple(t.detach().to(device).requires_grad_() for t in single)
    slack = 4 * torch.finfo(torch.float32).eps * float(single[-1].detach().abs().sum())
    for what, found in value_and_gradients(engine, circuit, mine, grad).items():
        size = max([1.0, *exact[what].abs().flatten().tolist()])
        assert_as_exact_as(found, plain[what], exact[what], slack * size, what)


def assert_half_is_rounded_float32(
    engine: Engine, dtype: torch.dtype, device: torch.device = CPU
) -> None:
    """Assert that half precision is computed in float32 and rounded at the end."""
    p = case("pz3", Shape(37, 3, 5))
    half = leaves(p, dtype, device)
    single = tuple(t.detach().float().requires_grad_() for t in half)
    grad = p.grad.to(dtype).float()
    wanted = value_and_gradients(engine, "pz3", single, grad)
    for what, found in value_and_gradients(engine, "pz3", half, grad).items():
        assert found.dtype == dtype
        assert torch.equal(found, wanted[what].to(dtype)), what


def assert_layer_agrees(
    engine: Engine, base: str | None, shape: Shape, device: torch.device = CPU, bare: bool = False
) -> None:
    """Compare a layer with mask, base activation and bias; `bare` leaves out mask and bias."""
    p = case("pz3", shape)
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    first = leaves(p, torch.float64, CPU)
    extra = (normal(shape.o, shape.i), normal(shape.o))[: 1 if bare else 2]
    mask = None if bare else (normal(shape.o, shape.i) > -0.5).double()
    grad = normal(shape.b, shape.o)

    def layer(engine: Engine, device: torch.device) -> Found:
        mine: list[Tensor | None] = [
            t.detach().to(device).requires_grad_() for t in (*first, *extra)
        ]
        mine += [] if mask is None else [mask.to(device)]
        with torch.no_grad():
            value = evaluate(engine, "pz3", mine, base=base)
        found = value_and_gradients(engine, "pz3", mine, grad, base=base)
        assert torch.equal(value.cpu(), found["value"])
        return found

    wanted = layer(get_engine("torch"), CPU)
    for what, found in layer(engine, device).items():
        assert_close(found, wanted[what], what)


def assert_a_bad_sample_stays_alone(engine: Engine, bad: float, device: torch.device = CPU) -> None:
    """Assert that NaN or an infinite input changes only its row of the output and its own ∂/∂x."""
    p = case("pz3", Shape(67, 3, 4))
    p.x = p.x.detach().clone()
    p.x[41, 1] = bad
    mine = leaves(p, torch.float64, device)
    found = value_and_gradients(engine, "pz3", mine, p.grad)
    wanted = value_and_gradients(get_engine("torch"), "pz3", leaves(p, torch.float64, CPU), p.grad)
    for what in ("value", "x"):
        assert_close(found[what], wanted[what], what)
    assert found["value"][41].isnan().all()
    assert int(found["value"].isnan().sum()) == 3 and int(found["x"].isnan().sum()) == 1


def assert_large_inputs_stay_exact(
    engine: Engine, dtype: torch.dtype, device: torch.device = CPU
) -> None:
    """Assert that for large x the error is at most twice that of rounding scale·x + shift."""
    for size in (1e2, 1e4, 1e6, 1e14):
        p = case("pz3", Shape(33, 2, 3))
        p.x = p.x.detach() * size
        single = tuple(t.detach() for t in leaves(p, dtype, CPU))
        double = tuple(t.double() for t in single)
        truth = get_engine("torch")
        exact, plain = (evaluate(truth, "pz3", t) for t in (double, single))
        found = evaluate(engine, "pz3", [t.to(device) for t in single]).cpu()
        assert found.isfinite().all()
        assert float(found.abs().max()) <= float(single[-1].abs().sum(1).max()) * (1 + 1e-5)
        slack = 64 * torch.finfo(dtype).eps * (size if dtype == torch.float64 else 1)
        assert_as_exact_as(found, plain, exact, slack, f"x of size {size:g}")


def assert_the_arccos_is_flat_from_one_on(engine: Engine, device: torch.device = CPU) -> None:
    """Assert that the derivative of arccos e is 0 for |e| ≥ 1, and that nothing is NaN."""
    values = (1.0, -1.0, 1.5, -3.0, 0.5)
    p = case("px1", Shape(len(values), 1, 1))
    mine = list(leaves(p, torch.float64, device))
    mine[0] = torch.tensor(values, dtype=torch.float64, device=device)[:, None].requires_grad_()
    mine[2] = torch.ones_like(mine[2]).requires_grad_()
    mine[3] = torch.zeros_like(mine[3]).requires_grad_()
    found = value_and_gradients(engine, "px1", tuple(mine), torch.ones(len(values), 1))
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert [float(slope) == 0.0 for slope in found["x"][:, 0]] == [abs(e) >= 1 for e in values]


def assert_differentiable_twice(
    engine: Engine, device: torch.device = CPU, shape: Shape = SMALL
) -> None:
    """Compare first derivatives, and theirs, with difference quotients."""
    p = case("own", shape)
    mine = leaves(p, torch.float64, device)
    torch.autograd.gradcheck(lambda *t: evaluate(engine, "own", t), mine)
    torch.autograd.gradgradcheck(lambda *t: evaluate(engine, "own", t), mine)
    torch.autograd.gradgradcheck(lambda *t: evaluate(engine, "own", t), mine[:4])


def assert_no_sample_is_no_output(engine: Engine, device: torch.device = CPU) -> None:
    """Assert that an empty batch gives an empty output and zero gradients."""
    p = case("pz1", Shape(0, 3, 5))
    found = value_and_gradients(engine, "pz1", leaves(p, torch.float64, device), p.grad)
    assert found["value"].shape == (0, 3) and found["x"].shape == (0, 5)
    for name in NAMES[1:5]:
        assert float(found[name].abs().max()) == 0.0, name


def check_engine(engine: Engine, device: torch.device | str = CPU) -> dict[str, int]:
    """Run the agreement suite on an engine, except where the engine refuses.

    Args:
        engine: The engine; it need not be registered.
        device: The device of its tensors.

    Returns:
        The number of cases for each kind of check.

    Raises:
        AssertionError: A value or a gradient is wrong, or the engine refuses every case. The
            message says which, and by how much.

    Example:
        >>> from qkan.simulators import get_engine
        >>> from qkan.simulators.testing import check_engine
        >>> check_engine(get_engine("fourier"))["float64"] > 5
        True
    """
    device = torch.device(device)
    ran = {"float64": 0, "float32": 0, "several": 0, "base": 0, "half": 0, "special": 0}
    for circuit in CIRCUITS:
        for shape in (*SHAPES, Shape(131, 3, 4)):
            for fixed in (False, True):
                if engine.refuse(request_for(circuit, shape, torch.float64, device, fixed)) is None:
                    assert_agrees(engine, circuit, shape, device, fixed)
                    ran["float64"] += 1
        single = request_for(circuit, Shape(131, 3, 4), torch.float32, device)
        if engine.refuse(single) is None:
            assert_as_exact_as_torch(engine, circuit, Shape(131, 3, 4), device)
            ran["float32"] += 1
    assert ran["float64"], f"{engine.name} refuses every circuit in float64"
    for shape in (Shape(7, 3, 5), Shape(131, 3, 4)):
        for fixed in (False, True):
            if engine.refuse(request_for("pz3", shape, torch.float64, device, fixed)) is None:
                assert_several_observables_agree(engine, shape, device, fixed)
                ran["several"] += 1
    _check_layers(engine, device, ran)
    return ran


def _check_layers(engine: Engine, device: torch.device, ran: dict[str, int]) -> None:
    """Check layers with all their parts, half precision, and inputs that need care."""
    layer = request_for("pz3", Shape(45, 13, 15), torch.float64, device)
    if engine.refuse(layer) is not None:
        return
    for base in (*BASES, None):
        if engine.refuse(layer._replace(base=base)) is None:
            assert_layer_agrees(engine, base, Shape(45, 13, 15), device)
            assert_layer_agrees(engine, base, Shape(1, 2, 3), device, bare=True)
            ran["base"] += 1
    for dtype in (torch.bfloat16, torch.float16):
        if engine.computes_half and engine.refuse(layer._replace(dtype=dtype)) is None:
            assert_half_is_rounded_float32(engine, dtype, device)
            ran["half"] += 1
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert_a_bad_sample_stays_alone(engine, bad, device)
    assert_large_inputs_stay_exact(engine, torch.float64, device)
    assert_differentiable_twice(engine, device)
    assert_no_sample_is_no_output(engine, device)
    ran["special"] += 6
    if engine.refuse(request_for("px1", Shape(5, 1, 1), torch.float64, device)) is None:
        assert_the_arccos_is_flat_from_one_on(engine, device)
        ran["special"] += 1
