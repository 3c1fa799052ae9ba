"""The costs of a module: its parameters, and its arithmetic for one token."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from qkan.nn.layer import QKANLayer

_ROTATION = 6
_ENCODING = 4


def count_parameters(modules: Iterable[nn.Module]) -> int:
    """The number of parameters of these modules without their children, each counted once."""
    modules = [*modules]
    own = {parameter for module in modules for parameter in module.parameters(recurse=False)}
    duplicates = (getattr(module, "duplicate_parameters", int)() for module in modules)
    return sum(parameter.numel() for parameter in own) - sum(duplicates)


def count_flops(modules: Iterable[nn.Module]) -> int:
    """The additions and multiplications of these modules, without their children, for one token.

    A matrix of n entries counts 2n. An edge of a `QKANLayer` with fixed scales counts 4 for each
    frequency of its circuit, for the products with the Fourier coefficients. With trained scales it
    counts 6 for each rotation and 4 for each encoding. Biases, norms and elementwise functions are
    left out.
    """
    return sum(_flops(module) for module in modules)


def _flops(module: nn.Module) -> int:
    if isinstance(module, QKANLayer):
        return _layer_flops(module)
    return sum(2 * p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)


def _layer_flops(layer: QKANLayer) -> int:
    edges = layer.in_features * layer.out_features
    activations = layer.in_features if layer.group is not None else edges
    products = 2 * edges * ((layer.group is not None) + (layer.base is not None))
    if layer.fixed_scale is not None and not layer.circuit.uses_arccos:
        frequencies = np.count_nonzero(layer.circuit.spectrum(layer.fixed_scale))
        return products + 4 * int(frequencies) * activations
    encodings = sum(rotation.encoding is not None for rotation in layer.program.rotations)
    each = _ROTATION * len(layer.program.rotations) + _ENCODING * encodings
    # without groups the sum over inputs is a product with the edge's weight
    return products + each * activations + (2 * edges if layer.group is None else 0)
