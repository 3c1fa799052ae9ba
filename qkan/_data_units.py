"""The units and names of data, for functions that show the network inside a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class DataUnits:
    """The inputs and outputs of a network in the units of the data.

    Attributes:
        network: The network, which reads standardised inputs.
        mean: (i,) An input in the data's units is mean + scale·(the network's input).
        scale: (i,) The factor in that formula.
        target_scale: (o,) An output in the data's units when the network's output is 1.
        inputs: The names of the inputs.
        outputs: The names of the outputs.
    """

    network: nn.Module
    mean: Tensor
    scale: Tensor
    target_scale: Tensor
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@runtime_checkable
class InDataUnits(Protocol):
    """A model that takes data in their own units, such as a `TableModel`."""

    def data_units(self) -> DataUnits:
        """The network inside, and the units and names of its inputs and outputs."""

    def standardised(self, x: Tensor) -> Tensor:
        """Map (…, i) in the data's units → (…, i) as the network's input."""
