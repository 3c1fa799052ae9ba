"""Parameters of each sample's own on the CUDA kernels, compiled for the host and for two cards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from cases import CIRCUITS, Shape
from compare import assert_as_exact_as, assert_close
from cuda_host import HostCard
from nvrtc import compile_for
from sample_parameters import NAMES, OWN, SHAPES, tensors, truth
from selection import selection
from torch import Tensor

from qkan.circuits import lower
from qkan.simulators import SimulatorError
from qkan.simulators.cuda.calls import Call, own_names
from qkan.simulators.cuda.plan import SUMMED, WORKSPACE, Sizes, per_sample_shape
from qkan.simulators.cuda.source import Kernel, source


def call_for(
    circuit: str, given: Sequence[Tensor], processors: int = 4, backwards: bool = False
) -> Call:
    """A call of the kernels on the host."""
    own = own_names(given[1:])
    kernel = Kernel(lower(CIRCUITS[circuit]), given[0].dtype, own=own)
    return Call(HostCard(kernel, processors, backwards), kernel, given[0], given[1:])


def run(
    circuit: str,
    given: Sequence[Tensor],
    grad: Tensor,
    processors: int = 4,
    backwards: bool = False,
) -> dict[str, Tensor]:
    """Value and gradients, as `truth`."""
    call = call_for(circuit, given, processors, backwards)
    found = call.backward(
        grad.to(given[0].dtype), (True,) * len(given) + (False,) * (7 - len(given))
    )
    named = zip(("value", *NAMES), (call.forward(), *found), strict=False)
    return {name: tensor for name, tensor in named if tensor is not None}


def gradient(shape: Shape, per_edge: bool = False) -> Tensor:
    """A gradient of the output."""
    size = (shape.b, shape.o, shape.i)[: 3 if per_edge else 2]
    return torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def assert_agrees(circuit: str, shape: Shape, own: str) -> None:
    given = tensors(circuit, shape, OWN[own])
    for count in (5, 4) if own != "weight" else (5,):
        grad = gradient(shape, per_edge=count == 4)
        wanted = truth(circuit, given[:count], grad)
        found = run(circuit, given[:count], grad)
        assert set(found) == set(wanted)
        for what, tensor in found.items():
            assert_close(tensor, wanted[what], f"{what}, {own}, {shape}")


@pytest.mark.parametrize(
    "circuit", selection(CIRCUITS, chosen=("pz3", "px1", "mix3", "own", "bare", "pz-X"))
)
def test_values_and_gradients_of_every_circuit(circuit: str) -> None:
    assert_agrees(circuit, Shape(7, 3, 5), "theta")


@pytest.mark.parametrize("own", OWN)
def test_whatever_is_shared_and_whatever_shape(own: str) -> None:
    for shape in (*SHAPES, Shape(21, 37, 2), Shape(3, 5, 35)):
        assert_agrees("pz3", shape, own)


def test_one_row_of_scales() -> None:
    x, theta, _, shift, weight = tensors("pz3", Shape(7, 3, 5), OWN["theta"])
    fixed = (1.0, 2.0, 4.0)
    scale = torch.tensor(fixed, dtype=torch.float64).expand(3, 5, 3).clone().requires_grad_()
    grad = gradient(Shape(7, 3, 5))
    wanted = truth("pz3", (x, theta, scale, shift, weight), grad)
    kernel = Kernel(lower(CIRCUITS["pz3"]), x.dtype, fixed, own=frozenset({"theta"}))
    call = Call(HostCard(kernel), kernel, x, (theta, None, shift, weight))
    assert_close(call.forward(), wanted["value"], "value")
    found = call.backward(grad, (True, True, False, True, True, False, False))
    for name, tensor in zip(NAMES, found, strict=False):
        if tensor is not None:
            assert_close(tensor, wanted[name], name)


def test_no_sample_is_no_output() -> None:
    given = tensors("pz3", Shape(0, 3, 5), OWN["theta"])
    found = run("pz3", given, gradient(Shape(0, 3, 5)))
    assert found["value"].shape == (0, 3)
    for name, tensor in zip(NAMES, given, strict=True):
        assert found[name].shape == tensor.shape
        assert not found[name].any()


@pytest.mark.parametrize("needs", range(5))
def test_only_what_is_wanted_gets_a_gradient(needs: int) -> None:
    shape = Shape(19, 3, 4)
    given, grad = tensors("pz3", shape, OWN["theta"]), gradient(shape)
    found = call_for("pz3", given).backward(grad, [n == needs for n in range(7)])
    assert [n for n, tensor in enumerate(found) if tensor is not None] == [needs]
    assert_close(found[needs], truth("pz3", given, grad)[NAMES[needs]], NAMES[needs])  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["x", "theta"])
def test_a_bad_sample_spoils_only_its_own_row(what: str) -> None:
    shape = Shape(9, 3, 5)
    given, grad = tensors("pz3", shape, OWN["all"]), gradient(shape)
    clean = run("pz3", given, grad)
    with torch.no_grad():
        given[NAMES.index(what)][4] = torch.nan
    others = torch.arange(9) != 4
    for name, found in run("pz3", given, grad).items():
        assert torch.equal(found[others], clean[name][others]), name
        assert found[4].isnan().any(), name


@pytest.mark.parametrize("own", ["all", "theta"])
def test_float32_is_as_exact_as_plain_torch(own: str) -> None:
    shape = Shape(67, 3, 4)
    single, grad = tensors("pz3", shape, OWN[own], torch.float32), gradient(shape).float()
    double = [tensor.detach().double().requires_grad_() for tensor in single]
    exact, plain = truth("pz3", double, grad.double()), truth("pz3", single, grad)
    slack = 16 * torch.finfo(torch.float32).eps * float(single[-1].detach().abs().max())
    for what, found in run("pz3", single, grad).items():
        size = max(1.0, float(exact[what].abs().max()))
        assert_as_exact_as(found, plain[what], exact[what], slack * size, what)


def test_half_precision_is_what_memory_holds() -> None:
    shape = Shape(21, 3, 5)
    half, grad = tensors("pz3", shape, OWN["theta"], torch.bfloat16), gradient(shape).bfloat16()
    single = [tensor.detach().float() for tensor in half]
    wanted = run("pz3", single, grad.float())
    for what, found in run("pz3", half, grad).items():
        assert torch.equal(found, wanted[what].bfloat16()), what


@pytest.mark.parametrize("own", OWN)
def test_neither_the_order_of_threads_nor_that_of_blocks_matters(own: str) -> None:
    shape = Shape(37, 9, 7)
    given, grad = tensors("pz3", shape, OWN[own], torch.float32), gradient(shape)
    first = run("pz3", given, grad)
    for backwards in (True, False):
        for what, found in run("pz3", given, grad, backwards=backwards).items():
            assert torch.equal(found, first[what]), what


@pytest.mark.parametrize("processors", [1, 132])
def test_a_small_card_and_a_large_one_agree(processors: int) -> None:
    shape = Shape(70, 41, 3)
    given, grad = tensors("pz1", shape, OWN["theta"]), gradient(shape)
    wanted = truth("pz1", given, grad)
    for what, found in run("pz1", given, grad, processors).items():
        assert_close(found, wanted[what], what)


@pytest.mark.parametrize("own", OWN)
def test_nothing_unwritten_is_read_and_nothing_outside_is_touched(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(37, 5, 3)
    given, grad = tensors("pz3", shape, OWN[own]), gradient(shape)
    wanted, ordinary = truth("pz3", given, grad), Tensor.new_empty
    wholes: list[Tensor] = []

    def poisoned(tensor: Tensor, size: Sequence[int], **kwargs: torch.dtype) -> Tensor:
        count = torch.Size(size).numel()
        wholes.append(ordinary(tensor, count + 128, **kwargs).fill_(torch.nan))
        return wholes[-1][64:-64].view(*size)

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    for what, found in run("pz3", given, grad).items():
        assert_close(found, wanted[what], what)
    # value, five gradients, sums of dx, and of what the samples share
    assert len(wholes) == (7 if own == "all" else 8)
    for whole in wholes:
        assert whole[:64].isnan().all() and whole[-64:].isnan().all()
        assert not whole[64:-64].isnan().any()


def test_what_each_sample_has_must_have_as_many_samples_as_x() -> None:
    x, theta, *rest = tensors("pz3", Shape(7, 3, 5), OWN["theta"])
    with pytest.raises(SimulatorError, match=r"theta has shape \(6, 3, 5, 8\).*wanted \(7, 3, 5"):
        call_for("pz3", (x, theta[:6], *rest))
    with pytest.raises(SimulatorError, match="add base activation and bias"):
        call_for("pz3", (x, theta, *rest, rest[-1]))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("shape", [(32, 8, 8), (1, 1, 1), (100_000, 64, 64), (7, 1000, 3)])
def test_launch_shapes_cover_the_batch_and_leave_little(
    shape: tuple[int, int, int], summed: bool
) -> None:
    kernel = Kernel(lower(CIRCUITS["pz3"]), torch.float32, own=frozenset({"theta"}))
    batch, _, ins = shape
    found = per_sample_shape(Sizes(*shape, kernel.words, kernel.sums, 4, 132, 16), summed)
    assert found.chunk * found.chunks >= batch > found.chunk * (found.chunks - 1)
    assert found.chunks <= 65535 and 1 <= found.parts <= 1024
    assert not summed or found.chunk >= SUMMED
    assert found.parts <= 2 or found.parts * batch * ins * 4 <= WORKSPACE


@pytest.mark.parametrize(
    ("circuit", "dtype", "arch"),
    [("pz3", torch.float32, "sm_90"), ("px3", torch.float64, "sm_80"),
     ("own", torch.bfloat16, "sm_80")],
    ids=str,
)  # fmt: skip
def test_they_build_and_spill_no_register(circuit: str, dtype: torch.dtype, arch: str) -> None:
    for own in OWN.values():
        kernel = Kernel(lower(CIRCUITS[circuit]), dtype, own=own)
        found = compile_for(source(kernel), arch)
        assert set(found) == set(kernel.names)
        for name, needs in found.items():
            assert needs.spills == 0, f"{name} spills {needs.spills} bytes"
            assert 0 < needs.registers <= 255, name
