"""Every engine computes what the reference computes: values and all gradients, on every circuit."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import CIRCUITS, SHAPES, Problem, Shape, problem
from compare import assert_as_exact_as, assert_close
from selection import selection
from torch import Tensor

from qkan.circuits import Circuit, ansatz, lower, register_ansatz
from qkan.simulators import (
    ChebyshevEngine,
    LayerCall,
    LayerTensors,
    Request,
    SimulatorError,
    engines,
    expectation,
    explain,
    get_engine,
    layer_call,
    run,
)

# named here, so that none drops out unnoticed
ENGINES = ("torch", "fourier", "chebyshev", "numba")
NEEDS_A_CARD = ("cupy",)
"""Runs in tests/gpu/ on a card, and its kernels in test_cuda_on_host.py on any machine."""
TENSORS = ("x", "theta", "scale", "shift", "weight")
LARGE = Shape(131, 3, 4)
"""More samples than any degree needed here, so that products are formed."""


def test_every_engine_is_under_test() -> None:
    assert set(engines()) == {"reference", *ENGINES, *NEEDS_A_CARD}


def test_every_engine_runs_on_this_machine() -> None:
    for name in ENGINES:
        request = Request(lower(ansatz("pz", 2)), 64, 8, 8, fixed_scale=(1.0, 1.0))
        assert get_engine(name).refuse(request) is None


def supports(engine: str, name: str) -> bool:
    return engine in ("reference", "torch", "numba") or not CIRCUITS[name].uses_arccos


PAIRS = [(engine, name) for engine in ENGINES for name in CIRCUITS if supports(engine, name)]
IDS = [f"{engine}-{name}" for engine, name in PAIRS]


@dataclass
class Case:
    """A problem, and the fixed scales where an engine wants such."""

    circuit: Circuit
    problem: Problem
    fixed: tuple[float, ...] | None = None

    def call(self, tensors: tuple[Tensor, ...]) -> LayerCall:
        return layer_call(lower(self.circuit), LayerTensors(*tensors), self.fixed)

    def layer(self, engine: str, tensors: tuple[Tensor, ...]) -> Tensor:
        return run(get_engine(engine), self.call(tensors))

    def edges(self, engine: str, tensors: tuple[Tensor, ...]) -> Tensor:
        return run(get_engine(engine), self.call(tensors[:4]))


def case(
    engine: str, name: str, shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Case:
    circuit = CIRCUITS[name]
    p = problem(circuit, shape, seed, dtype)
    if engine != "fourier":
        return Case(circuit, p)
    fixed = tuple(float((-1) ** u * (u + 1)) for u in range(circuit.num_encodings))
    p.scale = torch.tensor(fixed, dtype=dtype).expand_as(p.scale).clone()
    return Case(circuit, p, fixed)


def gradients(value: Tensor, tensors: tuple[Tensor, ...], grad: Tensor) -> dict[str, Tensor]:
    """By name; zeros where a circuit does not use a parameter at all."""
    wanted = {n: t for n, t in zip(TENSORS, tensors, strict=False) if t.requires_grad}
    found = torch.autograd.grad(
        value, list(wanted.values()), grad, allow_unused=True, materialize_grads=True
    )
    return dict(zip(wanted, found, strict=True))


def assert_equal(found: Tensor, wanted: Tensor, tensors: tuple[Tensor, ...], grad: Tensor) -> None:
    assert_close(found, wanted, "value")
    theirs = gradients(wanted, tensors, grad)
    for what, mine in gradients(found, tensors, grad).items():
        assert_close(mine, theirs[what], f"gradient of {what}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("engine", "name"), PAIRS, ids=IDS)
def test_edges_and_gradients_agree_with_the_reference(engine: str, name: str, shape: Shape) -> None:
    c = case(engine, name, shape)
    tensors = c.problem.inputs
    wanted = c.edges("reference", tensors)
    assert_equal(c.edges(engine, tensors), wanted, tensors, torch.randn_like(wanted))


@pytest.mark.parametrize(("engine", "name"), PAIRS, ids=IDS)
def test_layer_and_gradients_agree_with_the_reference(engine: str, name: str) -> None:
    c = case(engine, name, Shape(11, 3, 5), seed=1)
    tensors = (*c.problem.inputs, c.problem.weight)
    wanted = c.layer("reference", tensors)
    assert_equal(c.layer(engine, tensors), wanted, tensors, c.problem.grad)


@pytest.mark.parametrize("per_edge", [False, True], ids=["layer", "edges"])
@pytest.mark.parametrize(("engine", "name"), PAIRS, ids=IDS)
def test_a_large_batch_agrees_with_torch(engine: str, name: str, per_edge: bool) -> None:
    c = case(engine, name, LARGE, seed=4)
    tensors = (*c.problem.inputs, *(() if per_edge else (c.problem.weight,)))
    evaluate = c.edges if per_edge else c.layer
    wanted = evaluate("torch", tensors)
    assert_equal(evaluate(engine, tensors), wanted, tensors, torch.randn_like(wanted))


@pytest.mark.parametrize("shape", [Shape(11, 3, 5), LARGE], ids=str)
@pytest.mark.parametrize(("engine", "name"), PAIRS, ids=IDS)
def test_float32_is_as_exact_as_plain_torch(engine: str, name: str, shape: Shape) -> None:
    c = case(engine, name, shape, seed=2, dtype=torch.float32)
    single = (*c.problem.inputs, c.problem.weight)
    double = tuple(t.detach().double().requires_grad_(t.requires_grad) for t in single)

    def found_by(engine: str, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
        value = c.layer(engine, tensors)
        return {"value": value, **gradients(value, tensors, c.problem.grad.to(value.dtype))}

    exact, plain = found_by("torch", double), found_by("torch", single)
    found = found_by(engine, single)
    slack = 4 * torch.finfo(torch.float32).eps * float(single[-1].detach().abs().sum())
    for what, wanted in exact.items():
        size = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
        assert_as_exact_as(found[what], plain[what], wanted, slack * size, what)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("name", selection(["pz1", "px1", "own"], chosen=["own"]))
def test_gradcheck_and_gradgradcheck(engine: str, name: str) -> None:
    if not supports(engine, name):
        name = "rpz1"
    c = case(engine, name, Shape(2, 2, 2), seed=3)
    tensors = (*c.problem.inputs, c.problem.weight)
    torch.autograd.gradcheck(lambda *t: c.layer(engine, t), tensors)
    torch.autograd.gradgradcheck(lambda *t: c.layer(engine, t), tensors)
    torch.autograd.gradgradcheck(lambda *t: c.edges(engine, t), tensors[:4])


@pytest.mark.parametrize("engine", ["fourier", "chebyshev"])
def test_second_derivatives_of_a_product(engine: str) -> None:
    c = case(engine, "pz1", Shape(61, 1, 2), seed=3)
    x, *rest = (*c.problem.inputs, c.problem.weight)
    slopes = []
    for name in (engine, "torch"):
        value = c.layer(name, (x, *rest))
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        slopes.append((slope, curvature, *torch.autograd.grad(curvature.square().sum(), rest[0])))
    for mine, theirs in zip(*slopes, strict=True):
        assert_close(mine, theirs, engine)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("shape", [Shape(0, 3, 5), Shape(0, 1, 1)], ids=str)
def test_no_sample_gives_an_empty_output_and_zero_gradients(engine: str, shape: Shape) -> None:
    c = case(engine, "pz1", shape)
    tensors = (*c.problem.inputs, c.problem.weight)
    out = c.layer(engine, tensors)
    assert out.shape == (0, shape.o)
    for what, grad in gradients(out, tensors, c.problem.grad).items():
        assert not grad.numel() or float(grad.abs().max()) == 0.0, what
    assert c.edges(engine, tensors).shape == (0, shape.o, shape.i)


@pytest.mark.parametrize("rows", [5, 131])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["pz1", "px1"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_spoils_only_its_own_row(
    engine: str, name: str, bad: float, rows: int
) -> None:
    if not supports(engine, name):
        name = "rpz1"
    c = case(engine, name, Shape(rows, 3, 4))
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    x = tensors[0].clone()
    x[2, 1] = bad
    found = c.layer(engine, (x, *tensors[1:]))
    wanted = c.layer("torch", (x, *tensors[1:]))
    assert_close(found, wanted, "value")
    keep = [row for row in range(rows) if row != 2]
    assert found[keep].isfinite().all()
    assert name == "px1" or found[2].isnan().all()


@pytest.mark.parametrize("engine", ["reference", "torch", "numba"])
@pytest.mark.parametrize("e", [1.0, -1.0, 1.5, -3.0, 0.5])
def test_the_arccos_is_flat_from_one_on(engine: str, e: float) -> None:
    c = case(engine, "px1", Shape(1, 1, 1))
    p = c.problem
    x = torch.tensor([[e]], dtype=torch.float64, requires_grad=True)
    one, zero = torch.ones_like(p.scale), torch.zeros_like(p.shift)
    out = c.layer(engine, (x, p.theta, one, zero, p.weight))
    (slope,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert slope.isfinite().all()
    assert (float(slope) == 0.0) == (abs(e) >= 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("engine", ["fourier", "chebyshev", "numba"])
def test_large_inputs_stay_exact(engine: str, dtype: torch.dtype) -> None:
    c = case(engine, "pz3", Shape(131, 2, 3), dtype=dtype)
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    for size in (1e2, 1e4, 1e6):
        x = tensors[0] * size
        found = c.layer(engine, (x, *tensors[1:]))
        exact = tuple(t.double() for t in (x, *tensors[1:]))
        wanted = c.layer("torch", exact)
        plain = c.layer("torch", (x, *tensors[1:]))
        # in float64 there is no more exact answer beside: allow the rounding of scale·x
        slack = 64 * torch.finfo(dtype).eps * (size if dtype == torch.float64 else 1)
        assert_as_exact_as(found, plain, wanted, slack, f"x of size {size:g}")


@pytest.mark.parametrize("engine", ["fourier", "chebyshev", "numba"])
@pytest.mark.parametrize("shape", [Shape(3, 2, 2), Shape(257, 7, 5)], ids=str)
def test_nothing_unwritten_is_read(
    engine: str, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = case(engine, "pz3", shape)
    tensors = (*c.problem.inputs, c.problem.weight)
    wanted = c.layer("torch", tensors)
    ordinary, like = np.empty, np.empty_like

    def poisoned(*args: object, **kwargs: object) -> np.ndarray:
        array = ordinary(*args, **kwargs)  # type: ignore[call-overload]
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    def poisoned_like(array: np.ndarray) -> np.ndarray:
        return poisoned(array.shape, array.dtype)

    assert like is not poisoned_like
    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(np, "empty_like", poisoned_like)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert_equal(c.layer(engine, tensors), wanted, tensors, c.problem.grad)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("engine", ["fourier", "chebyshev", "numba"])
@pytest.mark.parametrize("shape", [Shape(2, 1, 1), Shape(300, 6, 7), Shape(2000, 1, 1)], ids=str)
def test_threads_change_nothing_and_runs_repeat_to_the_bit(
    engine: str, shape: Shape, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        c = case(engine, "pz3", shape)
        tensors = (*c.problem.inputs, c.problem.weight)
        runs = []
        for _ in range(2):
            value = c.layer(engine, tensors)
            runs.append({"value": value, **gradients(value, tensors, c.problem.grad)})
        for what, first in runs[0].items():
            assert torch.equal(first, runs[1][what]), what
        assert_equal(c.layer(engine, tensors), c.layer("torch", tensors), tensors, c.problem.grad)
    finally:
        torch.set_num_threads(before)


def test_several_threads_may_call_at_once() -> None:
    c = case("numba", "pz3", Shape(300, 6, 7))
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    wanted = c.layer("numba", tensors)
    found: list[Tensor] = []
    workers = [
        threading.Thread(target=lambda: found.append(c.layer("numba", tensors))) for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6 and all(torch.equal(value, wanted) for value in found)


def _in_a_child(queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(2)
    c = case("numba", "pz3", Shape(300, 6, 7))
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    queue.put(c.layer("numba", tensors).numpy())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_works_after_a_fork() -> None:
    c = case("numba", "pz3", Shape(300, 6, 7))
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    wanted = c.layer("numba", tensors)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(queue,))
    child.start()
    found = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    assert np.array_equal(found, wanted.numpy())


def test_arccos_and_trainable_scales_are_refused_with_the_reason() -> None:
    arccos = Request(lower(ansatz("px")), 64, 8, 8, fixed_scale=(1.0, 1.0, 1.0))
    for name in ("fourier", "chebyshev"):
        assert "arccos" in (get_engine(name).refuse(arccos) or "")
    trainable = Request(lower(ansatz("pz")), 64, 8, 8)
    assert "trainable" in (get_engine("fourier").refuse(trainable) or "")
    fraction = Request(lower(ansatz("pz")), 64, 8, 8, fixed_scale=(1.0, 1.5, 1.0))
    assert "not all integers" in (get_engine("fourier").refuse(fraction) or "")
    many = Request(lower(ansatz("pz")), 64, 8, 8, fixed_scale=(1.0, 1.0, 1e6))
    assert "harmonics" in (get_engine("fourier").refuse(many) or "")
    half = Request(lower(ansatz("pz")), 64, 8, 8, torch.float16)
    assert "float32 and float64" in (get_engine("numba").refuse(half) or "")
    with pytest.raises(SimulatorError, match="engine='fourier' cannot run this: the scales are"):
        p = problem(ansatz("pz"), Shape(3, 2, 2))
        expectation(ansatz("pz"), *p.inputs, engine="fourier")


def test_chebyshev_meets_its_tolerance_and_its_domain() -> None:
    c = case("chebyshev", "pz3", Shape(200, 2, 3))
    tensors = tuple(t.detach() for t in (*c.problem.inputs, c.problem.weight))
    call = c.call(tensors[:4])
    wanted = c.edges("torch", tensors)
    for tolerance in (1e-1, 1e-3, 1e-6, 1e-9):
        engine = ChebyshevEngine(tolerance=tolerance)
        assert engine.expansion(call.request, tensors[0], tensors[2]) is not None
        error = float((run(engine, call) - wanted).abs().max())
        assert error <= tolerance
    wide = ChebyshevEngine(domain=(-8.0, 8.0))
    assert_close(run(wide, call), wanted, "domain")
    with pytest.raises(SimulatorError, match="beyond domain"):
        run(ChebyshevEngine(domain=(-1.0, 1.0)), call)


def test_chebyshev_leaves_a_bad_bargain_to_the_fused_kernel() -> None:
    c = case("chebyshev", "pz3", Shape(200, 2, 3))
    x, theta, scale, shift, weight = (t.detach() for t in (*c.problem.inputs, c.problem.weight))
    engine = ChebyshevEngine()
    call = c.call((100 * x, theta, scale, shift, weight))
    assert engine.expansion(call.request, x, scale) is not None
    assert engine.expansion(call.request, 100 * x, scale) is None
    assert torch.equal(run(engine, call), run(get_engine("numba"), call))


def test_a_circuit_of_ones_own_runs_on_every_engine() -> None:
    register_ansatz("own-for-all", lambda reps: Circuit(ansatz("mix", reps).gates, "Y"))
    circuit = ansatz("own-for-all", 2)
    p = problem(circuit, Shape(5, 2, 3))
    x, theta, _, shift = p.inputs
    wanted = expectation(circuit, x, theta, "ternary", shift, engine="reference")
    for name in ENGINES:
        found = expectation(circuit, x, theta, "ternary", shift, engine=name)
        assert_close(found, wanted, name)


def test_explain_says_why_not_the_others() -> None:
    said = str(explain(Request(lower(ansatz("px")), 64, 8, 8)))
    assert "fourier    refuses: with an arccos" in said and "ms a training step" in said
