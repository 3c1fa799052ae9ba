"""An accelerator hosted in Python, as strict as a card, so that code for cards runs anywhere.

PyTorch reserves one device type for accelerators that it does not know. `install` takes it, for
the rest of the process, under the name "card". A tensor on the card wraps a tensor on the CPU, and
every operation runs on what is inside. What a real card forbids is forbidden: its memory cannot be
read by numpy or through an address, and an operation that mixes it with a CPU tensor, or with a
tensor of the other device, raises `CardError`. What a real card makes the host wait for is counted.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from card_module import NAME, CardError, counts, module
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

HANDLES = 0x2A << 56
"""What an address on the card is above that of the memory inside: no address of any host."""

_aten = torch.ops.aten
_TRANSFERS = {_aten._to_copy.default, _aten.copy_.default, _aten._foreach_copy_.default}
_WAITS = {
    "_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "is_nonzero", "allclose", "bincount",
}  # fmt: skip
_REPLACES_MEMORY = {"set_", "resize_", "t_", "transpose_", "squeeze_", "unsqueeze_", "swapaxes_"}
"""Operations in place that would leave the wrapper with the shape it had."""


class _LikeATensor(type(Tensor)):  # type: ignore[misc]
    """What makes the compiler take tensors on the card for plain tensors of a device.

    It asks the class for its dispatch, and torch itself asks the tensor.
    """

    @property
    def __torch_dispatch__(cls) -> Any:
        return Tensor.__torch_dispatch__


class _Dispatched(Tensor):
    """A tensor whose operations run on what is inside."""

    @classmethod
    @torch._dynamo.disable
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("aten", "prims"):
            return _operation(func, *args, **(kwargs or {}))
        # an operator of somebody's own runs its code for the card, on tensors of the card
        return func.redispatch(_CARD, *args, **(kwargs or {}))


class CardTensor(_Dispatched, metaclass=_LikeATensor):
    """A tensor on the card.

    Attributes:
        inner: Where its numbers really are, a tensor on the CPU.
    """

    inner: Tensor

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @data.setter
    def data(self, other: CardTensor) -> None:
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.inner = other.inner

    @staticmethod
    def __new__(cls, inner: Tensor, index: int) -> CardTensor:
        assert type(inner) is Tensor and inner.device.type == "cpu", inner
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            _Dispatched, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=torch.device(NAME, index),
        )  # fmt: skip
        made.__class__ = cls
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def data_ptr(self) -> int:
        """A handle of this memory: what a kernel of the card is given, and no address."""
        handle = HANDLES + self.inner.data_ptr()
        _handles[handle] = weakref.ref(self)
        return handle

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} type tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise CardError(f"a tensor on {self.device} was exported as the host's memory")

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __coerce_same_metadata_as_tangent__(self, metadata: Any, kind: Any = None) -> Tensor:
        return self

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"CardTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    def __reduce_ex__(self, protocol: int) -> Any:
        # what torch does for accelerators whose storage it cannot read
        arguments = (self.detach().cpu(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, arguments

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError("Only leaves can be copied deeply")
        copy = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        else:
            copy.requires_grad_(self.requires_grad)
        copy.grad = None if self.grad is None else self.grad.detach().clone()
        memo[id(self)] = copy
        return copy


_CARD = torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1)
_META = torch._C.DispatchKeySet(torch._C.DispatchKey.Meta)
_handles: dict[int, weakref.ref[CardTensor]] = {}


def address_of(handle: int, index: int) -> int:
    """Where the memory of a handle is: only the launches of a device may ask.

    Raises:
        CardError: It is no handle, its tensor is gone, or it is on another device.
    """
    tensor = _handles.get(handle, lambda: None)()
    if tensor is None:
        what = "memory that was freed" if handle in _handles else "an address that is no card's"
        raise CardError(f"a kernel on the card was given {what}: {handle:#x}")
    if tensor.device.index != index:
        raise CardError(f"a kernel on {NAME}:{index} was given memory of {tensor.device}")
    return tensor.inner.data_ptr()


@torch._dynamo.disable
def _operation(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation of torch on what is inside."""
    name = func._schema.name.partition("::")[2]
    flat = pytree.tree_leaves((args, kwargs))
    tensors = [leaf for leaf in flat if isinstance(leaf, Tensor)]
    if any(type(t) is not CardTensor and t.device.type != "cpu" for t in tensors):
        # shapes alone, of a compiler or of FakeTensorMode
        return func.redispatch(_META, *args, **kwargs)
    index = _index(func, tensors, kwargs)
    if name in _REPLACES_MEMORY:
        raise CardError(f"{func}: the card does not change a tensor's shape in place")
    _count_waits(func, name, args, kwargs)
    inside = pytree.tree_map(_inner, (args, kwargs))
    # what comes as far as here is real, even where a compiler looks at shapes
    with _disable_current_modes() if torch._C._len_torch_dispatch_stack() else _nothing():
        found = func(*inside[0], **inside[1])
    target = kwargs.get("device")
    if func in _TRANSFERS and target is not None and torch.device(target).type != NAME:
        return found
    if func is _aten.copy_.default:
        return args[0]
    return _outer(func, args, kwargs, found, index)


def _index(func: Any, tensors: list[Tensor], kwargs: dict[str, Any]) -> int:
    """Which device an operation runs on.

    Raises:
        CardError: Its tensors are not all there. A CPU tensor of no dimension is a number.
    """
    target = kwargs.get("device")
    places = {tensor.device for tensor in tensors if isinstance(tensor, CardTensor)}
    if func in _TRANSFERS:
        places = {torch.device(target)} if target is not None else {tensors[0].device}
    else:
        hosts = [t for t in tensors if t.device.type == "cpu" and t.dim()]
        places |= {torch.device(target)} if target is not None and not tensors else set()
        if len(places) > 1 or (places and hosts):
            found = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
            raise CardError(f"{func}: expected all tensors to be on one device, got {found}")
    place = next(iter(places), torch.device(NAME))
    return module.current_device() if place.index is None else place.index


def _count_waits(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    reads = func is _aten._to_copy.default and _is_host(kwargs.get("device"))
    reads |= func is _aten.copy_.default and not isinstance(args[0], CardTensor)
    if name in ("index", "index_put", "index_put_"):
        reads |= any(t is not None and t.dtype == torch.bool for t in args[1])
    if name in _WAITS or reads:
        if module.capturing:
            raise CardError(f"{func}: the host waits for the card while a graph is captured")
        counts.append(name)


def _is_host(device: Any) -> bool:
    return device is not None and torch.device(device).type != NAME


def _inner(value: Any) -> Any:
    if isinstance(value, CardTensor):
        return value.inner
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value


def _outer(func: Any, args: Any, kwargs: Any, found: Any, index: int) -> Any:
    """What came out as tensors on the card; what was written in place is the tensor it was."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    written = {
        alias: given[argument.name]
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        and argument.name in given
        for alias in argument.alias_info.before_set
    }  # fmt: skip

    def one(value: Any, returned: Any) -> Any:
        info = returned.alias_info
        if info is not None and info.is_write:
            return written[next(iter(info.before_set))]
        return pytree.tree_map(
            lambda leaf: CardTensor(leaf, index) if isinstance(leaf, Tensor) else leaf, value
        )

    returns = func._schema.returns
    if len(returns) == 1:
        return one(found, returns[0])
    return tuple(map(one, found, returns)) if returns else None


_LOW = (
    "linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv",
    "scaled_dot_product_attention", "conv1d", "conv2d",
)  # fmt: skip
"""What autocast rounds on any accelerator: matrix products."""
_libraries: list[Any] = []


def _register_operations() -> Any:
    """Every operation of torch that has a kernel, each with the name it runs inside by.

    A fallback would be shorter, but torch loses its way to one where a tensor has a dispatch of its
    own that is switched off.
    """
    library = torch.library.Library("aten", "IMPL")
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.partition(".")
        if not name.startswith("aten::") or not _has_kernel(full):
            continue
        operation = getattr(getattr(_aten, name[6:]), overload or "default")
        library.impl(full[6:], functools.partial(_operation, operation), "PrivateUse1")
    # what torch's copy_ asks of a device that it does not know
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    library.impl("_copy_from", lambda source, target, non_blocking=False: target, "Meta")
    return library


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return _operation(_aten.copy_.default, target, source)  # type: ignore[no-any-return]


def _has_kernel(name: str) -> bool:
    """Whether it is up to a device to run an operation, and not composed of others."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    composed = any(has(name, f"Composite{kind}Autograd") for kind in ("Implicit", "Explicit"))
    return has(name, "CPU") and not composed


def _register_autocast() -> None:
    library = torch.library.Library("aten", "IMPL")
    guard = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def rounded(packet: str) -> Callable[..., Any]:
        operation = getattr(torch.ops.aten, packet)

        @torch._dynamo.disable
        def run(*args: Any, **kwargs: Any) -> Any:
            low = torch.get_autocast_dtype(NAME)

            def cast(value: Any) -> Any:
                known = isinstance(value, Tensor) and value.dtype in (torch.float32, *_HALF)
                return value.to(low) if known and value.device.type == NAME else value

            with torch._C._ExcludeDispatchKeyGuard(guard):
                return operation(*pytree.tree_map(cast, args), **pytree.tree_map(cast, kwargs))

        return run

    for packet in _LOW:
        library.impl(packet, rounded(packet), "AutocastPrivateUse1")
    _libraries.append(library)


_HALF = (torch.bfloat16, torch.float16)


@contextlib.contextmanager
def _nothing(*args: Any) -> Iterator[None]:
    yield


def install() -> torch.device:
    """Take the device type "card" for this process, and return its first device."""
    if not _libraries:
        _setup_privateuseone_for_python_backend(NAME, module)
        _libraries.append(_register_operations())
        fall_through = torch.library.Library("_", "IMPL")
        fall_through.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        _libraries.append(fall_through)
        _register_autocast()
    return torch.device(NAME, 0)
