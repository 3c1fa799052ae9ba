"""The tensors of a layer that surgery replaces."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from qkan.errors import QKANError

ANGLES = ("theta", "scale", "shift")
"""The tensors of a layer that belong to its circuits."""


def check_unparametrized(layer: nn.Module, place: str = "") -> None:
    """Raise `QKANError` if `torch.nn.utils.parametrize` computes the tensors of a layer.

    The message begins with `place`.
    """
    if parametrize.is_parametrized(layer):
        raise QKANError(
            f"{place}its parameters are computed by torch.nn.utils.parametrize. Call "
            "remove_parametrizations, change the model, and parametrise it again."
        )
