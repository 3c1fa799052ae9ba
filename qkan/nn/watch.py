"""What is done around a model for a while and undone: listening to its layers, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from .layer import QKANLayer

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@contextmanager
def listening(model: nn.Module, hear: Callable[[str, QKANLayer, Tensor], None]) -> Iterator[None]:
    """Call `hear` with each `QKANLayer`'s name, the layer, and its input as rows (b, i)."""
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, QKANLayer):

            def before(layer: QKANLayer, inputs: tuple[Any, ...], name: str = name) -> None:
                hear(name, layer, inputs[0].reshape(-1, inputs[0].shape[-1]))

            handles.append(module.register_forward_pre_hook(before))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel, DataParallel and `torch.compile`; else itself."""
    while isinstance(model, nn.Module):
        inner = model._modules.get("_orig_mod") or (
            model._modules.get("module") if isinstance(model, _PARALLEL) else None
        )
        if inner is None:
            break
        model = inner
    return model


def is_hooked(module: nn.Module) -> bool:
    """Whether a call of the module does more than its forward, by hooks on it."""
    kinds = (
        module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks,
        module._backward_hooks,
    )  # fmt: skip
    return any(kinds)


def evaluating(model: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode for a while; every module ends in the mode it was in."""
    return in_mode(model, training=False)


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; every module ends in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
