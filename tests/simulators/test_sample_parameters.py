"""Parameters of each sample's own on the CPU kernels: values, gradients, memory, repeatability."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cases import CIRCUITS, Shape
from compare import assert_as_exact_as, assert_close
from sample_parameters import NAMES, OWN, SHAPES, tensors, truth
from torch import Tensor

from qkan.circuits import lower
from qkan.simulators.cpu import kernels, units
from qkan.simulators.cpu.program_arrays import program_arrays


def run(circuit: str, given: Sequence[Tensor], grad: Tensor, threads: int = 1) -> dict[str, Tensor]:
    """Value and gradients by the kernels, as `truth`."""
    t = program_arrays(lower(CIRCUITS[circuit]))
    arrays, g = [tensor.detach().numpy() for tensor in given], grad.to(given[0].dtype).numpy()
    x, p = arrays[0], kernels.Parameters(*arrays[1:])
    value = kernels.forward(t, x, p, threads)
    needs = (True, True, True, True, p.weight is not None)
    found = kernels.backward(t, g, x, p, needs, threads)
    named = dict(zip(("value", *NAMES), (value, *found), strict=False))
    return {name: torch.from_numpy(array) for name, array in named.items() if array is not None}


def gradient(shape: Shape, per_edge: bool = False) -> Tensor:
    """A gradient of the output."""
    size = (shape.b, shape.o, shape.i)[: 3 if per_edge else 2]
    return torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """One thread, and several however little work there is."""
    monkeypatch.setattr(units, "_SERIAL", 0)
    return int(request.param)


def assert_agrees(circuit: str, shape: Shape, own: str, threads: int = 1) -> None:
    given = tensors(circuit, shape, OWN[own])
    for count in (5, 4) if own != "weight" else (5,):
        grad = gradient(shape, per_edge=count == 4)
        wanted = truth(circuit, given[:count], grad)
        for what, found in run(circuit, given[:count], grad, threads).items():
            assert_close(found, wanted[what], f"{what}, {own}, {shape}")


@pytest.mark.parametrize("own", ["all", "theta"])
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_values_and_gradients_of_every_circuit(circuit: str, own: str) -> None:
    assert_agrees(circuit, Shape(7, 3, 5), own)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("circuit", ["pz3", "own"])
def test_whatever_is_shared_and_whatever_shape(
    circuit: str, shape: Shape, own: str, threads: int
) -> None:
    assert_agrees(circuit, shape, own, threads)


def test_no_shift_and_one_row_of_scales() -> None:
    x, theta, _, _, weight = tensors("pz3", Shape(7, 3, 5), OWN["theta"])
    scales = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    edges = (7, 3, 5, 3)
    grad = gradient(Shape(7, 3, 5))
    wanted = truth("pz3", (x, theta, scales.expand(edges).clone().requires_grad_(),
                           torch.zeros(edges).double().requires_grad_(), weight), grad)  # fmt: skip
    t, arrays = (
        program_arrays(lower(CIRCUITS["pz3"])),
        [v.detach().numpy() for v in (x, theta, weight)],
    )
    p = kernels.Parameters(arrays[1], scales.numpy(), None, arrays[2])
    found = kernels.backward(t, grad.numpy(), arrays[0], p)
    assert_close(torch.from_numpy(kernels.forward(t, arrays[0], p)), wanted["value"], "value")
    assert found[2] is None and found[3] is None
    for at, name in ((0, "x"), (1, "theta"), (4, "weight")):
        assert_close(torch.from_numpy(found[at]), wanted[name], name)


def test_no_sample_is_no_output() -> None:
    given = tensors("pz3", Shape(0, 3, 5), OWN["theta"])
    found = run("pz3", given, gradient(Shape(0, 3, 5)))
    assert found["value"].shape == (0, 3)
    assert run("pz3", given[:4], gradient(Shape(0, 3, 5), True))["value"].shape == (0, 3, 5)
    for name, tensor in zip(NAMES, given, strict=True):
        assert found[name].shape == tensor.shape
        assert not found[name].any()


@pytest.mark.parametrize("needs", range(5))
def test_only_what_is_wanted_gets_a_gradient(needs: int, threads: int) -> None:
    shape, own = Shape(11, 3, 4), OWN["theta"]
    given, grad = tensors("pz3", shape, own), gradient(shape)
    wanted = run("pz3", given, grad, threads)
    t, arrays = program_arrays(lower(CIRCUITS["pz3"])), [v.detach().numpy() for v in given]
    p, wants = kernels.Parameters(*arrays[1:]), [n == needs for n in range(5)]
    found = kernels.backward(t, grad.numpy(), arrays[0], p, wants, threads)
    assert [n for n, array in enumerate(found) if array is not None] == [needs]
    assert_close(torch.from_numpy(found[needs]), wanted[NAMES[needs]], NAMES[needs])


@pytest.mark.parametrize("what", ["x", "theta"])
def test_a_bad_sample_spoils_only_its_own_row(what: str) -> None:
    shape = Shape(9, 3, 5)
    given = tensors("pz3", shape, OWN["all"])
    grad = gradient(shape)
    clean = run("pz3", given, grad)
    with torch.no_grad():
        given[NAMES.index(what)][4] = torch.nan
    for name, found in run("pz3", given, grad).items():
        others = torch.arange(9) != 4
        assert_close(found[others], clean[name][others], name)
        assert found[4].isnan().any(), name


@pytest.mark.parametrize("circuit", ["pz3", "px3", "mixed"])
@pytest.mark.parametrize("own", ["all", "theta"])
def test_float32_is_as_exact_as_plain_torch(circuit: str, own: str) -> None:
    shape = Shape(67, 3, 4)
    single, grad = tensors(circuit, shape, OWN[own], torch.float32), gradient(shape).float()
    double = [tensor.detach().double().requires_grad_() for tensor in single]
    exact, plain = truth(circuit, double, grad.double()), truth(circuit, single, grad)
    slack = 4 * torch.finfo(torch.float32).eps * float(single[-1].detach().abs().max()) * 4
    for what, found in run(circuit, single, grad).items():
        size = max(1.0, float(exact[what].abs().max()))
        assert_as_exact_as(found, plain[what], exact[what], slack * size, what)


@pytest.mark.parametrize("own", OWN)
def test_runs_repeat_to_the_bit(own: str, threads: int) -> None:
    shape = Shape(64, 6, 7)
    given, grad = tensors("pz3", shape, OWN[own], torch.float32), gradient(shape)
    first = run("pz3", given, grad, threads)
    for _ in range(3):
        for what, found in run("pz3", given, grad, threads).items():
            assert torch.equal(found, first[what]), what


def test_any_memory_layout() -> None:
    shape = Shape(6, 3, 5)
    given, grad = tensors("pz3", shape, OWN["all"]), gradient(shape)
    turned = [tensor.detach().mT.contiguous().mT for tensor in given]
    wanted = run("pz3", given, grad)
    for what, found in run("pz3", turned, grad).items():
        assert torch.equal(found, wanted[what]), what


@pytest.mark.parametrize("own", ["all", "theta"])
def test_nothing_of_the_size_of_theta_is_stored_beside_the_gradients(own: str) -> None:
    shape = Shape(1024, 8, 8)
    given, grad = tensors("pz3", shape, OWN[own]), gradient(shape).numpy()
    t, arrays = (
        program_arrays(lower(CIRCUITS["pz3"])),
        [tensor.detach().numpy() for tensor in given],
    )
    x, p = arrays[0], kernels.Parameters(*arrays[1:])
    kernels.forward(t, x, p)
    kernels.backward(t, grad, x, p)
    theta = arrays[1].nbytes

    def peak(call: object, *args: object) -> int:
        tracemalloc.start()
        kept = call(*args)  # type: ignore[operator]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        results = kept if isinstance(kept, tuple) else (kept,)
        return most - sum(a.nbytes for a in results if isinstance(a, np.ndarray))

    assert peak(kernels.forward, t, x, p) < theta / 16
    assert peak(kernels.backward, t, grad, x, p) < theta / 16
