"""The stand-in for CuPy: it launches as the engine asks, and refuses what CuPy would get wrong."""

from __future__ import annotations

import host_cupy
import numpy as np
import pytest
import torch
from card_module import CardError, module, waits
from cases import CIRCUITS, Shape, problem
from compare import assert_close

import qkan
from qkan.circuits import ansatz, lower
from qkan.simulators import Request, get_engine
from qkan.simulators.cuda.cupy_engine import no_nvidia_gpu
from qkan.simulators.cuda.source import POINTERS, SIZES, Kernel, source
from qkan.simulators.testing import evaluate


def test_the_engine_reaches_a_card_by_one_predicate_that_no_cpu_passes(card: torch.device) -> None:
    engine = get_engine("cupy")
    cpu = Request(lower(ansatz("pz")), 64, 8, 8)
    for unreachable in (no_nvidia_gpu, host_cupy.reachable):
        assert unreachable(torch.device("cpu")) is not None
    assert no_nvidia_gpu(card) is not None and host_cupy.reachable(card) is None
    assert engine.refuse(cpu) is not None
    assert engine.refuse(cpu._replace(device=card)) is None


def test_a_layer_is_one_launch_there_and_two_back(card: torch.device) -> None:
    layer = qkan.QKANLayer(5, 3, engine="cupy", device=card)
    x = torch.randn(67, 5, device=card, requires_grad=True)
    with host_cupy.launched() as found, waits() as waited:
        layer(x).square().sum().backward()
    kernels = [launch.kernel for launch in found]
    assert kernels == ["layer_forward", "layer_backward", "layer_finish"]
    assert waited == []
    assert {(launch.device, launch.stream) for launch in found} == {(0, 0)}


def test_a_training_step_could_be_captured(card: torch.device) -> None:
    layer = qkan.QKANLayer(5, 3, engine="cupy", device=card)
    x = torch.randn(7, 5, device=card)
    layer(x).sum().backward()
    with module.capture():
        layer(x).square().sum().backward()


def test_it_launches_on_torchs_stream_and_on_the_tensors_device(card: torch.device) -> None:
    for index in (0, 1):
        device = torch.device("card", index)
        layer = qkan.QKANLayer(4, 2, engine="cupy", device=device)
        x = torch.randn(6, 4, device=device)
        side = module.Stream(device)
        with module.stream(side), torch.no_grad(), host_cupy.launched() as found:
            assert layer(x).device == device
        assert [(one.device, one.stream) for one in found] == [(index, side.cuda_stream)]
        assert module.current_device() == 0


@pytest.mark.parametrize("circuit", ["pz3", "own"])
def test_a_view_into_the_middle_of_memory_is_read_where_it_begins(
    circuit: str, card: torch.device
) -> None:
    shape = Shape(9, 3, 5)
    p = problem(CIRCUITS[circuit], shape)
    found, wanted = [], []
    for device, tensors in ((card, found), (torch.device("cpu"), wanted)):
        whole = torch.zeros(3 * shape.b, shape.i, dtype=torch.float64, device=device)
        whole[9:18] = p.x.detach().to(device)
        rest = [t.detach().to(device) for t in (p.theta, p.scale, p.shift, p.weight)]
        engine = get_engine("cupy" if device == card else "torch")
        tensors.append(evaluate(engine, circuit, (whole[9:18], *rest)).cpu())
    assert_close(found[0], wanted[0], "value")


def _words(**given: int) -> np.ndarray:
    numbers = [given.get(name, 0) for name in (*POINTERS, *SIZES)]
    return np.array(numbers, np.int64).view([("words", np.int64, (len(numbers),))])


@pytest.fixture
def finish(card: torch.device) -> host_cupy._Function:
    """A kernel that does nothing where all sizes are 0."""
    kernel = Kernel(lower(ansatz("pz", 1)), torch.float32)
    built = host_cupy.RawModule(code=source(kernel), options=("-std=c++17",))
    return built.get_function("layer_finish")


def test_a_launch_beside_torchs_stream_is_refused(finish: host_cupy._Function) -> None:
    import cupy

    with cupy.cuda.ExternalStream(0):
        with module.stream(module.Stream()):
            with pytest.raises(CardError, match="beside torch's current stream"):
                finish((1, 1, 1), (32,), (_words(),))
    with pytest.raises(CardError, match="beside torch's current stream"):
        finish((1, 1, 1), (32,), (_words(),))


def test_an_address_of_the_host_or_of_another_card_is_refused(
    finish: host_cupy._Function, card: torch.device
) -> None:
    import cupy

    host, other = torch.ones(8), torch.ones(8, device="card:1")
    with cupy.cuda.ExternalStream(0):
        with pytest.raises(CardError, match="an address that is no card's"):
            finish((1, 1, 1), (32,), (_words(x=host.data_ptr()),))
        with pytest.raises(CardError, match="given memory of card:1"):
            finish((1, 1, 1), (32,), (_words(x=other.data_ptr()),))
