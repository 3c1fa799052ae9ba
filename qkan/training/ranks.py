"""`Ranks`: the processes that train one model together in `DistributedDataParallel`."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qkan.errors import QKANError

Value = TypeVar("Value")


class Ranks:
    """The processes that train a model together; a model that is not wrapped has just one.

    Args:
        model: The model, wrapped or not.

    Attributes:
        module: The model inside the wrapper; its forward method does not wait for other processes.
        count: The number of processes.
        number: The number of this process.
        first: Whether this process shows the bar and writes files.

    Raises:
        QKANError: The parameters are sharded.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module, self.count, self.number = model, 1, 0
        self._group: Any = None
        if isinstance(model, DistributedDataParallel):
            self.module, self._group = model.module, model.process_group
            self.count = dist.get_world_size(self._group)
            self.number = dist.get_rank(self._group)
        self.first = self.number == 0
        if any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
            raise QKANError(
                "fit: the parameters are sharded (FSDP). fit trains a model of its own or one in "
                "DistributedDataParallel; for FSDP write the loop, and keep its state with "
                "torch.distributed.checkpoint."
            )

    def total(self, *values: float) -> list[float]:
        """Return the sums over all processes."""
        if self.count == 1:
            return [*values]
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(sums, group=self._group)
        return [float(value) for value in sums.tolist()]

    def mean(self, value: float) -> float:
        """Return the mean over all processes."""
        return value if self.count == 1 else self.total(value)[0] / self.count

    def agree(self, value: Value) -> Value:
        """Return the first process's value."""
        if self.count == 1:
            return value
        row = [value]
        dist.broadcast_object_list(row, group_src=0, group=self._group)
        return row[0]

    def all(self, value: Value) -> list[Value]:
        """Return the values of all processes, in order, to each of them."""
        if self.count == 1:
            return [value]
        row: list[Any] = [None] * self.count
        dist.all_gather_object(row, value, group=self._group)
        return row

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device
