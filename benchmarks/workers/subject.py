"""What a worker module builds. It runs in the peers' environments: torch and numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arrays = dict[str, np.ndarray]


class Unavailable(Exception):
    """A candidate cannot run here; the message says why."""


@dataclass
class Subject:
    """A layer ready to be called.

    Attributes:
        call: x (b, i) → y (b, o).
        parameters: Everything that a train step differentiates beside x.
        theta: What the harness touches in place between calls, as an optimizer would.
        gradients: The gradients of the last step under this package's names, in this package's
            parameters; None when the layer is another function.
        module: Put into eval mode for forwards and into train mode for steps, if there is one.
        about: What the JSON should tell, e.g. which engine was chosen.
    """

    call: Callable[[Tensor], Tensor]
    parameters: list[Tensor]
    theta: Tensor
    gradients: Callable[[], dict[str, Tensor]] | None = None
    module: torch.nn.Module | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def train(self, mode: bool) -> None:
        """Switch the module's mode, if it has one."""
        if self.module is not None:
            self.module.train(mode)


def tensors(arrays: Arrays, dtype: str) -> dict[str, Tensor]:
    """The case's arrays as tensors of that dtype."""
    return {name: torch.from_numpy(a).to(getattr(torch, dtype)) for name, a in arrays.items()}


def leaf_gradients(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of leaves that have one."""
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
