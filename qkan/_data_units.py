"""The units and names of data, for whatever shows the network inside a model of these data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class DataUnits:
    """How the inputs and outputs of a network read in the units of the data.

    Attributes:
        network: The network, which reads standardised inputs.
        mean: (i,) An input in the data's units is mean + scale·(what the network reads).
        scale: (i,)
        target_scale: (o,) The size of an output in the data's units where the network gives 1.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
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
        """(…, i) in the data's units → (…, i) as the network reads it."""
