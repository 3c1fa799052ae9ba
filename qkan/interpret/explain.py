"""`explain`: which engine runs each layer of a model, and why the others do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.fast_layer import FastLayer
from qkan.nn.functional import compute_dtype, layer_request
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import on_layer_input, unwrapped
from qkan.simulators import Explanation, Request
from qkan.simulators import explain as explain_request


def explain(model: nn.Module, x: Tensor) -> dict[str, Explanation]:
    """Run the model once and say, for each of its `QKANLayer`s, what `engine="auto"` chooses.

    For a `DARUAN`, and for a layer with groups and many inputs on a CPU, it says which engine
    evaluates the circuits. If φ is a short sum of sinusoids, that is done at a few phases only, and
    one compiled pass evaluates the sinusoids; otherwise it is done at all inputs. The last line
    says which of the two.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        x: A batch of the size and dtype in question.

    Returns:
        An explanation for each layer name; `print` one to see each engine's estimated time or its
        reason for refusing.

    Raises:
        QKANError: The model ran no such layer.

    Example:
        >>> import torch
        >>> from qkan import QKAN, explain
        >>> found = explain(QKAN([4, 3], ansatz="px"), torch.rand(8, 4))
        >>> [verdict for name, verdict in found["layers.0"].verdicts if name == "fourier"]
        ['refuses: with an arccos encoding φ is not a trigonometric polynomial in x']
    """
    model = unwrapped(model)
    found: dict[str, Explanation] = {}

    def note(name: str, part: QKANLayer | DARUAN, inputs: Tensor) -> None:
        if isinstance(part, QKANLayer):
            found[name] = explain_layer(part, inputs)
        else:
            found[name] = explain_request(part.request(inputs))

    with on_layer_input(model, note, (QKANLayer, DARUAN)), torch.no_grad():
        model(x)
    if not found:
        raise QKANError(
            f"explain: the {type(model).__name__} ran no QKANLayer and no DARUAN, so there is "
            "nothing to explain; pass a model with such a layer."
        )
    return found


def explain_layer(layer: QKANLayer, x: Tensor) -> Explanation:
    """Say what `engine="auto"` chooses for one layer and inputs x (b, i), without running it."""
    return explain_request(
        request_of(layer, x.to(compute_dtype(layer.weight.dtype, layer.readout)))
    )


def request_of(layer: QKANLayer, x: Tensor) -> Request:
    """Return the request of a layer to an engine for inputs x (b, i)."""
    shared = layer.group is not None
    found = layer_request(x, layer.theta, layer.program, layer.fixed_scale, layer.readout, shared)
    return found._replace(batched_theta=True) if isinstance(layer, FastLayer) else found
