"""The card itself: it computes what a CPU computes, and refuses what a card refuses."""

from __future__ import annotations

import copy
import ctypes
import gc
import io
from collections.abc import Callable

import host_card
import numpy as np
import pytest
import torch
from card_module import CardError, module, waits
from host_card import HANDLES
from torch import Tensor, nn


def pair(card: torch.device, *shape: int) -> tuple[Tensor, Tensor]:
    """The same numbers on the CPU and on the card."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x, x.to(card)


NUMPY: dict[str, Callable[[Tensor], object]] = {
    "numpy": lambda x: x.numpy(),
    "detach, numpy": lambda x: x.detach().numpy(),
    "a parameter's": lambda x: nn.Parameter(x).detach().numpy(),
    "asarray": np.asarray,
    "array": np.array,
    "a ufunc": np.sin,
    "ascontiguousarray": np.ascontiguousarray,
}


@pytest.mark.parametrize("way", NUMPY)
def test_numpy_does_not_read_it(way: str, card: torch.device) -> None:
    with pytest.raises(TypeError, match="card:0 type tensor to numpy"):
        NUMPY[way](pair(card, 3, 4)[1])


def test_neither_does_a_buffer_nor_a_capsule(card: torch.device) -> None:
    x = pair(card, 3)[1]
    with pytest.raises(TypeError, match="bytes-like"):
        memoryview(x)  # type: ignore[arg-type]
    with pytest.raises((CardError, ValueError), match="card"):
        torch.from_dlpack(x)
    with pytest.raises(RuntimeError, match="data pointer"):
        x.untyped_storage().data_ptr()


def test_an_address_is_no_address_of_the_host(card: torch.device) -> None:
    """An address on x86-64 and on ARM has its highest bits all alike, unless it is tagged."""
    x, there = pair(card, 3, 4)
    for tensor in (there, there[1:], nn.Parameter(there), there.detach().double()):
        assert tensor.data_ptr() >> 47 not in (0, (1 << 17) - 1)
        assert tensor.data_ptr() >= HANDLES
    assert there[1:].data_ptr() - there.data_ptr() == 16
    # what a kernel of the CPU would do with it, where no reader could harm
    with pytest.raises((OSError, ValueError, MemoryError)):
        _read_as_a_file(there.data_ptr(), 4)
    assert len(_read_as_a_file(x.data_ptr(), 4)) == 4


def _read_as_a_file(address: int, size: int) -> bytes:
    """Memory of this process, read through the kernel, which answers instead of ending it."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


MIXED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "card + cpu": lambda x, there: there + x,
    "cpu + card": lambda x, there: x + there,
    "product": lambda x, there: there @ x.T,
    "in place": lambda x, there: there.add_(x),
    "in place on the cpu": lambda x, there: x.add_(there),
    "index": lambda x, there: there[torch.tensor([0, 1])],
    "cat": lambda x, there: torch.cat([x, there]),
    "stack": lambda x, there: torch.stack([there, x]),
    "where": lambda x, there: torch.where(x > 0, there, there),
    "linear": lambda x, there: nn.functional.linear(there, x),
    "out": lambda x, there: torch.sin(there, out=torch.empty(3, 4)),
    "layer left behind": lambda x, there: nn.Linear(4, 2)(there),
    "input left behind": lambda x, there: nn.Linear(4, 2, device=there.device)(x),
    "two cards": lambda x, there: there + x.to("card:1"),
}


@pytest.mark.parametrize("way", MIXED)
def test_an_operation_does_not_mix_devices(way: str, card: torch.device) -> None:
    with pytest.raises(CardError, match="expected all tensors to be on one device"):
        MIXED[way](*pair(card, 3, 4))


def test_a_number_on_the_cpu_mixes(card: torch.device) -> None:
    x, there = pair(card, 3, 4)
    assert torch.equal((there * torch.tensor(3.0)).cpu(), x * 3)


WAITS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "float": (lambda x: float(x.sum()), "_local_scalar_dense"),
    "if": (lambda x: bool(x.sum() > 0), "_local_scalar_dense"),
    "format": (lambda x: f"{x.sum():.3f}", "_local_scalar_dense"),
    "cpu": (lambda x: x.cpu(), "_to_copy"),
    "to": (lambda x: x.to("cpu"), "_to_copy"),
    "tolist": (lambda x: x.tolist(), "_to_copy"),
    "copy_": (lambda x: torch.empty(3, 4).copy_(x), "copy_"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "mask": (lambda x: x[x > 0], "index"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
    "synchronize": (lambda x: module.synchronize(), "synchronize"),
}


@pytest.mark.parametrize("way", WAITS)
def test_what_the_host_waits_for_is_counted(way: str, card: torch.device) -> None:
    action, name = WAITS[way]
    x = pair(card, 3, 4)[1]
    with waits() as found:
        action(x)
    assert found == [name]


def test_what_it_does_not_wait_for_is_not_counted(card: torch.device) -> None:
    with waits() as found:
        there = pair(card, 3, 4)[1]
        layer = nn.Linear(4, 4, device=card)
        (layer(there).softmax(-1)[1:] * there[1:] + torch.arange(4.0, device=card)).sum().backward()
        torch.empty(3, device=card).copy_(torch.ones(3))
    assert found == []


def test_while_a_graph_is_captured_the_host_must_not_wait(card: torch.device) -> None:
    x = pair(card, 3)[1]
    with module.capture():
        x.sin()
        with pytest.raises(CardError, match="the host waits"):
            x.sum().item()
    assert isinstance(x.sum().item(), float)


def test_a_shape_does_not_change_in_place(card: torch.device) -> None:
    with pytest.raises(CardError, match="in place"):
        pair(card, 3, 4)[1].t_()


def test_values_and_gradients_are_those_of_the_cpu(card: torch.device) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    there = copy.deepcopy(model).to(card)
    x, y = pair(card, 5, 4)
    for one, other in zip((model, x), (there, y), strict=True):
        assert (one is model) or one.device != other.device
    model(x).square().sum().backward()
    there(y).square().sum().backward()
    for p, q in zip(model.parameters(), there.parameters(), strict=True):
        assert q.device == card and q.grad is not None and q.grad.device == card
        assert torch.equal(p.grad, q.grad.cpu())


def test_views_share_memory_and_writing_in_place_is_seen(card: torch.device) -> None:
    x, there = pair(card, 4, 3)
    there[1:3].zero_()
    there.T[0].fill_(2.0)
    x[1:3].zero_()
    x.T[0].fill_(2.0)
    assert torch.equal(there.cpu(), x)
    out = torch.empty(4, device=card)
    assert torch.sum(there, 1, out=out) is out
    assert torch.equal(out.cpu(), x.sum(1))
    leaf = there.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y = leaf.exp()
        y.add_(1)
        y.sum().backward()


def test_a_module_moves_casts_copies_and_is_saved(card: torch.device) -> None:
    layer = nn.Linear(4, 3)
    wanted = layer.weight.detach().clone()
    layer.to(card)
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.device == card
    copied = copy.deepcopy(layer)
    layer.bfloat16()
    assert layer.weight.dtype == torch.bfloat16
    assert layer(torch.ones(2, 4, device=card, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert torch.equal(copied.weight.cpu(), wanted)
    file = io.BytesIO()
    torch.save(copied.state_dict(), file)
    for place in (None, "cpu"):
        file.seek(0)
        found = torch.load(file, map_location=place)["weight"]
        assert found.device == (card if place is None else torch.device("cpu"))
        assert torch.equal(found.cpu(), wanted)


def test_autocast_rounds_products(card: torch.device) -> None:
    x, there = pair(card, 3, 4)
    layer = nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = layer(x)
    layer.to(card)
    with torch.autocast(card.type, torch.bfloat16):
        found = layer(there)
        assert torch.is_autocast_enabled(card.type)
        assert (there @ there.T).dtype == torch.bfloat16 and (there * there).dtype == torch.float32
    found.float().sum().backward()
    assert found.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32
    assert torch.equal(found.cpu(), wanted)


def test_the_device_module_is_what_torch_expects(card: torch.device) -> None:
    place = torch.get_device_module(card)
    assert place is module and place is torch.card  # type: ignore[attr-defined]
    assert place.get_device_properties(card).multi_processor_count > 0
    side = place.Stream(card)
    assert place.current_stream(card).cuda_stream == 0 != side.cuda_stream
    with place.stream(side):
        assert place.current_stream(card) is side
    assert place.current_stream(card).cuda_stream == 0
    with place.device("card:1"):
        assert place.current_device() == 1 and torch.empty(1, device="card").device.index == 1
    assert place.current_device() == 0
    with pytest.raises(CardError, match="no card:7"):
        place.set_device(7)


def test_memory_that_was_freed_is_not_handed_to_a_kernel(card: torch.device) -> None:
    x = torch.ones(1000, device=card)
    handle = x.data_ptr()
    assert host_card.address_of(handle, 0) == handle - HANDLES
    with pytest.raises(CardError, match="memory of card:0"):
        host_card.address_of(handle, 1)
    del x
    gc.collect()
    with pytest.raises(CardError, match="freed"):
        host_card.address_of(handle, 0)
    host = (ctypes.c_float * 4)()
    with pytest.raises(CardError, match="no card's"):
        host_card.address_of(ctypes.addressof(host), 0)
