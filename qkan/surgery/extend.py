"""`extend`: give the circuits of a model more repetitions without changing its function."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from qkan._options import check_size
from qkan.circuits import Circuit, CircuitError, fixed_scale
from qkan.errors import QKANError
from qkan.io import hugging_face
from qkan.nn.activation import DARUAN
from qkan.nn.layer import QKANLayer
from qkan.nn.starts import register_tensor
from qkan.nn.watch import reject_fast_weights, unwrapped

from .growth import Growth, find_growth
from .tensors import ANGLES, check_unparametrized

Model = TypeVar("Model", bound=nn.Module)

_TRAINED = (1.0, 0.0)
"""The values with which a trained scale of a new repetition may begin, the better one first."""


def extend(model: Model, reps: int, *, scale: Sequence[float] | None = None) -> Model:
    """Return a copy of the model whose circuits have `reps` repetitions and the same function.

    Each new repetition has no effect at first: the state is an eigenstate of it, the observable
    commutes with it, or its angles cancel. Such angles are found by a search in the circuit itself,
    so a registered ansatz of your own can be extended, too. Every `QKANLayer` and every `DARUAN` in
    the model is extended. Everything else, including masks, frozen parameters, modes and hooks, is
    as in the original model, which is not changed.

    Args:
        model: A `QKANLayer` or a `DARUAN`, or any module that contains them.
        reps: The total number of repetitions, at least as many as each layer has.
        scale: The scales of the new repetitions. They are only needed if the encoding consists of
            numbers of your own that are not a geometric sequence; otherwise the sequence is
            continued.

    Returns:
        The new model, without gradients. If a new repetition with a fixed scale does not fit at the
        end of the circuit but elsewhere, the layer's `encoding` becomes the tuple of its scales in
        time order.

    Raises:
        QKANError: There is no such layer; `reps` is below that of a layer; a circuit is a bare list
            of gates, without a rule for more repetitions; no angles without effect exist for this
            circuit and encoding; `scale` is missing, or not needed. The message names the layer.

    Example:
        >>> import torch
        >>> from qkan import QKAN, extend
        >>> model, x = QKAN([2, 5, 1], reps=1), torch.rand(100, 2)
        >>> longer = extend(model, 4)
        >>> longer.layers[0].circuit.num_encodings, torch.allclose(longer(x), model(x), atol=1e-5)
        (4, True)

    This is the layer extension of arXiv 2509.14026.
    """
    check_size("extend: reps", reps)
    longer: Model = copy.deepcopy(unwrapped(model))
    grown: _Grown = {}
    for name, layer in _parts(longer).items():
        try:
            _extend_layer(layer, reps, scale, grown)
        except (CircuitError, QKANError) as error:
            raise QKANError(f"extend: {name or type(longer).__name__}: {error}") from error
    longer.zero_grad()
    hugging_face.update(longer)
    return longer


_Part = QKANLayer | DARUAN


def _parts(model: nn.Module) -> dict[str, _Part]:
    """Return all layers and activations of a model by name.

    Raises:
        QKANError: There is none.
    """
    reject_fast_weights(model, "extend")
    found = {n: m for n, m in model.named_modules() if isinstance(m, QKANLayer | DARUAN)}
    if not found:
        raise QKANError(f"extend: the {type(model).__name__} contains no QKANLayer and no DARUAN.")
    return found


_Grown = dict[tuple[int, tuple[Growth, ...]], tuple[Tensor, Tensor]]
"""A tensor and its longer version, by the tensor's id and growths; it keeps the id in use."""


def _extend_layer(layer: _Part, reps: int, numbers: Sequence[float] | None, grown: _Grown) -> None:
    """Extend a layer in place; with `grown`, tied tensors stay tied."""
    check_unparametrized(layer)
    growths = _growths(layer, reps, numbers)
    if not growths:
        return
    plan = _plan(layer, growths)
    for name in ANGLES:
        old: Tensor = getattr(layer, name)
        trainable = isinstance(getattr(plan, name), nn.Parameter)
        key = (id(old), growths)
        if key not in grown:
            grown[key] = (old, _grown(name, old, growths, trainable))
        if isinstance(old, nn.Parameter) != trainable:
            delattr(layer, name)
            register_tensor(layer, name, grown[key][1], trainable=trainable)
        setattr(layer, name, grown[key][1])
    layer.circuit, layer.program = plan.circuit, plan.program
    layer.encoding, layer.fixed_scale = plan.encoding, plan.fixed_scale
    if isinstance(layer, DARUAN):
        layer.plan_waves()


def _growths(layer: _Part, reps: int, numbers: Sequence[float] | None) -> tuple[Growth, ...]:
    """Return one growth for each missing repetition."""
    circuit, growths = layer.circuit, []
    # raises for circuits without a rule for extension, before any search
    circuit.extend(reps)
    for scale in _new_scales(layer, reps - circuit.num_encodings, numbers):
        longer = circuit.extend(circuit.num_encodings + 1)
        growth = find_growth(circuit, longer, _TRAINED if scale is None else (scale,))
        if growth is None:
            raise QKANError(_no_identity(longer, layer.encoding))
        growths.append(growth)
        circuit = longer
    return tuple(growths)


def _no_identity(longer: Circuit, encoding: str | tuple[float, ...]) -> str:
    name = getattr(longer.builder, "name", "its own circuit")
    fixed = encoding != "trainable"
    advice = "encoding='trainable', whose new scale may be 0, or " if fixed else ""
    return (
        f"no angles were found that make repetition {longer.num_encodings} of {name!r} with "
        f"encoding={encoding!r} the identity, so it cannot be added without changing the "
        f"function; use {advice}another ansatz, or build a new model of that many repetitions."
    )


def _new_scales(
    layer: _Part, missing: int, numbers: Sequence[float] | None
) -> Sequence[float | None]:
    """The fixed scale of each new repetition, or None for a trained one."""
    encoding = layer.encoding
    if isinstance(encoding, str) and numbers is not None:
        raise QKANError(
            f"scale={[*numbers]} is not needed for encoding={encoding!r}, which defines the next "
            "scales; leave it out."
        )
    if encoding == "trainable":
        return [None] * missing
    if isinstance(encoding, str):
        today = layer.circuit.num_encodings
        return [*fixed_scale(encoding, today + missing)[today:]]
    if numbers is None:
        return _geometric(encoding, missing)
    if len(numbers) != missing or not all(map(math.isfinite, numbers)):
        raise QKANError(
            f"scale={[*numbers]}; wanted one finite number for each of the {missing} new "
            "repetitions."
        )
    return [float(number) for number in numbers]


def _geometric(scales: tuple[float, ...], missing: int) -> list[float]:
    """Return the next scales, if the scales are a geometric sequence in some order."""
    ordered = sorted(scales, key=abs)
    ratios = [b / a if a else math.nan for a, b in itertools.pairwise(ordered)]
    if missing and not (ratios and max(ratios) - min(ratios) < 1e-9):
        raise QKANError(
            f"encoding={scales} is not a geometric sequence, so the next scale is not known. Pass "
            f"scale=(…), one number for each of the {missing} new repetitions."
        )
    return [ordered[-1] * ratios[0] ** (n + 1) for n in range(missing)]


def _plan(layer: _Part, growths: tuple[Growth, ...]) -> _Part:
    """Return a layer of the longer circuit on "meta", which tells parameters from buffers."""
    encoding = layer.encoding
    if layer.fixed_scale is not None:
        scale = torch.tensor(layer.fixed_scale, dtype=torch.float64)
        for growth in growths:
            scale = growth.grow_encoding(scale, growth.scale)
        scales = tuple(scale.tolist())
        # an encoding keeps its name if the scales are in the order of that name
        named = isinstance(encoding, str) and scales == fixed_scale(encoding, len(scales))
        encoding = encoding if named else scales
    config = {**layer.config(), "encoding": encoding, "ansatz": growths[-1].circuit}
    del config["circuit"]
    if isinstance(layer, DARUAN):
        return DARUAN(**{**config, "base": None}, device="meta", dtype=layer.theta.dtype)
    return QKANLayer(**config, device="meta", dtype=layer.theta.dtype)


def _grown(name: str, old: Tensor, growths: tuple[Growth, ...], trainable: bool) -> Tensor:
    """Return the longer tensor that replaces theta, scale or shift."""
    value = old.detach()
    for growth in growths:
        if name == "theta":
            value = growth.grow_theta(value)
        else:
            value = growth.grow_encoding(value, growth.scale if name == "scale" else 0.0)
    if not trainable:
        return value
    wanted = old.requires_grad if isinstance(old, nn.Parameter) else True
    return nn.Parameter(value, requires_grad=wanted)
