"""The `cupy` engine on a card: the agreement that every engine owes, and what only a GPU has.

The card is a real one or that of `host_card`; a test marked `real_card` needs a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sample_parameters
import torch
from cases import CIRCUITS, Shape, problem
from compare import assert_as_exact_as, assert_close
from selection import selection
from torch import Tensor, nn

import qkan
from qkan.circuits import ansatz, lower
from qkan.simulators import Request, expectation_of, explain, get_engine, simulate
from qkan.simulators import testing as agreement
from qkan.simulators.base_activations import BASES
from qkan.simulators.testing import case, evaluate, leaves
from qkan.simulators.testing import value_and_gradients as run

ENGINE = get_engine("cupy")


@pytest.mark.parametrize(
    "circuit", selection(CIRCUITS, chosen=("pz3", "px1", "mix3", "own", "bare", "pz-X"))
)
def test_values_and_gradients_of_every_circuit(
    circuit: str, cuda: torch.device, smaller: bool
) -> None:
    large = Shape(34, 37, 2) if smaller else Shape(515, 37, 41)
    for shape in (Shape(7, 3, 5), Shape(1, 1, 1), Shape(131, 3, 4), large):
        agreement.assert_agrees(ENGINE, circuit, shape, cuda)
        agreement.assert_as_exact_as_torch(ENGINE, circuit, shape, cuda)


@pytest.mark.parametrize("circuit", ["pz3", "own"])
def test_fixed_scales_are_part_of_the_kernel(circuit: str, cuda: torch.device) -> None:
    agreement.assert_agrees(ENGINE, circuit, Shape(67, 5, 9), cuda, fixed=True)


@pytest.mark.parametrize("fixed", [False, True], ids=["trainable", "fixed"])
def test_several_observables_of_one_state(fixed: bool, cuda: torch.device) -> None:
    for shape in (Shape(7, 3, 5), Shape(67, 5, 9)):
        agreement.assert_several_observables_agree(ENGINE, shape, cuda, fixed)


def test_a_sum_over_many_samples_stays_exact(cuda: torch.device, smaller: bool) -> None:
    count = 4_099 if smaller else 100_003
    agreement.assert_as_exact_as_torch(ENGINE, "pz3", Shape(count, 1, 2), cuda)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_what_memory_holds(dtype: torch.dtype, cuda: torch.device) -> None:
    agreement.assert_half_is_rounded_float32(ENGINE, dtype, cuda)


@pytest.mark.parametrize("base", [*BASES, None])
def test_a_whole_layer(base: str | None, cuda: torch.device) -> None:
    agreement.assert_layer_agrees(ENGINE, base, Shape(345, 13, 15), cuda)
    agreement.assert_layer_agrees(ENGINE, base, Shape(1, 2, 3), cuda, bare=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_spoils_only_its_own_row(bad: float, cuda: torch.device) -> None:
    agreement.assert_a_bad_sample_stays_alone(ENGINE, bad, cuda)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_large_inputs_stay_exact(dtype: torch.dtype, cuda: torch.device) -> None:
    agreement.assert_large_inputs_stay_exact(ENGINE, dtype, cuda)


def test_small_matters(cuda: torch.device, smaller: bool) -> None:
    agreement.assert_the_arccos_is_flat_from_one_on(ENGINE, cuda)
    shape = Shape(1, 1, 2) if smaller else Shape(2, 2, 2)
    agreement.assert_differentiable_twice(ENGINE, cuda, shape)
    agreement.assert_no_sample_is_no_output(ENGINE, cuda)


@pytest.mark.parametrize("engine", ["torch", "fourier", "chebyshev"])
def test_the_other_engines_on_a_card(engine: str, cuda: torch.device) -> None:
    for circuit in ("pz3", "rpz1", "own"):
        for shape in (Shape(7, 3, 5), Shape(131, 3, 4)):
            found = get_engine(engine)
            agreement.assert_agrees(found, circuit, shape, cuda, fixed=engine == "fourier")


@pytest.mark.parametrize("engine", ["fourier", "chebyshev"])
def test_coefficients_come_from_the_same_kernel(
    engine: str, cuda: torch.device, kernels_of: Callable[[Callable[[], object]], list[str]]
) -> None:
    encoding = "linear" if engine == "fourier" else "trainable"
    layer = qkan.QKANLayer(8, 6, engine=engine, encoding=encoding).to(cuda)
    x = torch.randn(256, 8, device=cuda)
    layer(x)
    assert any("edges_forward" in name for name in kernels_of(lambda: layer(x)))


def test_two_runs_agree_to_the_bit(cuda: torch.device, smaller: bool) -> None:
    p = case("pz3", Shape(301, 5, 6) if smaller else Shape(3001, 50, 60))
    runs = [run(ENGINE, "pz3", leaves(p, torch.float32, cuda), p.grad.float()) for _ in range(3)]
    for other in runs[1:]:
        for what, tensor in runs[0].items():
            assert torch.equal(tensor, other[what]), what


def _layer(cuda: torch.device, **options: object) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = qkan.QKANLayer(12, 9, engine="cupy", **options).to(cuda)
    return layer, torch.randn(257, 12, device=cuda, requires_grad=True)


@pytest.mark.real_card("CUDA graphs")
def test_a_cuda_graph_captures_a_training_step(cuda: torch.device) -> None:
    layer, x = _layer(cuda)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            layer(x).square().sum().backward()
    torch.cuda.current_stream().wait_stream(side)
    layer.zero_grad(set_to_none=True)
    x.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = layer(x)
        out.square().sum().backward()
    fresh = torch.randn_like(x)
    with torch.no_grad():
        x.copy_(fresh)
    graph.replay()
    torch.cuda.synchronize()
    found = [out.detach().clone(), x.grad.clone(), *(p.grad.clone() for p in layer.parameters())]
    layer.zero_grad(set_to_none=True)
    y = fresh.clone().requires_grad_()
    wanted = layer(y)
    wanted.square().sum().backward()
    for mine, theirs in zip(
        found, [wanted, y.grad, *(p.grad for p in layer.parameters())], strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.real_card("streams that run beside each other")
def test_it_runs_on_torchs_current_stream(cuda: torch.device) -> None:
    layer, x = _layer(cuda)
    wanted = layer(x)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.no_grad():
        y = torch.empty_like(x)
        torch.cuda._sleep(100_000_000)
        y.copy_(x)
        # launched elsewhere it would read y before the copy
        found = layer(y)
    side.synchronize()
    assert torch.equal(found, wanted)


def test_it_runs_on_every_card_whatever_the_current_one(cuda: torch.device) -> None:
    wanted = None
    place: Any = torch.get_device_module(cuda)
    for index in range(place.device_count()):
        device = torch.device(cuda.type, index)
        layer, x = _layer(device)
        with place.device(0):
            out = layer(x)
            out.square().sum().backward()
        assert out.device == device and x.grad.device == device
        wanted = out.cpu() if wanted is None else wanted
        assert_close(out.cpu(), wanted, str(device), 1e-5)


@pytest.mark.real_card("a count of its memory")
def test_a_training_step_needs_little_memory(cuda: torch.device) -> None:
    layer = qkan.QKANLayer(100, 100, engine="cupy").to(cuda)
    x = torch.randn(1000, 100, device=cuda, requires_grad=True)
    for _ in range(2):
        layer(x).square().mean().backward()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    layer(x).square().mean().backward()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= 40 << 20


def test_compiled_as_a_whole(cuda: torch.device, compiler: str) -> None:
    layer, x = _layer(cuda)
    compiled = torch.compile(layer, fullgraph=True, backend=compiler)
    found, wanted = compiled(x), layer(x)
    assert_close(found, wanted, "value", 1e-5)
    mine = torch.autograd.grad(found.square().sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad(wanted.square().sum(), [x, *layer.parameters()])
    for one, other in zip(mine, theirs, strict=True):
        assert_close(one, other, "gradient", 1e-4)


def test_autocast_leaves_the_activations_in_float32(cuda: torch.device) -> None:
    layer, x = _layer(cuda)
    with torch.autocast(cuda.type, torch.bfloat16):
        out = layer(x.bfloat16())
    assert out.dtype == torch.float32
    assert_close(out, layer(x.detach().bfloat16().float()), "value", 0.02)


def test_auto_takes_it_and_explain_says_so(cuda: torch.device) -> None:
    request = Request(lower(ansatz("pz")), 64, 8, 8, device=cuda)
    said = explain(request)
    assert said.engine == "cupy", str(said)


@pytest.mark.real_card("arrays of CuPy")
def test_a_cupy_array_enters_without_a_copy(cuda: torch.device) -> None:
    import cupy

    layer, x = _layer(cuda)
    array = cupy.from_dlpack(x.detach())
    assert array.data.ptr == x.data_ptr()
    assert torch.equal(layer(torch.from_dlpack(array)), layer(x))


@pytest.mark.real_card("arrays of CuPy")
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_simulate_on_cupy_arrays(circuit: str) -> None:
    import cupy
    import numpy as np

    found = CIRCUITS[circuit]
    angles = np.random.default_rng(0).standard_normal((33, len(found.parametric_gates)))
    wanted = simulate(found, angles)
    amplitudes = simulate(found, cupy.asarray(angles))
    assert isinstance(amplitudes, cupy.ndarray)
    assert np.abs(amplitudes.get() - wanted).max() < 1e-13
    values = expectation_of(found, amplitudes)
    assert np.abs(values.get() - expectation_of(found, wanted)).max() < 1e-13


def test_a_wide_layer(cuda: torch.device) -> None:
    circuit = CIRCUITS["rpz1"]
    p = problem(circuit, Shape(3, 70_001, 1), dtype=torch.float32)
    mine = leaves(p, torch.float32, cuda)
    truth = get_engine("torch")
    plain = evaluate(truth, "rpz1", [t.detach() for t in mine])
    wanted = evaluate(truth, "rpz1", [t.detach().double() for t in mine])
    assert_as_exact_as(evaluate(ENGINE, "rpz1", mine), plain, wanted, 1e-6, "value")


@pytest.mark.parametrize("own", sample_parameters.OWN)
def test_parameters_of_each_sample(own: str, cuda: torch.device) -> None:
    shape = Shape(13, 3, 5)
    given = sample_parameters.tensors("pz3", shape, sample_parameters.OWN[own])
    grad = torch.cos(torch.arange(shape.b * shape.o).double()).view(shape.b, shape.o)
    wanted = sample_parameters.truth("pz3", given, grad)
    mine = tuple(t.detach().to(cuda).requires_grad_() for t in given)
    found = run(ENGINE, "pz3", mine, grad.to(cuda))
    for what, tensor in found.items():
        assert_close(tensor, wanted[what], f"{what}, {own}")


def test_vmap_over_parameters_reaches_the_kernels(
    cuda: torch.device, kernels_of: Callable[[Callable[[], object]], list[str]]
) -> None:
    layer, _ = _layer(cuda)
    stacked = {
        name: value.detach().expand(6, *value.shape) for name, value in layer.named_parameters()
    }
    x = torch.randn(6, 12, device=cuda)
    each = torch.func.vmap(lambda p, row: torch.func.functional_call(layer, p, (row,)))
    assert_close(each(stacked, x).cpu(), layer(x).cpu(), "value", 1e-5)
    assert any("per_sample_forward" in name for name in kernels_of(lambda: each(stacked, x)))
