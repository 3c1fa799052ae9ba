"""`fold`: make a frozen copy of a model with precomputed Fourier coefficients of its layers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qkan._options import check_size
from qkan.errors import QKANError
from qkan.interpret.edges import bias_of, edge_angles, edge_weights
from qkan.interpret.explain import request_of
from qkan.nn.activation import DARUAN
from qkan.nn.functional import check_features, compute_dtype
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN, LayerRow
from qkan.nn.watch import is_hooked, unwrapped
from qkan.simulators import (
    BASES,
    Request,
    fourier_coefficients,
    get_engine,
    has_values,
    select,
)
from qkan.simulators.harmonics import add_harmonics, can_fuse_harmonics

from .fold_activation import FoldedActivation, refuse_activation

_ROWS = [1 << n for n in range(21)]
"""The numbers of rows in a call for which costs are compared."""

_PRODUCT = (25e-6, 0.9e-9, 6e-9, 40e-6)
"""Seconds on two cores of a folded layer's call: for itself, for each wave of an input, and for
each of the first ones until so much more is spent, where no recurrence or thread helps yet."""

_KERNEL = (28e-6, 20e-9, 0.4e-9, 0.6e-9, 60e-6)
"""Of a call of the fused kernel: for itself, for each edge, for each encoding on an edge and
sample, and for each of the first ones until so much more is spent."""

_SURE = 1.15
"""So many times longer a folded layer must be estimated to take before the layer is kept."""

_VALUES_AT_ONCE = 1 << 22
"""The most values of circuits that are computed at once, which bounds the memory."""


class FoldedLayer(nn.Module):
    """The function of a `QKANLayer` with fixed integer scales, without its circuits.

    out[b,o] = constant[o] + Σ_ik cos(k·x[b,i])·A[i,k,o] + sin(k·x[b,i])·B[i,k,o], plus the term of
    the base activation; the coefficients include weight, mask and bias. It has buffers and no
    parameters, and its forward method uses plain torch operators, five at batch 1 without groups.
    For many inputs on a CPU, without gradients and outside of compilers, the cosines and sines come
    from the recurrence of the engines, since computing a sine of each multiple would take longer
    than the layer.

    The angles k·x are computed at least in float32, and their rounding acts like a rounding of x:
    the outputs are those of the layer for an x that differs in its last bit, or in the last bit of
    1 if x is smaller.

    For a call with many rows, a folded layer with many harmonics may be slower than the layer's
    engine. In that case it also keeps the layer and calls it for such inputs.

    Args:
        layer: The layer to fold, which is not changed.
        most_rows: The most rows of a call for which the product is used; None means any number.

    Attributes:
        unfolded: The layer, for calls with more rows than `most_rows`; None if that is None.
        frequencies: (2n, 1): 1, 1, 2, 2, … n, n.
        phases: (2n, 1) radians: π/2 for a cosine, 0 for a sine.
        curves: (2n, i) coefficients of the activations that groups share; None without groups.
        product: (2n·i, o), or with groups (i, o).
        base_product: (i, o), or None without a base activation.
        constant: (o,).

    Shapes:
        x (…, in_features) → (…, out_features), any leading dimensions, empty ones too.
    """

    frequencies: Tensor
    phases: Tensor
    curves: Tensor | None
    product: Tensor
    base_product: Tensor | None
    constant: Tensor

    def __init__(self, layer: QKANLayer, most_rows: int | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.most_rows = most_rows
        self.unfolded = None if most_rows is None else layer
        self.base = layer.base
        weight, base_weight = (w.double() for w in edge_weights(layer))
        terms = _coefficients(layer)
        constants, waves = weight * terms[0], terms[1:]
        curves = waves[:, 0] if layer.group is not None else None
        factors = weight * waves if curves is None else weight.unsqueeze(0)
        dtype, wide = layer.weight.dtype, compute_dtype(layer.weight.dtype, "z")
        n = len(waves) // 2
        k = torch.arange(1, n + 1, device=weight.device)
        phases = weight.new_tensor([math.pi / 2, 0.0]).repeat(n)
        self._hold("frequencies", k.repeat_interleave(2)[:, None], wide)
        self._hold("phases", phases[:, None], wide)
        self._hold("curves", curves, dtype)
        # (m, o, i) → (m·i, o)
        self._hold("product", factors.transpose(1, 2).flatten(0, 1), dtype)
        self._hold("base_product", base_weight.T if self.base is not None else None, dtype)
        self._hold("constant", constants.sum(1) + bias_of(layer), dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        # a pickle of version 0.1.0 lacks these attributes
        vars(self).setdefault("most_rows", None)
        if "unfolded" not in self._modules:
            vars(self).setdefault("unfolded", None)

    def _hold(self, name: str, value: Tensor | None, dtype: torch.dtype) -> None:
        if value is None:
            # an attribute rather than a buffer, since torch.export miscounts buffers that are None
            setattr(self, name, None)
        else:
            self.register_buffer(name, value.to(dtype).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) → (…, out_features)."""
        if self.most_rows is not None and self._is_many(x):
            # the attribute would be looked up in three dictionaries, which a small call notices
            out: Tensor = self._modules["unfolded"](x)  # type: ignore[misc]
            return out
        check_features(x, self.in_features, self.product.dtype)
        flat = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        wide, count = flat.to(compute_dtype(x.dtype, "z")), len(self.frequencies) // 2
        if self.curves is None and can_fuse_harmonics(wide, count):
            out = add_harmonics(wide, count, self.product, self.constant)
        else:
            waves = self.waves(flat)
            values = waves.flatten(1) if self.curves is None else (waves * self.curves).sum(1)
            out = torch.addmm(self.constant, values, self.product)
        if self.base is not None and self.base_product is not None:
            out = torch.addmm(out, BASES[self.base](flat), self.base_product)
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], self.out_features)

    def waves(self, x: Tensor) -> Tensor:
        """Return cosines and sines of multiples of x (b, i): (b, 2n, i) in the layer's dtype."""
        wide = x.to(compute_dtype(x.dtype, "z")).unsqueeze(1)
        # sines only, since on a CPU torch.cos uses a second thread even for a few hundred numbers
        return torch.addcmul(self.phases, wide, self.frequencies).sin().to(self.product.dtype)

    def _is_many(self, x: Tensor) -> bool:
        """Whether the layer is faster for x; False while a graph is recorded for any size."""
        if self.most_rows is None or not isinstance(x, Tensor) or not has_values(x):
            return False
        return x.numel() > self.most_rows * self.in_features

    def config(self) -> NoReturn:
        """Raise, since a folded layer has no circuits from which it could be built again.

        Raises:
            QKANError: Always.
        """
        raise QKANError(
            "A folded layer keeps no circuit, so it cannot be saved; save the model that was "
            "folded."
        )

    def extra_repr(self) -> str:
        """Return the sizes, the number of harmonics and the base activation."""
        harmonics = len(self.frequencies) // 2
        return f"{self.in_features}, {self.out_features}, harmonics={harmonics}, base={self.base!r}"


class FoldedQKAN(LayerRow[nn.Module]):
    """A `QKAN` after `fold`: its layers, after the map of its input range.

    Attributes:
        layers: `FoldedLayer`s, and the layers that could not be folded.
    """

    layer_type = FoldedLayer

    @property
    def rows(self) -> list[nn.Module]:
        """The layers, folded or not."""
        return [layer for layer in self.layers if isinstance(layer, FoldedLayer | QKANLayer)]


def fold(model: nn.Module, *, strict: bool = True, batch: int | None = None) -> nn.Module:
    """Return a copy of a model for inference, with precomputed Fourier coefficients.

    In the copy every `QKANLayer` is a `FoldedLayer`, every `QKAN` a `FoldedQKAN` and every `DARUAN`
    a `FoldedActivation`, which need not compute coefficients from theta at every call. The copy is
    in evaluation mode, and nothing in it requires a gradient; the model is not changed. The copy
    uses plain torch operators: it compiles, exports, and runs wherever torch does. Choose device
    and dtype before folding, since the coefficients are computed in float64 and rounded once to the
    dtype of the layer.

    Args:
        model: Any module, such as a `QKAN`, an `HQKAN`, or a transformer that contains them.
        strict: Whether a layer without a Fourier series is an error. With False such layers are
            kept, frozen; printing the result shows which.
        batch: The number of rows in a call of a layer: samples, or samples times tokens. Folding
            saves computing the coefficients at every call, which matters most for few rows. With
            many rows and many harmonics, the fused kernel of a layer may be faster than the folded
            layer, by the estimates of the engines. Without `batch`, the folded layer then also
            keeps the layer, frozen, and calls it for that many rows. With `batch`, a layer that is
            faster at that number is kept, frozen, and a warning names it; the others keep only
            their coefficients.

    Returns:
        The copy. A `QKANLayer` itself becomes a `FoldedLayer`.

    Raises:
        QKANError: The model contains no `QKANLayer` and no `DARUAN`; layers cannot be folded, each
            with its reason; the batch is below 1.

    Warns:
        UserWarning: Layers are kept because they are faster than folded ones.

    Example:
        >>> import torch
        >>> from qkan import QKAN, fold
        >>> model = QKAN([2, 5, 1], encoding="ternary")
        >>> folded = fold(model)
        >>> x = torch.rand(100, 2)
        >>> torch.allclose(folded(x), model(x), atol=1e-4)
        True
    """
    model = unwrapped(model)
    kinds = (QKANLayer, DARUAN)
    done = {part.unfolded for part in model.modules() if isinstance(part, FoldedLayer)}
    layers = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, kinds) and part not in done
    }
    if not layers:
        raise QKANError(f"fold: the {type(model).__name__} contains no QKANLayer and no DARUAN.")
    if batch is not None:
        check_size("batch", batch)
    refused = {n: reason for n, part in layers.items() if (reason := _refuse(part)) is not None}
    if refused and strict:
        lines = [f"  {name or type(model).__name__}: {reason}" for name, reason in refused.items()]
        raise QKANError(
            f"fold: {len(refused)} of {len(layers)} layers have no Fourier series:\n"
            + "\n".join(lines)
            + "\nBuild layers with encoding='linear', 'binary' or 'ternary'; or pass strict=False, "
            "which keeps these layers and folds the others."
        )
    able = {n: part for n, part in layers.items() if n not in refused}
    kept = [] if batch is None else [n for n, part in able.items() if _slower_folded(part, batch)]
    if kept:
        warnings.warn(
            f"fold: for batch={batch} the engines are estimated to be faster than folded layers in "
            f"place of {', '.join(kept)}, which are kept.",
            stacklevel=2,
        )
    folded = copy.deepcopy(model)
    chosen = {folded.get_submodule(n) for n in able if n not in kept}

    def make(module: nn.Module) -> nn.Module:
        if isinstance(module, QKANLayer) and module in chosen:
            return FoldedLayer(module, None if batch is not None else _most_rows(module))
        if isinstance(module, DARUAN) and module in chosen:
            return FoldedActivation(module)
        if type(module) is QKAN and not is_hooked(module):
            return FoldedQKAN([*module.layers], module.input_range)
        return module

    return _replaced(folded, make).eval().requires_grad_(False)


def _replaced(model: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Replace every module by `make(module)`, inner ones first and shared ones once."""
    made: dict[nn.Module, nn.Module] = {}
    for name, module in reversed([*model.named_modules(remove_duplicate=False)]):
        if module not in made:
            made[module] = make(module)
        if name and made[module] is not module:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, made[module])
    return made[model]


def _refuse(part: QKANLayer | DARUAN) -> str | None:
    """Say why a layer or an activation cannot be folded, or return None if it can."""
    return refuse_activation(part) if isinstance(part, DARUAN) else refuse_fold(part)


def _slower_folded(layer: QKANLayer | DARUAN, batch: int) -> bool:
    """Whether the layer's engine is estimated to be faster than a folded layer."""
    if isinstance(layer, DARUAN):
        return False
    request = fourier_request(layer)._replace(batch=batch)
    product, engine = get_engine("fourier"), select(layer.engine, request)
    if engine.name != "numba":
        # the cost of the product alone, since its coefficients are known
        folded = product.cost(request) - product.cost(request._replace(batch=0))
        return folded > _SURE * engine.cost(request)
    # the engines estimate training steps, but here only forward passes are compared
    turns = sum(rotation.encoding is not None for rotation in request.program.rotations)
    work = batch * request.edges * turns
    waves = 2 * round(request.program.bandwidth(request.fixed_scale or ()))
    waves *= batch * layer.in_features
    call, wave, early, most = _PRODUCT
    folded = call + wave * waves + min(early * waves, most)
    call, edge, turn, early, most = _KERNEL
    kernel = call + edge * request.edges + turn * work + min(early * work, most)
    return folded > _SURE * kernel


def _most_rows(layer: QKANLayer) -> int | None:
    """The most rows of a call for which folding saves time; None if it always does."""
    most = next((rows for rows in _ROWS if _slower_folded(layer, rows)), None)
    if most is None:
        return None
    fewest = most // 2
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if _slower_folded(layer, middle) else (middle, most)
    return fewest


def refuse_fold(layer: QKANLayer) -> str | None:
    """Say why a layer cannot be folded, or return None if it can."""
    if type(layer).forward is not QKANLayer.forward:
        return f"{type(layer).__name__} has a forward method of its own"
    if is_hooked(layer):
        return "it has hooks, which a folded layer would not call"
    if layer.activations is not None:
        return "its activations are currently computed elsewhere, such as on a device"
    if layer.circuit.reads_several:
        return f"it reads several observables, {layer.circuit.observable!r}"
    if layer.readout != "z":
        return f"readout={layer.readout!r} is not a trigonometric polynomial"
    if layer.theta.is_meta:
        return "its parameters are on the device 'meta' and have no values"
    return get_engine("fourier").refuse(fourier_request(layer))


def fourier_request(layer: QKANLayer) -> Request:
    """Return the request of a layer to the `fourier` engine for an empty batch."""
    return request_of(layer, layer.weight.new_empty(0, layer.in_features))


@torch.no_grad()
def _coefficients(layer: QKANLayer) -> Tensor:
    """Coefficients of 1, cos x, sin x, cos 2x, …: (1 + 2n, o, i) in float64, with groups o is 1."""
    angles = [t.double() for t in edge_angles(layer)]
    request = fourier_request(layer)
    reach = 2 * round(layer.program.bandwidth(request.fixed_scale or ())) + 3
    rows = max(1, _VALUES_AT_ONCE // (reach * layer.in_features))
    parts = zip(*(t.split(rows) for t in angles), strict=True)
    return torch.cat([fourier_coefficients(request, *part) for part in parts], 1)
