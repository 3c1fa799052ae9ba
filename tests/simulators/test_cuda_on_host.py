"""The CUDA kernels without a card: their arithmetic on the CPU, their code for two architectures.

The engine is the real one; only CuPy and the card are replaced, by g++ and a block of fibers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import CIRCUITS, Shape
from compare import assert_close
from cuda_host import HostCard, HostEngine, launches_of
from nvrtc import compile_for
from torch import Tensor

import qkan
from qkan.circuits import ansatz, lower
from qkan.simulators import (
    ChebyshevEngine,
    LayerTensors,
    Request,
    SimulatorError,
    get_engine,
    layer_call,
    registry,
)
from qkan.simulators import testing as agreement
from qkan.simulators.base_activations import BASES
from qkan.simulators.cuda import calls as _cuda_calls
from qkan.simulators.cuda import cupy_engine
from qkan.simulators.cuda.plan import (
    WORKSPACE,
    Sizes,
    backward_shape,
    backward_shapes,
    backward_shared,
    forward_shape,
    forward_shapes,
    forward_shared,
)
from qkan.simulators.cuda.source import SHARED, Kernel, source
from qkan.simulators.fourier import FourierEngine
from qkan.simulators.testing import case, evaluate, leaves
from qkan.simulators.testing import value_and_gradients as run

ENGINE = HostEngine()


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_values_and_gradients_of_every_circuit(circuit: str) -> None:
    for shape in (Shape(7, 3, 5), Shape(1, 1, 1), Shape(131, 3, 4), Shape(34, 37, 2)):
        agreement.assert_agrees(ENGINE, circuit, shape)


@pytest.mark.parametrize("circuit", ["pz3", "own"])
def test_fixed_scales_are_part_of_the_kernel(circuit: str) -> None:
    agreement.assert_agrees(ENGINE, circuit, Shape(13, 3, 5), fixed=True)


@pytest.mark.parametrize("circuit", ["pz3", "px3", "mixed"])
def test_float32_is_as_exact_as_plain_torch(circuit: str) -> None:
    agreement.assert_as_exact_as_torch(ENGINE, circuit, Shape(131, 3, 4))


def test_a_sum_over_many_samples_stays_exact() -> None:
    agreement.assert_as_exact_as_torch(HostEngine(processors=1), "pz3", Shape(4099, 1, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_what_memory_holds(dtype: torch.dtype) -> None:
    agreement.assert_half_is_rounded_float32(ENGINE, dtype)


@pytest.mark.parametrize("base", [*BASES, None])
def test_a_whole_layer_in_one_launch_there_and_two_back(base: str | None) -> None:
    launches_of(ENGINE)
    agreement.assert_layer_agrees(ENGINE, base, Shape(45, 3, 5))
    # with gradients, then without, then the way back
    assert launches_of(ENGINE) == (*("layer_forward",) * 2, "layer_backward", "layer_finish")
    agreement.assert_layer_agrees(ENGINE, base, Shape(5, 2, 3), bare=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_spoils_only_its_own_row(bad: float) -> None:
    agreement.assert_a_bad_sample_stays_alone(ENGINE, bad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_large_inputs_stay_exact(dtype: torch.dtype) -> None:
    agreement.assert_large_inputs_stay_exact(ENGINE, dtype)


def test_the_arccos_is_flat_from_one_on() -> None:
    agreement.assert_the_arccos_is_flat_from_one_on(ENGINE)


def test_differentiable_twice() -> None:
    agreement.assert_differentiable_twice(ENGINE)


def test_no_sample_is_no_output() -> None:
    agreement.assert_no_sample_is_no_output(ENGINE)


def test_neither_the_order_of_threads_nor_that_of_blocks_matters() -> None:
    p = case("pz3", Shape(133, 6, 7))
    runs = [
        run(engine, "pz3", leaves(p, torch.float32, torch.device("cpu")), p.grad.float())
        for engine in (ENGINE, HostEngine(backwards=True), ENGINE)
    ]
    for other in runs[1:]:
        for what, tensor in runs[0].items():
            assert torch.equal(tensor, other[what]), what


@pytest.mark.parametrize("shape", [Shape(67, 5, 3), Shape(100, 18, 2), Shape(70, 1, 9)], ids=str)
def test_every_launch_shape_computes_the_same(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = case("rpz1", shape)
    cpu, truth = torch.device("cpu"), get_engine("torch")
    wanted = run(truth, "rpz1", leaves(p, torch.float64, cpu), p.grad)
    kernel = Kernel(lower(CIRCUITS["rpz1"]), torch.float64)
    sizes = Sizes(shape.b, shape.o, shape.i, kernel.words, kernel.sums, 8, 4, 16)
    there, back = _some([*forward_shapes(sizes)]), _some([*backward_shapes(sizes)])
    assert len(there) > 3 and len(back) > 1
    for n in range(max(len(there), len(back))):
        forward, backward = there[n % len(there)], back[n % len(back)]
        monkeypatch.setattr(_cuda_calls, "forward_shape", lambda _, shape=forward: shape)
        monkeypatch.setattr(_cuda_calls, "backward_shape", lambda _, shape=backward: shape)
        for what, found in run(ENGINE, "rpz1", leaves(p, torch.float64, cpu), p.grad).items():
            assert_close(found, wanted[what], f"{what}, {forward}, {backward}")


def _some(shapes: list[Any]) -> list[Any]:
    """Twelve or so, of all kinds."""
    return shapes[:: max(1, len(shapes) // 12)]


def _fenced(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of a tensor with NaN before and after it, and the whole."""
    whole = torch.full((tensor.numel() + 128,), torch.nan, dtype=tensor.dtype)
    inside = whole[64:-64].view(tensor.shape)
    inside.copy_(tensor)
    return inside, whole


@pytest.mark.parametrize("shape", [Shape(131, 3, 4), Shape(45, 33, 1), Shape(1, 1, 70)], ids=str)
def test_nothing_unwritten_is_read_and_nothing_outside_is_touched(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = case("pz3", shape)
    cpu, ordinary = torch.device("cpu"), Tensor.new_empty
    wanted = run(get_engine("torch"), "pz3", leaves(p, torch.float64, cpu), p.grad)
    wholes: list[Tensor] = []

    def poisoned(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
        empty = ordinary(tensor, *args, **kwargs)  # type: ignore[arg-type]
        inside, whole = _fenced(torch.full_like(empty, torch.nan))
        wholes.append(whole)
        return inside

    mine = tuple(_fenced(t.detach())[0].requires_grad_() for t in leaves(p, torch.float64, cpu))
    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    for what, found in run(ENGINE, "pz3", mine, p.grad).items():
        assert_close(found, wanted[what], what)
    agreement.assert_layer_agrees(ENGINE, "silu", shape)
    assert len(wholes) > 10
    for whole in wholes:
        assert whole[:64].isnan().all() and whole[-64:].isnan().all()
        assert not whole[64:-64].isnan().any()


def test_any_memory_layout() -> None:
    p = case("pz3", Shape(9, 3, 5))
    straight = leaves(p, torch.float64, torch.device("cpu"))
    turned = tuple(t.detach().mT.contiguous().mT.requires_grad_() for t in straight)
    grad = torch.ones(1, dtype=torch.float64).expand(9, 3)
    wanted = run(ENGINE, "pz3", straight, grad)
    for what, found in run(ENGINE, "pz3", turned, grad).items():
        assert torch.equal(found, wanted[what]), what


@pytest.mark.parametrize("name", agreement.NAMES[:5])
def test_only_what_is_wanted_gets_a_gradient(name: str) -> None:
    shape = Shape(70, 3, 4)
    p = case("pz3", shape)
    cpu = torch.device("cpu")
    wanted = run(ENGINE, "pz3", leaves(p, torch.float64, cpu), p.grad)
    mine = {
        n: t.detach().requires_grad_(n == name)
        for n, t in zip(agreement.NAMES, leaves(p, torch.float64, cpu), strict=False)
    }
    value = evaluate(ENGINE, "pz3", [*mine.values()])
    value.backward(p.grad)
    assert [n for n, t in mine.items() if t.grad is not None] == [name]
    assert torch.equal(mine[name].grad, wanted[name])


def test_tensors_that_do_not_fit_are_never_read_beyond_their_end() -> None:
    shape = Shape(9, 3, 5)
    x, theta, *rest = leaves(case("pz3", shape), torch.float64, torch.device("cpu"))
    with pytest.raises(SimulatorError, match=r"theta has shape \(3, 5, 7\).*wanted \(3, 5, 8\)"):
        evaluate(ENGINE, "pz3", [x, theta[..., :7], *rest])


def test_the_host_notices_a_block_that_no_card_would_run() -> None:
    card = HostCard(Kernel(lower(CIRCUITS["rpz1"]), torch.float64))
    words = torch.zeros(64).numpy()
    with pytest.raises(AssertionError, match="too many threads"):
        card.launch("layer_finish", (1, 1, 1), 512, 0, words)
    with pytest.raises(AssertionError, match="too much shared memory"):
        card.launch("layer_finish", (1, 1, 1), 32, SHARED + 8, words)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostEngine]:
    """The engine under its name, so that layers find it."""
    engine = HostEngine()
    monkeypatch.setitem(registry._ENGINES, "cupy", engine)
    registry._cached.cache_clear()
    yield engine
    registry._cached.cache_clear()


def test_a_layer_trains_in_half_precision(registered: HostEngine) -> None:
    torch.manual_seed(0)
    layer = qkan.QKANLayer(4, 3, engine="cupy")
    x = torch.randn(16, 4)
    half = qkan.QKANLayer(4, 3, engine="cupy").bfloat16()
    half.load_state_dict(layer.state_dict())
    layer.load_state_dict(half.state_dict())
    x = x.bfloat16().float()
    out = half(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, layer(x).bfloat16())
    launches_of(registered)
    half(x.bfloat16()).float().square().sum().backward()
    # no gradient by x, and one part of the batch: nothing is left to finish
    assert launches_of(registered) == ("layer_forward", "layer_backward")
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in half.parameters())


def test_second_derivatives_in_half_precision_are_taken_in_float32(registered: HostEngine) -> None:
    layer = qkan.QKANLayer(2, 1, engine="cupy").bfloat16()
    x = torch.tensor([[0.5, -0.25]], dtype=torch.bfloat16, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    exact = qkan.QKANLayer(2, 1, engine="torch")
    exact.load_state_dict(layer.state_dict())
    y = x.detach().float().requires_grad_()
    (slope,) = torch.autograd.grad(exact(y).sum(), y, create_graph=True)
    (wanted,) = torch.autograd.grad(slope.sum(), y)
    assert_close(curvature.float(), wanted, "curvature", 0.02)


def test_groups_and_the_amplitude_readout(registered: HostEngine) -> None:
    for options in ({"group": 2}, {"readout": "amplitude"}, {"encoding": "ternary"}):
        torch.manual_seed(0)
        layer = qkan.QKANLayer(5, 3, engine="cupy", dtype=torch.float64, **options)
        torch.manual_seed(0)
        plain = qkan.QKANLayer(5, 3, engine="torch", dtype=torch.float64, **options)
        x = torch.randn(11, 5, dtype=torch.float64)
        assert_close(layer(x), plain(x), str(options))
        layer(x).square().sum().backward()
        plain(x).square().sum().backward()
        for (name, p), q in zip(layer.named_parameters(), plain.parameters(), strict=True):
            assert_close(p.grad, q.grad, f"{options}: gradient of {name}")


@pytest.mark.parametrize("engine", ["fourier", "chebyshev"])
@pytest.mark.parametrize("rows", [5, 131])
def test_the_products_on_a_card_take_their_coefficients_from_the_kernel(
    engine: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # only that the tensors are on a card is made up
    monkeypatch.setitem(registry._ENGINES, "cupy", ENGINE)
    shape, fixed = Shape(rows, 3, 4), engine == "fourier"
    p = case("pz3", shape, fixed)
    cpu = torch.device("cpu")
    mine = leaves(p, torch.float64, cpu)
    call = layer_call(
        lower(CIRCUITS["pz3"]), LayerTensors(*mine), (1.0, 2.0, 3.0) if fixed else None
    )
    launches_of(ENGINE)
    value = (FourierEngine() if fixed else ChebyshevEngine()).plain_forward(call)
    assert launches_of(ENGINE) == (
        ("layer_forward",) if engine == "chebyshev" and rows == 5 else ("edges_forward",)
    )
    wanted = run(get_engine("torch"), "pz3", leaves(p, torch.float64, cpu), p.grad, fixed)
    assert_close(value, wanted["value"], "value")
    found = torch.autograd.grad(value, mine, p.grad, allow_unused=True)
    for what, gradient in zip(agreement.NAMES[:5], found, strict=True):
        if what in wanted:
            assert_close(gradient, wanted[what], what)
    assert "layer_backward" in launches_of(ENGINE)


def test_a_compiler_takes_the_engine_as_one_operator(registered: HostEngine) -> None:
    torch.manual_seed(0)
    layer = qkan.QKANLayer(4, 3, engine="cupy")
    x = torch.randn(6, 4)
    with torch.no_grad():
        found = torch.compile(layer, backend="eager", fullgraph=True)(x)
        assert launches_of(registered) == ("layer_forward",)
        assert_close(found, layer(x), "value", 1e-6)


@pytest.mark.parametrize("shape", [(1000, 100, 100), (1, 10, 10), (8192, 1024, 1024), (7, 1, 3)])
def test_launch_shapes_stay_within_the_card(shape: tuple[int, int, int]) -> None:
    kernel = Kernel(lower(ansatz("pz", 3)), torch.float32, base="silu")
    sums = kernel.sums
    sizes = Sizes(*shape, kernel.words, sums, 4, 132, 16)
    batch, outs, ins = shape
    there, back = forward_shape(sizes), backward_shape(sizes)
    assert forward_shared(there, 4) <= SHARED and backward_shared(sizes, back) <= SHARED
    assert back.chunk * back.chunks >= batch and back.chunk * (back.chunks - 1) < batch
    assert back.chunks == 1 or back.chunks * sums * outs * ins * 4 <= WORKSPACE
    assert back.parts <= 2 or back.parts * batch * ins * 4 <= WORKSPACE
    # a train step of 100 → 100 at batch 1000 has 40 MiB: both workspaces at their largest fit
    assert 2 * WORKSPACE <= 40 << 20


@pytest.mark.parametrize(
    ("circuit", "dtype", "arch"),
    [
        ("pz3", torch.float32, "sm_80"), ("pz3", torch.float32, "sm_90"),
        ("px3", torch.float64, "sm_80"), ("mix3", torch.bfloat16, "sm_90"),
        ("own", torch.float16, "sm_80"), ("real3", torch.float64, "sm_90"),
    ],
    ids=str,
)  # fmt: skip
def test_they_build_and_spill_no_register(circuit: str, dtype: torch.dtype, arch: str) -> None:
    kernel = Kernel(lower(CIRCUITS[circuit]), dtype, base="silu")
    found = compile_for(source(kernel), arch)
    assert set(found) == {"layer_forward", "edges_forward", "layer_backward", "layer_finish"}
    for name, needs in found.items():
        assert needs.spills == 0, f"{name} spills {needs.spills} bytes"
        # a block of 256 threads must fit a multiprocessor of 65,536 registers
        assert 0 < needs.registers <= 255, name


def test_a_mistake_in_the_source_is_told() -> None:
    with pytest.raises(RuntimeError, match="undefined"):
        compile_for("__device__ int f() { return nothing; }", "sm_90")


def test_refusals_say_what_is_missing() -> None:
    cupy = get_engine("cupy")
    request = Request(lower(ansatz("pz")), 64, 8, 8)
    assert "the tensors are on cpu" in (cupy.refuse(request) or "")
    assert 'move the model and its inputs with .to("cuda")' in (cupy.refuse(request) or "")
    with pytest.raises(SimulatorError, match="engine='cupy' cannot run this: it runs on NVIDIA"):
        qkan.QKANLayer(2, 2, engine="cupy")(torch.rand(3, 2))
    assert "torch engine" in (cupy.refuse(request._replace(noise=True)) or "")
    assert ENGINE.refuse(request._replace(batched_theta=True)) is None
    long = Request(lower(ansatz("pz", 200)), 64, 8, 8)
    assert "shared memory" in (ENGINE.refuse(long) or "")
    assert "not torch.int32" in (ENGINE.refuse(request._replace(dtype=torch.int32)) or "")
    assert ENGINE.refuse(request) is None


def test_without_cupy_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_engine, "_INSTALLED", False)
    request = Request(lower(ansatz("pz")), 64, 8, 8, device=torch.device("cuda"))
    for version, extra in (("12.8", "cuda12"), ("13.0", "cuda")):
        monkeypatch.setattr(torch.version, "cuda", version)
        reason = get_engine("cupy").refuse(request) or ""
        assert f'CuPy is not installed: pip install "qkan-hybrid[{extra}]"' in reason


def test_a_kernel_is_specialised_by_all_that_changes_its_code() -> None:
    kernel = Kernel(lower(ansatz("pz", 2)), torch.float32)
    others = [
        replace(kernel, program=lower(ansatz("rpz", 2))), replace(kernel, dtype=torch.float64),
        replace(kernel, fixed_scale=(1.0, 2.0)), replace(kernel, base="gelu"),
    ]  # fmt: skip
    texts = {source(one) for one in (kernel, *others)}
    assert len(texts) == len(others) + 1
    assert not any("#include" in text for text in texts)
