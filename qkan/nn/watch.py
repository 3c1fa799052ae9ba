"""Helpers that inspect a model: the inputs of its layers, its wrappers, hooks and mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from qkan.errors import QKANError

from .fast_layer import FastLayer
from .layer import QKANLayer

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@contextmanager
def on_layer_input(
    model: nn.Module,
    call: Callable[[str, Any, Tensor], None],
    kinds: tuple[type[nn.Module], ...] = (QKANLayer,),
) -> Iterator[None]:
    """Call a function with name, module and input (b, i) of each module of a kind while this lasts.

    Args:
        model: The model with the modules.
        call: The function, called before such a module runs.
        kinds: The classes of the modules.
    """
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):

            def before(part: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                width = inputs[0].shape[-1] if inputs[0].ndim else 1
                call(name, part, inputs[0].reshape(-1, width))

            handles.append(module.register_forward_pre_hook(before))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reject_fast_weights(model: nn.Module, what: str) -> None:
    """Raise `QKANError`, which begins with `what`, if a layer's parameters differ by sample."""
    for name, part in model.named_modules():
        if isinstance(part, FastLayer):
            raise QKANError(
                f"{what}: {name or type(part).__name__} gets different angles for every sample "
                "from a FastWeightQKAN, so it has no fixed activations. Pass the rest of the "
                "model; `programmed` gives the angles of a sample."
            )


def unwrapped(model: Any) -> Any:
    """Return the model inside DistributedDataParallel, DataParallel or `torch.compile`."""
    while isinstance(model, nn.Module):
        inner = model._modules.get("_orig_mod") or (
            model._modules.get("module") if isinstance(model, _PARALLEL) else None
        )
        if inner is None:
            break
        model = inner
    return model


def is_hooked(module: nn.Module) -> bool:
    """Whether the module has hooks, so that a call does more than its forward method."""
    kinds = (
        module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks,
        module._backward_hooks,
    )  # fmt: skip
    return any(kinds)


def evaluating(model: nn.Module) -> AbstractContextManager[None]:
    """Put the model in evaluation mode while this lasts, then restore the mode of every module."""
    return in_mode(model, training=False)


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in that mode while this lasts, then restore the mode of every module."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
