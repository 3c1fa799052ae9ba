"""A candidate on the GPU: the same commands as `worker.py`, every call synchronised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from worker import Worker, main


class GpuWorker(Worker):
    """A subject on the current CUDA device."""

    def __init__(self, order: dict[str, Any]) -> None:
        order["options"] = {**order["options"], "device": "cuda"}
        super().__init__(order)
        assert self.subject.module is not None
        self.subject.module.to("cuda")
        self.x = self.x.to("cuda")

    def hello(self) -> dict[str, Any]:
        return {**super().hello(), "gpu": torch.cuda.get_device_name()}

    def between(self, touch: bool) -> None:
        super().between(touch)
        torch.cuda.synchronize()

    def forward(self, x: Tensor) -> Tensor:
        result = super().forward(x)
        torch.cuda.synchronize()
        return result

    def step(self, x: Tensor) -> Tensor:
        loss = super().step(x)
        torch.cuda.synchronize()
        return loss

    def peak(self) -> dict[str, Any]:
        """Bytes of a train step above parameters, input and the gradients of both."""
        x = self.ready("step")
        for _ in range(2):
            self.between(touch=False)
            self.step(x)
        # all gradients are there; the next step adds to them
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step(x)
        return {"above": torch.cuda.max_memory_allocated() - before}


if __name__ == "__main__":
    main(GpuWorker)
