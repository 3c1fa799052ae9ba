"""Several observables from one state: every engine against one layer for each of them."""

from __future__ import annotations

import pytest
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_as_exact_as, assert_close
from torch import Tensor

from qkan.circuits import Circuit, CircuitError, lower
from qkan.simulators import (
    LayerCall,
    LayerTensors,
    Noise,
    Request,
    SimulatorError,
    depolarizing,
    expectation,
    explain,
    get_engine,
    layer_call,
    run,
    select,
    testing,
)
from qkan.simulators.axes import seen_by

OBSERVABLES = ("X", (0.48, -0.6, 0.64), "Z", "Y")
ENGINES = ("reference", "torch", "fourier", "chebyshev", "numba")
NAMES = ("pz3", "px3", "real1", "own", "mixed", "bare", "unmoved")
PAIRS = [
    (engine, name)
    for engine in ENGINES
    for name in NAMES
    if (engine not in ("fourier", "chebyshev") or not CIRCUITS[name].uses_arccos)
    and (engine != "reference" or name in ("px3", "own"))
]


def several(name: str) -> Circuit:
    return CIRCUITS[name].with_observable(OBSERVABLES)


def parts(name: str, shape: Shape, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """All tensors of a layer with a base, a bias and a mask; fixed scales 1, 2, 3 …"""
    p = problem(CIRCUITS[name], shape, 3, dtype)
    g = torch.Generator().manual_seed(1)
    base = torch.randn(shape.o, shape.i, generator=g, dtype=torch.float64).to(dtype)
    bias = torch.randn(shape.o, generator=g, dtype=torch.float64).to(dtype)
    mask = (torch.rand(shape.o, shape.i, generator=g) > 0.3).to(dtype)
    held = (*p.inputs, p.weight, base, bias)
    scale = torch.arange(1.0, CIRCUITS[name].num_encodings + 1, dtype=dtype)
    held = (*held[:2], scale.expand_as(p.scale).clone(), *held[3:])
    return (*(t.detach().requires_grad_() for t in held), mask)


def call(circuit: Circuit, tensors: tuple[Tensor, ...], engine: str) -> LayerCall:
    scales = tuple(float(u + 1) for u in range(circuit.num_encodings))
    fixed = scales if engine == "fourier" else None
    base = "silu" if len(tensors) > 5 else None
    return layer_call(lower(circuit), LayerTensors(*tensors), fixed, base)


def evaluate(engine: str, circuit: Circuit, tensors: tuple[Tensor, ...]) -> Tensor:
    return run(get_engine(engine), call(circuit, tensors, engine))


def one_by_one(engine: str, name: str, tensors: tuple[Tensor, ...]) -> Tensor:
    single = [CIRCUITS[name].with_observable(one) for one in OBSERVABLES]
    return torch.stack([evaluate(engine, circuit, tensors) for circuit in single], -1)


def gradients(value: Tensor, tensors: tuple[Tensor, ...], grad: Tensor) -> list[Tensor]:
    leaves = [t for t in tensors if t.requires_grad]
    return list(torch.autograd.grad(value, leaves, grad, materialize_grads=True))


@pytest.mark.parametrize("count", [4, 8], ids=["edges", "layer"])
@pytest.mark.parametrize(("engine", "name"), PAIRS, ids=lambda value: value)
def test_values_and_gradients_are_those_of_one_after_the_other(
    engine: str, name: str, count: int
) -> None:
    # the reference is slow, and the products need more samples than they have terms
    shape = Shape(3, 2, 2) if engine == "reference" else Shape(53, 3, 2)
    tensors = parts(name, shape)[:count]
    found, wanted = (
        evaluate(engine, several(name), tensors),
        one_by_one("reference" if engine == "reference" else "torch", name, tensors),
    )
    assert found.shape == (shape.b, shape.o, *((shape.i,) if count == 4 else ()), 4)
    assert_close(found, wanted, "value")
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).double()
    pairs = zip(gradients(found, tensors, grad), gradients(wanted, tensors, grad), strict=True)
    for number, (mine, theirs) in enumerate(pairs):
        if not (engine == "fourier" and number == 2):
            assert_close(mine, theirs, f"gradient {number}")


@pytest.mark.parametrize("name", ["pz3", "real1", "own", "bare"])
def test_kernels_of_large_layers_compute_a_state_once_where_they_can(name: str) -> None:
    tensors = parts(name, Shape(257, 37, 5))[:5]
    found, wanted = evaluate("numba", several(name), tensors), one_by_one("torch", name, tensors)
    assert_close(found, wanted, "value")
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).double()
    pairs = zip(gradients(found, tensors, grad), gradients(wanted, tensors, grad), strict=True)
    for number, (mine, theirs) in enumerate(pairs):
        assert_close(mine, theirs, f"gradient {number}")


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "reference"])
def test_single_precision_is_as_exact_as_plain_operators(engine: str) -> None:
    single = tuple(t.detach() for t in parts("pz3", Shape(131, 3, 4), torch.float32))
    double = tuple(t.double() for t in single)
    exact = one_by_one("torch", "pz3", double)
    plain, found = one_by_one("torch", "pz3", single), evaluate(engine, several("pz3"), single)
    assert found.dtype == torch.float32
    assert_as_exact_as(found, plain, exact, 4 * 1.2e-7 * float(single[4].abs().sum()), "value")


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_samples_may_have_parameters_of_their_own(engine: str) -> None:
    p = problem(CIRCUITS["pz3"], Shape(5, 3, 2), 4)
    own = [torch.stack([t.detach() * (1 + n / 9) for n in range(5)]) for t in p.inputs[1:]]
    found = expectation(several("pz3"), p.x, *own, engine=engine)
    rows = [
        expectation(several("pz3"), p.x[n : n + 1], *(t[n] for t in own), engine="torch")
        for n in range(5)
    ]
    assert_close(found, torch.cat(rows), "value")


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "reference"])
def test_second_derivatives_and_empty_batches(engine: str) -> None:
    tensors = parts("pz3", Shape(2, 1, 1))[:5]
    torch.autograd.gradgradcheck(lambda *t: evaluate(engine, several("pz3"), t), tensors)
    empty = (tensors[0][:0], *tensors[1:])
    assert evaluate(engine, several("pz3"), empty).shape == (0, 1, 4)
    assert evaluate(engine, several("pz3"), empty[:4]).shape == (0, 1, 1, 4)
    nothing = tuple(t[:0] if n else t for n, t in enumerate(tensors))
    assert evaluate(engine, several("pz3"), nothing).shape == (2, 0, 4)


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_a_compiled_call_computes_the_same(engine: str) -> None:
    tensors = parts("pz3", Shape(33, 2, 3))[:4]

    program = several("pz3").program

    def phi(*inputs: Tensor) -> Tensor:
        given = layer_call(program, LayerTensors(*inputs))
        return run(select(engine, given.request), given)

    compiled = torch.compile(phi, backend="aot_eager", fullgraph=True)
    found, wanted = compiled(*tensors), phi(*tensors)
    assert_close(found, wanted, "value")
    grad = torch.ones_like(wanted)
    pairs = zip(gradients(found, tensors, grad), gradients(wanted, tensors, grad), strict=True)
    for mine, theirs in pairs:
        assert_close(mine, theirs, "gradient")


def test_maps_over_samples_and_parameters() -> None:
    tensors = [t.detach() for t in parts("pz3", Shape(3, 2, 2))]

    def layer(*given: Tensor) -> Tensor:
        return run(get_engine("numba"), call(several("pz3"), (*given, *tensors[len(given) :]), ""))

    wanted = layer(*tensors)
    mapped = torch.func.vmap(lambda row: layer(row.unsqueeze(0))[0])(tensors[0])
    assert_close(mapped, wanted, "samples")
    thetas = torch.stack([tensors[1], tensors[1] + 1])
    mapped = torch.func.vmap(lambda theta: layer(tensors[0], theta))(thetas)
    assert_close(mapped[1], layer(tensors[0], thetas[1]), "parameters")
    rows = torch.func.vmap(lambda theta, x: layer(x.unsqueeze(0), theta)[0])(thetas, tensors[0][:2])
    assert_close(rows[0], wanted[0], "a sample for each set of parameters")


def test_noise_and_shots_are_those_of_a_setting_for_each() -> None:
    p = problem(CIRCUITS["pz3"], Shape(400, 1, 2), 5)
    tensors = [t.detach() for t in p.inputs]
    noise = Noise({"RY": depolarizing(0.02)}, readout=(0.02, 0.05))
    found = expectation(several("pz3"), *tensors, noise=noise)
    for n, one in enumerate(OBSERVABLES):
        wanted = expectation(CIRCUITS["pz3"].with_observable(one), *tensors, noise=noise)
        assert_close(found[..., n], wanted, str(one))
    exact = expectation(several("pz3"), *tensors)
    generator = torch.Generator().manual_seed(0)
    drawn = expectation(several("pz3"), *tensors, shots=100, generator=generator)
    z = (drawn - exact) / ((1 - exact**2) / 100).sqrt()
    # 800 values for each observable, and none of them shares its shots with another
    assert (z.mean((0, 1, 2)).abs() < 5 / 800**0.5).all() and (z.std((0, 1, 2)) - 1 < 0.2).all()
    correlated = torch.corrcoef(z.flatten(0, 2).T) - torch.eye(4)
    assert correlated.abs().max() < 5 / 800**0.5


def test_the_cheapest_engine_is_asked_for_all_outputs_that_it_computes() -> None:
    one, many = (Request(lower(c), 1024, 64, 64) for c in (CIRCUITS["pz3"], several("pz3")))
    numba, torch_engine = get_engine("numba"), get_engine("torch")
    assert seen_by(numba, one) is one and seen_by(torch_engine, many) is many
    assert seen_by(numba, many).out_features == 256 and seen_by(numba, many).program.axes is None
    assert numba.cost(seen_by(numba, many)) > 3 * numba.cost(one)
    assert select("auto", many).name == explain(many).engine
    with pytest.raises(SimulatorError, match="the scales are trainable"):
        select("fourier", many)


def test_the_agreement_suite_finds_observables_in_the_wrong_order() -> None:
    class Swapped(type(get_engine("torch"))):  # type: ignore[misc]
        name = "swapped"

        def forward(self, call: LayerCall) -> tuple[Tensor, None]:
            out, state = super().forward(call)
            return (out if call.request.program.axes is None else out.flip(-1)), state

    with pytest.raises(AssertionError, match="observable"):
        testing.assert_several_observables_agree(Swapped(), Shape(3, 2, 2))
    testing.assert_several_observables_agree(get_engine("torch"), Shape(3, 2, 2))


def test_reading_one_observable_of_several_is_refused() -> None:
    with pytest.raises(CircuitError, match="3 observables"):
        _ = CIRCUITS["pz3"].with_observable(("X", "Y", "Z")).program.observable
