"""`extend`: more repetitions and the same function; `fit_extending`: train, extend, train again."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import Unpack

from qkan._losses import Loss
from qkan._progress import Progress
from qkan.circuits import Circuit, CircuitError, did_you_mean, fixed_scale
from qkan.errors import QKANError
from qkan.io.hugging_face import refresh
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import unwrapped
from qkan.training.batches import Data
from qkan.training.fit import fit
from qkan.training.history import History
from qkan.training.optim import OptimizerLike, SchedulerLike

from .growth import Growth, find_growth

Model = TypeVar("Model", bound=nn.Module)

_TRAINED = (1.0, 0.0)
_ANGLES = ("theta", "scale", "shift")


def extend(model: Model, reps: int, *, scale: Sequence[float] | None = None) -> Model:
    """Return a copy of the model whose circuits have `reps` repetitions and the same function.

    Each new repetition starts as the identity: where the state is an eigenstate of it, where the
    observable commutes with it, or with angles that cancel. Values for which this holds are
    searched for in the circuit itself, so that a registered ansatz of your own extends too. Every
    `QKANLayer` in the model is extended; whatever else there is, masks, frozen parameters, modes
    and hooks included, is as in the original, which is left untouched.

    Args:
        model: A `QKANLayer`, or any module with such layers in it.
        reps: Repetitions in all, at least as many as each layer has today.
        scale: Numbers for the new repetitions, where the encoding is fixed to numbers of your own
            that no geometric sequence continues. Named encodings go on by themselves.

    Returns:
        The new model; no gradients are kept. Where a fixed encoding only fits in another place
        than the last, the layer's `encoding` becomes the tuple of its scales in time order.

    Raises:
        QKANError: No layer; `reps` is below a layer's; a bare gate list, which nobody knows how
            to go on; no identity exists for this circuit and encoding; `scale` is missing, or not
            needed. The message names the layer.

    Example:
        >>> import torch
        >>> from qkan import QKAN, extend
        >>> model, x = QKAN([2, 5, 1], reps=1), torch.rand(100, 2)
        >>> longer = extend(model, 4)
        >>> longer.layers[0].circuit.num_encodings, torch.allclose(longer(x), model(x), atol=1e-5)
        (4, True)

    Source: layer extension, arXiv 2509.14026.
    """
    if not isinstance(reps, int) or isinstance(reps, bool) or reps < 1:
        raise QKANError(f"extend: reps={reps!r}: a whole number, 1 or more.")
    model = unwrapped(model)
    names = [name for name, part in model.named_modules() if isinstance(part, QKANLayer)]
    if not names:
        raise QKANError(
            f"extend: {type(model).__name__} has no QKANLayer in it, so nothing has repetitions."
        )
    longer = copy.deepcopy(model)
    grown: _Grown = {}
    for name in names:
        layer: Any = longer.get_submodule(name)
        try:
            _extend_layer(layer, reps, scale, grown)
        except (CircuitError, QKANError) as error:
            raise QKANError(f"extend: {name or type(model).__name__}: {error}") from error
    longer.zero_grad()
    refresh(longer)
    return longer


_Grown = dict[tuple[int, tuple[Growth, ...]], tuple[Tensor, Tensor]]
"""What a tensor became: its id and growths, to itself, which keeps the id taken, and the result."""


def _extend_layer(
    layer: QKANLayer, reps: int, numbers: Sequence[float] | None, grown: _Grown
) -> None:
    """Extend a layer in place; `grown` keeps tensors tied that were tied."""
    if parametrize.is_parametrized(layer):
        raise QKANError(
            "its parameters are computed by torch.nn.utils.parametrize. Take that off with "
            "remove_parametrizations, extend, and put it on again."
        )
    growths = _growths(layer, reps, numbers)
    if not growths:
        return
    plan = _plan(layer, growths)
    for name in _ANGLES:
        old: Tensor = getattr(layer, name)
        trainable = isinstance(getattr(plan, name), nn.Parameter)
        key = (id(old), growths)
        if key not in grown:
            grown[key] = (old, _grown(name, old, growths, trainable))
        if isinstance(old, nn.Parameter) != trainable:
            delattr(layer, name)
            layer.register_tensor(name, grown[key][1], trainable=trainable)
        setattr(layer, name, grown[key][1])
    layer.circuit, layer.program = plan.circuit, plan.program
    layer.encoding, layer.fixed_scale = plan.encoding, plan.fixed_scale


def _growths(layer: QKANLayer, reps: int, numbers: Sequence[float] | None) -> tuple[Growth, ...]:
    """One growth for each repetition that is missing."""
    circuit, growths = layer.circuit, []
    circuit.extend(reps)  # refuses here what it would refuse below
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
    layer: QKANLayer, missing: int, numbers: Sequence[float] | None
) -> Sequence[float | None]:
    """The fixed scales of the new repetitions, None for trained ones."""
    encoding = layer.encoding
    if isinstance(encoding, str) and numbers is not None:
        raise QKANError(
            f"scale={[*numbers]} beside encoding={encoding!r}, which goes on by itself: leave "
            "it out."
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
            f"scale={[*numbers]}: {missing} repetitions are new, and each needs one finite number."
        )
    return [float(number) for number in numbers]


def _geometric(scales: tuple[float, ...], missing: int) -> list[float]:
    """The next numbers of scales that are, in some order, a geometric sequence."""
    ordered = sorted(scales, key=abs)
    ratios = [b / a if a else math.nan for a, b in itertools.pairwise(ordered)]
    if missing and not (ratios and max(ratios) - min(ratios) < 1e-9):
        raise QKANError(
            f"encoding={scales}: no geometric sequence, so the next scale is not known. Pass "
            f"scale=(…), one number for each of the {missing} new repetitions."
        )
    return [ordered[-1] * ratios[0] ** (n + 1) for n in range(missing)]


def _plan(layer: QKANLayer, growths: tuple[Growth, ...]) -> QKANLayer:
    """A layer of the longer circuit without values: what is a parameter, what a buffer."""
    encoding = layer.encoding
    if layer.fixed_scale is not None:
        scale = torch.tensor(layer.fixed_scale, dtype=torch.float64)
        for growth in growths:
            scale = growth.grow_encoding(scale, growth.scale)
        scales = tuple(scale.tolist())
        # by its name as long as the scales still are in its order
        named = isinstance(encoding, str) and scales == fixed_scale(encoding, len(scales))
        encoding = encoding if named else scales
    config = {**layer.config(), "encoding": encoding, "ansatz": growths[-1].circuit}
    del config["circuit"]
    return QKANLayer(**config, device="meta", dtype=layer.weight.dtype)


def _grown(name: str, old: Tensor, growths: tuple[Growth, ...], trainable: bool) -> Tensor:
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


class FitOptions(TypedDict, total=False):
    """The options of `fit` that every stage of `fit_extending` takes."""

    validation: Data | float | None
    loss: str | Loss | None
    optimizer: OptimizerLike
    lr: float | None
    batch_size: int | None
    scheduler: SchedulerLike | None
    patience: int | None
    seed: int | None


def fit_extending(
    model: Model,
    train: Data,
    *,
    reps: Sequence[int],
    steps: int,
    progress: bool = True,
    **options: Unpack[FitOptions],
) -> tuple[Model, History]:
    """Train a model, extend it, train it again: a small problem first, then a finer one.

    Args:
        model: Is not changed; the first stage extends it too where `reps` begins above it.
        train: As in `fit`.
        reps: Repetitions of each stage, rising, such as [1, 5, 10, 15, 20].
        steps: Of each stage.
        progress: Whether to show one bar for all of them.
        **options: Of `fit`, the same in each stage: validation, loss, optimizer (a name or what
            makes one), lr, batch_size, scheduler, patience, seed.

    Returns:
        The model of the last stage, and one history of all stages in a row, whose `best_step`,
        `stopped_early` and `interrupted` are the last stage's. Ctrl-C ends all stages.

    Raises:
        QKANError: As `fit` and `extend` do; `reps` that do not rise; an optimizer object, which
            would know nothing of the new parameters.
        TypeError: An unknown option.

    Example:
        >>> import torch
        >>> from qkan import QKAN, fit_extending
        >>> x = torch.linspace(-1, 1, 64).unsqueeze(-1)
        >>> model, history = fit_extending(
        ...     QKAN([1, 1], reps=1), (x, torch.sin(3 * x)), reps=[1, 3], steps=4, progress=False
        ... )
        >>> model.layers[0].circuit.num_encodings, len(history)
        (3, 8)
    """
    _check_schedule(reps, options)
    histories: list[History] = []
    with Progress(len(reps) * steps, "fit", enabled=progress) as bar:
        for stage in reps:
            model = extend(model, stage)
            histories.append(fit(model, train, steps=steps, progress=bar, **options))
            if histories[-1].interrupted:
                break
    return model, in_a_row(histories)


def _check_schedule(reps: Sequence[int], options: FitOptions) -> None:
    for name in options:
        if name not in FitOptions.__annotations__:
            hint = did_you_mean(name, FitOptions.__annotations__)
            raise TypeError(f"fit_extending: unknown option {name!r}. {hint}")
    if not reps or any(a >= b for a, b in itertools.pairwise(reps)):
        raise QKANError(
            f"fit_extending: reps={[*reps]}: wanted numbers of repetitions that rise, such as "
            "[1, 5, 10]."
        )
    if isinstance(options.get("optimizer"), torch.optim.Optimizer):
        raise QKANError(
            "fit_extending: an optimizer object holds the parameters of one stage; pass a name, "
            "or a function from parameters to an optimizer."
        )


def in_a_row(histories: list[History]) -> History:
    """One history of runs that followed on each other."""
    whole = History()
    for part in histories:
        taken, before = len(whole), (whole.seconds or [0.0])[-1]
        whole.step += [taken + step for step in part.step]
        whole.seconds += [before + seconds for seconds in part.seconds]
        whole.train_loss += part.train_loss
        whole.validation_loss += part.validation_loss
        whole.learning_rate += part.learning_rate
        whole.best_step = None if part.best_step is None else taken + part.best_step
        whole.stopped_early, whole.interrupted = part.stopped_early, part.interrupted
    return whole
