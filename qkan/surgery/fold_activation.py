"""`FoldedActivation`: an activation after `fold`, with the waves of its circuits precomputed."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.activation import DARUAN, Base, with_waves
from qkan.nn.functional import check_features, compute_dtype
from qkan.nn.watch import is_hooked
from qkan.simulators import is_tracing
from qkan.simulators.waves import wave_recipe


class FoldedActivation(nn.Module):
    """The function of a `DARUAN` without its circuits: its base plus a sum of sinusoids.

    y = base(x) + constant_g + Σ_n A_gn·cos ω_gn·x + B_gn·sin ω_gn·x, elementwise. The scales may be
    trained or fixed. It has one buffer, and no parameters except those of its base.

    Args:
        activation: The activation to fold, which is not changed.

    Attributes:
        waves: (1 + 3n, g), as `DARUAN.waves` returns them.
        base: The base of the activation.

    Shapes:
        x (…, f) → (…, f).
    """

    waves: Tensor
    base: Base | None

    def __init__(self, activation: DARUAN) -> None:
        super().__init__()
        self.features, self.base = activation.features, activation.base
        self._recipe = wave_recipe(activation.program, activation.fixed_scale)
        with torch.no_grad():
            waves = activation.waves(torch.float64)
        assert waves is not None
        wide = compute_dtype(activation.theta.dtype, "z")
        self.register_buffer("waves", waves.to(wide).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, f) → (…, f)."""
        if self.features is not None and not is_tracing():
            check_features(x, self.features, x.dtype if isinstance(x, Tensor) else torch.float32)
        return with_waves(self, self.base, x, self.waves)

    def config(self) -> NoReturn:
        """Raise, since a folded activation has no circuit from which it could be built again.

        Raises:
            QKANError: Always.
        """
        raise QKANError(
            "A folded activation keeps no circuit, so it cannot be saved; save the model that was "
            "folded."
        )

    def extra_repr(self) -> str:
        """Return the size, the number of groups and the number of waves."""
        count, groups = len(self.waves) // 3, self.waves.shape[1]
        return f"{self.features}, group={groups}, waves={count}"


def refuse_activation(activation: DARUAN) -> str | None:
    """Say why an activation cannot be folded, or return None if it can."""
    if type(activation).forward is not DARUAN.forward:
        return f"{type(activation).__name__} has a forward method of its own"
    if is_hooked(activation):
        return "it has hooks, which a folded activation would not call"
    if activation.activations is not None:
        return "its values are currently computed elsewhere, such as on a device"
    if activation.theta.is_meta:
        return "its parameters are on the device 'meta' and have no values"
    if activation.circuit.uses_arccos:
        return "with an arccos encoding φ is not a trigonometric polynomial in x"
    if activation.waves() is None:
        return "its circuit has too many frequencies for a sum of waves"
    return None
