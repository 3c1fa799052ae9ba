"""Units of targets: the scale and the offset that bring a model's outputs to the targets' size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qkan._losses import Loss
from qkan.errors import ScaleWarning, warn
from qkan.nn.kan import KANLayer
from qkan.nn.layer import QKANLayer
from qkan.nn.splines import SplineLayer
from qkan.nn.watch import unwrapped

from .batches import Pair
from .inputs import simulated, some_rows

REGRESSION = ("mse", "l1", "huber")
"""The named losses whose targets have the units of the outputs."""

_SCALES, _OFFSET, _CALIBRATED = (0.5, 4.0), 1.5, 5.0
"""Training works with targets whose spread is between `_SCALES` times that of the outputs and whose
mean is at most `_OFFSET` spreads away. Outputs that follow the targets but are up to `_CALIBRATED`
times too large or too small are taken for those of a trained model."""
_FAR = 100.0


@dataclass(frozen=True)
class Units:
    """An affine map after a model's outputs, which becomes part of its last layer after training.

    The model is trained as if the targets were standardised: prediction = scale·output + offset,
    and the loss is divided by a number that makes it about 1. The loss that is reported is that of
    the predictions in the targets' own units.

    Attributes:
        scale: One factor for each output.
        offset: One summand for each output.
        reference: The loss of a model that always predicts the mean of the targets.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    reference: float

    def predict(self, output: Tensor) -> Tensor:
        """Return the prediction (…, o) in the units of the targets."""
        return output * output.new_tensor(self.scale) + output.new_tensor(self.offset)

    def move_into(self, model: nn.Module) -> None:
        """Change the model's last layer, in place, so that it computes the prediction."""
        layer = last_layer(model)
        assert layer is not None
        with torch.no_grad():
            for name, value in _linear_parameters(layer):
                scale = value.new_tensor(self.scale).reshape(-1, *[1] * (value.ndim - 1))
                value.mul_(scale)
                if name == "bias":
                    value.add_(value.new_tensor(self.offset))


_LAYERS = (QKANLayer, KANLayer, SplineLayer, nn.Linear)
_LINEAR = ("weight", "coef", "base_weight", "bias")
"""The parameters (o, …) in which the outputs of these layers are linear."""


def last_layer(model: nn.Module) -> nn.Module | None:
    """Return the layer that computes a model's outputs, if it can take a scale and an offset.

    A module's attribute `output_layer` names such a layer inside it.
    """
    model = unwrapped(model)
    if isinstance(model, nn.Sequential):
        return last_layer(model[-1]) if len(model) > 0 else None
    inner = getattr(model, "output_layer", None)
    if isinstance(inner, nn.Module):
        return last_layer(inner)
    if isinstance(model, QKANLayer) and model.circuit.reads_several:
        # all observables of an output share one factor
        return None
    found = dict(_linear_parameters(model))
    trained = all(value.requires_grad for value in found.values())
    return model if "bias" in found and trained else None


def _linear_parameters(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters in which a layer's output is linear, by name; none for other modules."""
    for name in _LINEAR if isinstance(layer, _LAYERS) else ():
        value = layer._parameters.get(name)
        if value is not None:
            yield name, value


def find_units(model: nn.Module, pair: Pair, out: Tensor | None, criterion: Loss) -> Units | None:
    """Find the scale and the offset of the outputs; None if outputs and targets fit already.

    An output is changed if its spread or its mean is far from the target's and if its best affine
    fit to the target is far from the output itself, which is not the case for a trained model. It
    then has the target's mean and, if its own spread is about 1, the target's spread. A model whose
    outputs do not follow a change of its last layer is left unchanged.

    Args:
        model: The model.
        pair: Inputs and targets.
        out: The model's output for `some_rows` of the data; computed when None.
        criterion: The loss.
    """
    _, y = pair
    if last_layer(model) is None or not y.dtype.is_floating_point:
        return None
    rows = some_rows(pair)
    out = simulated(model, rows[0]).detach() if out is None else out
    if out.shape[1:] != y.shape[1:] or out.dtype != y.dtype or out.ndim < 2:
        return None
    targets = y.double().cpu().flatten(0, -2)
    outputs, beside = (t.double().cpu().flatten(0, -2).T for t in (out, rows[1]))
    columns = zip(outputs, beside, *_moments(targets), strict=True)
    fitted = [_affine(*column) for column in columns]
    if all(pair == (1.0, 0.0) for pair in fitted):
        return None
    scale, offset = zip(*fitted, strict=True)
    constant = targets.mean(0).to(y).expand_as(y)
    reference = float(criterion(constant, y))
    wrong = not math.isfinite(reference) or reference <= 0
    units = Units(tuple(scale), tuple(offset), 1.0 if wrong else reference)
    return units if _follows(model, rows[0], out, units) else None


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread (o,) of values (n, o); a spread that is mere rounding becomes 0."""
    mean = values.mean(0)
    spread = (values - mean).square().mean(0).sqrt()
    return mean, torch.where(spread > 1e-12 * mean.abs(), spread, 0.0)


def _affine(out: Tensor, y: Tensor, mean: Tensor, spread: Tensor) -> tuple[float, float]:
    """Return scale and offset of one output (n,) for its target; (1, 0) if it need not change."""
    (centre,), (size,) = (value.tolist() for value in _moments(out.unsqueeze(-1)))
    m, s = mean.item(), spread.item()
    if not all(map(math.isfinite, (centre, size, m, s))):
        return 1.0, 0.0
    if s == 0:
        s = abs(m) or 1.0
    slope = ((out - centre) * (y - y.mean())).mean().item() / max(size**2, 1e-300)
    calibrated = 1 / _CALIBRATED <= slope <= _CALIBRATED and abs(m - centre) <= _OFFSET * s
    # outputs about as large as those of an untrained model are taken for such outputs
    size = size if size > 0 else 1.0
    elsewhere = abs(m - centre) > _OFFSET * max(s, size) and size <= _CALIBRATED
    if elsewhere or abs(math.log(size)) <= abs(math.log(size / s)):
        size = 1.0
    if abs(m - centre) >= abs(m) / 2 and abs(centre) <= 2 * _OFFSET * max(s, size):
        centre = 0.0
    fits = _SCALES[0] <= s / size <= _SCALES[1] and abs(m - centre) <= _OFFSET * s
    if fits or calibrated:
        return 1.0, 0.0
    return s / size, m - s / size * centre


def _follows(model: nn.Module, x: Tensor, out: Tensor, units: Units) -> bool:
    """Whether the outputs follow a change of the last layer; the model is not changed."""
    layer = last_layer(model)
    assert layer is not None
    kept = {name: value.detach().clone() for name, value in _linear_parameters(layer)}
    units.move_into(model)
    try:
        found, wanted = simulated(model, x).detach(), units.predict(out)
        size = wanted.abs().amax() + max(units.scale)
        return bool((found - wanted).abs().amax() <= 1e3 * torch.finfo(out.dtype).eps * size)
    finally:
        with torch.no_grad():
            for name, value in _linear_parameters(layer):
                value.copy_(kept[name])


def warn_of_units(prediction: Tensor, target: Tensor) -> str:
    """Warn if outputs (…, o) are far from targets of their shape, and return the warning."""
    floats = target.dtype.is_floating_point and prediction.dtype.is_floating_point
    if not floats or target.shape != prediction.shape or target.ndim < 2 or len(target) < 2:
        return ""
    mean, spread = _moments(target.detach().double().flatten(0, -2))
    centre, size = _moments(prediction.detach().double().flatten(0, -2))
    far = (mean - centre).abs() > _FAR * torch.maximum(spread, size)
    # the outputs of an untrained model may hardly vary, which says nothing about its units
    far |= (spread > _FAR * size.clamp_min(1.0)) | (size > _FAR * spread)
    # a constant has no units
    far &= (spread > 0) & (size > 0)
    if not far.any():
        return ""
    o = int(far.nonzero()[0])
    which = f" of output {o}" if len(mean) > 1 else ""
    said = (
        f"The targets{which} have the mean {mean[o].item():.4g} and the spread "
        f"{spread[o].item():.4g}, the model's outputs {centre[o].item():.4g} and "
        f"{size[o].item():.4g}, so training may not get there. Standardise the targets, "
        "(y - y.mean(0)) / y.std(0), and turn the predictions back."
    )
    warn(said, ScaleWarning)
    return said
