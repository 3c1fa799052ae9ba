"""`explain`: which engine runs each layer of a model, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qkan.simulators import Explanation
from qkan.simulators import explain as explain_request

from .errors import QKANError
from .functional import compute_dtype, layer_request
from .layer import QKANLayer


def explain(model: nn.Module, x: Tensor) -> dict[str, Explanation]:
    """Run the model once and say, for each of its `QKANLayer`s, what `engine="auto"` takes.

    Args:
        model: Any module with `QKANLayer`s in it.
        x: A batch of the size and dtype to ask about.

    Returns:
        Layer names with their explanations; `print` one to see each engine's estimated time or its
        reason to refuse.

    Raises:
        QKANError: The model has no such layer.

    Example:
        >>> import torch
        >>> from qkan import QKAN, explain
        >>> found = explain(QKAN([4, 3], ansatz="px"), torch.rand(8, 4))
        >>> [verdict for name, verdict in found["layers.0"].verdicts if name == "fourier"]
        ['refuses: an arccos encoding makes φ no trigonometric polynomial in x']
    """
    found: dict[str, Explanation] = {}
    with _listening(model, found), torch.no_grad():
        model(x)
    if not found:
        raise QKANError(f"explain: {type(model).__name__} ran no QKANLayer.")
    return found


@contextmanager
def _listening(model: nn.Module, found: dict[str, Explanation]) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, QKANLayer):

            def hear(layer: QKANLayer, inputs: tuple[Any, ...], name: str = name) -> None:
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                x = x.to(compute_dtype(layer.weight.dtype, layer.readout))
                shared = layer.group is not None
                request = layer_request(
                    x, layer.theta, layer.program, layer.fixed_scale, layer.readout, shared
                )
                found[name] = explain_request(request)

            handles.append(module.register_forward_pre_hook(hear))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
